//! The report as the JSON of pgBackRest's `info --output=json`, for programs that read that.
//!
//! What pgBackRest knows and we do not is `null`; what only we know is left out. Its numbers for repositories are the
//! digits at the end of their names, else their places.

use super::text::short;
use super::types::{BackupReport, BackupState, ClusterReport, DatabaseReport, RepositoryReport, StatusCode};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

/// Shape of pgBackRest's records that this one follows.
const FORMAT: u32 = 5;

/// An array with one stanza.
pub fn pgbackrest_json(report: &ClusterReport) -> Value {
    let keys: Vec<u64> = report.repositories.iter().enumerate().map(|(at, r)| key(&r.name, at)).collect();
    let repositories = || report.repositories.iter().zip(&keys);
    let databases: Vec<(&DatabaseReport, u64, usize)> = repositories()
        .flat_map(|(repository, key)| {
            repository.databases.iter().enumerate().map(|(at, database)| (database, *key, at + 1))
        })
        .collect();
    let archive: Vec<Value> =
        databases.iter().filter_map(|(database, key, id)| archive(database, *key, *id)).collect();
    let backups: Vec<Value> = repositories()
        .flat_map(|(repository, key)| {
            let done = repository.backups.iter().filter(|backup| backup.state == BackupState::Done);
            done.map(|backup| self::backup(backup, repository, *key))
        })
        .collect();
    let db: Vec<Value> = databases
        .iter()
        .map(|(database, key, id)| {
            let system: Option<u64> = database.system_id.as_deref().and_then(|id| id.parse().ok());
            json!({ "id": id, "repo-key": key, "system-id": system, "version": database.version })
        })
        .collect();
    let repo: Vec<Value> = repositories()
        .map(|(repository, key)| {
            let (code, message) = status(repository);
            let status = json!({ "code": code, "message": message });
            json!({ "cipher": repository.cipher, "key": key, "status": status })
        })
        .collect();
    let held = report.repositories.iter().any(|repository| repository.running.is_some());
    let (code, message) = overall(report);
    json!([{
        "archive": archive,
        "backup": backups,
        "cipher": common(report.repositories.iter().map(|r| r.cipher.as_str())),
        "db": db,
        "name": report.stanza,
        "repo": repo,
        "status": { "code": code, "lock": { "backup": { "held": held } }, "message": message },
    }])
}

fn key(name: &str, at: usize) -> u64 {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(at as u64 + 1)
}

/// The text of an error stands where pgBackRest has its own.
fn status(repository: &RepositoryReport) -> (u32, String) {
    let code = repository.status.code;
    (code.number(), repository.status.message.clone().unwrap_or_else(|| code.words().to_owned()))
}

fn overall(report: &ClusterReport) -> (u32, String) {
    let mut all = report.repositories.iter().map(status);
    match all.next() {
        None => (StatusCode::MissingPath.number(), StatusCode::MissingPath.words().to_owned()),
        Some(first) if all.all(|other| other == first) => first,
        Some(_) => (4, "different across repos".to_owned()),
    }
}

fn common<'a>(mut values: impl Iterator<Item = &'a str>) -> &'a str {
    let first = values.next().unwrap_or("none");
    if values.all(|value| value == first) { first } else { "mixed" }
}

fn archive(database: &DatabaseReport, key: u64, id: usize) -> Option<Value> {
    let wal = database.wal.as_ref()?;
    let version = database.version.as_deref().unwrap_or("unknown");
    let name = format!("{version}-{id}");
    Some(json!({ "database": { "id": id, "repo-key": key }, "id": name, "max": wal.max, "min": wal.min }))
}

fn backup(backup: &BackupReport, repository: &RepositoryReport, key: u64) -> Value {
    let own = (&backup.system_id, &backup.version);
    let place =
        repository.databases.iter().position(|database| (&database.system_id, &database.version) == own);
    let seconds = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp());
    let reference = if backup.references.is_empty() { Value::Null } else { json!(backup.references) };
    let value = json!({
        "archive": { "start": backup.wal_start, "stop": backup.wal_stop },
        "backrest": { "format": FORMAT, "version": concat!("howdah ", env!("CARGO_PKG_VERSION")) },
        "database": { "id": place.map(|place| place + 1), "repo-key": key },
        "error": backup.problem.is_some(),
        "info": {
            "delta": backup.database_backup_size,
            "repository": { "delta": backup.backup_size, "size": backup.backup_set_size },
            "size": backup.database_size,
        },
        "label": backup.label,
        "lsn": { "start": backup.start_lsn, "stop": backup.stop_lsn },
        "prior": backup.references.last(),
        "reference": reference,
        "timestamp": { "start": seconds(backup.start), "stop": seconds(backup.stop) },
        "type": short(backup.kind),
    });
    with_name(value, backup.name.as_deref())
}

/// A name given by the user is what pgBackRest calls an annotation.
fn with_name(mut value: Value, name: Option<&str>) -> Value {
    if let (Some(name), Some(map)) = (name, value.as_object_mut()) {
        let annotation = Map::from_iter([("name".to_owned(), json!(name))]);
        map.insert("annotation".to_owned(), Value::Object(annotation));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{repository_report, samples};

    /// S0.39: what programs find where they look for it.
    #[tokio::test]
    async fn the_shape_of_pgbackrest() {
        let one = repository_report(&samples::facts("repo1"), &samples::filled().await);
        let two =
            RepositoryReport { name: "far".to_owned(), cipher: "aes-256-cbc".to_owned(), ..one.clone() };
        let report = ClusterReport { stanza: "pg".to_owned(), repositories: vec![one, two] };
        let all = pgbackrest_json(&report);
        let stanza = &all[0];
        assert_eq!(stanza["name"], "pg");
        assert_eq!(stanza["cipher"], "mixed");
        assert_eq!(
            stanza["status"],
            json!({ "code": 0, "lock": { "backup": { "held": false } }, "message": "ok" })
        );
        assert_eq!(stanza["backup"].as_array().expect("backups").len(), 8);
        let expected = json!({
            "archive": { "start": "00000006000000A100000005", "stop": "00000006000000A100000005" },
            "backrest": { "format": 5, "version": concat!("howdah ", env!("CARGO_PKG_VERSION")) },
            "database": { "id": 1, "repo-key": 1 },
            "error": false,
            "info": {
                "delta": null, "repository": { "delta": 1024, "size": 4_300_186 }, "size": 35_127_296,
            },
            "label": "20261121-012341F_20261121-020000D",
            "lsn": { "start": "A1/5000028", "stop": "A1/5000138" },
            "prior": "20261121-012341F",
            "reference": ["20261121-012341F"],
            "timestamp": { "start": 1_795_226_400, "stop": 1_795_226_414 },
            "type": "diff",
        });
        assert_eq!(stanza["backup"][1], expected);
        assert_eq!(stanza["repo"][1]["key"], 2);
        assert_eq!(stanza["db"][0]["system-id"], 7_710_429_130_419_897_343_u64);
        assert_eq!(stanza["archive"][0]["id"], "15-1");
    }

    #[test]
    fn repositories_in_different_states() {
        let mut facts = samples::facts("repo1");
        let empty = repository_report(&facts, &crate::report::Contents::default());
        facts.name = "repo2".to_owned();
        let lost = RepositoryReport::failed(&facts, "no answer");
        let report = ClusterReport { stanza: "pg".to_owned(), repositories: vec![empty, lost] };
        let all = pgbackrest_json(&report);
        assert_eq!(all[0]["status"]["code"], 4);
        assert_eq!(all[0]["repo"][1]["status"], json!({ "code": 99, "message": "no answer" }));
    }
}
