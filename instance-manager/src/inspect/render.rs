//! What the manager told, as text or JSON.

use barman_cloud::report::{
    BackupDetail, ClusterReport, RepositoryReport, human, info_text as stanza_text, list_text as table_text,
    pgbackrest_json as as_pgbackrest, show_text,
};
use howdah_engine::verify::{VerifyReport, verify_text};
use serde::Serialize;

use super::check::{CheckReport, Outcome};
use super::expire::{self, ExpireReport};
use super::line::Progress;

/// Everything that came over the socket.
#[derive(Debug, Default)]
pub struct Told {
    /// The cluster, with the repositories of `info`.
    pub cluster: Option<ClusterReport>,
    /// Backups of `show`.
    pub backups: Vec<BackupDetail>,
    /// Outcomes of `verify`.
    pub verified: Vec<VerifyReport>,
    /// Outcome of `check`.
    pub checked: Option<CheckReport>,
    /// Outcomes of `expire`.
    pub expired: Vec<ExpireReport>,
}

impl Told {
    /// Adds a repository.
    pub fn add(&mut self, report: RepositoryReport) {
        self.cluster.get_or_insert_default().repositories.push(report);
    }

    /// Whether there is nothing to show but the name of the cluster.
    pub fn is_empty(&self) -> bool {
        let repositories = self.cluster.iter().any(|cluster| !cluster.repositories.is_empty());
        !repositories
            && self.backups.is_empty()
            && self.verified.is_empty()
            && self.checked.is_none()
            && self.expired.is_empty()
    }

    fn cluster(&self) -> ClusterReport {
        self.cluster.clone().unwrap_or_default()
    }
}

fn pretty(value: &impl Serialize) -> String {
    // Of these types nothing can fail to be JSON.
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}

pub fn info_text(told: &Told) -> String {
    stanza_text(&told.cluster())
}

pub fn cluster_json(told: &Told) -> String {
    pretty(&told.cluster())
}

pub fn pgbackrest_json(told: &Told) -> String {
    as_pgbackrest(&told.cluster()).to_string() + "\n"
}

pub fn list_text(told: &Told) -> String {
    table_text(&told.cluster())
}

pub fn backups_text(told: &Told) -> String {
    told.backups.iter().map(show_text).collect::<Vec<_>>().join("\n")
}

pub fn backups_json(told: &Told) -> String {
    pretty(&told.backups)
}

pub fn verified_text(told: &Told) -> String {
    told.verified.iter().map(verify_text).collect::<Vec<_>>().join("\n")
}

pub fn verified_json(told: &Told) -> String {
    pretty(&told.verified)
}

pub fn expired_text(told: &Told) -> String {
    told.expired.iter().map(expire::text).collect::<Vec<_>>().join("\n")
}

pub fn expired_json(told: &Told) -> String {
    pretty(&told.expired)
}

pub fn checked_json(told: &Told) -> String {
    pretty(&told.checked.clone().unwrap_or_default())
}

pub fn checked_text(told: &Told) -> String {
    let mut text = String::new();
    for repository in told.checked.iter().flat_map(|report| &report.repositories) {
        text.push_str(&format!("repository: {} ({})\n", repository.repository, repository.location));
        for check in &repository.checks {
            let word = match check.outcome {
                Outcome::Passed => "ok",
                Outcome::Warning => "warning",
                Outcome::Failed => "error",
                Outcome::Skipped => "skipped",
            };
            text.push_str(&format!("    {:<8} {word}: {}\n", check.name, check.detail));
        }
    }
    text
}

pub fn progress_text(progress: &Progress) -> String {
    let counts = &progress.counts;
    let total = match counts.bytes_total {
        0 => String::new(),
        total => format!(", {} of {} read", human(counts.bytes_done), human(total)),
    };
    let segments = match counts.segments {
        0 => String::new(),
        count => format!(", {count} segments"),
    };
    format!("{}: {}{total}{segments}", progress.repository, counts.doing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Check, RepositoryCheck};
    use howdah_engine::verify::VerifyCounts;

    #[test]
    fn checks_are_lines() {
        let check = |name: &str, outcome, detail: &str| Check {
            name: name.to_owned(),
            outcome,
            detail: detail.to_owned(),
        };
        let repository = RepositoryCheck {
            repository: "repo1".to_owned(),
            location: "s3://b/p/pg".to_owned(),
            checks: vec![
                check("reach", Outcome::Passed, "listed"),
                check("archive", Outcome::Failed, "did not arrive; remedy: see the log"),
            ],
        };
        let report = CheckReport { ok: false, repositories: vec![repository] };
        let told = Told { checked: Some(report), ..Told::default() };
        let expected = "\
repository: repo1 (s3://b/p/pg)
    reach    ok: listed
    archive  error: did not arrive; remedy: see the log
";
        assert_eq!(checked_text(&told), expected);
    }

    #[test]
    fn progress_says_what_is_known() {
        let mut progress = Progress { repository: "repo1".to_owned(), counts: VerifyCounts::default() };
        progress.counts.doing = "backup 20261121-012341F".to_owned();
        progress.counts.bytes_total = 3 << 20;
        progress.counts.bytes_done = 1 << 20;
        assert_eq!(progress_text(&progress), "repo1: backup 20261121-012341F, 1MB of 3MB read");
        progress.counts = VerifyCounts { doing: "WAL".to_owned(), segments: 7, ..VerifyCounts::default() };
        assert_eq!(progress_text(&progress), "repo1: WAL, 7 segments");
    }
}
