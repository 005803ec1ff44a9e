//! Writes the outcome of a decision into `Backup.status`, tied to the version it was decided on.

use howdah_api::backup::{BackupPhase, InstanceId};
use howdah_api::conditions::{self, FALSE, TRUE};
use howdah_api::{Backup, BackupStatus, OPERATOR_MANAGER};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::decide::Decision;
use super::fetch::Observed;
use crate::context::Context;
use crate::error::Error;

/// The status after `decision`; `None` when it stays. Pure.
#[must_use]
pub fn next(backup: &Backup, decision: &Decision, now: Timestamp) -> Option<BackupStatus> {
    let mut status = backup.status.clone().unwrap_or_default();
    let generation = backup.metadata.generation;
    let now = Time(crate::clock::to_seconds(now));
    let from = status.phase();
    match decision {
        Decision::Done | Decision::Watch { .. } => return None,
        Decision::Wait { reason, message } => {
            status.phase = Some(BackupPhase::Pending);
            conditions::set(
                &mut status.conditions,
                conditions::SCHEDULED,
                FALSE,
                reason,
                message,
                generation,
                now,
            );
        }
        Decision::Start { pod, session, why } => {
            status.phase = Some(BackupPhase::Started);
            status.instance_id = Some(InstanceId { pod_name: pod.clone(), session_id: session.clone() });
            let message = format!("given to {pod}: {why}");
            conditions::set(
                &mut status.conditions,
                conditions::SCHEDULED,
                TRUE,
                "Assigned",
                &message,
                generation,
                now,
            );
        }
        Decision::Fail { reason, error } => {
            status.phase = Some(BackupPhase::Failed);
            status.error = Some(error.clone());
            status.stopped_at = Some(now.clone());
            let list = &mut status.conditions;
            if conditions::get(list, conditions::SCHEDULED).is_none_or(|c| c.status != TRUE) {
                conditions::set(list, conditions::SCHEDULED, FALSE, reason, error, generation, now.clone());
            }
            conditions::set(list, conditions::COMPLETED, FALSE, reason, error, generation, now);
        }
    }
    from.may_become(status.phase()).then_some(status)
}

/// The event that goes with `decision`: type, reason, note. Nothing while it merely stays as it is.
fn note(before: &Backup, decision: &Decision) -> Option<(EventType, String, String)> {
    match decision {
        Decision::Done | Decision::Watch { .. } => None,
        Decision::Wait { reason, message } => {
            let told = before
                .status
                .as_ref()
                .and_then(|s| conditions::get(&s.conditions, conditions::SCHEDULED))
                .is_some_and(|c| c.reason == *reason);
            let type_ = match *reason {
                "BackupRunning" | "Queued" | "ClusterNotReady" | "ArchivingNotReady" => EventType::Normal,
                _ => EventType::Warning,
            };
            (!told).then(|| (type_, (*reason).to_owned(), message.clone()))
        }
        Decision::Start { pod, why, .. } => {
            Some((EventType::Normal, "Starting".into(), format!("given to {pod}: {why}")))
        }
        Decision::Fail { reason, error } => Some((EventType::Warning, (*reason).to_owned(), error.clone())),
    }
}

/// Writes what follows from `decision` and tells people.
pub async fn write(ctx: &Context, observed: &Observed, decision: &Decision) -> Result<(), Error> {
    let backup = &observed.backup;
    let Some(status) = next(backup, decision, ctx.clock.now()) else { return Ok(()) };
    let name = backup.name_any();
    let what = format!("status of Backup {name}");
    let encode = |s: &BackupStatus| {
        serde_json::to_value(s).map_err(|source| Error::Encode { object: what.clone(), source })
    };
    let old = match &backup.status {
        Some(old) => encode(old)?,
        None => json!({}),
    };
    let Some(difference) = crate::merge::difference(&old, &encode(&status)?) else { return Ok(()) };
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), &backup.namespace().unwrap_or_default());
    // With the version that was read: whoever wrote since wins, and the decision is made anew.
    let patch = json!({
        "metadata": {"resourceVersion": backup.metadata.resource_version},
        "status": difference,
    });
    let params = PatchParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    api.patch_status(&name, &params, &Patch::Merge(&patch)).await.map_err(Error::api("write", what))?;
    tracing::info!(backup = name, ?decision, "decided");
    if let Some((type_, reason, message)) = note(backup, decision) {
        ctx.event(&backup.object_ref(&()), type_, &reason, message).await;
    }
    Ok(())
}
