//! Timelines in an archive that a recovery does not follow. Pure.

use super::histories::Histories;
use super::survey::WalSurvey;
use crate::lsn::Lsn;
use crate::timeline::TimelineHistory;
use std::collections::BTreeSet;
use std::fmt;

/// A timeline that does not lie on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The timeline.
    pub timeline: u32,
    /// Why it is not followed.
    pub why: StrayReason,
}

/// Why a timeline is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StrayReason {
    /// An older branch that was given up: the usual thing after a recovery to a point in time.
    GivenUp,
    /// It is newer, and left the way before the newest backup ended. PostgreSQL would take it for the latest.
    LeftBefore {
        /// The timeline that it left.
        parent: u32,
        /// Where.
        at: Lsn,
    },
    /// There is WAL of it but no history file.
    NoHistory,
    /// Its history file cannot be read.
    Unreadable(String),
    /// There is no backup from which it could be reached.
    NoBackup,
}

impl StrayReason {
    /// Whether somebody should look: recovery to the latest point goes wrong, or may.
    pub fn is_alarming(&self) -> bool {
        matches!(self, Self::LeftBefore { .. } | Self::NoHistory | Self::Unreadable(_))
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeline = self.timeline;
        match &self.why {
            StrayReason::GivenUp => write!(f, "timeline {timeline} was given up for a later one"),
            StrayReason::LeftBefore { parent, at } => write!(
                f,
                "timeline {timeline} left timeline {parent} at {at}, before the newest backup ended: recovery to the \
                 latest timeline would follow it; find out which server wrote it, and take a backup of the one that \
                 is right"
            ),
            StrayReason::NoHistory => write!(
                f,
                "timeline {timeline} has WAL but no {timeline:08X}.history: nothing of it can be recovered until the \
                 history file is archived"
            ),
            StrayReason::Unreadable(why) => {
                write!(f, "the history of timeline {timeline} cannot be read ({why}): archive it again")
            }
            StrayReason::NoBackup => {
                write!(f, "timeline {timeline} has no backup to begin from: take a full backup")
            }
        }
    }
}

/// Names the timelines that are not on the way of `followed`; `None` when there is no restorable backup.
pub(super) fn strays(
    followed: Option<&TimelineHistory>,
    survey: &WalSurvey,
    histories: &Histories,
) -> Vec<Stray> {
    let path: BTreeSet<u32> =
        followed.iter().flat_map(|history| history.path()).map(|span| span.timeline).collect();
    let present: BTreeSet<u32> = survey.timelines().chain(histories.keys().copied()).collect();
    present
        .into_iter()
        .filter(|timeline| !path.contains(timeline))
        .map(|timeline| Stray { timeline, why: reason(timeline, followed, histories) })
        .collect()
}

fn reason(timeline: u32, followed: Option<&TimelineHistory>, histories: &Histories) -> StrayReason {
    let history = match histories.get(&timeline) {
        Some(Err(error)) => return StrayReason::Unreadable(error.to_string()),
        Some(Ok(history)) => Some(history),
        None => None,
    };
    let Some(followed) = followed else { return StrayReason::NoBackup };
    match history {
        _ if timeline < followed.timeline() => StrayReason::GivenUp,
        None => StrayReason::NoHistory,
        Some(history) => {
            // Where the two part: the last timeline that they share.
            let shared = history
                .entries()
                .iter()
                .rev()
                .find(|entry| followed.path().iter().any(|span| span.timeline == entry.parent));
            match shared.or_else(|| history.entries().last()) {
                Some(entry) => StrayReason::LeftBefore { parent: entry.parent, at: entry.switch },
                None => StrayReason::NoHistory,
            }
        }
    }
}
