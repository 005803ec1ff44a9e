//! Lengths of time as policies write them: `30d`, `4w`, `6m`.

use crate::error::{Error, Result};
use chrono::{DateTime, TimeDelta, Utc};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Days in a month, as Barman counts.
const MONTH: i64 = 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    Day,
    Week,
    Month,
}

/// A number of days, weeks or months; a month has 31 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period {
    count: NonZeroU32,
    unit: Unit,
}

impl Period {
    /// So many days.
    pub fn days(count: NonZeroU32) -> Self {
        Self { count, unit: Unit::Day }
    }

    /// The point in time that lies this long before `now`; the earliest there is when that is out of the calendar.
    pub fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let days = i64::from(self.count.get())
            * match self.unit {
                Unit::Day => 1,
                Unit::Week => 7,
                Unit::Month => MONTH,
            };
        TimeDelta::try_days(days)
            .and_then(|length| now.checked_sub_signed(length))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

impl FromStr for Period {
    type Err = Error;

    /// Reads `^[1-9][0-9]*[dwm]$`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::invalid(format!("{text:?} is not a length of time: {why}"))
                .with_remedy("write a number and a unit: 30d for days, 4w for weeks, 6m for months")
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(wrong("it does not begin with a number"));
        }
        let unit = match unit {
            "d" => Unit::Day,
            "w" => Unit::Week,
            "m" => Unit::Month,
            "" => return Err(wrong("it has no unit")),
            _ => return Err(wrong("its unit is not d, w or m")),
        };
        if number.starts_with('0') {
            return Err(wrong("its number begins with 0"));
        }
        let count = number.parse().map_err(|_| wrong("its number is too large"))?;
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Day => 'd',
            Unit::Week => 'w',
            Unit::Month => 'm',
        };
        write!(f, "{}{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use proptest::prelude::*;
    use rstest::rstest;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 25, 9, 30, 0).single().expect("a time")
    }

    #[rstest]
    #[case("1d", 1)]
    #[case("30d", 30)]
    #[case("4w", 28)]
    #[case("6m", 186)]
    fn lengths_are_barmans(#[case] text: &str, #[case] days: i64) {
        let period: Period = text.parse().expect("valid");
        assert_eq!(now() - period.before(now()), TimeDelta::days(days));
        assert_eq!(period.to_string(), text);
    }

    #[rstest]
    #[case("", "does not begin with a number")]
    #[case("d", "does not begin with a number")]
    #[case("-1d", "does not begin with a number")]
    #[case(" 1d", "does not begin with a number")]
    #[case("30", "has no unit")]
    #[case("30h", "unit is not d, w or m")]
    #[case("30D", "unit is not d, w or m")]
    #[case("30 d", "unit is not d, w or m")]
    #[case("30d ", "unit is not d, w or m")]
    #[case("0d", "begins with 0")]
    #[case("07d", "begins with 0")]
    #[case("99999999999d", "too large")]
    fn others_are_refused_with_the_reason_and_the_remedy(#[case] text: &str, #[case] why: &str) {
        let report = text.parse::<Period>().expect_err("refused").report();
        assert!(report.contains(why) && report.contains("30d for days"), "{report}");
    }

    #[test]
    fn a_length_beyond_the_calendar_reaches_its_beginning() {
        let period: Period = "4294967295m".parse().expect("valid");
        assert_eq!(period.before(now()), DateTime::<Utc>::MIN_UTC);
    }

    proptest! {
        #[test]
        fn exactly_the_known_pattern_is_read(text in "[0-9dwmh ]{0,6}") {
            let body = text.strip_suffix(['d', 'w', 'm']);
            let valid = body.is_some_and(|body| {
                body.bytes().all(|b| b.is_ascii_digit()) && body.bytes().next().is_some_and(|b| b != b'0')
            });
            prop_assert_eq!(text.parse::<Period>().is_ok(), valid);
        }
    }
}
