//! Due times in a zone with daylight saving time.
//!
//! The search runs on local times; each is then turned into moments. A local time that is skipped in spring is
//! due at the end of the gap, one that comes twice in autumn is due the first time. Where the hour is left open
//! (`*`), time runs on instead: what is skipped is not made up for, what comes twice is due twice.

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::Calendar;

/// Changes of a zone's offset reach at most this far (Samoa once left out a whole day).
const REACH: Duration = Duration::hours(25);
/// Near a change of the offset local times are looked at from this much earlier on.
const OVERLAP: Duration = Duration::hours(3);

/// The first moment after `after` that `calendar` names in `zone`.
#[must_use]
pub fn next(calendar: &Calendar, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
    let local = |t: DateTime<Utc>| t.with_timezone(&zone).naive_local();
    let calm = [after - REACH, after + REACH].iter().all(|t| local(*t) - local(after) == *t - after);
    let start = if calm { local(after) } else { local(after) - OVERLAP };
    let mut best: Option<DateTime<Utc>> = None;
    for candidate in local_times(calendar, start) {
        // Later local times cannot come before what was found, once they are further away than any overlap.
        if best.is_some_and(|b| candidate > local(b) + OVERLAP) {
            break;
        }
        for moment in moments(candidate, zone, calendar.any_hour) {
            if moment > after && best.is_none_or(|b| moment < b) {
                best = Some(moment);
            }
        }
        if calm && best.is_some() {
            break;
        }
    }
    best
}

/// Local times that `calendar` names after `start`, in order.
fn local_times(calendar: &Calendar, start: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> + '_ {
    let mut cursor = start;
    std::iter::from_fn(move || {
        let from = cursor.and_utc();
        let next = calendar.searches.iter().filter_map(|s| s.after(&from).next()).min()?.naive_utc();
        // Never twice the same, whatever the search answers.
        let next = if next > cursor { next } else { return None };
        cursor = next;
        Some(next)
    })
}

/// The moments at which the clocks of `zone` show `local`.
fn moments(local: NaiveDateTime, zone: Tz, any_hour: bool) -> Vec<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(t) => vec![t.to_utc()],
        LocalResult::Ambiguous(first, second) if any_hour => vec![first.to_utc(), second.to_utc()],
        LocalResult::Ambiguous(first, _) => vec![first.to_utc()],
        LocalResult::None if any_hour => Vec::new(),
        LocalResult::None => gap_end(local, zone).into_iter().collect(),
    }
}

/// The end of the gap in which `local` lies; gaps begin and end on whole minutes.
fn gap_end(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    let minute = local.with_second(0)?;
    (1..=REACH.num_minutes())
        .filter_map(|m| zone.from_local_datetime(&(minute + Duration::minutes(m))).earliest())
        .map(|t| t.to_utc())
        .next()
}
