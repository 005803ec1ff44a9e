//! From what is in a repository to a report: pure.

use super::dropped;
use super::gather::{Contents, WalEnds};
use super::types::{
    BackupReport, BackupState, DatabaseReport, RepositoryReport, RepositoryStatus, RunningBackup, StatusCode,
    WalReport, major,
};
use crate::backup_id::BackupId;
use crate::backup_info::{BackupInfo, BackupStatus};
use crate::catalog::{Inventory, Member};
use crate::chain::BackupType;
use crate::error::Error;
use std::collections::BTreeSet;

/// What the caller knows of a repository without reading it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Destination and server, as a URL.
    pub location: String,
    /// Cipher of client-side encryption.
    pub cipher: Option<String>,
    /// The server that archives there.
    pub server: Option<ServerFacts>,
    /// The backup that is being taken into it.
    pub running: Option<RunningBackup>,
}

/// The running database system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// System identifier.
    pub system_id: String,
    /// `server_version_num`.
    pub version: u32,
}

impl RepositoryReport {
    fn of(facts: &Facts) -> Self {
        Self {
            name: facts.name.clone(),
            location: facts.location.clone(),
            cipher: facts.cipher.clone().unwrap_or_else(|| "none".to_owned()),
            running: facts.running,
            ..Self::default()
        }
    }

    /// A repository that could not be read; `message` says why and what to do.
    pub fn failed(facts: &Facts, message: impl Into<String>) -> Self {
        let status = RepositoryStatus { code: StatusCode::Failed, message: Some(message.into()) };
        Self { status, ..Self::of(facts) }
    }
}

/// The report on one repository.
pub fn repository_report(facts: &Facts, contents: &Contents) -> RepositoryReport {
    let inventory = &contents.inventory;
    let restorable: BTreeSet<&BackupId> = inventory.restorable().map(|(member, _)| &member.id).collect();
    let backups: Vec<BackupReport> = inventory
        .members
        .iter()
        .map(|member| backup(member, contents, restorable.contains(&member.id)))
        .collect();
    let nothing = backups.is_empty()
        && inventory.orphans.is_empty()
        && contents.wal.is_none()
        && contents.owner.is_none();
    let code = match (restorable.is_empty(), nothing) {
        (false, _) => StatusCode::Ok,
        (true, true) => StatusCode::MissingPath,
        (true, false) => StatusCode::NoBackups,
    };
    RepositoryReport {
        status: RepositoryStatus { code, message: None },
        databases: databases(facts, contents, &backups),
        dropped: contents.dropped.iter().map(|lacking| dropped::report(lacking, inventory)).collect(),
        orphans: inventory.orphans.iter().map(|(_, id)| id.to_string()).collect(),
        earliest: backups.iter().filter(|backup| backup.restorable).filter_map(|backup| backup.stop).min(),
        backups,
        ..RepositoryReport::of(facts)
    }
}

/// The backup that a person means: its id, its label, or `latest` for the newest that can be restored.
pub fn find<'a>(inventory: &'a Inventory, text: &str) -> Option<&'a Member> {
    if text == "latest" {
        return inventory.restorable().next_back().map(|(member, _)| member);
    }
    inventory.members.iter().find(|member| member.id.as_str() == text || member.label() == text)
}

/// The label of an ancestor. One that is lost has none that could be known, so its id stands for it.
fn label_of(inventory: &Inventory, id: &BackupId) -> String {
    inventory.get(id).map_or_else(|| id.to_string(), Member::label)
}

pub(super) fn labels_of(inventory: &Inventory, ids: &[BackupId]) -> Vec<String> {
    ids.iter().map(|id| label_of(inventory, id)).collect()
}

