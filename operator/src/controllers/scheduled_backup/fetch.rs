//! Gathers what a decision about a schedule needs.

use howdah_api::common::LocalObjectReference;
use howdah_api::scheduled_backup::BackupOwner;
use howdah_api::{Backup, Cluster, ScheduledBackup, labels};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::core::DeserializeGuard;

use crate::context::Context;
use crate::error::Error;

/// Everything that a decision about one schedule is made from.
#[derive(Clone, Default)]
pub struct Observed {
    /// The schedule.
    pub schedule: ScheduledBackup,
    /// Backups that bear its label, oldest first.
    pub children: Vec<Backup>,
    /// The cluster, looked up only when it is to own the Backups.
    pub cluster: Option<Cluster>,
}

/// Where the Backups of a schedule are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The watch, as far as there is one: good for finding that nothing is due.
    Watch,
    /// The API server.
    Server,
}

/// Reads everything about the schedule `name`; `None` when it is gone.
pub async fn fetch(
    ctx: &Context,
    namespace: &str,
    name: &str,
    source: Source,
) -> Result<Option<Observed>, Error> {
    let schedules: Api<ScheduledBackup> = Api::namespaced(ctx.client.clone(), namespace);
    let found =
        schedules.get_opt(name).await.map_err(Error::api("get", format!("ScheduledBackup {name}")))?;
    let Some(schedule) = found.filter(|s| s.metadata.deletion_timestamp.is_none()) else { return Ok(None) };
    let backups: Api<DeserializeGuard<Backup>> = Api::namespaced(ctx.client.clone(), namespace);
    let current = source == Source::Watch && ctx.seen.children.is_current(namespace);
    let seen = ctx.seen.children.of(namespace, name).filter(|_| current);
    // A name that is no label value bears no children; `validate` says so.
    let mut children: Vec<Backup> = if let Some(seen) = seen {
        seen.iter().filter_map(|backup| backup.0.as_ref().ok().cloned()).collect()
    } else if name.len() <= 63 {
        let params = ListParams::default().labels(&format!("{}={name}", labels::SCHEDULED_BACKUP));
        let what = format!("Backups of ScheduledBackup {name}");
        let list = backups.list(&params).await.map_err(Error::api("list", what))?.items;
        list.into_iter().filter_map(|b| b.0.ok()).collect()
    } else {
        Vec::new()
    };
    children.sort_by_key(|b| (b.metadata.creation_timestamp.as_ref().map(|t| t.0), b.name_any()));
    let cluster = match schedule.spec.backup_owner_reference {
        Some(BackupOwner::Cluster) => {
            let LocalObjectReference { name } = &schedule.spec.cluster;
            let api: Api<Cluster> = Api::namespaced(ctx.client.clone(), namespace);
            api.get_opt(name).await.map_err(Error::api("get", format!("Cluster {name}")))?
        }
        _ => None,
    };
    Ok(Some(Observed { schedule, children, cluster }))
}
