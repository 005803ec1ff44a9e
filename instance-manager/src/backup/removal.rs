//! Data that goes with its Backup object: `deletionPolicy: Delete`.
//!
//! On the primary, beside retention and never at the same time. The library's guards decide; what they refuse stands in
//! the condition `DataDeleted` and is looked at again. When nothing is left, the operator lets the object go.

use chrono::Utc;
use howdah_api::backup::{Backup, BackupStatus};
use howdah_api::conditions::{self, FALSE, TRUE};
use howdah_api::repository::{DEFAULT, NamedStore};
use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::events::EventType;

use barman_cloud::retention::{Deletion, Refusal};

use super::catalogue::open;
use super::fields::human_size;
use super::writer::{Patience, Written, write};
use crate::error::{Error, Result};
use crate::kube::client::bounded;
use crate::run::shared::Shared;

/// What is said about the data of a Backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether nothing is left.
    pub gone: bool,
    /// Reason of the condition.
    pub reason: &'static str,
    /// What was done, or what is in the way with its remedy.
    pub message: String,
}

/// Whether the data of this Backup of `cluster` is to be deleted.
#[must_use]
pub fn is_due(backup: &Backup, cluster: &str) -> bool {
    let ended = |status: &BackupStatus| {
        status.phase().is_terminal() && status.backup_id.is_some() && !is_gone(status)
    };
    backup.spec.cluster.name == cluster
        && backup.is_held()
        && backup.deletes_data()
        && backup.status.as_ref().is_some_and(ended)
}

fn is_gone(status: &BackupStatus) -> bool {
    conditions::get(&status.conditions, conditions::DATA_DELETED).is_some_and(|c| c.status == TRUE)
}

/// Those that are due, the newest first: what builds on others goes before these.
#[must_use]
pub fn due(backups: &[Backup], cluster: &str) -> Vec<Backup> {
    let mut due: Vec<Backup> = backups.iter().filter(|backup| is_due(backup, cluster)).cloned().collect();
    let id = |backup: &Backup| backup.status.as_ref().and_then(|status| status.backup_id.clone());
    due.sort_by_key(|backup| std::cmp::Reverse(id(backup)));
    due
}

/// Deletes what is due; whether anything went.
pub async fn carry_out(shared: &Shared) -> bool {
    let listed = bounded("Backups", "", shared.kube.backups().list(&ListParams::default())).await;
    let all = match listed {
        Ok(list) => list.items,
        Err(error) => {
            tracing::warn!(
                "whether Backups wait for their data to be deleted is not known: {}",
                error.report()
            );
            return false;
        }
    };
    let cluster = &shared.env.cluster;
    let running = |b: &&Backup| {
        b.spec.cluster.name == *cluster && b.status.as_ref().is_some_and(|s| s.phase().is_executing())
    };
    let running = all.iter().find(running).map(ResourceExt::name_any);
    let mut gone = false;
    for backup in due(&all, cluster) {
        let verdict = match &running {
            Some(other) => Verdict {
                gone: false,
                reason: "BackupRunning",
                message: format!("Backup {other} is being taken and may build on it; it goes after that"),
            },
            None => judge(one(shared, &backup).await),
        };
        gone |= verdict.gone;
        tell(shared, &backup, &verdict).await;
    }
    gone
}

async fn one(shared: &Shared, backup: &Backup) -> Result<Deletion> {
    let status = backup.status.clone().unwrap_or_default();
    let named = place(&shared.stores(), &status, &shared.env.cluster)?;
    let id = status.backup_id.unwrap_or_default().parse()?;
    Ok(open(shared, &named)?.delete_on_request(&id, Utc::now()).await?)
}

/// The repository of the cluster that holds the backup: by name, and still at the same place.
fn place(stores: &[NamedStore], status: &BackupStatus, cluster: &str) -> Result<NamedStore> {
    let name = status.repository.as_deref().unwrap_or(DEFAULT);
    let path = status.destination_path.as_deref().unwrap_or_default();
    let server = status.server_name.as_deref().unwrap_or(cluster);
    let same = |named: &&NamedStore| {
        named.name == name
            && named.store.destination_path.trim_end_matches('/') == path.trim_end_matches('/')
            && named.store.server_name_or(cluster) == server
    };
    stores.iter().find(same).cloned().ok_or_else(|| {
        Error::permanent(format!(
            "Cluster {cluster} has no repository {name} at {path} (server {server}) any more; give it back to the \
             specification, or set deletionPolicy: Retain and delete the data by hand"
        ))
    })
}

fn judge(deletion: Result<Deletion>) -> Verdict {
    let stays = |reason, message| Verdict { gone: false, reason, message };
    let remedy = |why: &Refusal| format!("{why}; remedy: {}; or set deletionPolicy: Retain", why.remedy());
    match deletion {
        Ok(Deletion::Gone) => Verdict {
            gone: true,
            reason: "NothingThere",
            message: "the repository holds nothing of it".to_owned(),
        },
        Ok(Deletion::Deleted { objects, bytes }) => Verdict {
            gone: true,
            reason: "Deleted",
            message: format!("{objects} objects with {} were deleted", human_size(bytes)),
        },
        Ok(Deletion::Refused(why)) => stays(reason(&why), remedy(&why)),
        Ok(Deletion::Partly { left, why }) => {
            stays(reason(&why), format!("{left} objects stay: {}", remedy(&why)))
        }
        Err(error) if error.is_permanent() => stays("RepositoryUnusable", error.report()),
        Err(error) => stays("RepositoryUnavailable", format!("{}; it is tried again", error.report())),
    }
}

