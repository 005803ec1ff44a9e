//! Reads a schedule expression.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::field::{self, Field};
use super::{Calendar, Schedule, ScheduleError, duration};

/// Parses `text`. One that never comes due is refused.
pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
    let syntax = |message: String| ScheduleError::Syntax { text: text.to_owned(), message };
    let trimmed = text.trim();
    if trimmed.starts_with("TZ=") || trimmed.starts_with("CRON_TZ=") {
        return Err(syntax("a time zone does not belong here, give it in spec.timeZone".into()));
    }
    if let Some(word) = trimmed.strip_prefix('@') {
        return macro_(word).map_err(syntax);
    }
    let fields: Vec<&str> = trimmed.split_whitespace().collect();
    let schedule = match fields.len() {
        5 => calendar("0", &fields, true).map_err(syntax)?,
        6 => calendar(fields[0], &fields[1..], false).map_err(syntax)?,
        n => return Err(syntax(format!("it has {n} fields"))),
    };
    // The whole calendar repeats within 400 years, but months and leap days already within eight.
    let start = DateTime::<Utc>::from_timestamp(0, 0).unwrap_or_default();
    if schedule.next(start, Tz::UTC).is_none() {
        return Err(ScheduleError::Never { text: text.to_owned() });
    }
    Ok(schedule)
}

fn macro_(word: &str) -> Result<Schedule, String> {
    let expression = match word.to_ascii_lowercase().as_str() {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => {
            return match word.split_once(char::is_whitespace) {
                Some(("every", period)) => duration::parse(period.trim()).map(Schedule::Every),
                _ => Err(format!("there is no @{word}")),
            };
        }
    };
    let fields: Vec<&str> = expression.split(' ').collect();
    calendar("0", &fields, false)
}

/// `rest`: minute, hour, day of month, month, day of week.
fn calendar(second: &str, rest: &[&str], crontab: bool) -> Result<Schedule, String> {
    let second = field::parse(second, field::SECOND)?;
    let minute = field::parse(rest[0], field::MINUTE)?;
    let hour = field::parse(rest[1], field::HOUR)?;
    let day = field::parse(rest[2], field::DAY)?;
    let month = field::parse(rest[3], field::MONTH)?;
    let weekday = field::parse(rest[4], field::WEEKDAY)?;
    let search = |day: &str, weekday: &str| {
        // The crate numbers Sunday as 1.
        let text = format!(
            "{} {} {} {day} {} {weekday}",
            second.list(0),
            minute.list(0),
            hour.list(0),
            month.list(0)
        );
        cron::Schedule::from_str(&text).map_err(|e| e.to_string())
    };
    // Both restricted: either suffices. One of them open: both have to hold.
    let searches = if day.open || weekday.open {
        vec![search(&day.list(0), &weekday.list(1))?]
    } else {
        vec![search(&day.list(0), "*")?, search("*", &weekday.list(1))?]
    };
    let any_hour = Field::clone(&hour).open;
    Ok(Schedule::Calendar(Calendar { searches, any_hour, crontab }))
}
