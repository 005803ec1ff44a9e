//! `expire`: what retention would delete and why, or has deleted.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use barman_cloud::chain::label;
use barman_cloud::report::human;
use barman_cloud::retention::{Applied, Plan};
use barman_cloud::{BackupId, BackupType};
use howdah_api::instance::SocketAnswer;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;

use super::Expired;
use super::answer::{done, failed};
use super::line::Line;
use super::repositories::NamedRepository;
use crate::run::served::Served;
use crate::run::socket::say;
use crate::wal_client::{NETWORK, OPERATION};

/// Outcome for one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpireReport {
    /// Name of the repository.
    pub repository: String,
    /// Whether anything was to be deleted, and not only planned.
    pub confirmed: bool,
    /// The policy in words; absent when the repository has none and keeps everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Backups that stay, oldest first.
    pub kept: Vec<Stays>,
    /// Backups that go, in the order in which they do.
    pub deletable: Vec<Goes>,
    /// WAL that goes.
    pub deletable_wal: Vec<WalGoes>,
    /// WAL that stays and why, one line each.
    pub kept_wal: Vec<String>,
    /// Stored bytes of all that goes, as far as known.
    pub bytes: u64,
    /// What could not be deleted, and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A backup that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    /// Id.
    pub id: String,
    /// Label.
    pub label: String,
    /// `full`, `differential` or `incremental`.
    #[serde(rename = "type")]
    pub kind: BackupType,
    /// Why: all reasons.
    pub reasons: Vec<String>,
}

/// A backup that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goes {
    /// Id.
    pub id: String,
    /// Label.
    pub label: String,
    /// `full`, `differential` or `incremental`.
    #[serde(rename = "type")]
    pub kind: BackupType,
    /// Why.
    pub reason: String,
    /// Bytes it takes in the store, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether nothing is left of it.
    pub deleted: bool,
}

/// A stretch of WAL that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalGoes {
    /// First segment.
    pub first: String,
    /// Last segment, on the same timeline.
    pub last: String,
    /// Objects.
    pub objects: u64,
    /// Stored bytes.
    pub bytes: u64,
    /// Why.
    pub reason: String,
}

