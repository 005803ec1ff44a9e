//! Folds what was observed and decided into `Cluster.status`, and writes it. The folding is pure.

use howdah_api::backup::BackupPhase;
use howdah_api::cluster_status::InstanceSummary;
use howdah_api::conditions::{self, FALSE, TRUE, UNKNOWN};
use howdah_api::instance::InstanceRole;
use howdah_api::{Backup, Cluster, ClusterStatus, OPERATOR_MANAGER, naming};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::decide::{Plan, fencing};
use super::observed::{Instance, Observed};
use super::validate::Validated;
use super::{certificates, gap_backups, phases, repositories, synchronous, trouble, wal_runway};
use crate::context::Context;
use crate::error::Error;
use crate::metrics::ClusterGauges;

/// The status that follows from the observation and the plan.
#[must_use]
pub fn fold(
    validated: &Validated,
    observed: &Observed,
    plan: &Plan,
    hash: &str,
    now: Timestamp,
) -> ClusterStatus {
    let instances = observed.instances();
    let mut status = observed.status();
    let generation = observed.cluster.metadata.generation;
    status.phase = Some(plan.phase.to_owned());
    let remarks = validated.remarks().chain(validated.certificate_problems()).map(|p| p.message.as_str());
    let said: Vec<&str> =
        std::iter::once(plan.reason.as_str()).chain(remarks).filter(|text| !text.is_empty()).collect();
    status.phase_reason = Some(phases::told(plan.phase, &said.join("; "))).filter(|r| !r.is_empty());
    status.observed_generation = generation;
    if plan.target_chosen || status.target_primary != plan.target_primary {
        status.target_primary_timestamp = Some(Time(crate::clock::to_seconds(now)));
    }
    status.target_primary.clone_from(&plan.target_primary);
    status.primary_restart.clone_from(&plan.primary_restart);
    let failing_since = status.current_primary_failing_since_timestamp.take();
    status.current_primary_failing_since_timestamp =
        plan.primary_failing.then(|| failing_since.unwrap_or_else(|| Time(crate::clock::to_seconds(now))));
    status.latest_generated_serial = plan.latest_serial;
    status.image = Some(validated.image.clone());
    status.pod_spec_hash = Some(hash.to_owned());
    status.write_service = Some(naming::service_rw(&validated.name));
    status.read_service = Some(naming::service_r(&validated.name));
    status.instances = count(instances.iter().filter(|i| i.data.is_some() || i.pod.is_some()).count());
    status.ready_instances = count(instances.iter().filter(|i| i.ready()).count());
    let head = head(validated, &instances, &status);
    status.instances_status = instances.iter().map(|i| summary(&validated.name, observed, i, head)).collect();
    fold_primary(validated, observed, &instances, now, &mut status);
    synchronous::fold(&validated.name, observed, &instances, &mut status);
    fold_backups(observed, &mut status);
    wal_runway::fold(observed, &mut status);
    gap_backups::fold(observed, &mut status);
    fold_conditions(validated, observed, plan, generation, now, &mut status);
    synchronous::tell(&validated.name, observed, &instances, now, &mut status);
    wal_runway::tell(observed, now, &mut status);
    certificates::fold(&validated.certificates, observed, now, &mut status);
    status
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// How far the primary's WAL goes.
fn head(validated: &Validated, instances: &[Instance<'_>], status: &ClusterStatus) -> Option<u64> {
    let target = status.target_primary.as_deref()?;
    let serial = naming::serial_of(&validated.name, target)?;
    let report = instances.iter().find(|i| i.serial == serial)?.report?;
    let primary = report.role == Some(InstanceRole::Primary);
    report.received_lsn.as_deref().filter(|_| primary).and_then(crate::lsn::parse)
}

/// Bytes of WAL up to `head` that a replica has not received.
fn lag(instance: &Instance<'_>, head: Option<u64>) -> Option<i64> {
    let report = instance.report.filter(|r| r.role == Some(InstanceRole::Replica))?;
    let received = report.received_lsn.as_deref().and_then(crate::lsn::parse)?;
    i64::try_from(head?.saturating_sub(received)).ok()
}

fn summary(
    cluster: &str,
    observed: &Observed,
    instance: &Instance<'_>,
    head: Option<u64>,
) -> InstanceSummary {
    let name = naming::instance(cluster, instance.serial);
    let report = instance.report;
    let trouble = instance.pod.and_then(trouble::of).map(|t| t.message);
    let silent = match observed.reports.get(&name) {
        Some(Err(error)) => Some(error.to_string()),
        _ => None,
    };
    let said = report.map(|r| r.fatal.clone().unwrap_or_else(|| r.message.clone())).filter(|m| !m.is_empty());
    let fallback = match instance.pod {
        None => "waits for its pod",
        Some(p) if p.metadata.deletion_timestamp.is_some() => "the pod is ending",
        Some(_) => "the pod is starting",
    };
    InstanceSummary {
        role: report.and_then(|r| r.role),
        ready: instance.ready(),
        timeline_id: report.and_then(|r| r.timeline_id),
        pod_ip: instance.pod.and_then(|p| p.status.as_ref()?.pod_ip.clone()),
        message: Some(trouble.or(said).or(silent).unwrap_or_else(|| fallback.to_owned())),
        manager_version: report.map(|r| r.manager_version.clone()).filter(|version| !version.is_empty()),
        fenced: report.is_some_and(|r| r.fenced),
        streaming: report.is_some_and(|r| r.streaming),
        lag_bytes: lag(instance, head),
        name,
    }
}

/// What the primary says about itself. While it says nothing, what it said last stays.
fn fold_primary(
    validated: &Validated,
    observed: &Observed,
    instances: &[Instance<'_>],
    now: Timestamp,
    status: &mut ClusterStatus,
) {
    let target = status.target_primary.as_deref();
    let primary = instances
        .iter()
        .filter(|i| target == Some(naming::instance(&validated.name, i.serial).as_str()))
        .find_map(|i| i.report.map(|r| (i, r)));
    let Some((instance, report)) = primary else { return };
    status.system_id = report.system_id.clone().or(status.system_id.take());
    status.server_version = report.server_version.or(status.server_version);
    status.recovery = report.restored.clone().or(status.recovery.take());
    if report.role != Some(InstanceRole::Primary) {
        return;
    }
    status.timeline_id = report.timeline_id.max(status.timeline_id);
    let name = naming::instance(&validated.name, instance.serial);
    // One that takes another's place has done so when Kubernetes sends clients to it.
    let first = status.current_primary.is_none();
    if report.ready
        && !report.recovering
        && status.current_primary.as_ref() != Some(&name)
        && (first || instance.ready())
    {
        status.current_primary = Some(name);
        status.current_primary_timestamp = Some(Time(crate::clock::to_seconds(now)));
    }
    if !observed.cluster.spec.has_stores() {
        status.last_archived_time = None;
        status.last_archived_wal = None;
        status.first_recoverability_point = None;
        status.repositories.clear();
        return;
    }
    if let Some(archiver) = &report.archiver {
        if archiver.last_archived_time.is_some() {
            status.last_archived_time.clone_from(&archiver.last_archived_time);
        }
        if archiver.last_archived_wal.is_some() {
            status.last_archived_wal.clone_from(&archiver.last_archived_wal);
        }
    }
    repositories::fold(validated, observed, report, status);
    if let Some(known) = &report.recoverability {
        status.first_recoverability_point.clone_from(&known.first_recoverability_point);
    }
}

/// End of a Backup, or when it was made for one that never began.
fn ended(backup: &Backup) -> Option<Time> {
    backup
        .status
        .as_ref()
        .and_then(|s| s.stopped_at.clone())
        .or_else(|| backup.metadata.creation_timestamp.clone())
}

/// The Backup of `phase` that ended last.
fn last(observed: &Observed, phase: BackupPhase) -> Option<(&Backup, Time)> {
    observed
        .backups
        .iter()
        .filter(|b| b.status.as_ref().is_some_and(|s| s.phase() == phase))
        .filter_map(|b| ended(b).map(|t| (b, t)))
        .max_by_key(|(_, t)| t.0)
}

fn fold_backups(observed: &Observed, status: &mut ClusterStatus) {
    // Backup objects may be deleted while what they stand for stays true: the times never go back.
    if let Some((backup, time)) = last(observed, BackupPhase::Completed)
        && status.last_successful_backup.as_ref().is_none_or(|t| t.0 <= time.0)
    {
        status.last_successful_backup = Some(time);
        status.last_successful_backup_name = Some(backup.name_any());
    }
    if let Some((backup, time)) = last(observed, BackupPhase::Failed)
        && status.last_failed_backup.as_ref().is_none_or(|t| t.0 <= time.0)
    {
        status.last_failed_backup = Some(time);
        status.last_failed_backup_name = Some(backup.name_any());
    }
    if status.first_recoverability_point.is_none() && observed.cluster.spec.has_stores() {
        status.first_recoverability_point = observed
            .backups
            .iter()
            .filter_map(|b| b.status.as_ref())
            .filter(|s| s.phase() == BackupPhase::Completed)
            .filter_map(|s| s.stopped_at.clone())
            .min_by_key(|t| t.0);
    }
}

fn fold_conditions(
    validated: &Validated,
    observed: &Observed,
    plan: &Plan,
    generation: Option<i64>,
    now: Timestamp,
    status: &mut ClusterStatus,
) {
    let desired = observed.cluster.spec.instances;
    let now = Time(crate::clock::to_seconds(now));
    let mut list = std::mem::take(&mut status.conditions);
    let mut set = |type_: &str, value: &str, reason: &str, message: &str| {
        conditions::set(&mut list, type_, value, reason, message, generation, now.clone());
    };
    let asleep = match plan.phase {
        phases::HIBERNATED => Some("Hibernated"),
        phases::HIBERNATING => Some("Hibernating"),
        _ => None,
    };
    if let Some(reason) = asleep {
        set(conditions::READY, FALSE, reason, &plan.reason);
    } else if plan.phase == phases::FOLLOWING {
        set(conditions::READY, TRUE, "FollowsSource", &plan.reason);
    } else if status.ready_instances >= desired
        && status.instances == desired
        && status.current_primary.is_some()
    {
        set(conditions::READY, TRUE, "ClusterIsReady", "all instances are ready");
    } else {
        let message = format!(
            "{} of {desired} instances are ready: {}",
            status.ready_instances,
            if plan.reason.is_empty() { plan.phase } else { &plan.reason }
        );
        set(conditions::READY, FALSE, "ClusterIsNotReady", &message);
    }
    let configured = observed.cluster.spec.has_stores();
    if configured {
        match validated.backup_problem() {
            Some(problem) => set(conditions::BACKUP_CONFIGURED, FALSE, problem.reason, &problem.message),
            None => set(
                conditions::BACKUP_CONFIGURED,
                TRUE,
                "BackupConfigured",
                "the object store is configured and its Secrets are there",
            ),
        }
        if let Some((value, reason, message)) = archiving(observed, status) {
            set(conditions::CONTINUOUS_ARCHIVING, value, reason, &message);
        }
        match repositories::up_to_date(&status.repositories) {
            None => {}
            Some(Ok(())) => set(
                conditions::REPOSITORIES_UP_TO_DATE,
                TRUE,
                "RepositoriesUpToDate",
                "every repository has the WAL that was acknowledged",
            ),
            Some(Err(message)) => set(conditions::REPOSITORIES_UP_TO_DATE, FALSE, "RepositoryLate", &message),
        }
    }
    if let Some((value, reason, message)) = last_backup(observed) {
        set(conditions::LAST_BACKUP_SUCCEEDED, value, reason, &message);
    }
    if status.repositories.len() < 2 {
        list.retain(|c| c.type_ != conditions::REPOSITORIES_UP_TO_DATE);
    }
    if !configured {
        list.retain(|c| {
            c.type_ != conditions::BACKUP_CONFIGURED && c.type_ != conditions::CONTINUOUS_ARCHIVING
        });
    }
    status.conditions = list;
}

type Verdict = (&'static str, &'static str, String);

/// Whether WAL reaches the archive; `None` leaves the last verdict: silence is no news.
fn archiving(observed: &Observed, status: &ClusterStatus) -> Option<Verdict> {
    let known = conditions::get(&observed.status().conditions, conditions::CONTINUOUS_ARCHIVING).is_some();
    let pending = |message: &str| Some((UNKNOWN, "ContinuousArchivingPending", message.to_owned()));
    let report = status.target_primary.as_ref().and_then(|p| observed.reports.get(p)?.as_ref().ok());
    let archiver = report.and_then(|r| r.archiver.as_ref());
    match archiver {
        None if known => None,
        None => pending("the primary has not said yet whether archiving works"),
        Some(a) if !a.working => {
            let why = a.last_error.clone().unwrap_or_else(|| "the last attempt failed".to_owned());
            let file = a.last_failed_wal.as_deref().map(|w| format!("{w}: ")).unwrap_or_default();
            Some((FALSE, "ContinuousArchivingFailing", format!("{file}{why}")))
        }
        Some(a) if a.confirmed => {
            Some((TRUE, "ContinuousArchivingSuccess", "continuous archiving is working".to_owned()))
        }
        Some(_) => pending("no WAL file had to be archived yet"),
    }
}

/// The outcome of the last backup; one that is being taken counts as not yet successful.
fn last_backup(observed: &Observed) -> Option<Verdict> {
    let executing = observed
        .backups
        .iter()
        .find(|b| b.status.as_ref().is_some_and(|s| s.phase().is_executing()))
        .map(|b| (FALSE, "BackupStarted", format!("Backup {} is being taken", b.name_any())));
    executing.or_else(|| {
        let completed = last(observed, BackupPhase::Completed);
        let failed = last(observed, BackupPhase::Failed);
        match (completed, failed) {
            (Some((b, done)), failed) if failed.as_ref().is_none_or(|(_, t)| t.0 <= done.0) => {
                Some((TRUE, "LastBackupSucceeded", format!("Backup {} is completed", b.name_any())))
            }
            (_, Some((b, _))) => {
                let why = b.status.as_ref().and_then(|s| s.error.as_deref()).unwrap_or("it has failed");
                Some((FALSE, "LastBackupFailed", format!("Backup {}: {why}", b.name_any())))
            }
            _ => None,
        }
    })
}

/// What the metrics show of `status`.
#[must_use]
pub fn gauges(observed: &Observed, status: &ClusterStatus) -> ClusterGauges {
    let seconds = |t: &Option<Time>| t.as_ref().map(|t| t.0.as_second());
    let number = |wanted: fn(BackupPhase) -> bool| {
        let phase = |b: &&Backup| wanted(b.status.as_ref().map(|s| s.phase()).unwrap_or_default());
        i64::try_from(observed.backups.iter().filter(phase).count()).unwrap_or(i64::MAX)
    };
    ClusterGauges {
        phase: status.phase.clone(),
        instances: i64::from(status.instances),
        ready: i64::from(status.ready_instances),
        fenced: count(fencing::fenced(observed, &observed.instances()).len()).into(),
        archiving: conditions::get(&status.conditions, conditions::CONTINUOUS_ARCHIVING)
            .filter(|c| c.status != UNKNOWN)
            .map(|c| c.status == TRUE),
        last_backup: seconds(&status.last_successful_backup),
        last_failed_backup: seconds(&status.last_failed_backup),
        first_recoverability: seconds(&status.first_recoverability_point),
        synchronous: synchronous::counts(observed, status),
        certificates: certificates::first_end(status),
        backups: [
            number(|p| !p.is_terminal()),
            number(|p| p == BackupPhase::Completed),
            number(|p| p == BackupPhase::Failed),
        ],
    }
}

/// Writes `status` when it differs from what `cluster` has; returns the cluster as it is then.
pub async fn write(ctx: &Context, cluster: &Cluster, status: &ClusterStatus) -> Result<Cluster, Error> {
    let name = cluster.name_any();
    let what = format!("status of Cluster {name}");
    let encode = |s: &ClusterStatus| {
        serde_json::to_value(s).map_err(|source| Error::Encode { object: what.clone(), source })
    };
    let old = match &cluster.status {
        Some(old) => encode(old)?,
        None => json!({}),
    };
    let Some(difference) = crate::merge::difference(&old, &encode(status)?) else {
        return Ok(cluster.clone());
    };
    let api: Api<Cluster> = Api::namespaced(ctx.client.clone(), &cluster.namespace().unwrap_or_default());
    let patch = json!({
        "metadata": {"resourceVersion": cluster.metadata.resource_version},
        "status": difference,
    });
    let params = PatchParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    api.patch_status(&name, &params, &Patch::Merge(&patch)).await.map_err(Error::api("write", what))
}
