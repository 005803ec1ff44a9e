//! Everything about one backup.

use super::build::{Facts, labels_of, repository_report};
use super::gather::Contents;
use super::size::human;
use super::text::time;
use super::types::BackupReport;
use crate::catalog::Member;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::repository::Repository;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One backup with its record, its chain and its objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupDetail {
    /// Repository that holds it.
    pub repository: String,
    /// URL of its directory.
    pub location: String,
    /// What `info` tells of it.
    pub backup: BackupReport,
    /// What it builds on; absent for a full backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainDetail>,
    /// Labels of the backups that build on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<String>,
    /// `backup.info`, key by key.
    pub record: BTreeMap<String, String>,
    /// Its parts in the order in which they are read.
    pub parts: Vec<PartDetail>,
    /// Whether there is a manifest to compare every file with.
    pub manifest: bool,
}

/// What a differential or incremental backup builds on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainDetail {
    /// All of them, the full one first.
    pub ancestors: Vec<Ancestor>,
    /// Blocks changed from here on are in this backup.
    #[serde(rename = "sinceLSN")]
    pub since_lsn: Lsn,
    /// How changed blocks were found.
    pub found_by: String,
}

/// A backup that a restore needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ancestor {
    /// Its label.
    pub label: String,
    /// Whether it is there and complete.
    pub complete: bool,
}

/// An object of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartDetail {
    /// Name of the file.
    pub name: String,
    /// Stored bytes.
    pub size: u64,
}

/// Reads everything about a backup of `contents`.
pub async fn detail(
    repository: &Repository,
    facts: &Facts,
    contents: &Contents,
    member: &Member,
) -> Result<BackupDetail> {
    let own = repository.of(member);
    let key = own.layout().manifest(&member.id);
    let (objects, head) = futures::join!(own.backup_objects(&member.id), own.store().head(&key));
    let manifest = match head {
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error),
    };
    let inventory = &contents.inventory;
    let report = repository_report(facts, contents);
    let backup = report.backups.into_iter().find(|backup| backup.id == member.id.as_str());
    let chain = member.chain.as_ref().and_then(|chain| chain.as_ref().ok()).map(|chain| ChainDetail {
        ancestors: chain
            .ancestors
            .iter()
            .zip(labels_of(inventory, &chain.ancestors))
            .map(|(id, label)| {
                let complete = inventory.get(id).is_some_and(|ancestor| ancestor.done().is_some());
                Ancestor { label, complete }
            })
            .collect(),
        since_lsn: chain.since_lsn,
        found_by: chain.found_by.clone(),
    });
    Ok(BackupDetail {
        repository: facts.name.clone(),
        location: own.store().url_of(&own.layout().backup_dir(&member.id)),
        backup: backup.unwrap_or_default(),
        chain,
        dependents: inventory.dependents(&member.id).map(Member::label).collect(),
        record: record(member),
        parts: objects?
            .parts
            .into_iter()
            .map(|part| PartDetail { name: part.name.to_string(), size: part.object.size })
            .collect(),
        manifest,
    })
}

/// The record as it is written, and what it says besides.
fn record(member: &Member) -> BTreeMap<String, String> {
    let Ok(info) = &member.info else { return BTreeMap::new() };
    let text = info.render();
    let written = text.lines().filter_map(|line| line.split_once('='));
    let written = written.map(|(key, value)| (key.to_owned(), value.to_owned()));
    info.other.clone().into_iter().chain(written).collect()
}

/// The same as text.
pub fn show_text(detail: &BackupDetail) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, detail);
    text
}