impl ExpireReport {
    /// The report on a repository; `None` when it has no policy.
    #[must_use]
    pub fn new(repository: &str, confirmed: bool, expired: Option<&Expired>) -> Self {
        let none = Self { repository: repository.to_owned(), confirmed, ..Self::default() };
        let Some(Expired { plan, applied }) = expired else { return none };
        let deleted: BTreeSet<&BackupId> = applied.iter().flat_map(|applied| &applied.backups).collect();
        Self {
            policy: Some(plan.policy.to_string()),
            kept: plan
                .kept
                .iter()
                .map(|kept| Stays {
                    id: kept.id.to_string(),
                    label: label(kept.kind, &kept.id, kept.ancestors.first()),
                    kind: kept.kind,
                    reasons: kept.reasons.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            deletable: plan
                .deletable
                .iter()
                .map(|backup| Goes {
                    id: backup.id.to_string(),
                    label: label(backup.kind, &backup.id, backup.ancestors.first()),
                    kind: backup.kind,
                    reason: backup.reason.to_string(),
                    bytes: backup.bytes,
                    deleted: deleted.contains(&backup.id),
                })
                .collect(),
            deletable_wal: wal(plan),
            kept_wal: kept_wal(plan),
            bytes: plan.freed_bytes(),
            problems: applied.as_ref().map(problems).unwrap_or_default(),
            ..none
        }
    }
}

fn wal(plan: &Plan) -> Vec<WalGoes> {
    let reason = |unreachable| match unreachable {
        true => "no backup leads there",
        false => "before every kept backup",
    };
    plan.wal
        .cuts
        .iter()
        .map(|cut| WalGoes {
            first: cut.first.to_string(),
            last: cut.last.to_string(),
            objects: cut.objects,
            bytes: cut.bytes,
            reason: reason(cut.unreachable).to_owned(),
        })
        .collect()
}

fn kept_wal(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for kept in &plan.wal.kept {
        lines.extend(
            kept.ranges
                .iter()
                .map(|(first, last, id)| format!("{first} to {last}: standalone backup {id} needs it")),
        );
        lines.extend(
            kept.from
                .iter()
                .map(|(first, need)| format!("timeline {} from {first} on: {need}", kept.timeline)),
        );
    }
    lines.extend(plan.wal.untouched.iter().map(|why| format!("all: {why}")));
    lines
}

fn problems(applied: &Applied) -> Vec<String> {
    let mut problems: Vec<String> = applied.refused.iter().map(ToString::to_string).collect();
    let named = applied.refused.iter().filter(|refused| refused.key.is_some()).count() as u64;
    let more = applied.refused_objects.saturating_sub(named);
    if more > 0 {
        problems.push(format!("{more} more objects were not deleted"));
    }
    problems.extend(applied.wal_held.iter().map(|held| format!("WAL was left alone: {held}")));
    problems.extend(applied.stopped.iter().map(barman_cloud::Error::report));
    problems
}

/// Plans or deletes, one repository after the other.
pub async fn run(
    served: &Arc<impl Served>,
    repositories: &[NamedRepository],
    confirm: bool,
    out: &mut (impl AsyncWrite + Unpin + Send),
) -> std::io::Result<SocketAnswer> {
    let mut errors = Vec::new();
    let mut code = None;
    for named in repositories {
        match served.expire(named, confirm).await {
            Ok(expired) => {
                let report = ExpireReport::new(&named.name, confirm, expired.as_ref());
                if !report.problems.is_empty() {
                    code = Some(OPERATION);
                }
                say(out, &Line::Expired(report)).await?;
            }
            Err(error) => {
                let own = if error.is_permanent() { OPERATION } else { NETWORK };
                code = Some(code.map_or(own, |code: u8| code.min(own)));
                errors.push(format!("{}: {}", named.name, error.report()));
            }
        }
    }
    Ok(match code {
        None => done(),
        Some(code) => failed(code, (!errors.is_empty()).then(|| errors.join("; "))),
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
    let Some(policy) = &report.policy else {
        return writeln!(text, "    policy: none, everything stays");
    };
    writeln!(text, "    policy: {policy}")?;
    for backup in &report.kept {
        writeln!(text, "    keep    {}: {}", backup.label, backup.reasons.join("; "))?;
    }
    let word = if report.confirmed { "deleted" } else { "delete " };
    for backup in &report.deletable {
        let word = if report.confirmed && !backup.deleted { "stays  " } else { word };
        let size = backup.bytes.map_or_else(String::new, |bytes| format!(" ({})", human(bytes)));
        writeln!(text, "    {word} {}: {}{size}", backup.label, backup.reason)?;
    }
    report.kept_wal.iter().try_for_each(|line| writeln!(text, "    keep    WAL {line}"))?;
    for wal in &report.deletable_wal {
        let (objects, size) = (wal.objects, human(wal.bytes));
        writeln!(
            text,
            "    delete  WAL {} to {}: {} ({objects} objects, {size})",
            wal.first, wal.last, wal.reason
        )?;
    }
    let objects: u64 = report.deletable_wal.iter().map(|wal| wal.objects).sum();
    let (backups, size) = (report.deletable.len(), human(report.bytes));
    writeln!(text, "    total   {backups} backups and {objects} WAL objects, {size}")?;
    report.problems.iter().try_for_each(|line| writeln!(text, "    error   {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ExpireReport {
        let goes = |id: &str, bytes| Goes {
            id: id.to_owned(),
            label: format!("{}F", id.replace('T', "-")),
            kind: BackupType::Full,
            reason: "not one of the 2 newest".to_owned(),
            bytes: Some(bytes),
            deleted: false,
        };
        ExpireReport {
            repository: "repo1".into(),
            policy: Some("2 full".into()),
            kept: vec![Stays {
                id: "20261121T012341".into(),
                label: "20261121-012341F".into(),
                kind: BackupType::Full,
                reasons: vec!["number 1 of the 2 newest full backups".into(), "the newest".into()],
            }],
            deletable: vec![goes("20261101T012341", 1 << 20), goes("20261102T012341", 2 << 20)],
            deletable_wal: vec![WalGoes {
                first: "000000010000000000000001".into(),
                last: "000000010000000000000009".into(),
                objects: 9,
                bytes: 9 << 20,
                reason: "before every kept backup".into(),
            }],
            kept_wal: vec![
                "timeline 1 from 00000001000000000000000A on: backup 20261121T012341 needs it".into(),
            ],
            bytes: 12 << 20,
            ..ExpireReport::default()
        }
    }

    /// S1.2: what stays and goes, and why.
    #[test]
    fn a_plan_says_what_stays_and_goes_and_why() {
        let expected = "\
repository: repo1 (dry run: nothing was deleted)
    policy: 2 full
    keep    20261121-012341F: number 1 of the 2 newest full backups; the newest
    delete  20261101-012341F: not one of the 2 newest (1MB)
    delete  20261102-012341F: not one of the 2 newest (2MB)
    keep    WAL timeline 1 from 00000001000000000000000A on: backup 20261121T012341 needs it
    delete  WAL 000000010000000000000001 to 000000010000000000000009: before every kept backup (9 objects, 9MB)
    total   2 backups and 9 WAL objects, 12MB
";
        assert_eq!(text(&report()), expected);
    }

    #[test]
    fn what_was_deleted_and_what_stayed_is_told_apart() {
        let mut report = report();
        report.confirmed = true;
        report.deletable[0].deleted = true;
        report.problems.push("backup 20261102T012341 stays: it is in use".into());
        let text = text(&report);
        for line in [
            "repository: repo1\n",
            "    deleted 20261101-012341F: ",
            "    stays   20261102-012341F: ",
            "    error   backup 20261102T012341 stays",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn a_repository_without_a_policy_keeps_everything() {
        let report = ExpireReport::new("default", false, None);
        assert!(text(&report).contains("    policy: none, everything stays\n"));
        assert_eq!(report.policy, None);
    }
}
