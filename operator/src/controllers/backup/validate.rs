//! Whether a Backup can be taken now, and by which instance. Pure.

use howdah_api::common::BackupTarget;
use howdah_api::conditions::{self, FALSE};
use howdah_api::instance::{InstanceRole, InstanceStatus};
use howdah_api::{Backup, Cluster, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::fetch::Observed;
use crate::controllers::cluster::decide::hibernation;
use crate::controllers::cluster::observed::pod_ready;

/// The instance that takes a Backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Name of the pod.
    pub pod: String,
    /// Session id of its manager.
    pub session: String,
    /// Why this one.
    pub why: String,
}

/// Why a Backup is not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It may pass by itself.
    Wait {
        /// Reason of the condition.
        reason: &'static str,
        /// What is waited for.
        message: String,
    },
    /// It does not: the Backup has failed.
    Fatal {
        /// Reason of the condition.
        reason: &'static str,
        /// What was wrong, and the remedy.
        message: String,
    },
}

fn wait(reason: &'static str, message: String) -> Obstacle {
    Obstacle::Wait { reason, message }
}

/// Chooses the instance for `backup`, or says what is in the way. Other Backups are not looked at.
pub fn choose(observed: &Observed, backup: &Backup) -> Result<Choice, Obstacle> {
    let name = &backup.spec.cluster.name;
    let Some(cluster) = observed.cluster.as_ref().filter(|c| c.metadata.deletion_timestamp.is_none()) else {
        return Err(wait(
            "ClusterNotFound",
            format!(
                "Cluster {name} does not exist in this namespace; the backup begins by itself when it does, or \
                 create a Backup that names an existing Cluster"
            ),
        ));
    };
    check_repository(cluster, backup)?;
    let status = cluster.status.clone().unwrap_or_default();
    if let Some(condition) = conditions::get(&status.conditions, conditions::BACKUP_CONFIGURED)
        && condition.status == FALSE
    {
        return Err(wait("BackupNotConfigured", condition.message.clone()));
    }
    if hibernation::asked(cluster) {
        return Err(wait(
            "ClusterNotReady",
            format!(
                "Cluster {name} is hibernated; the backup begins by itself when the annotation {} is gone",
                labels::HIBERNATION
            ),
        ));
    }
    let Some(primary) = primary(observed, cluster) else {
        let phase = status.phase.unwrap_or_else(|| "not set up yet".into());
        return Err(wait("ClusterNotReady", format!("the primary of Cluster {name} is not ready ({phase})")));
    };
    check_archiving(name, primary.1)?;
    check_target(backup, primary.1)?;
    let target =
        backup.spec.target.or(cluster.spec.backup.as_ref().and_then(|b| b.target)).unwrap_or_default();
    let choice = |(pod, report): (&Pod, &InstanceStatus), why: String| Choice {
        pod: pod.name_any(),
        session: report.session_id.clone(),
        why,
    };
    match target {
        BackupTarget::Primary => Ok(choice(primary, "the primary, as asked for".into())),
        BackupTarget::PreferStandby => Ok(match most_advanced_replica(observed) {
            Some(replica) => {
                let at = replica.1.received_lsn.clone().unwrap_or_default();
                choice(replica, format!("the most advanced ready replica, at {at}"))
            }
            None => choice(primary, "the primary: no replica is ready and streaming".into()),
        }),
    }
}

/// Whether the cluster has the repository that the Backup names.
fn check_repository(cluster: &Cluster, backup: &Backup) -> Result<(), Obstacle> {
    let name = &backup.spec.cluster.name;
    let stores = cluster.spec.stores(&cluster.namespace().unwrap_or_default(), name);
    if stores.is_empty() {
        return Err(Obstacle::Fatal {
            reason: "ClusterHasNoObjectStore",
            message: format!(
                "Cluster {name} has no spec.backup.barmanObjectStore and no spec.backup.repositories, so there is \
                 nowhere to store a backup; add one and create another Backup"
            ),
        });
    }
    let Some(wanted) = &backup.spec.repository else { return Ok(()) };
    if stores.iter().any(|named| named.name == *wanted) {
        return Ok(());
    }
    let known: Vec<&str> = stores.iter().map(|named| named.name.as_str()).collect();
    Err(Obstacle::Fatal {
        reason: "RepositoryNotFound",
        message: format!(
            "Cluster {name} has no repository {wanted}, only {}; create another Backup that names one of them",
            known.join(", ")
        ),
    })
}

fn check_archiving(cluster: &str, primary: &InstanceStatus) -> Result<(), Obstacle> {
    match &primary.archiver {
        None => Err(wait(
            "ArchivingNotReady",
            format!("the primary of Cluster {cluster} has not taken up its object store yet"),
        )),
        Some(archiver) if !archiver.working => {
            let why = archiver.last_error.as_deref().unwrap_or("the last attempt failed");
            Err(wait(
                "ArchivingNotWorking",
                format!(
                    "WAL of Cluster {cluster} does not reach the archive, so a backup could not be restored: {why}; \
                     the backup begins by itself when archiving works"
                ),
            ))
        }
        Some(_) => Ok(()),
    }
}

/// Whether WAL reaches the repository that the Backup goes to; where not all have to have it, archiving works although it
/// does not.
fn check_target(backup: &Backup, primary: &InstanceStatus) -> Result<(), Obstacle> {
    let wanted = backup.spec.repository.as_deref();
    let Some(state) = primary.repositories.iter().find(|r| wanted.is_none_or(|wanted| r.name == wanted))
    else {
        return Ok(());
    };
    let Some(why) = state.archiver.last_error.as_ref().filter(|_| !state.archiver.working) else {
        return Ok(());
    };
    Err(wait(
        "ArchivingNotWorking",
        format!(
            "WAL does not reach repository {}, so a backup in it could not be restored: {why}; the backup begins by \
             itself when it does",
            state.name
        ),
    ))
}

fn ready(observed: &Observed, role: InstanceRole) -> impl Iterator<Item = (&Pod, &InstanceStatus)> {
    observed.pods.iter().filter(|p| pod_ready(p)).filter_map(move |pod| {
        let report = observed.reports.get(&pod.name_any())?.as_ref().ok()?;
        (report.ready && !report.recovering && report.role == Some(role)).then_some((pod, report))
    })
}

fn primary<'a>(observed: &'a Observed, cluster: &Cluster) -> Option<(&'a Pod, &'a InstanceStatus)> {
    let target = cluster.status.as_ref().and_then(|s| s.target_primary.as_deref());
    ready(observed, InstanceRole::Primary).find(|(pod, _)| target.is_none_or(|t| t == pod.name_any()))
}

/// The ready, streaming replica that has received most; the lower name when several have.
fn most_advanced_replica(observed: &Observed) -> Option<(&Pod, &InstanceStatus)> {
    let mut replicas: Vec<_> = ready(observed, InstanceRole::Replica).filter(|(_, r)| r.streaming).collect();
    replicas.sort_by_key(|(pod, report)| {
        (std::cmp::Reverse(report.received_lsn.as_deref().and_then(crate::lsn::parse)), pod.name_any())
    });
    replicas.into_iter().next()
}
