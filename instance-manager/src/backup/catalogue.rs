//! What the store holds: the recovery window for status and metrics, and the removal of what killed backups left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barman_cloud::catalog::{Inventory, Member, RecoveryWindow};
use barman_cloud::{BackupId, BackupInfo};
use chrono::{DateTime, Utc};
use howdah_api::backup::Backup;
use howdah_api::instance::Recoverability;
use howdah_api::repository::NamedStore;
use howdah_engine::backup::sweep_orphans;
use howdah_engine::{ControlData, Repository};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use tokio::time::sleep;

use super::{care, removal, retention, window};
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

/// Looks once; false when a repository could not be read, or is not as it will soon be.
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
                // What comes after a gap is waited for.
                whole &= !(named.archive_wal && shared.gaps(|gaps| gaps.unseen(&named.name)));
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
    let inventory = repository.inventory().await?;
    if !inventory.orphans.is_empty() && shared.backup().is_none() {
        sweep(&repository, None, Utc::now() - GRACE).await;
    }
    let gap = named.archive_wal && shared.gaps(|gaps| gaps.unseen(&named.name));
    let window = shared.windows.of(named, &repository, &inventory, gap).await?;
    if gap {
        let size = ControlData::read(&shared.env.paths.pgdata)?.wal_segment_size;
        shared.change_gaps(|gaps| gaps.look(&named.name, &window, size))?;
    }
    Ok(summary(&inventory, &window))
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
        window: None,
    })
}

/// What can be restored, full or not, and from when to when: pure.
#[must_use]
pub fn summary(inventory: &Inventory, window: &RecoveryWindow) -> Recoverability {
    let broken = |member: &Member| window.broken.iter().any(|(id, _)| *id == member.id);
    let sound: Vec<&BackupInfo> =
        inventory.restorable().filter(|(member, _)| !broken(member)).map(|(_, info)| info).collect();
    let ends = || sound.iter().filter_map(|info| info.end_time).map(|time| kube(time.to_utc()));
    Recoverability {
        first_recoverability_point: ends().min_by_key(|time| time.0),
        last_backup: ends().max_by_key(|time| time.0),
        backups: u32::try_from(sound.len()).unwrap_or(u32::MAX),
        window: Some(window::told(window)),
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
        let empty = summary(&Inventory::default(), &RecoveryWindow::default());
        assert_eq!(empty, Recoverability { window: Some(Default::default()), ..Recoverability::default() });
    }

    /// Chains count as fulls do, and what cannot be restored does not.
    #[tokio::test]
    async fn every_backup_that_can_be_restored_counts() {
        use barman_cloud::{BackupType, Chain, Destination, SegmentSize, Store};
        let store = Store::memory(&Destination::parse("s3://b/p").unwrap());
        let full = Repository::new(store, "pg").unwrap();
        let incremental = full.increments();
        let [f, i, lost] =
            ["20261121T010000", "20261121T020000", "20261121T030000"].map(|t| t.parse().unwrap());
        for (place, id, hour) in [(&full, &f, 1), (&incremental, &i, 2), (&incremental, &lost, 3)] {
            let at = DateTime::from_timestamp(hour * 3600, 0).unwrap().fixed_offset();
            let mut info = BackupInfo::started(1, "0/2000028".parse().unwrap(), SegmentSize::DEFAULT, at);
            info.finish(1, "0/2000100".parse().unwrap(), SegmentSize::DEFAULT, at);
            place.put_backup_info(id, &info).await.unwrap();
        }
        let chain = Chain {
            kind: BackupType::Incremental,
            ancestors: vec![f.clone()],
            since_lsn: "0/2000028".parse().unwrap(),
            found_by: "page-lsn".into(),
        };
        incremental.put_chain(&i, &chain).await.unwrap();
        let inventory = full.inventory().await.unwrap();
        let at = |hour: i64| Some(kube(DateTime::from_timestamp(hour * 3600, 0).unwrap()));
        let known = summary(&inventory, &RecoveryWindow::default());
        assert_eq!((known.backups, known.first_recoverability_point, known.last_backup), (2, at(1), at(2)));
        let lacking = full.recovery_window_of(&inventory).await.unwrap();
        assert_eq!(summary(&inventory, &lacking).backups, 0, "their WAL is not there");
    }

    #[test]
    fn all_repositories_together() {
        let at = |text: &str| Some(Time(text.parse().unwrap()));
        let one = |first: &str, last: &str, backups| Recoverability {
            first_recoverability_point: at(first),
            last_backup: at(last),
            backups,
            window: None,
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
