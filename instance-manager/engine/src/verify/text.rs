//! The outcome of a verification as text.

use super::finding::{Finding, Severity};
use super::report::{Verdict, VerifyReport};
use barman_cloud::report::human;
use std::fmt::Write as _;

/// One repository.
pub fn verify_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report);
    text
}

fn write(text: &mut String, report: &VerifyReport) -> std::fmt::Result {
    writeln!(text, "repository: {} ({})", report.repository, report.location)?;
    writeln!(text, "    status: {}", if report.ok { "ok" } else { "damaged or not known, see below" })?;
    for backup in &report.backups {
        writeln!(text, "    backup {}: {}", backup.label, backup.verdict.as_str())?;
        if backup.verdict != Verdict::Incomplete && report.data_read {
            let (parts, files, bytes) = (backup.parts, backup.files, human(backup.bytes));
            writeln!(text, "        {parts} parts with {bytes} read, {files} files compared")?;
        }
        findings(text, &backup.findings, backup.more_findings)?;
    }
    let archive = &report.archive;
    writeln!(text, "    wal archive: {} segments with {} read", archive.segments, human(archive.bytes))?;
    for way in &archive.ways {
        writeln!(text, "        to timeline {}: {} to {}", way.timeline, way.first, way.last)?;
        way.gaps.iter().try_for_each(|gap| writeln!(text, "            missing: {gap}"))?;
    }
    findings(text, &archive.findings, archive.more_findings)?;
    match report.restorable.as_slice() {
        [] => writeln!(text, "    restorable: none of the backups looked at"),
        labels => writeln!(text, "    restorable: {}", labels.join(", ")),
    }
}

fn findings(text: &mut String, findings: &[Finding], more: u64) -> std::fmt::Result {
    for finding in findings {
        let word = match finding.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        writeln!(text, "        {word} {}: {}: {}", finding.code.as_str(), finding.object, finding.problem)?;
        if !finding.affects.is_empty() {
            writeln!(text, "            not restorable without it: {}", finding.affects.join(", "))?;
        }
        writeln!(text, "            remedy: {}", finding.remedy)?;
    }
    match more {
        0 => Ok(()),
        more => writeln!(text, "        and {more} more findings"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Code, VerifiedArchive, VerifiedBackup, Way};

    #[test]
    fn everything_that_a_person_needs() {
        let mut gap = Finding::new(Code::WalGap, "000000010000000000000005", "1 segment is missing");
        gap.affects = vec!["20261121-012341F".to_owned()];
        let report = VerifyReport {
            repository: "repo1".to_owned(),
            location: "s3://b/p/pg".to_owned(),
            ok: false,
            data_read: true,
            backups: vec![
                VerifiedBackup {
                    label: "20261121-012341F".to_owned(),
                    verdict: Verdict::Damaged,
                    parts: 2,
                    files: 1000,
                    bytes: 4_299_162,
                    findings: vec![Finding::new(Code::ManifestMissing, "s3://b/m", "it is not there")],
                    more_findings: 3,
                    ..VerifiedBackup::default()
                },
                VerifiedBackup {
                    label: "20261121-040000F".to_owned(),
                    verdict: Verdict::Incomplete,
                    ..VerifiedBackup::default()
                },
            ],
            archive: VerifiedArchive {
                ways: vec![Way {
                    timeline: 1,
                    first: "000000010000000000000003".to_owned(),
                    last: "000000010000000000000009".to_owned(),
                    gaps: vec!["000000010000000000000005".to_owned()],
                }],
                segments: 6,
                bytes: 96 << 20,
                findings: vec![gap],
                more_findings: 0,
            },
            restorable: Vec::new(),
        };
        let expected = "\
repository: repo1 (s3://b/p/pg)
    status: damaged or not known, see below
    backup 20261121-012341F: damaged
        2 parts with 4.1MB read, 1000 files compared
        warning manifest-missing: s3://b/m: it is not there
            remedy: nothing is lost; a new backup of Howdah's own can be verified completely
        and 3 more findings
    backup 20261121-040000F: incomplete
    wal archive: 6 segments with 96MB read
        to timeline 1: 000000010000000000000003 to 000000010000000000000009
            missing: 000000010000000000000005
        error wal-gap: 000000010000000000000005: 1 segment is missing
            not restorable without it: 20261121-012341F
            remedy: put the segments back from a copy; recovery to later moments needs a backup after the gap
    restorable: none of the backups looked at
";
        assert_eq!(verify_text(&report), expected);
    }
}