fn backup(member: &Member, contents: &Contents, restorable: bool) -> BackupReport {
    let inventory = &contents.inventory;
    let mut report = BackupReport {
        id: member.id.to_string(),
        label: member.label(),
        kind: member.kind,
        state: state(member),
        restorable,
        problem: if restorable { None } else { Some(problem(member, inventory)) },
        references: labels_of(inventory, member.ancestors()),
        keep: member.keep.map(|keep| keep.as_str().to_owned()),
        backup_size: contents.stored.get(&member.id).copied(),
        database_backup_size: contents.held.get(&member.id).copied(),
        ..BackupReport::default()
    };
    let set = member.ancestors().iter().chain([&member.id]);
    report.backup_set_size = set.map(|id| contents.stored.get(id).copied()).sum();
    if let Ok(info) = &member.info {
        describe(&mut report, info);
    }
    report
}

fn describe(report: &mut BackupReport, info: &BackupInfo) {
    report.name = info.backup_name.clone();
    report.system_id = info.systemid.clone();
    report.version = info.version.map(major);
    report.start = info.begin_time.map(|time| time.to_utc());
    report.stop = info.end_time.map(|time| time.to_utc());
    report.timeline = info.timeline;
    report.start_lsn = info.begin_xlog;
    report.stop_lsn = info.end_xlog;
    report.wal_start = info.begin_wal.map(|segment| segment.to_string());
    report.wal_stop = info.needed_wal().ok().map(|(_, end)| end.to_string());
    report.database_size = info.cluster_size;
    if report.kind == BackupType::Full {
        report.database_backup_size = info.cluster_size;
    }
}

fn state(member: &Member) -> BackupState {
    match (&member.info, &member.chain) {
        (Err(_), _) | (_, Some(Err(_))) => BackupState::Unreadable,
        (Ok(info), _) => match info.status {
            BackupStatus::Done => BackupState::Done,
            BackupStatus::Failed => BackupState::Failed,
            _ => BackupState::Incomplete,
        },
    }
}

fn problem(member: &Member, inventory: &Inventory) -> String {
    let one_line = |error: &Error| error.report();
    match (&member.info, &member.chain) {
        (Err(error), _) | (_, Some(Err(error))) => one_line(error),
        (Ok(info), _) if info.status == BackupStatus::Failed => {
            info.error.clone().unwrap_or_else(|| "it failed".to_owned())
        }
        (Ok(info), _) if !info.is_done() => {
            format!("it is not complete: its status is {}", info.status)
        }
        _ => {
            let lost =
                member.ancestors().iter().find(|id| inventory.get(id).is_none_or(|m| m.done().is_none()));
            let lost = lost.map_or_else(|| "a backup".to_owned(), |id| label_of(inventory, id));
            format!("it builds on {lost}, which is not complete or not there")
        }
    }
}

/// The systems in a repository, the current one last. All WAL is counted to the current one: an archive belongs to
/// one system (`lineage.json`), and where it does not, names cannot tell.
fn databases(facts: &Facts, contents: &Contents, backups: &[BackupReport]) -> Vec<DatabaseReport> {
    let key = |backup: &BackupReport| (backup.system_id.clone(), backup.version.clone());
    let known = |backup: &&BackupReport| backup.system_id.is_some() || backup.version.is_some();
    let mut keys: Vec<_> = Vec::new();
    for found in backups.iter().filter(known).map(key) {
        if !keys.contains(&found) {
            keys.push(found);
        }
    }
    let owner = contents.owner.as_deref();
    let server = facts.server.as_ref();
    // A cluster that looks at another's archive is not the one that it belongs to.
    let ours = server.filter(|server| owner.is_none_or(|owner| owner == server.system_id));
    let current = ours
        .map(|server| (Some(server.system_id.clone()), Some(major(server.version))))
        .or_else(|| {
            backups.iter().filter(known).map(key).rfind(|(id, _)| owner.is_none() || id.as_deref() == owner)
        })
        .or_else(|| owner.map(|owner| (Some(owner.to_owned()), None)))
        .or_else(|| keys.last().cloned());
    let present = current.is_some() && (contents.wal.is_some() || owner.is_some() || !keys.is_empty());
    keys.retain(|key| Some(key) != current.as_ref());
    let prior = keys.into_iter().map(|(system_id, version)| DatabaseReport {
        system_id,
        version,
        current: false,
        wal: None,
    });
    let last = current.filter(|_| present).map(|(system_id, version)| DatabaseReport {
        system_id,
        version,
        current: true,
        wal: contents.wal.map(wal),
    });
    prior.chain(last).collect()
}

