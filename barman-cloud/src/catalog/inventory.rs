//! All backups of a repository: Barman's full ones and those that build on them.

use super::{Catalog, CatalogEntry, Keep};
use crate::backup_id::BackupId;
use crate::backup_info::BackupInfo;
use crate::chain::{BackupType, Chain, label};
use crate::error::Result;
use crate::repository::Repository;
use futures::{StreamExt, TryStreamExt};

/// Objects read at a time.
const PARALLEL: usize = 8;

/// A backup of any type.
#[derive(Debug)]
pub struct Member {
    /// Id; no two backups of a repository have the same, whatever their types.
    pub id: BackupId,
    /// Full, differential or incremental.
    pub kind: BackupType,
    /// Its record, or why it cannot be read.
    pub info: Result<BackupInfo>,
    /// What it builds on, or why that is not known; `None` for a full backup.
    pub chain: Option<Result<Chain>>,
    /// Whether it is kept from retention.
    pub keep: Option<Keep>,
}

impl Member {
    /// The record, when it says that the backup is complete and everything about it can be read.
    pub fn done(&self) -> Option<&BackupInfo> {
        match &self.chain {
            Some(Err(_)) => None,
            _ => self.info.as_ref().ok().filter(|info| info.is_done()),
        }
    }

    /// The backups that a restore of this one needs before it, the full one first.
    pub fn ancestors(&self) -> &[BackupId] {
        match &self.chain {
            Some(Ok(chain)) => &chain.ancestors,
            _ => &[],
        }
    }

    /// The label, as pgBackRest spells it.
    pub fn label(&self) -> String {
        label(self.kind, &self.id, self.ancestors().first())
    }
}

/// All backups of a repository, oldest first.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Backups with a record.
    pub members: Vec<Member>,
    /// Ids under which there are objects but no record, each with the type of its place.
    pub orphans: Vec<(BackupType, BackupId)>,
}

impl Inventory {
    /// The backup with this id.
    pub fn get(&self, id: &BackupId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == *id)
    }

    /// Whether an id is in use, with or without a record.
    pub fn contains(&self, id: &BackupId) -> bool {
        self.get(id).is_some() || self.orphans.iter().any(|(_, orphan)| orphan == id)
    }

    /// Backups from which a restore can begin: complete, and so is everything that they build on.
    pub fn restorable(&self) -> impl DoubleEndedIterator<Item = (&Member, &BackupInfo)> {
        self.members.iter().filter_map(|member| {
            let info = member.done()?;
            let whole = member.ancestors().iter().all(|id| self.get(id).is_some_and(|m| m.done().is_some()));
            whole.then_some((member, info))
        })
    }

    /// Backups that build on this one, directly or not.
    pub fn dependents<'a>(&'a self, id: &'a BackupId) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| member.ancestors().contains(id))
    }
}

impl Repository {
    /// All backups of all types. One that cannot be read is a member with its error; only a store that cannot be
    /// listed or does not answer fails the whole. Call it on the repository of full backups.
    pub async fn inventory(&self) -> Result<Inventory> {
        let increments = self.increments();
        let (full, rest) = futures::try_join!(self.catalog(), increments.catalog())?;
        let mut inventory = Inventory::default();
        inventory.orphans.extend(orphans(&full, BackupType::Full));
        inventory.orphans.extend(orphans(&rest, BackupType::Incremental));
        // Made beforehand: a closure that borrows keeps callers from being spawned.
        let mut members: Vec<_> = full.entries.into_iter().map(|entry| member(self, entry, false)).collect();
        members.extend(rest.entries.into_iter().map(|entry| member(&increments, entry, true)));
        inventory.members = futures::stream::iter(members).buffer_unordered(PARALLEL).try_collect().await?;
        inventory.members.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(inventory)
    }
}

fn orphans(catalog: &Catalog, kind: BackupType) -> impl Iterator<Item = (BackupType, BackupId)> + '_ {
    catalog.orphans.iter().map(move |id| (kind, id.clone()))
}

