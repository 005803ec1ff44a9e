//! Whether a Backup is due. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use howdah_api::scheduled_backup::BackupOwner;
use howdah_api::{Backup, labels, naming};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::fetch::Observed;
use super::retry;
use super::validate::Validated;
use crate::schedule::Schedule;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Decision {
    /// Nothing before `until`.
    Rest {
        /// When the next Backup is due; `None` when none ever is.
        until: Option<Timestamp>,
    },
    /// A Backup is due and waits for another one of this schedule to end.
    Hold {
        /// That one.
        behind: String,
    },
    /// A Backup is due and cannot be made.
    Stuck {
        /// Reason of the condition.
        reason: &'static str,
        /// What is in the way, and the remedy.
        message: String,
    },
    /// A Backup is due.
    Create {
        /// Its name.
        name: String,
        /// The slot it stands for.
        due: Timestamp,
        /// It is the one made at once for `immediate`.
        immediate: bool,
    },
}

/// Decides what to do at `now`.
#[must_use]
pub fn decide(validated: &Validated, observed: &Observed, now: Timestamp) -> Decision {
    let spec = &observed.schedule.spec;
    let Ok((schedule, zone)) = validated else { return Decision::Rest { until: None } };
    if spec.suspend.unwrap_or(false) {
        return Decision::Rest { until: None };
    }
    let decision = when(schedule, *zone, observed, now);
    let ownerless = spec.backup_owner_reference == Some(BackupOwner::Cluster) && observed.cluster.is_none();
    if ownerless && matches!(decision, Decision::Create { .. }) {
        return Decision::Stuck {
            reason: "ClusterNotFound",
            message: format!(
                "Cluster {} does not exist and so cannot own the Backup that is due; create it, or delete this \
                 ScheduledBackup",
                spec.cluster.name
            ),
        };
    }
    decision
}

fn when(schedule: &Schedule, zone: Tz, observed: &Observed, now: Timestamp) -> Decision {
    let spec = &observed.schedule.spec;
    let status = observed.schedule.status.clone().unwrap_or_default();
    let created = observed.schedule.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    if status.last_check_time.is_none()
        && spec.immediate.unwrap_or(false)
        && !observed.children.iter().any(is_immediate)
    {
        // Named after the object's own creation: however often this is tried, it is one Backup.
        return Decision::Create { name: child_name(observed, created), due: created, immediate: true };
    }
    // From the last slot that was dealt with; all slots missed since then are one Backup, named after the first.
    let base = status.last_check_time.as_ref().map_or(created, |t| t.0);
    let Some(due) = schedule.next(to_chrono(base), zone).and_then(from_chrono) else {
        return Decision::Rest { until: None };
    };
    if due > now {
        return match retry::retry(observed, &status) {
            Some(retry) if retry.at <= now => {
                Decision::Create { name: retry.name, due: retry.slot, immediate: false }
            }
            Some(retry) => Decision::Rest { until: Some(due.min(retry.at)) },
            None => Decision::Rest { until: Some(due) },
        };
    }
    let name = child_name(observed, due);
    let active = observed.children.iter().filter(|b| !ended(b)).find(|b| b.name_any() != name);
    match active {
        Some(active) => Decision::Hold { behind: active.name_any() },
        None => Decision::Create { name, due, immediate: false },
    }
}

/// Name of the Backup of a slot.
pub fn child_name(observed: &Observed, due: Timestamp) -> String {
    naming::scheduled_child(&observed.schedule.name_any(), &to_chrono(due).format("%Y%m%d%H%M%S").to_string())
}

/// Whether it is the one made at once for `immediate`.
#[must_use]
pub fn is_immediate(backup: &Backup) -> bool {
    backup.labels().get(labels::IMMEDIATE_BACKUP).is_some_and(|v| v == "true")
}

/// Whether a Backup is completed or has failed.
#[must_use]
pub fn ended(backup: &Backup) -> bool {
    backup.status.as_ref().is_some_and(|s| s.phase().is_terminal())
}

/// The Kubernetes types' time as the scheduler's.
#[must_use]
pub fn to_chrono(time: Timestamp) -> DateTime<Utc> {
    let nanos = u32::try_from(time.subsec_nanosecond()).unwrap_or(0);
    DateTime::from_timestamp(time.as_second(), nanos).unwrap_or_default()
}

/// The scheduler's time as the Kubernetes types'.
#[must_use]
pub fn from_chrono(time: DateTime<Utc>) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}
