//! Our `info` beside pgBackRest's own on a real cluster.

use crate::postgres::{Postgres, run};
use barman_cloud::chain::{BackupType, Chain};
use barman_cloud::report::{
    ClusterReport, Facts, RepositoryReport, gather, info_text, pgbackrest_json, repository_report,
};
use barman_cloud::{BackupId, BackupInfo, Destination, Repository, SegmentSize, Store};
use chrono::TimeDelta;
use serde_json::Value;
use std::collections::BTreeMap;

const PROGRAM: &str = "/usr/bin/pgbackrest";

/// A full, a differential and an incremental backup by pgBackRest, with the WAL that goes with them. Returns its text
/// and its JSON.
fn rivals() -> (String, Value) {
    let installed = std::path::Path::new(PROGRAM).exists();
    assert!(installed, "{PROGRAM} is missing: run hack/install base");
    let postgres = Postgres::start();
    let config = postgres.path("pgbackrest.conf");
    let text = format!(
        "[global]\nrepo1-path={root}/repo\nrepo1-retention-full=9\nlog-level-console=warn\nlog-level-file=off\n\
         lock-path={root}/lock\nstart-fast=y\n[pg]\npg1-path={root}/data\npg1-socket-path={root}\npg1-user=postgres\n",
        root = postgres.text("")
    );
    std::fs::write(&config, text.replace("//", "/")).expect("writing");
    let command = |arguments: &[&str]| {
        let mut command = postgres.command_of(PROGRAM);
        command.arg(format!("--config={}", config.display())).arg("--stanza=pg").args(arguments);
        command
    };
    run(&mut command(&["stanza-create"]));
    let archiving = format!("{PROGRAM} --config={} --stanza=pg archive-push %p", config.display());
    postgres.sql(&[
        "ALTER SYSTEM SET archive_mode = on",
        &format!("ALTER SYSTEM SET archive_command = '{archiving}'"),
    ]);
    postgres.restart();
    for kind in ["full", "diff", "incr"] {
        run(&mut command(&["backup", &format!("--type={kind}")]));
    }
    let output = |arguments: &[&str]| {
        let output = command(arguments).output().expect("pgbackrest starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a text")
    };
    let json = serde_json::from_str(&output(&["info", "--output=json"])).expect("json");
    (output(&["info"]), json)
}

/// The same three backups as we would find them.
async fn ours() -> ClusterReport {
    let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
    let repository = Repository::new(store, "pg").expect("valid");
    let ids: Vec<BackupId> = ["20261121T012341", "20261121T020000", "20261121T030000"]
        .iter()
        .map(|id| id.parse().expect("an id"))
        .collect();
    for (at, id) in ids.iter().enumerate() {
        let start = id.time().expect("a time").and_utc().fixed_offset();
        let lsn = |text: &str| text.parse().expect("a position");
        let mut info = BackupInfo::started(6, lsn("A1/3000028"), SegmentSize::DEFAULT, start);
        let stop = start + TimeDelta::seconds(14);
        info.finish(6, lsn("A1/4000028"), SegmentSize::DEFAULT, stop);
        (info.systemid, info.version) = (Some("7710429130419897343".to_owned()), Some(150_014));
        (info.cluster_size, info.size) = (Some(35_127_296), Some(4_299_162));
        if at == 0 {
            repository.put_backup_info(id, &info).await.expect("stored");
            continue;
        }
        let kind = if at == 1 { BackupType::Differential } else { BackupType::Incremental };
        let (ancestors, since_lsn) = (ids[..at].to_vec(), lsn("A1/3000028"));
        let chain = Chain { kind, ancestors, since_lsn, found_by: "page-lsn".to_owned() };
        repository.increments().put_chain(id, &chain).await.expect("stored");
        repository.increments().put_backup_info(id, &info).await.expect("stored");
    }
    let key = format!("{}/00000006000000A1/00000006000000A100000003", repository.layout().wals_dir());
    repository.store().put(&key, "x".into()).await.expect("stored");
    let facts = Facts { name: "repo1".to_owned(), ..Facts::default() };
    let contents = gather(&repository).await.expect("read");
    let mut report: RepositoryReport = repository_report(&facts, &contents);
    for backup in &mut report.backups {
        // What a differential backup holds of the database is only in its manifest.
        backup.database_backup_size.get_or_insert(8192);
    }
    ClusterReport { stanza: "pg".to_owned(), repositories: vec![report] }
}

/// Lines with everything taken out that has a digit in it. The zone that newer versions print has one.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| match word.chars().any(|c| c.is_ascii_digit()) {
        true => format!("#{}", word.strip_suffix(',').map_or("", |_| ",")),
        false => word.to_owned(),
    };
    text.lines()
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            let words: Vec<String> = line.split_whitespace().map(word).collect();
            format!("{}{}", " ".repeat(indent), words.join(" "))
        })
        .collect()
}

/// Every path in a document with the kind of what is there; elements of arrays count as one.
fn paths(value: &Value, at: &str, found: &mut BTreeMap<String, Vec<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = found.entry(at.to_owned()).or_default();
    if !kinds.contains(&kind) {
        kinds.push(kind);
        kinds.sort_unstable();
    }
    match value {
        Value::Array(all) => all.iter().for_each(|value| paths(value, &format!("{at}[]"), found)),
        Value::Object(all) => all.iter().for_each(|(key, value)| paths(value, &format!("{at}.{key}"), found)),
        _ => {}
    }
}

#[tokio::test]
async fn info_has_the_shape_of_pgbackrests() {
    let (text, json) = rivals();
    let report = ours().await;
    assert_eq!(shape(&info_text(&report)), shape(&text));
    let (mut theirs, mut own) = (BTreeMap::new(), BTreeMap::new());
    paths(&json, "", &mut theirs);
    paths(&pgbackrest_json(&report), "", &mut own);
    assert_eq!(own, theirs);
}
