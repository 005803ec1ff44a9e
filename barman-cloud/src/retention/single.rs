//! One backup is deleted because somebody asked for it: no policy has a say, the guards hold all the same.

use super::facts::{Facts, Scene};
use super::guards;
use super::outcome::Refusal;
use super::reason::KeepReason;
use super::rules::Reasons;
use crate::backup_id::BackupId;
use crate::backup_info::BackupStatus;
use crate::catalog::{BackupFacts, Inventory, State, borders};
use crate::chain::BackupType;
use crate::error::Result;
use crate::repository::Repository;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// What became of a request to delete a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// There was nothing of it.
    Gone,
    /// Nothing of it is left.
    Deleted {
        /// Objects that were deleted.
        objects: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// All of it stays.
    Refused(Refusal),
    /// The store did not delete some of its objects; it can no longer be restored.
    Partly {
        /// Objects that stay.
        left: usize,
        /// Why the first of them does.
        why: Refusal,
    },
}

impl Repository {
    /// Deletes a backup of any type unless a guard forbids it; its WAL stays for retention to judge. Reads what a
    /// retention plan reads. Call it on the repository of full backups, with no retention and no backup at the same
    /// time.
    pub async fn delete_on_request(&self, id: &BackupId, now: DateTime<Utc>) -> Result<Deletion> {
        let inventory = self.inventory().await?;
        let orphan = inventory.orphans.iter().find(|(_, orphan)| orphan == id).map(|(kind, _)| *kind);
        let Some(kind) = inventory.get(id).map(|member| member.kind).or(orphan) else {
            return Ok(Deletion::Gone);
        };
        if let Some(why) = self.guard(id, &inventory, now).await? {
            return Ok(Deletion::Refused(why));
        }
        let place = self.holding(kind);
        let removal = match place.remove_backup(id).await {
            Ok(removal) => removal,
            Err(error) if error.is_transient() => return Err(error),
            // Kept in this very moment, or a record that cannot be written.
            Err(error) => {
                return Ok(Deletion::Refused(match place.keep(id).await? {
                    Some(keep) => Refusal::Kept(keep),
                    None => Refusal::Store(error.report()),
                }));
            }
        };
        Ok(match removal.undeleted.first().map(Refusal::of) {
            None => Deletion::Deleted { objects: removal.objects, bytes: removal.bytes },
            Some(why) if removal.untouched => Deletion::Refused(why),
            Some(why) => Deletion::Partly { left: removal.undeleted.len(), why },
        })
    }

    async fn guard(
        &self,
        id: &BackupId,
        inventory: &Inventory,
        now: DateTime<Utc>,
    ) -> Result<Option<Refusal>> {
        let increments = self.increments();
        for (kind, orphan) in &inventory.orphans {
            if *kind == BackupType::Full || orphan <= id {
                continue;
            }
            // What has no record yet may be written at this moment.
            match increments.chain(orphan).await {
                Ok(chain) if chain.ancestors.contains(id) => {
                    return Ok(Some(Refusal::Dependent(orphan.clone())));
                }
                Err(error) if error.is_transient() => return Err(error),
                _ => {}
            }
        }
        let backups = BackupFacts::all(inventory);
        let (borders, size) = borders(&backups);
        let wal = self.survey_wal(size.unwrap_or_default(), borders).await?;
        let histories = self.read_histories().await?;
        let (in_use, damaged) = (self.in_use(now).await?, BTreeSet::new());
        let facts = Facts {
            backups: &backups,
            histories: &histories,
            wal: &wal,
            now,
            in_use: &in_use,
            damaged: &damaged,
        };
        Ok(judge(&Scene::new(facts), id))
    }
}

