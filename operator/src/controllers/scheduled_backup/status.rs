//! Folds the decision into `ScheduledBackup.status`, and writes it. The folding is pure.

use howdah_api::conditions::{self, FALSE, TRUE};
use howdah_api::{OPERATOR_MANAGER, ScheduledBackup, ScheduledBackupStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::apply::Created;
use super::decide::{self, Decision};
use super::fetch::Observed;
use super::validate::Validated;
use crate::clock::to_seconds;
use crate::context::Context;
use crate::error::Error;

/// How many due times are shown.
const SHOWN: usize = 3;

/// The status that follows.
#[must_use]
pub fn fold(
    validated: &Validated,
    observed: &Observed,
    decision: &Decision,
    created: Created,
    now: Timestamp,
) -> ScheduledBackupStatus {
    let object = &observed.schedule;
    let mut status = object.status.clone().unwrap_or_default();
    let begun = object.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    if status.last_check_time.is_none() && !object.spec.immediate.unwrap_or(false) {
        status.last_check_time = Some(Time(to_seconds(begun)));
    }
    let active = observed.children.iter().filter(|b| !decide::ended(b)).count();
    status.active = i32::try_from(active).unwrap_or(i32::MAX);
    if let Decision::Create { name, due, .. } = decision
        && created != Created::NotDue
    {
        // Everything due up to now is dealt with by this one.
        status.last_check_time = Some(Time(to_seconds(now.max(*due))));
        if created == Created::Yes {
            status.last_schedule_time = Some(Time(to_seconds(*due)));
            status.last_backup_name = Some(name.clone());
            status.active = status.active.max(1);
        }
    } else if status.last_check_time.is_none() && observed.children.iter().any(decide::is_immediate) {
        // The immediate Backup exists already though its status write was lost.
        status.last_check_time = Some(Time(to_seconds(now)));
    }
    fold_times(validated, object, decision, now, &mut status);
    status
}

fn fold_times(
    validated: &Validated,
    object: &ScheduledBackup,
    decision: &Decision,
    now: Timestamp,
    status: &mut ScheduledBackupStatus,
) {
    let generation = object.metadata.generation;
    let stamp = Time(to_seconds(now));
    let suspended = object.spec.suspend.unwrap_or(false);
    let set = |status: &mut ScheduledBackupStatus, value, reason, message: &str| {
        let list = &mut status.conditions;
        conditions::set(list, conditions::SCHEDULED, value, reason, message, generation, stamp.clone());
    };
    status.next_schedule_times.clear();
    status.error = None;
    let (value, reason, message) = match validated {
        Err(invalid) => {
            status.error = Some(invalid.message.clone());
            (FALSE, invalid.reason, invalid.message.clone())
        }
        Ok(_) if suspended => {
            (FALSE, "Suspended", "no backups are taken while spec.suspend is true".to_owned())
        }
        Ok((schedule, zone)) => {
            let base = status.last_check_time.as_ref().map_or(now, |t| t.0);
            let times = schedule.upcoming(decide::to_chrono(base), *zone, SHOWN);
            status.next_schedule_times =
                times.into_iter().filter_map(decide::from_chrono).map(Time).collect();
            if let Decision::Stuck { reason, message } = decision {
                status.error = Some(message.clone());
                set(status, FALSE, reason, message);
                status.next_schedule_time = status.next_schedule_times.first().cloned();
                return;
            }
            let form = if schedule.is_crontab() { ", read as five crontab fields" } else { "" };
            (TRUE, "ScheduleValid", format!("due times are computed in the zone {zone}{form}"))
        }
    };
    status.next_schedule_time = status.next_schedule_times.first().cloned();
    set(status, value, reason, &message);
}

/// Writes the status that follows, when it differs, and tells people of a schedule that cannot be used.
pub async fn write(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    decision: &Decision,
    created: Created,
    now: Timestamp,
) -> Result<(), Error> {
    let object = &observed.schedule;
    let status = fold(validated, observed, decision, created, now);
    let name = object.name_any();
    let what = format!("status of ScheduledBackup {name}");
    let encode = |s: &ScheduledBackupStatus| {
        serde_json::to_value(s).map_err(|source| Error::Encode { object: what.clone(), source })
    };
    let old = match &object.status {
        Some(old) => encode(old)?,
        None => json!({}),
    };
    let Some(difference) = crate::merge::difference(&old, &encode(&status)?) else { return Ok(()) };
    let api: Api<ScheduledBackup> =
        Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "metadata": {"resourceVersion": object.metadata.resource_version},
        "status": difference,
    });
    let params = PatchParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    api.patch_status(&name, &params, &Patch::Merge(&patch)).await.map_err(Error::api("write", what))?;
    let told = object.status.as_ref().and_then(|s| s.error.clone());
    if let Some(error) = status.error.filter(|e| told.as_ref() != Some(e)) {
        let reason =
            conditions::get(&status.conditions, conditions::SCHEDULED).map_or("", |c| c.reason.as_str());
        ctx.event(&object.object_ref(&()), EventType::Warning, reason, error).await;
    }
    Ok(())
}