fn reason(why: &Refusal) -> &'static str {
    match why {
        Refusal::Kept(_) => "KeptOnRequest",
        Refusal::InUse => "InUse",
        Refusal::Dependent(_) | Refusal::MayBeNeededBy(_) => "BuiltUpon",
        Refusal::LastFull | Refusal::LastOfTimeline(_) | Refusal::LastFullGone(_) => "LastFullBackup",
        Refusal::Locked(_) => "ObjectLocked",
        Refusal::Denied(_) | Refusal::Store(_) => "StoreRefused",
    }
}

async fn tell(shared: &Shared, backup: &Backup, verdict: &Verdict) {
    let (name, uid) = (backup.name_any(), backup.uid().unwrap_or_default());
    let generation = backup.metadata.generation;
    let status = if verdict.gone { TRUE } else { FALSE };
    let now = crate::time::now();
    let written = write(&shared.kube, &name, &uid, Patience::None, |seen, _| {
        conditions::set(
            &mut seen.conditions,
            conditions::DATA_DELETED,
            status,
            verdict.reason,
            &verdict.message,
            generation,
            now.clone(),
        )
    })
    .await;
    match written {
        Ok(Written::Done(_)) => {
            tracing::info!(backup = name, gone = verdict.gone, "{}", verdict.message);
            let (type_, reason) = match verdict.gone {
                true => (EventType::Normal, "DataDeleted"),
                false => (EventType::Warning, "DataNotDeleted"),
            };
            shared.kube.event(backup, type_, reason, &verdict.message).await;
        }
        // It says so already, or the object is gone.
        Ok(Written::Refused) => {}
        Err(error) => {
            tracing::warn!(backup = name, "what became of its data cannot be written: {}", error.report());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::catalog::Keep;
    use howdah_api::backup::{BackupPhase, BackupSpec};
    use howdah_api::common::{DeletionPolicy, LocalObjectReference};
    use howdah_api::labels::BACKUP_DATA;
    use howdah_api::object_store::BarmanObjectStore;

    fn backup(name: &str, id: &str, deleted: bool) -> Backup {
        let spec = BackupSpec {
            cluster: LocalObjectReference { name: "pg".into() },
            deletion_policy: Some(DeletionPolicy::Delete),
            ..BackupSpec::default()
        };
        let mut backup = Backup::new(name, spec);
        backup.metadata.finalizers = Some(vec![BACKUP_DATA.into()]);
        backup.metadata.deletion_timestamp = deleted.then(crate::time::now);
        backup.status = Some(BackupStatus {
            phase: Some(BackupPhase::Completed),
            backup_id: Some(id.into()),
            ..BackupStatus::default()
        });
        backup
    }

    #[test]
    fn the_newest_goes_first_and_only_what_was_deleted() {
        let all = [
            backup("a", "20261121T010000", true),
            backup("b", "20261122T010000", true),
            backup("c", "20261123T010000", false),
        ];
        let names: Vec<String> = due(&all, "pg").iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["b", "a"]);
        assert!(due(&all, "other").is_empty());
        let mut done = backup("a", "20261121T010000", true);
        let list = &mut done.status.as_mut().unwrap().conditions;
        conditions::set(list, conditions::DATA_DELETED, TRUE, "Deleted", "m", None, crate::time::now());
        assert!(!is_due(&done, "pg"));
        let mut retained = backup("a", "20261121T010000", true);
        retained.spec.deletion_policy = None;
        assert!(!is_due(&retained, "pg"));
    }

    #[test]
    fn a_repository_that_moved_is_not_written_to() {
        let named = |path: &str| {
            let store = BarmanObjectStore { destination_path: path.into(), ..BarmanObjectStore::default() };
            NamedStore::new(DEFAULT, store)
        };
        let status = BackupStatus {
            destination_path: Some("s3://b/p".into()),
            server_name: Some("pg".into()),
            ..BackupStatus::default()
        };
        assert!(place(&[named("s3://b/p/")], &status, "pg").is_ok());
        for stores in [vec![named("s3://b/q")], Vec::new()] {
            let error = place(&stores, &status, "pg").unwrap_err();
            assert!(error.is_permanent() && error.report().contains("deletionPolicy: Retain"));
        }
        assert!(place(&[named("s3://b/p")], &status, "other").is_err(), "another server's folder");
    }

    #[test]
    fn a_refusal_says_why_and_what_to_do() {
        let kept = judge(Ok(Deletion::Refused(Refusal::Kept(Keep::Full))));
        assert_eq!((kept.gone, kept.reason), (false, "KeptOnRequest"));
        assert!(kept.message.contains("release it") && kept.message.contains("Retain"), "{}", kept.message);
        let away = judge(Err(Error::transient("the store does not answer")));
        assert_eq!((away.gone, away.reason), (false, "RepositoryUnavailable"));
        assert!(judge(Ok(Deletion::Gone)).gone);
    }
}
