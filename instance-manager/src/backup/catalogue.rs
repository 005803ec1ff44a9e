//! What the store holds: the recovery window for status and metrics, and the removal of what killed backups left.

use std::sync::Arc;
use std::time::Duration;

use barman_cloud::BackupId;
use barman_cloud::catalog::{Catalog, first_recoverability_point};
use chrono::{DateTime, Utc};
use howdah_api::backup::Backup;
use howdah_api::instance::Recoverability;
use howdah_engine::Repository;
use howdah_engine::backup::sweep_orphans;
use kube::ResourceExt;
use tokio::time::sleep;

use crate::error::Result;
use crate::objstore::{Purpose, repository};
use crate::run::role::Running;
use crate::run::shared::Shared;
use crate::time::kube;

/// How often the store is looked at.
const EVERY: Duration = Duration::from_secs(300);
/// How soon it is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Orphans younger than this may belong to a writer that is not ours.
const GRACE: chrono::Duration = chrono::Duration::hours(24);

/// Looks at the store every few minutes, on the primary.
pub async fn follow(shared: Arc<Shared>) {
    let mut server = shared.server.subscribe();
    let mut cluster = shared.cluster.subscribe();
    loop {
        let pause = if refresh(&shared).await { EVERY } else { RETRY };
        let store = shared.cluster().spec.object_store().cloned();
        let running = shared.server.borrow().running;
        // A change of role or store is looked at soon, everything else at its time.
        let changed = async {
            loop {
                tokio::select! {
                    done = server.changed() => if done.is_err() { return },
                    done = cluster.changed() => if done.is_err() { return },
                }
                if shared.server.borrow().running != running
                    || shared.cluster().spec.object_store() != store.as_ref()
                {
                    return;
                }
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = changed => {}
        }
    }
}

/// Looks once; false when the store could not be read.
pub async fn refresh(shared: &Shared) -> bool {
    if shared.server.borrow().running != Some(Running::Primary) {
        shared.set_recoverability(None);
        return true;
    }
    match look(shared).await {
        Ok(known) => {
            shared.set_recoverability(known);
            true
        }
        Err(error) => {
            // The last known state stays: the backups did not go away because the store does not answer.
            tracing::warn!("the catalogue of backups cannot be read: {}", error.report());
            false
        }
    }
}

fn open(shared: &Shared) -> Result<Option<Repository>> {
    let cluster = shared.cluster();
    let Some(store) = cluster.spec.object_store() else { return Ok(None) };
    repository(store, &shared.env.cluster, &shared.secrets(), Purpose::Data).map(Some)
}

async fn look(shared: &Shared) -> Result<Option<Recoverability>> {
    let Some(repository) = open(shared)? else { return Ok(None) };
    let catalog = repository.catalog().await?;
    if !catalog.orphans.is_empty() && shared.backup().is_none() {
        sweep(&repository, None, Utc::now() - GRACE).await;
    }
    Ok(Some(summary(&catalog)))
}

/// The catalogue in three words: pure.
#[must_use]
pub fn summary(catalog: &Catalog) -> Recoverability {
    let utc = |t: DateTime<chrono::FixedOffset>| kube(t.to_utc());
    Recoverability {
        first_recoverability_point: first_recoverability_point(catalog).map(utc),
        last_backup: catalog.done().filter_map(|(_, info)| info.end_time).max().map(utc),
        backups: u32::try_from(catalog.done().count()).unwrap_or(u32::MAX),
    }
}

async fn sweep(repository: &Repository, running: Option<&BackupId>, older_than: DateTime<Utc>) {
    match sweep_orphans(repository, running, older_than).await {
        Ok(swept) if swept.objects > 0 => tracing::info!(
            objects = swept.objects,
            bytes = swept.bytes,
            "removed what killed backups left in the store"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!("what a killed backup left could not be removed: {}", error.report()),
    }
}

/// Removes what a lost backup left, unless another one goes on in the same cluster: its parts look the same.
pub async fn sweep_lost(shared: &Shared, lost: &Backup) {
    let others = match shared.kube.backups().list(&kube::api::ListParams::default()).await {
        Ok(list) => list.items.into_iter().any(|b| {
            b.uid() != lost.uid()
                && b.spec.cluster.name == lost.spec.cluster.name
                && b.status.as_ref().is_some_and(|s| s.phase().is_executing())
        }),
        Err(error) => {
            tracing::warn!(%error, "leftovers are removed later");
            return;
        }
    };
    match open(shared) {
        Ok(Some(repository)) if !others => sweep(&repository, None, Utc::now()).await,
        Ok(_) => {}
        Err(error) => tracing::warn!("leftovers are removed later: {}", error.report()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_store_has_no_times() {
        assert_eq!(summary(&Catalog::default()), Recoverability::default());
    }
}
