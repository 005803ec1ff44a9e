//! What the store holds: the recovery window for status and metrics, and the removal of what killed backups left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barman_cloud::BackupId;
use barman_cloud::catalog::{Catalog, first_recoverability_point};
use chrono::{DateTime, Utc};
use howdah_api::backup::Backup;
use howdah_api::instance::Recoverability;
use howdah_api::repository::NamedStore;
use howdah_engine::Repository;
use howdah_engine::backup::sweep_orphans;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use tokio::time::sleep;

use super::{care, removal, retention};
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
    let (mut retained, mut looked) = (retention::Last::default(), care::Looked::default());
    loop {
        let pause = if refresh(&shared).await { EVERY } else { RETRY };
        if shared.server.borrow().running == Some(Running::Primary) {
            care::care(&shared, &mut looked).await;
        }
        let counts = shared.recoverability().into_iter().map(|(name, known)| (name, known.backups)).collect();
        retention::enforce(&shared, &mut retained, &counts).await;
        if shared.server.borrow().running == Some(Running::Primary) && removal::carry_out(&shared).await {
            // What went counts no longer, and its WAL may go as well.
            continue;
        }
        let stores = shared.stores();
        let running = shared.server.borrow().running;
        // A change of role or store is looked at soon, everything else at its time.
        let changed = async {
            loop {
                tokio::select! {
                    done = server.changed() => if done.is_err() { return },
                    done = cluster.changed() => if done.is_err() { return },
                }
                if shared.server.borrow().running != running || shared.stores() != stores {
                    return;
                }
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.backup_ended.notified() => {}
            () = changed => {}
        }
    }
}

/// Looks once; false when a repository could not be read.
pub async fn refresh(shared: &Shared) -> bool {
    if shared.server.borrow().running != Some(Running::Primary) {
        shared.set_recoverability(BTreeMap::new());
        return true;
    }
    let (mut known, mut whole) = (BTreeMap::new(), true);
    let mut before = shared.recoverability();
    for named in shared.stores() {
        match look(shared, &named).await {
            Ok(found) => {
                known.insert(named.name, found);
            }
            Err(error) => {
                tracing::warn!(
                    repository = named.name,
                    "the catalogue of backups cannot be read: {}",
                    error.report()
                );
                // The last known state stays: the backups did not go away because the store does not answer.
                known.extend(before.remove_entry(&named.name));
                whole = false;
            }
        }
    }
    shared.set_recoverability(known);
    whole
}

/// The repository, as base backups use it.
pub(super) fn open(shared: &Shared, named: &NamedStore) -> Result<Repository> {
    repository(&named.store, &shared.env.cluster, &shared.secrets(), Purpose::Data)
}

async fn look(shared: &Shared, named: &NamedStore) -> Result<Recoverability> {
    let repository = open(shared, named)?;
    let catalog = repository.catalog().await?;
    if !catalog.orphans.is_empty() && shared.backup().is_none() {
        sweep(&repository, None, Utc::now() - GRACE).await;
    }
    Ok(summary(&catalog))
}

/// What all repositories hold together; `None` when nothing is known of any.
#[must_use]
pub fn together(all: &BTreeMap<String, Recoverability>) -> Option<Recoverability> {
    let times =
        |of: fn(&Recoverability) -> &Option<Time>| all.values().filter_map(move |one| of(one).clone());
    (!all.is_empty()).then(|| Recoverability {
        first_recoverability_point: times(|one| &one.first_recoverability_point).min_by_key(|t| t.0),
        last_backup: times(|one| &one.last_backup).max_by_key(|t| t.0),
        backups: all.values().map(|one| one.backups).sum(),
    })
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
    if others {
        return;
    }
    let status = lost.status.clone().unwrap_or_default();
    for named in
        shared.stores().into_iter().filter(|n| status.repository.as_ref().is_none_or(|r| *r == n.name))
    {
        match open(shared, &named) {
            Ok(repository) => sweep(&repository, None, Utc::now()).await,
            Err(error) => tracing::warn!("leftovers are removed later: {}", error.report()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_store_has_no_times() {
        assert_eq!(summary(&Catalog::default()), Recoverability::default());
    }

    #[test]
    fn all_repositories_together() {
        let at = |text: &str| Some(Time(text.parse().unwrap()));
        let one = |first: &str, last: &str, backups| Recoverability {
            first_recoverability_point: at(first),
            last_backup: at(last),
            backups,
        };
        let all = BTreeMap::from([
            ("repo1".to_owned(), one("2026-11-02T00:00:00Z", "2026-11-09T00:00:00Z", 3)),
            ("repo2".to_owned(), one("2026-11-01T00:00:00Z", "2026-11-05T00:00:00Z", 2)),
            ("repo3".to_owned(), Recoverability::default()),
        ]);
        assert_eq!(together(&all), Some(one("2026-11-01T00:00:00Z", "2026-11-09T00:00:00Z", 5)));
        assert_eq!(together(&BTreeMap::new()), None);
    }
}
