//! Reads the schedule and its zone. Pure.

use chrono_tz::Tz;
use howdah_api::ScheduledBackup;
use kube::ResourceExt;

use crate::schedule::{self, Schedule, ScheduleError};

/// A schedule that can be computed with, or why it cannot.
pub type Validated = Result<(Schedule, Tz), Invalid>;

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Reason of the condition.
    pub reason: &'static str,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// Longest name: it is the value of a label on the Backups.
const MAX_NAME: usize = 63;

/// Reads expression and zone.
pub fn validate(object: &ScheduledBackup) -> Validated {
    let name = object.name_any();
    if name.len() > MAX_NAME {
        return Err(Invalid {
            reason: "NameTooLong",
            message: format!(
                "the name {name} has more than {MAX_NAME} characters and cannot label its Backups; create one with a \
                 shorter name"
            ),
        });
    }
    let invalid = |error: ScheduleError| Invalid {
        reason: match error {
            ScheduleError::Syntax { .. } => "InvalidSchedule",
            ScheduleError::Never { .. } => "ScheduleNeverComes",
            ScheduleError::Zone { .. } => "InvalidTimeZone",
        },
        message: error.to_string(),
    };
    let zone = schedule::zone(object.spec.time_zone.as_deref()).map_err(invalid)?;
    let parsed = schedule::parse(&object.spec.schedule).map_err(invalid)?;
    Ok((parsed, zone))
}
