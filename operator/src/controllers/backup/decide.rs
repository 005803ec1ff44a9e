//! What becomes of a Backup next. Pure.

use std::time::Duration;

use howdah_api::Backup;
use howdah_api::backup::BackupPhase;
use kube::ResourceExt;
use serde::Serialize;

use super::fetch::Observed;
use super::validate::{Obstacle, choose};

/// A Backup that shows no sign of life for this long is looked into.
pub const SILENCE: Duration = Duration::from_secs(45);

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Decision {
    /// It has ended; nothing.
    Done,
    /// It waits.
    Wait {
        /// Reason of the condition `Scheduled`.
        reason: &'static str,
        /// What it waits for.
        message: String,
    },
    /// It is given to an instance.
    Start {
        /// Name of the pod.
        pod: String,
        /// Session id of its manager.
        session: String,
        /// Why this one.
        why: String,
    },
    /// It is being taken.
    Watch {
        /// The instance itself says that it works on it, though its heartbeat does not arrive.
        alive: bool,
    },
    /// It cannot come to a good end.
    Fail {
        /// Reason of the condition `Completed`.
        reason: &'static str,
        /// What happened, and the remedy.
        error: String,
    },
}

/// Decides.
#[must_use]
pub fn decide(observed: &Observed) -> Decision {
    match phase(&observed.backup) {
        BackupPhase::Completed | BackupPhase::Failed => Decision::Done,
        BackupPhase::Pending => pending(observed),
        BackupPhase::Started | BackupPhase::Running | BackupPhase::Finalizing => executing(observed),
    }
}

fn phase(backup: &Backup) -> BackupPhase {
    backup.status.as_ref().map(|s| s.phase()).unwrap_or_default()
}

fn pending(observed: &Observed) -> Decision {
    let choice = match choose(observed, &observed.backup) {
        Ok(choice) => choice,
        Err(Obstacle::Wait { reason, message }) => return Decision::Wait { reason, message },
        Err(Obstacle::Fatal { reason, message }) => return Decision::Fail { reason, error: message },
    };
    if let Some(other) = observed.queue.iter().find(|b| phase(b).is_executing()) {
        return Decision::Wait {
            reason: "BackupRunning",
            message: format!("Backup {} is being taken; one at a time for each cluster", other.name_any()),
        };
    }
    // Only a Backup that could begin itself goes before this one.
    let me = observed.backup.name_any();
    let ahead = observed
        .queue
        .iter()
        .take_while(|b| b.name_any() != me)
        .filter(|b| phase(b) == BackupPhase::Pending && b.metadata.deletion_timestamp.is_none())
        .find(|b| choose(observed, b).is_ok());
    if let Some(ahead) = ahead {
        return Decision::Wait {
            reason: "Queued",
            message: format!("Backup {} was created earlier and goes first", ahead.name_any()),
        };
    }
    Decision::Start { pod: choice.pod, session: choice.session, why: choice.why }
}

const REMEDY: &str = "the database is not affected; create another Backup";

fn executing(observed: &Observed) -> Decision {
    let fail = |reason, error: String| Decision::Fail { reason, error };
    let status = observed.backup.status.clone().unwrap_or_default();
    let Some(instance) = status.instance_id.clone() else {
        return fail("InstanceUnknown", format!("no instance is named in the status; {REMEDY}"));
    };
    let pod = &instance.pod_name;
    if !observed.pods.iter().any(|p| &p.name_any() == pod) {
        return fail("PodDeleted", format!("pod {pod}, which took the backup, is gone; {REMEDY}"));
    }
    let silent = observed.silent_for >= SILENCE;
    let seconds = observed.silent_for.as_secs();
    match observed.reports.get(pod) {
        // A manager that was restarted is given the time to go on with it.
        _ if !silent => Decision::Watch { alive: false },
        Some(Ok(report)) if report.session_id != instance.session_id => fail(
            "InstanceRestarted",
            format!(
                "the instance manager in pod {pod} was restarted while it took the backup and did not go on with it \
                 within {seconds} s; {REMEDY}"
            ),
        ),
        Some(Ok(report)) if report.running_backup_uid.as_deref() == Some(observed.uid()) => {
            Decision::Watch { alive: true }
        }
        Some(Ok(_)) if status.phase() == BackupPhase::Started => fail(
            "NotPickedUp",
            format!(
                "the instance manager in pod {pod} did not begin within {seconds} s; look at its log for why it \
                 cannot watch Backups, then create another Backup"
            ),
        ),
        Some(Ok(_)) => fail(
            "InstanceStopped",
            format!(
                "pod {pod} does not work on the backup any more and gave no outcome for {seconds} s; {REMEDY}"
            ),
        ),
        Some(Err(error)) => fail(
            "InstanceUnreachable",
            format!("pod {pod} gave no sign of life for {seconds} s ({error}); {REMEDY}"),
        ),
        None => fail(
            "InstanceUnreachable",
            format!(
                "pod {pod} gave no sign of life for {seconds} s and its container does not run; {REMEDY}"
            ),
        ),
    }
}
