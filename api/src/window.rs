//! From when to when a repository can bring a server back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gaps that are shown of each repository, the newest.
pub const GAPS_SHOWN: usize = 10;

/// The recovery window of a repository, computed from the backups, WAL and history files in it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryWindow {
    /// Earliest time, the end of a backup of any type.
    #[serde(default)]
    pub earliest: Option<Time>,
    /// Latest time.
    #[serde(default)]
    pub latest: Option<Time>,
    /// The newest [`GAPS_SHOWN`] of all gaps, oldest first.
    #[serde(default)]
    pub gaps: Vec<RecoveryGap>,
    /// How many there are.
    #[serde(default)]
    pub gap_count: u32,
}

impl RecoveryWindow {
    /// Moves the end to when WAL last reached the archive: what was archived since the window was computed follows
    /// without a gap, because PostgreSQL archives in order. Not across a gap that no backup has closed.
    pub fn archived_until(&mut self, archived: Option<&Time>) {
        let open = self.gaps.last().is_some_and(|gap| gap.until.is_none());
        if let (false, Some(latest), Some(archived)) = (open, &self.latest, archived)
            && archived.0 > latest.0
        {
            self.latest = Some(archived.clone());
        }
    }
}

/// A stretch of time that a repository cannot restore to, because WAL is missing in it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryGap {
    /// Timeline of the missing WAL.
    #[serde(rename = "timelineID")]
    pub timeline_id: u32,
    /// The first segment that is missing.
    #[serde(rename = "missingWAL")]
    pub missing_wal: String,
    /// The first segment that is there again, when any is.
    #[serde(rename = "resumesWAL", skip_serializing_if = "Option::is_none")]
    pub resumes_wal: Option<String>,
    /// When the last segment before it was archived: no later time can be restored to, until `until`.
    pub from: Time,
    /// End of the backup with which recovery is possible again. Absent when no backup was taken since: take one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Id of that backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// When the last of its WAL was let go of on purpose, by `spec.backup.walOverflow`; `status.droppedWAL` says why.
    /// Absent for a gap that nobody meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time(text.parse().expect("a time"))
    }

    #[test]
    fn the_end_moves_with_the_archiver_unless_a_gap_is_open() {
        let (then, now) = (time("2026-11-21T10:00:00Z"), time("2026-11-21T11:00:00Z"));
        let mut window = RecoveryWindow { latest: Some(then.clone()), ..RecoveryWindow::default() };
        window.archived_until(None);
        assert_eq!(window.latest, Some(then.clone()));
        window.archived_until(Some(&now));
        assert_eq!(window.latest, Some(now.clone()));
        window.archived_until(Some(&then));
        assert_eq!(window.latest, Some(now.clone()), "never back");
        let gap = RecoveryGap {
            timeline_id: 1,
            missing_wal: "000000010000000000000007".into(),
            resumes_wal: None,
            from: then.clone(),
            until: None,
            backup: None,
            dropped_at: None,
        };
        let mut open = RecoveryWindow { latest: Some(then.clone()), gaps: vec![gap], ..Default::default() };
        open.archived_until(Some(&now));
        assert_eq!(open.latest, Some(then));
        open.gaps[0].until = Some(time("2026-11-21T10:30:00Z"));
        open.archived_until(Some(&now));
        assert_eq!(open.latest, Some(now.clone()));
        let mut nothing = RecoveryWindow::default();
        nothing.archived_until(Some(&now));
        assert_eq!(nothing.latest, None, "WAL without a backup brings nothing back");
    }
}
