//! `expire`: what retention would delete and why, or has deleted.

use std::fmt::Write as _;
use std::sync::Arc;

use barman_cloud::report::human;
use howdah_api::instance::SocketAnswer;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;

use super::answer::{done, failed};
use super::line::Line;
use super::repositories::NamedRepository;
use crate::run::served::Served;
use crate::run::socket::say;
use crate::wal_client::OPERATION;

/// Outcome for one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpireReport {
    /// Name of the repository.
    pub repository: String,
    /// Whether anything was deleted, and not only planned.
    pub confirmed: bool,
    /// The policy, in words.
    pub policy: String,
    /// Backups that stay.
    pub kept: Vec<Stays>,
    /// Backups that go.
    pub deletable: Vec<Goes>,
    /// What happens to WAL, one line each.
    pub wal: Vec<String>,
    /// What could not be deleted, and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A backup that stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    /// Label.
    pub label: String,
    /// Why: all reasons.
    pub reasons: Vec<String>,
}

/// A backup that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goes {
    /// Label.
    pub label: String,
    /// Why.
    pub reason: String,
    /// Bytes it takes in the store, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Plans or deletes, one repository after the other.
pub async fn run(
    served: &Arc<impl Served>,
    repositories: &[NamedRepository],
    confirm: bool,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<SocketAnswer> {
    let mut errors = Vec::new();
    let mut whole = true;
    for named in repositories {
        match served.expire(named, confirm).await {
            Ok(report) => {
                whole &= report.problems.is_empty();
                say(out, &Line::Expired(report)).await?;
            }
            Err(error) => errors.push(error.report()),
        }
    }
    Ok(match (errors.is_empty(), whole) {
        (true, true) => done(),
        (true, false) => failed(OPERATION, None),
        (false, _) => failed(OPERATION, Some(errors.join("; "))),
    })
}

/// One repository as text.
pub fn text(report: &ExpireReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report);
    text
}

fn write(text: &mut String, report: &ExpireReport) -> std::fmt::Result {
    let note = if report.confirmed { "" } else { " (dry run: nothing was deleted)" };
    writeln!(text, "repository: {}{note}", report.repository)?;
    writeln!(text, "    policy: {}", report.policy)?;
    for backup in &report.kept {
        writeln!(text, "    keep    {}: {}", backup.label, backup.reasons.join("; "))?;
    }
    for backup in &report.deletable {
        let size = backup.bytes.map_or_else(String::new, |bytes| format!(" ({})", human(bytes)));
        writeln!(text, "    delete  {}: {}{size}", backup.label, backup.reason)?;
    }
    report.wal.iter().try_for_each(|line| writeln!(text, "    {line}"))?;
    report.problems.iter().try_for_each(|line| writeln!(text, "    error   {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_stays_and_goes_and_why() {
        let report = ExpireReport {
            repository: "repo1".into(),
            policy: "2 full backups".into(),
            kept: vec![Stays {
                label: "20261121-012341F".into(),
                reasons: vec!["newest".into(), "last".into()],
            }],
            deletable: vec![Goes {
                label: "20261101-012341F".into(),
                reason: "not among the 2".into(),
                bytes: Some(1 << 20),
            }],
            wal: vec!["delete  WAL 000000010000000000000001".into()],
            ..ExpireReport::default()
        };
        let expected = "\
repository: repo1 (dry run: nothing was deleted)
    policy: 2 full backups
    keep    20261121-012341F: newest; last
    delete  20261101-012341F: not among the 2 (1MB)
    delete  WAL 000000010000000000000001
";
        assert_eq!(text(&report), expected);
    }
}