fn wal(ends: WalEnds) -> WalReport {
    WalReport { min: ends.min.to_string(), max: ends.max.to_string(), max_stored: ends.max_stored }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[tokio::test]
    async fn a_repository_with_chains_is_told_completely() {
        let contents = samples::filled().await;
        let report = repository_report(&samples::facts("repo1"), &contents);
        assert_eq!(report.status.code, StatusCode::Ok);
        let seen: Vec<_> = report.backups.iter().map(|b| (b.label.as_str(), b.state, b.restorable)).collect();
        assert_eq!(
            seen,
            [
                ("20261121-012341F", BackupState::Done, true),
                ("20261121-012341F_20261121-020000D", BackupState::Done, true),
                ("20261121-012341F_20261121-030000I", BackupState::Done, true),
                ("20261121-040000F", BackupState::Failed, false),
                ("20261120-000000F_20261121-050000I", BackupState::Done, false),
            ]
        );
        let incremental = &report.backups[2];
        assert_eq!(incremental.backup_size, Some(2048));
        assert_eq!(incremental.backup_set_size, Some(4_299_162 + 1024 + 2048));
        let references = ["20261121-012341F", "20261121-012341F_20261121-020000D"];
        assert_eq!(incremental.references, references);
        assert_eq!(report.backups[3].problem.as_deref(), Some("the volume is gone"));
        let lost = report.backups[4].problem.as_deref().expect("a reason");
        assert!(lost.contains("20261120T000000"), "{lost}");
        assert_eq!(report.databases.len(), 1);
        assert_eq!(report.databases[0].version.as_deref(), Some("15"));
        assert!(report.databases[0].wal.is_some());
        assert_eq!(report.earliest, report.backups[0].stop);
        let json = serde_json::to_string(&report).expect("json");
        assert_eq!(serde_json::from_str::<RepositoryReport>(&json).expect("its own json"), report);
    }

    #[tokio::test]
    async fn backups_are_found_by_id_label_and_latest() {
        let contents = samples::filled().await;
        let name = |text: &str| find(&contents.inventory, text).map(|member| member.id.to_string());
        assert_eq!(name("20261121T012341").as_deref(), Some("20261121T012341"));
        assert_eq!(name("20261121-012341F_20261121-020000D").as_deref(), Some("20261121T020000"));
        assert_eq!(name("latest").as_deref(), Some("20261121T030000"), "the last one is not restorable");
        assert_eq!(name("20261121"), None);
    }

    #[test]
    fn an_empty_place_and_one_that_only_has_wal() {
        let report = repository_report(&samples::facts("repo1"), &Contents::default());
        assert_eq!((report.status.code, report.databases.len()), (StatusCode::MissingPath, 0));
        let owner = Some("7710429130419897343".to_owned());
        let claimed = Contents { owner, ..Contents::default() };
        let report = repository_report(&samples::facts("repo1"), &claimed);
        assert_eq!((report.status.code, report.databases.len()), (StatusCode::NoBackups, 1));
        assert!(report.databases[0].current && report.databases[0].wal.is_none());
    }

    /// An archive of another system: the one it belongs to is the current one, not the server that looks.
    #[tokio::test]
    async fn a_foreign_archive_is_not_called_ours() {
        let contents = samples::filled().await;
        let mut facts = samples::facts("repo1");
        facts.server = Some(ServerFacts { system_id: "1".to_owned(), version: 170_004 });
        let contents = Contents { owner: Some("7710429130419897343".to_owned()), ..contents };
        let report = repository_report(&facts, &contents);
        assert_eq!(report.databases.len(), 1);
        assert_eq!(report.databases[0].system_id.as_deref(), Some("7710429130419897343"));
    }
}
