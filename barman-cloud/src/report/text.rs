//! The report as text, in the shape that pgBackRest's `info` made well known.

use super::dropped;
use super::size::human;
use super::types::{BackupReport, ClusterReport, DatabaseReport, RepositoryReport, StatusCode};
use crate::chain::BackupType;
use chrono::{DateTime, Utc};
use std::fmt::Write as _;

/// One stanza with all its repositories.
pub fn info_text(report: &ClusterReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report);
    text
}

fn write(text: &mut String, report: &ClusterReport) -> std::fmt::Result {
    writeln!(text, "stanza: {}", report.stanza)?;
    if report.repositories.is_empty() {
        return writeln!(text, "    status: error (no repository configured)");
    }
    let states: Vec<(&str, String)> =
        report.repositories.iter().map(|r| (r.name.as_str(), status(r))).collect();
    each(text, "status", &states)?;
    let ciphers: Vec<(&str, String)> =
        report.repositories.iter().map(|r| (r.name.as_str(), r.cipher.clone())).collect();
    each(text, "cipher", &ciphers)?;
    for database in databases(report) {
        write_database(text, report, database)?;
    }
    Ok(())
}

/// One line when all repositories say the same, else one for each.
fn each(text: &mut String, what: &str, values: &[(&str, String)]) -> std::fmt::Result {
    match values {
        [(_, first), rest @ ..] if rest.iter().all(|(_, value)| value == first) => {
            writeln!(text, "    {what}: {first}")
        }
        _ => {
            writeln!(text, "    {what}: mixed")?;
            values.iter().try_for_each(|(name, value)| writeln!(text, "        {name}: {value}"))
        }
    }
}

fn status(repository: &RepositoryReport) -> String {
    let words = match (&repository.status.code, &repository.status.message) {
        (StatusCode::Ok, _) => "ok".to_owned(),
        (code, None) => format!("error ({})", code.words()),
        (code, Some(message)) => format!("error ({})\n            {message}", code.words()),
    };
    match repository.running {
        None => words,
        Some(run) if run.bytes_total == 0 => format!("{words} (backup/expire running)"),
        Some(run) => {
            let percent = run.bytes_done.min(run.bytes_total) as f64 * 100.0 / run.bytes_total as f64;
            format!("{words} (backup/expire running - {percent:.2}% complete)")
        }
    }
}

/// The systems of all repositories, the current one first.
fn databases(report: &ClusterReport) -> Vec<&DatabaseReport> {
    let mut found: Vec<&DatabaseReport> = Vec::new();
    for database in report.repositories.iter().flat_map(|repository| repository.databases.iter().rev()) {
        if !found.iter().any(|known| same(known, database)) {
            found.push(database);
        }
    }
    found.sort_by_key(|database| !database.current);
    found
}

fn same(one: &DatabaseReport, other: &DatabaseReport) -> bool {
    (&one.system_id, &one.version) == (&other.system_id, &other.version)
}

fn write_database(text: &mut String, report: &ClusterReport, database: &DatabaseReport) -> std::fmt::Result {
    let word = if database.current { "current" } else { "prior" };
    writeln!(text, "\n    db ({word})")?;
    let version = database.version.as_deref().unwrap_or("unknown");
    let all = report.repositories.iter().flat_map(|repository| &repository.databases);
    let wal: Vec<_> =
        all.filter(|other| same(other, database)).filter_map(|other| other.wal.as_ref()).collect();
    let ends = wal.iter().map(|wal| &wal.min).min().zip(wal.iter().map(|wal| &wal.max).max());
    match ends {
        Some((min, max)) => writeln!(text, "        wal archive min/max ({version}): {min}/{max}")?,
        None => writeln!(text, "        wal archive min/max ({version}): none present")?,
    }
    // As all WAL, they are counted to the current system.
    if database.current {
        dropped::write(text, report)?;
    }
    let mut backups: Vec<(&str, &BackupReport)> = report
        .repositories
        .iter()
        .flat_map(|repository| repository.backups.iter().map(|backup| (repository.name.as_str(), backup)))
        .filter(|(_, backup)| backup.state == super::BackupState::Done)
        .filter(|(_, backup)| {
            (&backup.system_id, &backup.version) == (&database.system_id, &database.version)
        })
        .collect();
    backups.sort_by(|a, b| (&a.1.id, a.0).cmp(&(&b.1.id, b.0)));
    backups.into_iter().try_for_each(|(repository, backup)| write_backup(text, repository, backup))
}

fn write_backup(text: &mut String, repository: &str, backup: &BackupReport) -> std::fmt::Result {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), human);
    let word = |name: &Option<String>| name.clone().unwrap_or_else(|| "unknown".to_owned());
    writeln!(text, "\n        {} backup: {}", short(backup.kind), backup.label)?;
    writeln!(text, "            timestamp start/stop: {} / {}", time(backup.start), time(backup.stop))?;
    writeln!(text, "            wal start/stop: {} / {}", word(&backup.wal_start), word(&backup.wal_stop))?;
    writeln!(
        text,
        "            database size: {}, database backup size: {}",
        size(backup.database_size),
        size(backup.database_backup_size)
    )?;
    writeln!(
        text,
        "            {repository}: backup set size: {}, backup size: {}",
        size(backup.backup_set_size),
        size(backup.backup_size)
    )?;
    if !backup.references.is_empty() {
        writeln!(text, "            backup reference list: {}", backup.references.join(", "))?;
    }
    if let Some(keep) = &backup.keep {
        writeln!(text, "            kept from retention: {keep}")?;
    }
    match &backup.problem {
        Some(problem) => writeln!(text, "            not restorable: {problem}"),
        None => Ok(()),
    }
}