/// What forbids to delete a backup. Pure.
fn judge(scene: &Scene<'_>, id: &BackupId) -> Option<Refusal> {
    let backup = scene.get(id)?;
    if let Some(keep) = backup.keep {
        return Some(Refusal::Kept(keep));
    }
    if scene.facts.in_use.contains(id) {
        return Some(Refusal::InUse);
    }
    let failed = |other: &BackupFacts| other.state == State::Unfinished(BackupStatus::Failed);
    let child = scene.newest_first.iter().find(|other| other.ancestors.contains(id) && !failed(other));
    if let Some(child) = child {
        return Some(Refusal::Dependent(child.id.clone()));
    }
    let mut reasons = Reasons::new();
    guards::may_be_needed(scene, &mut reasons);
    if let Some(KeepReason::MayBeNeededBy(other)) = reasons.remove(id).and_then(|all| all.into_iter().next())
    {
        return Some(Refusal::MayBeNeededBy(other));
    }
    if backup.kind != BackupType::Full || scene.faults.contains_key(id) {
        return None;
    }
    let mut others = scene.sound_full().filter(|other| other.id != *id).peekable();
    if others.peek().is_none() {
        return Some(Refusal::LastFull);
    }
    let alone = scene.leads_on(backup) && !others.any(|other| scene.leads_on(other));
    alone.then_some(Refusal::LastOfTimeline(scene.timeline))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup_info::BackupInfo;
    use crate::catalog::Keep;
    use crate::chain::Chain;
    use crate::wal_name::SegmentSize;
    use crate::{Destination, Store};
    use chrono::TimeZone;

    const FULL: [&str; 2] = ["20261121T010000", "20261122T010000"];
    const CHILD: &str = "20261121T020000";
    const GRANDCHILD: &str = "20261121T030000";

    fn id(text: &str) -> BackupId {
        text.parse().expect("an id")
    }

    fn now() -> DateTime<Utc> {
        Utc::now()
    }

    async fn put(repository: &Repository, name: &str, done: bool) {
        let start = Utc.with_ymd_and_hms(2026, 11, 21, 1, 0, 0).single().expect("a time").fixed_offset();
        let lsn = "0/2000028".parse().expect("a position");
        let mut info = BackupInfo::started(1, lsn, SegmentSize::DEFAULT, start);
        if done {
            info.finish(1, "0/2000100".parse().expect("a position"), SegmentSize::DEFAULT, start);
        } else {
            info.fail("stopped");
        }
        let data = format!("{}/data.tar", repository.layout().backup_dir(&id(name)));
        repository.store().put(&data, "1234".into()).await.expect("stored");
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

    /// Two full backups; a chain of two on the first.
    async fn filled() -> Repository {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        let repository = Repository::new(store, "srv").expect("valid");
        repository
            .store()
            .put("srv/wals/0000000100000000/000000010000000000000002", "x".into())
            .await
            .expect("stored");
        for name in FULL {
            put(&repository, name, true).await;
        }
        for (name, ancestors) in [(CHILD, &[FULL[0]][..]), (GRANDCHILD, &[FULL[0], CHILD])] {
            put(&repository.increments(), name, true).await;
            chain(&repository.increments(), name, ancestors).await;
        }
        repository
    }

    async fn delete(repository: &Repository, name: &str) -> Deletion {
        repository.delete_on_request(&id(name), now()).await.expect("answered")
    }

    #[tokio::test]
    async fn children_go_before_their_parents_and_the_last_full_one_stays() {
        let repository = filled().await;
        let dependent = |name: &str| Deletion::Refused(Refusal::Dependent(id(name)));
        assert_eq!(delete(&repository, FULL[0]).await, dependent(GRANDCHILD));
        assert_eq!(delete(&repository, CHILD).await, dependent(GRANDCHILD));
        for name in [GRANDCHILD, CHILD, FULL[0]] {
            assert!(matches!(delete(&repository, name).await, Deletion::Deleted { .. }), "{name}");
        }
        assert_eq!(delete(&repository, FULL[0]).await, Deletion::Gone);
        assert_eq!(delete(&repository, FULL[1]).await, Deletion::Refused(Refusal::LastFull));
        let keys = repository.store().list("srv").await.expect("listed");
        assert!(keys.iter().all(|object| !object.key.contains(FULL[0]) && !object.key.contains(CHILD)));
        assert!(keys.iter().any(|object| object.key.contains("/wals/")), "WAL is for retention to judge");
    }

    #[tokio::test]
    async fn what_is_kept_or_read_stays() {
        let repository = filled().await;
        repository.set_keep(&id(FULL[1]), Some(Keep::Full)).await.expect("kept");
        assert_eq!(delete(&repository, FULL[1]).await, Deletion::Refused(Refusal::Kept(Keep::Full)));
        repository.set_keep(&id(FULL[1]), None).await.expect("released");
        repository.mark_in_use(&id(FULL[1]), "one", "ns/again", now()).await.expect("said");
        assert_eq!(delete(&repository, FULL[1]).await, Deletion::Refused(Refusal::InUse));
        repository.unmark_in_use(&id(FULL[1]), "one").await.expect("taken back");
        assert!(matches!(delete(&repository, FULL[1]).await, Deletion::Deleted { .. }));
    }

    #[tokio::test]
    async fn a_failed_child_holds_nothing_up_and_one_that_is_being_written_does() {
        let repository = filled().await;
        put(&repository.increments(), GRANDCHILD, false).await;
        assert!(matches!(delete(&repository, CHILD).await, Deletion::Deleted { .. }));
        let running = "20261123T010000";
        chain(&repository.increments(), running, &[FULL[1]]).await;
        assert_eq!(delete(&repository, FULL[1]).await, Deletion::Refused(Refusal::Dependent(id(running))));
    }

    #[tokio::test]
    async fn a_backup_that_has_lost_its_chain_may_need_the_full_one_before_it() {
        let repository = filled().await;
        let lost = "20261123T010000";
        put(&repository.increments(), lost, true).await;
        assert_eq!(delete(&repository, FULL[1]).await, Deletion::Refused(Refusal::MayBeNeededBy(id(lost))));
    }
}
