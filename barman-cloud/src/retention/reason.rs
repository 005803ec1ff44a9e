//! Why a backup stays or goes, in plain words.

use super::period::Period;
use crate::backup_id::BackupId;
use crate::backup_info::BackupStatus;
use crate::catalog::{Fault, Keep};
use crate::chain::BackupType;
use chrono::{DateTime, SecondsFormat, Utc};
use std::fmt;

/// A calendar unit of the daily, weekly and monthly keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calendar {
    /// A day in UTC.
    Day,
    /// A week that begins on Monday.
    Week,
    /// A month.
    Month,
}

/// Why a backup stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason {
    /// No rule of the policy speaks of it.
    NoRule,
    /// One of the newest full backups.
    FullCount {
        /// Its place among them, from 1.
        place: usize,
        /// How many are kept.
        of: u32,
    },
    /// One of the newest differential backups.
    DifferentialCount {
        /// Its place among them, from 1.
        place: usize,
        /// How many are kept.
        of: u32,
    },
    /// Not older than the age of the policy.
    WithinAge(Period),
    /// The newest that is older: recovery to the oldest moment of that time begins here.
    AgeBegins(Period),
    /// It ended within the recovery window.
    WithinWindow(Period),
    /// The newest that ended before the recovery window: recovery to its oldest moment begins here.
    WindowBegins(Period),
    /// The newest full backup of a day, week or month.
    NewestOf(Calendar, String),
    /// Complete full backups are not made fewer than this.
    MinimumRedundancy(u32),
    /// It builds on a full backup that is kept.
    WithFull(BackupId),
    /// The newest full backup that can be restored.
    LastFull,
    /// The newest full backup from which the timeline of the server can be reached.
    LeadsToTimeline(u32),
    /// Backups that are kept build on it.
    NeededBy {
        /// The newest of them.
        newest: BackupId,
        /// How many.
        count: usize,
    },
    /// A backup that cannot be read may build on it.
    MayBeNeededBy(BackupId),
    /// Somebody asked to keep it.
    Pinned(Keep),
    /// A restore reads it, or a backup that is being made builds on it.
    InUse,
    /// It is not complete, and no newer full backup is kept yet that would make it old.
    RecentUnfinished(BackupStatus),
    /// It cannot be restored, and is not older than the backups that are kept.
    Faulty(Fault),
    /// It cannot be read: what it is and needs only a person can tell.
    NeedsPerson(String),
}

impl KeepReason {
    /// Whether somebody has to look at the backup.
    pub fn needs_person(&self) -> bool {
        matches!(self, Self::NeedsPerson(_) | Self::Faulty(_))
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule of the policy speaks of it"),
            Self::FullCount { place, of } => write!(f, "number {place} of the {of} newest full backups"),
            Self::DifferentialCount { place, of } => {
                write!(f, "number {place} of the {of} newest differential backups")
            }
            Self::WithinAge(age) => write!(f, "not older than {age}"),
            Self::AgeBegins(age) => {
                write!(f, "the newest older than {age}: what is {age} old is recovered from it")
            }
            Self::WithinWindow(window) => write!(f, "within the recovery window of {window}"),
            Self::WindowBegins(window) => write!(f, "the recovery window of {window} begins with it"),
            Self::NewestOf(unit, name) => {
                let unit = match unit {
                    Calendar::Day => "day",
                    Calendar::Week => "week",
                    Calendar::Month => "month",
                };
                write!(f, "the newest full backup of {unit} {name}")
            }
            Self::MinimumRedundancy(count) => write!(f, "at least {count} full backups must stay"),
            Self::WithFull(id) => write!(f, "builds on full backup {id}, which is kept"),
            Self::LastFull => f.write_str("the newest full backup that can be restored"),
            Self::LeadsToTimeline(timeline) => {
                write!(f, "the newest full backup from which timeline {timeline} can be reached")
            }
            Self::NeededBy { newest, count: 1 } => write!(f, "backup {newest} builds on it"),
            Self::NeededBy { newest, count } => {
                write!(f, "{count} backups build on it, the newest is {newest}")
            }
            Self::MayBeNeededBy(id) => write!(f, "backup {id}, which cannot be read, may build on it"),
            Self::Pinned(keep) => write!(f, "kept on request ({})", keep.as_str()),
            Self::InUse => f.write_str("a restore or a running backup uses it"),
            Self::RecentUnfinished(status) => write!(f, "not complete ({status}), and not old yet"),
            Self::Faulty(fault) => write!(f, "not older than what is kept, but cannot be restored: {fault}"),
            Self::NeedsPerson(why) => {
                write!(
                    f,
                    "cannot be read ({why}): bring the object back from a copy, or delete the backup by its id"
                )
            }
        }
    }
}

/// A rule that did not keep a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// It is not among the newest of its type.
    Count(u32),
    /// It is older than this.
    Age(Period, DateTime<Utc>),
    /// It ended before the recovery window began, and so did a newer one.
    Window(Period, DateTime<Utc>),
    /// It is not the newest of a day, week or month that counts.
    Calendar,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        match self {
            Self::Count(count) => write!(f, "not one of the {count} newest"),
            Self::Age(age, since) => write!(f, "older than {age} ({}), and so is a newer one", time(since)),
            Self::Window(window, since) => {
                write!(
                    f,
                    "ended before the recovery window of {window} ({}), and so did a newer one",
                    time(since)
                )
            }
            Self::Calendar => f.write_str("not the newest of a day, week or month that counts"),
        }
    }
}

/// Why a backup may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteReason {
    /// No rule keeps it; how it missed each.
    Outside(BackupType, Vec<Miss>),
    /// It builds on one that goes.
    BaseGoes(BackupId),
    /// It never became complete and is older than the full backups that are kept.
    Unfinished(BackupStatus),
    /// It cannot be restored and is older than the full backups that are kept.
    Faulty(Fault),
}

impl fmt::Display for DeleteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(kind, misses) if misses.is_empty() => write!(f, "no rule keeps this {kind} backup"),
            Self::Outside(_, misses) => {
                let misses: Vec<String> = misses.iter().map(ToString::to_string).collect();
                f.write_str(&misses.join("; "))
            }
            Self::BaseGoes(id) => write!(f, "backup {id}, which it builds on, goes"),
            Self::Unfinished(status) => {
                write!(f, "never complete ({status}), and older than the full backups that are kept")
            }
            Self::Faulty(fault) => {
                write!(f, "cannot be restored ({fault}), and older than the full backups that are kept")
            }
        }
    }
}
