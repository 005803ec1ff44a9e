//! Times of a ScheduledBackup: reading the expression, and computing when it is due. Pure.
//!
//! The words are those of the `robfig` form: seconds first with six fields, names, steps, `?`, macros and
//! `@every`; five fields are read as crontab. Numbers, names and steps are resolved here into plain lists, so
//! that the search (crate `cron`) sees nothing whose meaning differs between dialects.

pub mod duration;
pub mod field;
pub mod parse;
pub mod zone;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use thiserror::Error;

pub use parse::parse;

/// Why an expression or a zone cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ScheduleError {
    /// Not an expression.
    #[error(
        "schedule \"{text}\" is not understood: {message}; write six fields with seconds first (\"0 0 0 * * *\" is \
         midnight), five crontab fields, @daily and the like, or @every 90m"
    )]
    Syntax {
        /// The expression.
        text: String,
        /// What is wrong.
        message: String,
    },
    /// No such time exists.
    #[error("schedule \"{text}\" never comes: no month has that day; correct day of month and month")]
    Never {
        /// The expression.
        text: String,
    },
    /// No such zone.
    #[error(
        "time zone \"{name}\" is not known; use a name of the IANA database such as Europe/Berlin, or UTC"
    )]
    Zone {
        /// The name.
        name: String,
    },
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// At given times of the calendar.
    Calendar(Calendar),
    /// Again and again after a fixed time.
    Every(chrono::Duration),
}

/// Times of the calendar.
#[derive(Clone, Debug)]
pub struct Calendar {
    /// One search, or two when either the day of month or the day of week suffices.
    pub(crate) searches: Vec<cron::Schedule>,
    /// Whether the hour is left open: then a repeated hour counts twice and a skipped one not at all.
    pub(crate) any_hour: bool,
    /// Five fields were given.
    pub(crate) crontab: bool,
}

impl Schedule {
    /// The first due time after `after`, or `None` when there is none.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(period) => {
                let whole = DateTime::from_timestamp(after.timestamp(), 0)?;
                whole.checked_add_signed(*period)
            }
            Self::Calendar(calendar) => zone::next(calendar, after, zone),
        }
    }

    /// The next `count` due times after `after`.
    #[must_use]
    pub fn upcoming(&self, after: DateTime<Utc>, zone: Tz, count: usize) -> Vec<DateTime<Utc>> {
        std::iter::successors(self.next(after, zone), |t| self.next(*t, zone)).take(count).collect()
    }

    /// Whether the expression had five fields.
    #[must_use]
    pub fn is_crontab(&self) -> bool {
        matches!(self, Self::Calendar(c) if c.crontab)
    }
}

/// A zone by its name; UTC when none is given.
pub fn zone(name: Option<&str>) -> Result<Tz, ScheduleError> {
    let Some(name) = name.map(str::trim).filter(|n| !n.is_empty()) else { return Ok(Tz::UTC) };
    name.parse().map_err(|_| ScheduleError::Zone { name: name.to_owned() })
}

#[cfg(test)]
mod tests;