fn write(text: &mut String, detail: &BackupDetail) -> std::fmt::Result {
    let backup = &detail.backup;
    let size = |bytes: Option<u64>| {
        bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} ({bytes} bytes)", human(bytes)))
    };
    let word = |name: &Option<String>| name.clone().unwrap_or_else(|| "unknown".to_owned());
    let lsn = |lsn: Option<Lsn>| lsn.map_or_else(|| "unknown".to_owned(), |lsn| lsn.to_string());
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<22}{value}");
    line("repository:", &detail.repository)?;
    line("location:", &detail.location)?;
    line("id:", &backup.id)?;
    line("label:", &backup.label)?;
    line("type:", backup.kind.as_str())?;
    line("status:", backup.state.as_str())?;
    line("restorable:", if backup.restorable { "yes" } else { "no" })?;
    if let Some(problem) = &backup.problem {
        line("problem:", problem)?;
    }
    if let Some(name) = &backup.name {
        line("name:", name)?;
    }
    line("keep:", backup.keep.as_deref().unwrap_or("no"))?;
    line("system identifier:", &word(&backup.system_id))?;
    line("PostgreSQL:", &word(&backup.version))?;
    line("start:", &time(backup.start))?;
    line("stop:", &time(backup.stop))?;
    line("LSN start/stop:", &format!("{} / {}", lsn(backup.start_lsn), lsn(backup.stop_lsn)))?;
    line("WAL start/stop:", &format!("{} / {}", word(&backup.wal_start), word(&backup.wal_stop)))?;
    line("database size:", &size(backup.database_size))?;
    line("database backup size:", &size(backup.database_backup_size))?;
    line("backup set size:", &size(backup.backup_set_size))?;
    line("backup size:", &size(backup.backup_size))?;
    line("manifest:", if detail.manifest { "yes" } else { "no: files cannot be compared with anything" })?;
    if let Some(chain) = &detail.chain {
        writeln!(text, "builds on (changes since {}, found by {}):", chain.since_lsn, chain.found_by)?;
        for ancestor in &chain.ancestors {
            let note = if ancestor.complete { "" } else { "  missing or not complete" };
            writeln!(text, "    {}{note}", ancestor.label)?;
        }
    }
    if !detail.dependents.is_empty() {
        writeln!(text, "built on by:")?;
        detail.dependents.iter().try_for_each(|label| writeln!(text, "    {label}"))?;
    }
    writeln!(text, "parts:")?;
    for part in &detail.parts {
        writeln!(text, "    {}  {}", part.name, human(part.size))?;
    }
    writeln!(text, "backup.info:")?;
    detail.record.iter().try_for_each(|(key, value)| writeln!(text, "    {key}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{find, gather, samples};

    async fn shown(name: &str) -> BackupDetail {
        let repository = samples::repository();
        samples::fill(&repository).await;
        let key = "pg/base/20261121T012341/data.tar.gz";
        repository.store().put(key, "12345".into()).await.expect("stored");
        let contents = gather(&repository).await.expect("read");
        let member = find(&contents.inventory, name).expect("there");
        detail(&repository, &samples::facts("repo1"), &contents, member).await.expect("read")
    }

    #[tokio::test]
    async fn a_full_backup_names_what_builds_on_it() {
        let detail = shown("20261121-012341F").await;
        assert_eq!(detail.location, "s3://b/p/pg/base/20261121T012341");
        assert_eq!(detail.parts, [PartDetail { name: "data.tar.gz".to_owned(), size: 5 }]);
        assert_eq!(detail.dependents.len(), 2);
        assert_eq!(detail.record["status"], "DONE");
        assert!(!detail.manifest && detail.chain.is_none());
        let text = show_text(&detail);
        for line in [
            "label:                20261121-012341F",
            "database backup size: 33.5MB (35127296 bytes)",
            "WAL start/stop:       00000006000000A100000003 / 00000006000000A100000003",
            "    20261121-012341F_20261121-030000I",
            "    data.tar.gz  5B",
            "    systemid=7710429130419897343",
        ] {
            assert!(text.lines().any(|other| other == line), "no {line:?} in\n{text}");
        }
        let json = serde_json::to_string(&detail).expect("json");
        assert_eq!(serde_json::from_str::<BackupDetail>(&json).expect("its own json"), detail);
    }

    #[tokio::test]
    async fn a_chain_names_its_members_and_which_are_lost() {
        let detail = shown("20261121T050000").await;
        let ancestors = &detail.chain.as_ref().expect("a chain").ancestors;
        assert_eq!((ancestors.len(), ancestors[0].complete), (1, false));
        assert!(detail.location.contains("/howdah/incremental/"), "{}", detail.location);
        let text = show_text(&detail);
        assert!(text.contains("20261120T000000  missing or not complete"), "{text}");
        assert!(text.contains("builds on (changes since 0/3000028, found by page-lsn):"), "{text}");
    }
}
