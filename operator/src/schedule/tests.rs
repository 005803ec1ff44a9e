//! Tables of due times, and properties against a search that looks at every second.

use chrono::{DateTime, Datelike, Duration, Timelike, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use rstest::rstest;

use super::field::{self, Field};
use super::{ScheduleError, parse, zone};

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn three(schedule: &str, zone_name: &str, after: &str) -> Vec<String> {
    let zone = zone(Some(zone_name)).unwrap();
    let show = |t: DateTime<Utc>| t.with_timezone(&zone).format("%m-%d %H:%M:%S%:z").to_string();
    parse(schedule).unwrap().upcoming(at(after), zone, 3).into_iter().map(show).collect()
}

/// S0.15, S2.22, S3.8: six fields begin with seconds, five are those of crontab.
#[rstest]
// Seconds first.
#[case::six_fields("0 0 0 * * *", ["11-22 00:00:00+00:00", "11-23 00:00:00+00:00", "11-24 00:00:00+00:00"])]
#[case::six_fields_seconds("*/20 * * * * *", ["11-21 10:00:20+00:00", "11-21 10:00:40+00:00", "11-21 10:01:00+00:00"])]
// Five fields are crontab, not hourly.
#[case::five_fields("30 2 * * *", ["11-22 02:30:00+00:00", "11-23 02:30:00+00:00", "11-24 02:30:00+00:00"])]
#[case::five_fields_midnight("0 0 * * *", ["11-22 00:00:00+00:00", "11-23 00:00:00+00:00", "11-24 00:00:00+00:00"])]
#[case::five_fields_step("*/30 * * * *", ["11-21 10:30:00+00:00", "11-21 11:00:00+00:00", "11-21 11:30:00+00:00"])]
#[case::hourly("@hourly", ["11-21 11:00:00+00:00", "11-21 12:00:00+00:00", "11-21 13:00:00+00:00"])]
#[case::daily("@daily", ["11-22 00:00:00+00:00", "11-23 00:00:00+00:00", "11-24 00:00:00+00:00"])]
#[case::midnight("@midnight", ["11-22 00:00:00+00:00", "11-23 00:00:00+00:00", "11-24 00:00:00+00:00"])]
// 2026-11-22 is a Sunday.
#[case::weekly("@weekly", ["11-22 00:00:00+00:00", "11-29 00:00:00+00:00", "12-06 00:00:00+00:00"])]
#[case::sunday_is_zero("0 0 0 * * 0", ["11-22 00:00:00+00:00", "11-29 00:00:00+00:00", "12-06 00:00:00+00:00"])]
#[case::sunday_is_seven("0 0 * * 7", ["11-22 00:00:00+00:00", "11-29 00:00:00+00:00", "12-06 00:00:00+00:00"])]
#[case::monday_is_one("0 0 0 * * 1", ["11-23 00:00:00+00:00", "11-30 00:00:00+00:00", "12-07 00:00:00+00:00"])]
#[case::weekday_names("0 0 1 * * MON-WED", ["11-23 01:00:00+00:00", "11-24 01:00:00+00:00", "11-25 01:00:00+00:00"])]
#[case::monthly("@monthly", ["12-01 00:00:00+00:00", "01-01 00:00:00+00:00", "02-01 00:00:00+00:00"])]
#[case::yearly("@yearly", ["01-01 00:00:00+00:00", "01-01 00:00:00+00:00", "01-01 00:00:00+00:00"])]
#[case::every("@every 1h30m", ["11-21 11:30:00+00:00", "11-21 13:00:00+00:00", "11-21 14:30:00+00:00"])]
// Day of month and day of week both restricted: either suffices.
#[case::either_day("0 0 0 1 * MON", ["11-23 00:00:00+00:00", "11-30 00:00:00+00:00", "12-01 00:00:00+00:00"])]
// One of them open: the other alone counts, a step on the open one included.
#[case::only_weekday("0 0 0 ? * TUE", ["11-24 00:00:00+00:00", "12-01 00:00:00+00:00", "12-08 00:00:00+00:00"])]
#[case::leap_day("0 0 0 29 2 *", ["02-29 00:00:00+00:00", "02-29 00:00:00+00:00", "02-29 00:00:00+00:00"])]
#[case::end_of_month("0 0 12 31 * *", ["12-31 12:00:00+00:00", "01-31 12:00:00+00:00", "03-31 12:00:00+00:00"])]
fn due_times(#[case] schedule: &str, #[case] expected: [&str; 3]) {
    assert_eq!(three(schedule, "UTC", "2026-11-21T10:00:00Z"), expected);
}

#[rstest]
#[case::ordinary("0 0 2 * * *", "Europe/Berlin", "2026-11-21T10:00:00Z", ["11-22 02:00:00+01:00", "11-23 02:00:00+01:00", "11-24 02:00:00+01:00"])]
// Clocks go from 02:00 to 03:00 on 2026-03-29: what is skipped is due at the end of the gap.
#[case::gap("0 30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", ["03-28 02:30:00+01:00", "03-29 03:00:00+02:00", "03-30 02:30:00+02:00"])]
#[case::gap_open_hour("0 30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", ["03-29 01:30:00+01:00", "03-29 03:30:00+02:00", "03-29 04:30:00+02:00"])]
// Clocks go from 03:00 back to 02:00 on 2026-10-25: a fixed hour is due once, an open one twice.
#[case::overlap("0 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", ["10-25 02:30:00+02:00", "10-26 02:30:00+01:00", "10-27 02:30:00+01:00"])]
#[case::overlap_from_within("0 30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", ["10-26 02:30:00+01:00", "10-27 02:30:00+01:00", "10-28 02:30:00+01:00"])]
#[case::overlap_open_hour("0 30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", ["10-25 02:30:00+02:00", "10-25 02:30:00+01:00", "10-25 03:30:00+01:00"])]
#[case::new_york("30 1 * * *", "America/New_York", "2026-11-01T04:00:00Z", ["11-01 01:30:00-04:00", "11-02 01:30:00-05:00", "11-03 01:30:00-05:00"])]
#[case::half_hour_zone("0 15 2 * * *", "Australia/Lord_Howe", "2026-10-03T10:00:00Z", ["10-04 02:30:00+11:00", "10-05 02:15:00+11:00", "10-06 02:15:00+11:00"])]
// Samoa left out 2011-12-30 altogether.
#[case::lost_day("0 0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", ["12-31 00:00:00+14:00", "12-31 12:00:00+14:00", "01-01 12:00:00+14:00"])]
fn due_times_in_zones(
    #[case] schedule: &str,
    #[case] zone: &str,
    #[case] after: &str,
    #[case] expected: [&str; 3],
) {
    assert_eq!(three(schedule, zone, after), expected);
}

#[rstest]
#[case("", "it has 0 fields")]
#[case("* * * *", "it has 4 fields")]
#[case("0 0 0 1 1 * 2027", "it has 7 fields")]
#[case("@reboot", "there is no @reboot")]
#[case("@every", "there is no @every")]
#[case("@every 1d", "\"1d\" is no duration")]
#[case("CRON_TZ=UTC 0 0 * * *", "spec.timeZone")]
#[case("0 0 0 32 * *", "32 is not within 1 to 31")]
#[case("0 0 0 * * 8", "8 is not within 0 to 7")]
fn what_cannot_be_read_is_refused_with_a_remedy(#[case] text: &str, #[case] message: &str) {
    let error = parse(text).unwrap_err();
    assert!(matches!(error, ScheduleError::Syntax { .. }));
    assert!(error.to_string().contains(message), "{error}");
}

#[rstest]
#[case("0 0 0 30 2 *")]
#[case("0 0 31 4,6,9,11 *")]
fn what_never_comes_is_refused(#[case] text: &str) {
    assert_eq!(parse(text).unwrap_err(), ScheduleError::Never { text: text.to_owned() });
}

#[test]
fn zones() {
    assert_eq!(zone(None), Ok(Tz::UTC));
    assert_eq!(zone(Some("Europe/Berlin")), Ok(Tz::Europe__Berlin));
    assert!(zone(Some("Mars/Olympus")).unwrap_err().to_string().contains("IANA"));
}

/// Whether the fields name `t`, by the rules as they are written down.
fn matches(fields: &[Field; 6], t: DateTime<Utc>) -> bool {
    let [second, minute, hour, day, month, weekday] = fields;
    let days = (day.values.contains(&t.day()), weekday.values.contains(&t.weekday().num_days_from_sunday()));
    let day_matches = if day.open || weekday.open { days.0 && days.1 } else { days.0 || days.1 };
    second.values.contains(&t.second())
        && minute.values.contains(&t.minute())
        && hour.values.contains(&t.hour())
        && month.values.contains(&t.month())
        && day_matches
}

fn text(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (min..=max).prop_map(|v| v.to_string()),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (2_u32..9).prop_map(|s| format!("*/{s}")),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// S2.22: the next due time is the first second after the given one that the fields name.
    #[test]
    fn the_next_due_time_is_the_first_that_matches(
        day in text(1, 28),
        month in text(1, 12),
        weekday in text(0, 6),
        hour in text(0, 23),
        start in 1_700_000_000_i64..2_000_000_000,
    ) {
        let expression = format!("0 0 {hour} {day} {month} {weekday}");
        let fields = [
            field::parse("0", field::SECOND).unwrap(),
            field::parse("0", field::MINUTE).unwrap(),
            field::parse(&hour, field::HOUR).unwrap(),
            field::parse(&day, field::DAY).unwrap(),
            field::parse(&month, field::MONTH).unwrap(),
            field::parse(&weekday, field::WEEKDAY).unwrap(),
        ];
        let after = DateTime::from_timestamp(start, 0).unwrap();
        let found = parse(&expression).unwrap().next(after, Tz::UTC).unwrap();
        let first_hour = DateTime::from_timestamp(start - start.rem_euclid(3600) + 3600, 0).unwrap();
        let expected = (0..24 * 366 * 30).map(|h| first_hour + Duration::hours(h)).find(|t| matches(&fields, *t));
        prop_assert_eq!(Some(found), expected, "{}", expression);
    }

    /// Whatever the zone: due times rise, lie behind the start, and asking again from just before one gives it.
    #[test]
    fn due_times_rise_in_every_zone(
        hour in text(0, 23),
        minute in text(0, 59),
        zone_index in 0_usize..chrono_tz::TZ_VARIANTS.len(),
        start in 1_700_000_000_i64..1_900_000_000,
    ) {
        let zone = chrono_tz::TZ_VARIANTS[zone_index];
        let schedule = parse(&format!("0 {minute} {hour} * * *")).unwrap();
        let after = DateTime::from_timestamp(start, 0).unwrap();
        let times = schedule.upcoming(after, zone, 5);
        prop_assert_eq!(times.len(), 5);
        prop_assert!(times[0] > after);
        prop_assert!(times.windows(2).all(|w| w[0] < w[1]));
        prop_assert_eq!(schedule.next(times[0] - Duration::seconds(1), zone), Some(times[0]));
    }
}