async fn member(repository: &Repository, entry: CatalogEntry, chained: bool) -> Result<Member> {
    let keep = repository.keep(&entry.id).await?;
    let chain = match chained {
        false => None,
        true => match repository.chain(&entry.id).await {
            Ok(chain) => Some(Ok(chain)),
            // Lost or damaged: the others are still to be had.
            Err(error) if error.is_not_found() || error.kind() == crate::ErrorKind::Corrupt => {
                Some(Err(error))
            }
            Err(error) => return Err(error),
        },
    };
    let kind = match &chain {
        None => BackupType::Full,
        Some(Ok(chain)) => chain.kind,
        Some(Err(_)) => BackupType::Incremental,
    };
    Ok(Member { id: entry.id, kind, info: entry.info, chain, keep })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal_name::SegmentSize;
    use crate::{Destination, Store};
    use chrono::{TimeZone, Utc};

    fn id(text: &str) -> BackupId {
        text.parse().expect("an id")
    }

    async fn put(repository: &Repository, name: &str, done: bool) {
        let start = Utc.with_ymd_and_hms(2026, 11, 21, 1, 0, 0).single().expect("a time").fixed_offset();
        let lsn = "0/2000028".parse().expect("a position");
        let mut info = BackupInfo::started(1, lsn, SegmentSize::DEFAULT, start);
        match done {
            true => {
                let end = "0/3000000".parse().expect("a position");
                info.finish(1, end, SegmentSize::DEFAULT, start);
            }
            false => info.fail("it was stopped"),
        }
        repository.put_backup_info(&id(name), &info).await.expect("stored");
    }

    async fn chain(repository: &Repository, name: &str, ancestors: &[&str]) {
        let chain = Chain {
            kind: BackupType::Incremental,
            ancestors: ancestors.iter().map(|text| id(text)).collect(),
            since_lsn: "0/2000028".parse().expect("a position"),
            found_by: "page-lsn".to_owned(),
        };
        repository.put_chain(&id(name), &chain).await.expect("stored");
    }

    #[tokio::test]
    async fn a_chain_with_a_damaged_member_is_not_restorable_and_says_which_are() {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        let full = Repository::new(store, "srv").expect("valid");
        let rest = full.increments();
        let [f, a, b, lost] = ["20261121T010000", "20261121T020000", "20261121T030000", "20261121T040000"];
        put(&full, f, true).await;
        for (name, ancestors) in [(a, &[f][..]), (b, &[f, a])] {
            put(&rest, name, true).await;
            chain(&rest, name, ancestors).await;
        }
        put(&rest, lost, true).await;
        full.set_keep(&id(f), Some(Keep::Full)).await.expect("kept");
        let inventory = full.inventory().await.expect("listed");
        let labels: Vec<String> = inventory.members.iter().map(Member::label).collect();
        assert_eq!(labels[..2], ["20261121-010000F", "20261121-010000F_20261121-020000I"]);
        assert_eq!(inventory.get(&id(f)).expect("there").keep, Some(Keep::Full));
        let restorable = |inventory: &Inventory| -> Vec<String> {
            inventory.restorable().map(|(member, _)| member.id.to_string()).collect()
        };
        assert_eq!(restorable(&inventory), [f, a, b], "the last one has lost its chain.json");
        assert_eq!(inventory.dependents(&id(a)).map(|m| m.id.to_string()).collect::<Vec<_>>(), [b]);

        put(&rest, a, false).await;
        let inventory = full.inventory().await.expect("listed");
        assert_eq!(restorable(&inventory), [f], "what builds on a failed backup cannot be restored");
    }

    #[tokio::test]
    async fn barmans_catalogue_holds_full_backups_only() {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        let full = Repository::new(store, "srv").expect("valid");
        put(&full.increments(), "20261121T020000", true).await;
        chain(&full.increments(), "20261121T020000", &["20261121T010000"]).await;
        assert!(full.catalog().await.expect("listed").entries.is_empty());
        assert_eq!(full.inventory().await.expect("listed").members.len(), 1);
    }
}
