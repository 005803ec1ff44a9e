//! One line a backup.

use super::size::human;
use super::types::{BackupReport, ClusterReport, RepositoryReport};
use chrono::TimeDelta;

const HEAD: [&str; 10] =
    ["REPOSITORY", "ID", "LABEL", "TYPE", "STATUS", "START", "DURATION", "SIZE", "WAL", "KEEP"];

/// All backups of all repositories, oldest first within each. A repository that cannot be read has a line of its own
/// below the table.
pub fn list_text(report: &ClusterReport) -> String {
    let mut rows: Vec<[String; 10]> = Vec::new();
    for repository in &report.repositories {
        rows.extend(repository.backups.iter().map(|backup| row(repository, backup)));
        rows.extend(repository.orphans.iter().map(|id| orphan(repository, id)));
    }
    let mut text = table(&HEAD.map(str::to_owned), &rows);
    for repository in &report.repositories {
        if let Some(message) = &repository.status.message {
            text.push_str(&format!("{}: {message}\n", repository.name));
        }
    }
    text
}

fn row(repository: &RepositoryReport, backup: &BackupReport) -> [String; 10] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let state = match (backup.state, backup.restorable) {
        (super::BackupState::Done, false) => "broken",
        (state, _) => state.as_str(),
    };
    let wal = match (&backup.wal_start, &backup.wal_stop) {
        (Some(start), Some(stop)) => format!("{start}..{stop}"),
        (Some(start), None) => format!("{start}.."),
        _ => "-".to_owned(),
    };
    [
        repository.name.clone(),
        backup.id.clone(),
        backup.label.clone(),
        backup.kind.to_string(),
        state.to_owned(),
        or_dash(backup.start.map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())),
        or_dash(backup.start.zip(backup.stop).map(|(start, stop)| duration(stop - start))),
        or_dash(backup.backup_size.map(human)),
        wal,
        or_dash(backup.keep.clone()),
    ]
}

fn orphan(repository: &RepositoryReport, id: &str) -> [String; 10] {
    let mut row = std::array::from_fn(|_| "-".to_owned());
    row[0].clone_from(&repository.name);
    row[1] = id.to_owned();
    row[4] = "no record".to_owned();
    row
}

/// `1h02m03s`, `2m03s`, `3s`.
pub(super) fn duration(span: TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes:02}m{seconds:02}s"),
    }
}

/// Columns as wide as their widest cell, two blanks between, none at the end of a line.
fn table(head: &[String; 10], rows: &[[String; 10]]) -> String {
    let mut widths = head.each_ref().map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(head).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{repository_report, samples};
    use rstest::rstest;

    #[tokio::test]
    async fn one_line_a_backup() {
        let repository = samples::repository();
        samples::fill(&repository).await;
        let key = "pg/base/20261121T060000/data.tar";
        repository.store().put(key, "x".into()).await.expect("stored");
        let full = "20261121T012341".parse().expect("an id");
        repository.set_keep(&full, Some(crate::catalog::Keep::Full)).await.expect("kept");
        let contents = crate::report::gather(&repository).await.expect("read");
        let report = repository_report(&samples::facts("repo1"), &contents);
        let lost = RepositoryReport::failed(&samples::facts("repo2"), "no answer");
        let report = ClusterReport { stanza: "pg".to_owned(), repositories: vec![report, lost] };
        let text = list_text(&report);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], HEAD);
        let first = [
            "repo1",
            "20261121T012341",
            "20261121-012341F",
            "full",
            "done",
            "2026-11-21T01:23:41Z",
            "14s",
            "4.1MB",
            "00000006000000A100000003..00000006000000A100000003",
            "full",
        ];
        assert_eq!(lines[1], first);
        assert_eq!(lines[4][3..7], ["full", "failed", "2026-11-21T04:00:00Z", "-"]);
        assert_eq!(lines[4][8], "00000006000000A100000009..");
        assert_eq!(lines[5][4], "broken");
        assert_eq!(lines[6][..6], ["repo1", "20261121T060000", "-", "-", "no", "record"]);
        assert_eq!(text.lines().last(), Some("repo2: no answer"));
        assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
    }

    #[rstest]
    #[case(0, "0s")]
    #[case(123, "2m03s")]
    #[case(3723, "1h02m03s")]
    #[case(400_000, "111h06m40s")]
    #[case(-5, "0s")]
    fn durations(#[case] seconds: i64, #[case] text: &str) {
        assert_eq!(duration(TimeDelta::seconds(seconds)), text);
    }
}
