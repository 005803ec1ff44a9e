//! Whether a Backup that failed is followed by another one for the same slot. Pure.

use std::time::Duration;

use howdah_api::ScheduledBackupStatus;
use howdah_api::backup::BackupPhase;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::decide::child_name;
use super::fetch::Observed;

/// Pause after the first failure; it doubles with every further one.
const PAUSE: Duration = Duration::from_secs(60);

/// The next try for the last slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Not before.
    pub at: Timestamp,
    /// Name of its Backup.
    pub name: String,
    /// The slot.
    pub slot: Timestamp,
}

/// The next try, when the last one failed and more are allowed.
#[must_use]
pub fn retry(observed: &Observed, status: &ScheduledBackupStatus) -> Option<Retry> {
    let allowed = observed.schedule.spec.attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    let slot = status.last_schedule_time.as_ref()?.0;
    let first = child_name(observed, slot);
    let last = status.last_backup_name.as_deref()?;
    let tries = tries(&first, last)?;
    let failed = observed.children.iter().find(|b| b.name_any() == last)?.status.as_ref()?;
    if tries >= allowed || failed.phase() != BackupPhase::Failed {
        return None;
    }
    let pause = PAUSE.saturating_mul(1 << (tries - 1).min(10));
    let at = failed.stopped_at.as_ref()?.0.checked_add(pause).ok()?;
    Some(Retry { at, name: format!("{first}-{}", tries + 1), slot })
}

/// How many Backups the slot has had, from the name of its last one; `None` when that is of another slot.
fn tries(first: &str, last: &str) -> Option<u32> {
    match last.strip_prefix(first)? {
        "" => Some(1),
        rest => rest.strip_prefix('-')?.parse().ok().filter(|n| *n > 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::ScheduledBackup;
    use howdah_api::backup::{Backup, BackupSpec, BackupStatus};
    use howdah_api::scheduled_backup::ScheduledBackupSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn time(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    fn observed(attempts: Option<i32>, last: &str, phase: BackupPhase) -> (Observed, ScheduledBackupStatus) {
        let spec = ScheduledBackupSpec { attempts, ..ScheduledBackupSpec::default() };
        let mut child = Backup::new(last, BackupSpec::default());
        child.status = Some(BackupStatus {
            phase: Some(phase),
            stopped_at: Some(time("2026-11-25T02:30:10Z")),
            ..BackupStatus::default()
        });
        let schedule = ScheduledBackup::new("pg-repo1-full", spec);
        let status = ScheduledBackupStatus {
            last_schedule_time: Some(time("2026-11-25T02:30:00Z")),
            last_backup_name: Some(last.to_owned()),
            ..ScheduledBackupStatus::default()
        };
        (Observed { schedule, children: vec![child], cluster: None }, status)
    }

    const FIRST: &str = "pg-repo1-full-20261125023000";

    /// S0.30, S0.31: at most so many attempts, with a growing pause, then nothing until the next time.
    #[test]
    fn a_failure_is_followed_by_another_try_until_there_were_enough() {
        let next = |last: &str| {
            let (observed, status) = observed(Some(6), last, BackupPhase::Failed);
            retry(&observed, &status).map(|r| (r.name, r.at.to_string()))
        };
        let name = |n: u32| format!("{FIRST}-{n}");
        assert_eq!(next(FIRST), Some((name(2), "2026-11-25T02:31:10Z".to_owned())));
        assert_eq!(next(&name(2)), Some((name(3), "2026-11-25T02:32:10Z".to_owned())));
        assert_eq!(next(&name(5)), Some((name(6), "2026-11-25T02:46:10Z".to_owned())));
        assert_eq!(next(&name(6)), None);
    }

    #[test]
    fn a_success_another_slot_and_a_single_attempt_are_not_followed() {
        for (attempts, last, phase) in [
            (Some(6), FIRST, BackupPhase::Completed),
            (Some(6), FIRST, BackupPhase::Running),
            (Some(6), "pg-repo1-full-20261124023000", BackupPhase::Failed),
            (None, FIRST, BackupPhase::Failed),
        ] {
            let (observed, status) = observed(attempts, last, phase);
            assert_eq!(retry(&observed, &status), None, "{attempts:?} {last} {phase}");
        }
    }
}
