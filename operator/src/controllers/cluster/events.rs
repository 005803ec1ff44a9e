//! Tells people what changed: events for transitions, never for a state that lasts.

use howdah_api::conditions::{self, FALSE, TRUE, UNKNOWN};
use howdah_api::{Cluster, ClusterStatus};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::runtime::events::EventType;

use super::decide::Plan;
use super::phases;
use super::validate::Validated;
use crate::context::Context;

/// Another instance became the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// Because the former one failed.
    Failover,
    /// Because somebody wanted it so.
    Switchover,
}

/// One event to publish.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether something is wrong.
    pub warning: bool,
    /// Reason.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// What there is to tell about the change from `before` to `after`. Pure.
#[must_use]
pub fn changes(before: &ClusterStatus, after: &ClusterStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let bad = |phase: Option<&str>| {
        matches!(
            phase,
            Some(
                phases::RECOVERY_FAILED
                    | phases::BOOTSTRAP_FAILED
                    | phases::INSTANCE_FAILED
                    | phases::UNRECOVERABLE
                    | phases::INVALID
                    | phases::WAITING_FOR_BACKUP
                    | phases::REJECTED
                    | phases::NO_CANDIDATE
            )
        )
    };
    let phase = after.phase.as_deref();
    let changed = before.phase != after.phase;
    // What keeps instances from taking over is told in words that may change by the second.
    let steady = phase != Some(phases::NO_CANDIDATE);
    let news = || words(before.phase_reason.as_deref()) != words(after.phase_reason.as_deref());
    if bad(phase) && (changed || (steady && news())) {
        notes.push(Note {
            warning: true,
            reason: camel(phase.unwrap_or_default()),
            message: after.phase_reason.clone().unwrap_or_default(),
        });
    } else if changed && phase == Some(phases::HEALTHY) {
        notes.push(Note {
            warning: false,
            reason: "ClusterHealthy".into(),
            message: after.phase_reason.clone().unwrap_or_default(),
        });
    }
    if changed
        && let Some(phases::HIBERNATED | phases::FENCED | phases::FOLLOWING | phases::WAITING_FOR_USER) =
            phase
    {
        notes.push(Note {
            warning: false,
            reason: camel(phase.unwrap_or_default()),
            message: after.phase_reason.clone().unwrap_or_default(),
        });
    }
    notes.extend(primary_changes(before, after));
    for type_ in [
        conditions::CONTINUOUS_ARCHIVING,
        conditions::BACKUP_CONFIGURED,
        conditions::REPOSITORIES_UP_TO_DATE,
        conditions::SYNCHRONOUS_REPLICATION,
        conditions::WAL_RUNWAY,
        conditions::CERTIFICATES_VALID,
    ] {
        let (old, new) =
            (conditions::get(&before.conditions, type_), conditions::get(&after.conditions, type_));
        let Some(new) = new else { continue };
        let same = old.is_some_and(|o| o.status == new.status && o.reason == new.reason);
        // That there is room is no news before there was none.
        let unknown = type_ == conditions::WAL_RUNWAY && old.is_some_and(|o| o.status == UNKNOWN);
        let first_good = (old.is_none() || unknown) && new.status == TRUE;
        if !same && !first_good && (new.status == TRUE || new.status == FALSE) {
            notes.push(Note {
                warning: new.status == FALSE,
                reason: new.reason.clone(),
                message: new.message.clone(),
            });
        }
    }
    notes
}

/// A reason without times and counts: a failure that goes on is no news.
fn words(reason: Option<&str>) -> Vec<&str> {
    let figure = |word: &&str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        bare.parse::<u32>().is_ok() || bare.parse::<Timestamp>().is_ok()
    };
    reason.unwrap_or_default().split_whitespace().filter(|word| !figure(word)).collect()
}

/// What a failover waits for, when that is another thing than was told before. Pure.
#[must_use]
pub fn waits(plan: &Plan, before: &ClusterStatus, after: &ClusterStatus) -> Option<Note> {
    let goes_on = [&before.phase, &after.phase].iter().all(|p| p.as_deref() == Some(phases::FAILING_OVER));
    let told = before.phase_reason.as_deref().unwrap_or_default();
    plan.waits_for.as_deref().filter(|what| goes_on && !told.contains(what))?;
    Some(Note {
        warning: true,
        reason: "FailoverWaits".into(),
        message: after.phase_reason.clone().unwrap_or_default(),
    })
}

/// What is not understood and was not told before. Pure.
#[must_use]
pub fn remarks(validated: &Validated, before: &ClusterStatus) -> Vec<Note> {
    let told = before.phase_reason.as_deref().unwrap_or_default();
    let new = validated.remarks().filter(|problem| !told.contains(&problem.message));
    new.map(|problem| Note {
        warning: true,
        reason: problem.reason.to_owned(),
        message: problem.message.clone(),
    })
    .collect()
}

/// What the change to `after` means for the primary, when that became another instance. Pure.
#[must_use]
pub fn handover(before: &ClusterStatus, after: &ClusterStatus) -> Option<Handover> {
    let (old, new) = (before.current_primary.as_ref()?, after.current_primary.as_ref()?);
    let wanted = before.phase.as_deref() == Some(phases::SWITCHING_OVER);
    (old != new).then_some(if wanted { Handover::Switchover } else { Handover::Failover })
}

/// What there is to tell about who is the primary.
fn primary_changes(before: &ClusterStatus, after: &ClusterStatus) -> Option<Note> {
    let reason_text = || after.phase_reason.clone().unwrap_or_default();
    let note =
        |warning: bool, reason: &str, message: String| Some(Note { warning, reason: reason.into(), message });
    if let Some(handover) = handover(before, after) {
        let name = |status: &ClusterStatus| status.current_primary.clone().unwrap_or_default();
        let message = format!("{} is the primary now, after {}", name(after), name(before));
        let reason = match handover {
            Handover::Failover => "FailedOver",
            Handover::Switchover => "SwitchedOver",
        };
        return note(false, reason, message);
    }
    let current = after.current_primary.as_ref()?;
    let (phase, earlier) = (after.phase.as_deref()?, before.phase.as_deref());
    let moved = before.target_primary != after.target_primary;
    let settled = after.target_primary.as_ref() == Some(current);
    match phase {
        phases::FAILING_OVER if settled && earlier != Some(phase) => {
            note(true, "PrimaryNotReady", reason_text())
        }
        phases::FAILING_OVER if !settled && (moved || earlier != Some(phase)) => {
            note(true, "FailingOver", reason_text())
        }
        phases::SWITCHING_OVER if !settled && (moved || earlier != Some(phase)) => {
            note(false, "SwitchingOver", reason_text())
        }
        phases::SWITCHING_OVER if settled && moved && earlier == Some(phase) => {
            note(true, "SwitchoverGivenUp", reason_text())
        }
        _ => None,
    }
}

/// `Recovery failed` → `RecoveryFailed`.
fn camel(text: &str) -> String {
    text.split_whitespace()
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map(|c| c.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
        })
        .collect()
}

/// Publishes what changed.
pub async fn publish(ctx: &Context, cluster: &Cluster, before: &ClusterStatus, after: &ClusterStatus) {
    send(ctx, cluster, changes(before, after)).await;
}

/// Publishes `notes`.
pub async fn send(ctx: &Context, cluster: &Cluster, notes: Vec<Note>) {
    for note in notes {
        let type_ = if note.warning { EventType::Warning } else { EventType::Normal };
        ctx.event(&cluster.object_ref(&()), type_, &note.reason, note.message).await;
    }
}