/// pgBackRest's word for a type.
pub(super) fn short(kind: BackupType) -> &'static str {
    match kind {
        BackupType::Full => "full",
        BackupType::Differential => "diff",
        BackupType::Incremental => "incr",
    }
}

pub(super) fn time(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "unknown".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S+00").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Contents, RepositoryReport, RunningBackup, repository_report, samples};

    fn cluster(repositories: Vec<RepositoryReport>) -> ClusterReport {
        ClusterReport { stanza: "pg".to_owned(), repositories }
    }

    /// S0.35, S0.36, S0.37, S0.38: to the letter.
    #[tokio::test]
    async fn the_well_known_shape() {
        let report = repository_report(&samples::facts("repo1"), &samples::filled().await);
        let expected = "\
stanza: pg
    status: ok
    cipher: none

    db (current)
        wal archive min/max (15): 00000006000000A100000003/00000007000000A20000001C

        full backup: 20261121-012341F
            timestamp start/stop: 2026-11-21 01:23:41+00 / 2026-11-21 01:23:55+00
            wal start/stop: 00000006000000A100000003 / 00000006000000A100000003
            database size: 33.5MB, database backup size: 33.5MB
            repo1: backup set size: 4.1MB, backup size: 4.1MB

        diff backup: 20261121-012341F_20261121-020000D
            timestamp start/stop: 2026-11-21 02:00:00+00 / 2026-11-21 02:00:14+00
            wal start/stop: 00000006000000A100000005 / 00000006000000A100000005
            database size: 33.5MB, database backup size: unknown
            repo1: backup set size: 4.1MB, backup size: 1KB
            backup reference list: 20261121-012341F

        incr backup: 20261121-012341F_20261121-030000I
            timestamp start/stop: 2026-11-21 03:00:00+00 / 2026-11-21 03:00:14+00
            wal start/stop: 00000006000000A100000007 / 00000006000000A100000007
            database size: 33.5MB, database backup size: 8.3KB
            repo1: backup set size: 4.1MB, backup size: 2KB
            backup reference list: 20261121-012341F, 20261121-012341F_20261121-020000D

        incr backup: 20261120-000000F_20261121-050000I
            timestamp start/stop: 2026-11-21 05:00:00+00 / 2026-11-21 05:00:14+00
            wal start/stop: 00000006000000A10000000B / 00000006000000A10000000B
            database size: 33.5MB, database backup size: unknown
            repo1: backup set size: unknown, backup size: 1KB
            backup reference list: 20261120T000000
            not restorable: it builds on 20261120T000000, which is not complete or not there
";
        assert_eq!(info_text(&cluster(vec![report])), expected);
    }

    #[tokio::test]
    async fn repositories_that_differ_are_told_apart() {
        let empty = repository_report(&samples::facts("repo1"), &Contents::default());
        let mut facts = samples::facts("repo2");
        facts.cipher = Some("aes-256-cbc".to_owned());
        facts.running = Some(RunningBackup { bytes_done: 1, bytes_total: 3 });
        let owner = Some(samples::SYSTEM.to_owned());
        let claimed = repository_report(&facts, &Contents { owner, ..Contents::default() });
        let lost = RepositoryReport::failed(&samples::facts("repo3"), "s3://b: no answer; remedy: wait");
        let expected = "\
stanza: pg
    status: mixed
        repo1: error (missing stanza path)
        repo2: error (no valid backups) (backup/expire running - 33.33% complete)
        repo3: error (other)
            s3://b: no answer; remedy: wait
    cipher: mixed
        repo1: none
        repo2: aes-256-cbc
        repo3: none

    db (current)
        wal archive min/max (15): none present
";
        assert_eq!(info_text(&cluster(vec![empty, claimed, lost])), expected);
        let none = "stanza: pg\n    status: error (no repository configured)\n";
        assert_eq!(info_text(&cluster(Vec::new())), none);
    }

    #[tokio::test]
    async fn backups_of_several_repositories_are_in_the_order_of_time() {
        let contents = samples::filled().await;
        let one = repository_report(&samples::facts("repo1"), &contents);
        let two = RepositoryReport { name: "repo2".to_owned(), ..one.clone() };
        let text = info_text(&cluster(vec![one, two]));
        assert_eq!(text.matches("db (current)").count(), 1);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("backup set size")).collect();
        let names: Vec<&str> = lines.iter().filter_map(|line| line.trim().split(':').next()).collect();
        assert_eq!(names[..4], ["repo1", "repo2", "repo1", "repo2"]);
    }
}
