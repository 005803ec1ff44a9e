//! The outcome of a verification.

use super::finding::{Code, Finding};
use barman_cloud::chain::BackupType;
use serde::{Deserialize, Serialize};

/// Outcome for one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// Name of the repository.
    pub repository: String,
    /// Destination and server, as a URL.
    pub location: String,
    /// Whether nothing is wrong. Warnings do not count.
    pub ok: bool,
    /// Whether parts were read, and not only looked at.
    pub data_read: bool,
    /// The backups looked at, oldest first.
    pub backups: Vec<VerifiedBackup>,
    /// The WAL archive from the oldest of them on.
    pub archive: VerifiedArchive,
    /// Labels of the backups looked at that can be restored, as far as was looked.
    pub restorable: Vec<String>,
}

impl VerifyReport {
    /// Every finding.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.backups.iter().flat_map(|backup| &backup.findings).chain(&self.archive.findings)
    }

    /// Exit code in Barman's scheme: 0 nothing is wrong, 2 some objects could not be read and nothing else is
    /// wrong, 1 something is.
    pub fn exit_code(&self) -> u8 {
        let unread = |finding: &Finding| finding.code == Code::NotRead;
        match (self.ok, self.findings().filter(|finding| finding.is_error()).all(unread)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        }
    }
}

/// What verification says of a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Itself, all that it builds on, and its WAL.
    Restorable,
    /// Something that it needs is lost or damaged.
    #[default]
    Damaged,
    /// Something that it needs could not be read now.
    Unknown,
    /// It never was complete: failed, being taken, or left by a killed process. No finding by itself.
    Incomplete,
    /// It was deleted while it was looked at.
    Removed,
}

impl Verdict {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restorable => "restorable",
            Self::Damaged => "damaged",
            Self::Unknown => "not known",
            Self::Incomplete => "incomplete",
            Self::Removed => "removed meanwhile",
        }
    }
}

/// One backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedBackup {
    /// Id.
    pub id: String,
    /// Label.
    pub label: String,
    /// `full`, `differential` or `incremental`.
    #[serde(rename = "type")]
    pub kind: BackupType,
    /// Verdict.
    pub verdict: Verdict,
    /// Parts looked at.
    pub parts: usize,
    /// Files compared with the manifest.
    pub files: u64,
    /// Stored bytes read.
    pub bytes: u64,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    #[serde(default)]
    pub more_findings: u64,
}

/// The WAL archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedArchive {
    /// The ways that recoveries take, from the oldest backup on each to the end of the archive.
    pub ways: Vec<Way>,
    /// Segments read.
    pub segments: u64,
    /// Stored bytes of them.
    pub bytes: u64,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    #[serde(default)]
    pub more_findings: u64,
}

/// The WAL along the history of one timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// Timeline at its end.
    pub timeline: u32,
    /// First segment needed.
    pub first: String,
    /// Last segment there is.
    pub last: String,
    /// Stretches that are not there, each `first..last`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(codes: &[Code]) -> VerifyReport {
        let findings: Vec<Finding> = codes.iter().map(|code| Finding::new(*code, "x", "y")).collect();
        let ok = !findings.iter().any(Finding::is_error);
        VerifyReport {
            ok,
            archive: VerifiedArchive { findings, ..VerifiedArchive::default() },
            ..VerifyReport::default()
        }
    }

    #[test]
    fn exit_codes_tell_damage_from_silence() {
        assert_eq!(report(&[]).exit_code(), 0);
        assert_eq!(report(&[Code::ManifestMissing]).exit_code(), 0);
        assert_eq!(report(&[Code::NotRead, Code::ManifestMissing]).exit_code(), 2);
        assert_eq!(report(&[Code::NotRead, Code::WalGap]).exit_code(), 1);
    }
}
