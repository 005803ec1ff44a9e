//! What verification finds, as data: what kind of damage, in which object, and what to do.

use serde::{Deserialize, Serialize};

/// Kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// `backup.info` cannot be read or lacks what a restore needs.
    RecordDamaged,
    /// The backup is not complete.
    NotComplete,
    /// `chain.json` is lost or cannot be read.
    ChainDamaged,
    /// A backup that this one builds on is not there, or not complete.
    AncestorMissing,
    /// A backup that this one builds on is damaged.
    AncestorDamaged,
    /// A part is not there.
    PartMissing,
    /// A part has another size than was written.
    PartSize,
    /// A part cannot be decompressed or is no whole tar.
    PartDamaged,
    /// A part that no list knows.
    PartUnknown,
    /// `parts.json` cannot be read.
    PartListDamaged,
    /// There is no `parts.json`, though there is a manifest.
    PartListMissing,
    /// `backup_manifest` cannot be read or does not match its own checksum.
    ManifestDamaged,
    /// There is no `backup_manifest`: files can be compared with nothing.
    ManifestMissing,
    /// The manifest is of another backup.
    ManifestForeign,
    /// A file is not what the manifest says.
    FileDiffers,
    /// A file of the manifest is in no part.
    FileMissing,
    /// No part holds `backup_label`.
    LabelMissing,
    /// `backup_label` is of another backup.
    LabelForeign,
    /// WAL that a backup cannot be restored without is not there.
    WalMissing,
    /// WAL after the backups is not there: recovery ends before it.
    WalGap,
    /// A segment cannot be read, or is not whole.
    WalDamaged,
    /// A segment of another database system.
    WalForeign,
    /// A segment of another place in the log than its name says.
    WalMisplaced,
    /// A segment whose pages are of a timeline that does not lead to the one in its name.
    WalTimeline,
    /// A segment is there more than once, and one of the objects is damaged.
    WalTwice,
    /// A timeline has segments but no history file.
    HistoryMissing,
    /// A history file cannot be read.
    HistoryDamaged,
    /// An object could not be read now; nothing is known of it.
    NotRead,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is lost.
    Warning,
    /// Something cannot be restored, or it is not known whether it can.
    Error,
}

impl Code {
    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::PartUnknown | Self::PartListMissing | Self::ManifestMissing | Self::WalTwice => {
                Severity::Warning
            }
            _ => Severity::Error,
        }
    }

    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecordDamaged => "record-damaged",
            Self::NotComplete => "not-complete",
            Self::ChainDamaged => "chain-damaged",
            Self::AncestorMissing => "ancestor-missing",
            Self::AncestorDamaged => "ancestor-damaged",
            Self::PartMissing => "part-missing",
            Self::PartSize => "part-size",
            Self::PartDamaged => "part-damaged",
            Self::PartUnknown => "part-unknown",
            Self::PartListDamaged => "part-list-damaged",
            Self::PartListMissing => "part-list-missing",
            Self::ManifestDamaged => "manifest-damaged",
            Self::ManifestMissing => "manifest-missing",
            Self::ManifestForeign => "manifest-foreign",
            Self::FileDiffers => "file-differs",
            Self::FileMissing => "file-missing",
            Self::LabelMissing => "label-missing",
            Self::LabelForeign => "label-foreign",
            Self::WalMissing => "wal-missing",
            Self::WalGap => "wal-gap",
            Self::WalDamaged => "wal-damaged",
            Self::WalForeign => "wal-foreign",
            Self::WalMisplaced => "wal-misplaced",
            Self::WalTimeline => "wal-timeline",
            Self::WalTwice => "wal-twice",
            Self::HistoryMissing => "history-missing",
            Self::HistoryDamaged => "history-damaged",
            Self::NotRead => "not-read",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::RecordDamaged | Self::PartMissing | Self::PartSize | Self::PartDamaged => {
                "bring the object back from a copy of the bucket or an older version of it, or take a new backup"
            }
            Self::NotComplete => {
                "use another backup; what a killed one left is removed by itself after a day"
            }
            Self::ChainDamaged | Self::AncestorMissing | Self::AncestorDamaged => {
                "restore another backup, and take a new full one"
            }
            Self::PartUnknown => "find out who wrote it; a restore does not read it",
            Self::PartListDamaged => "delete the object: a restore then does without it",
            Self::PartListMissing | Self::ManifestMissing => {
                "nothing is lost; a new backup of Howdah's own can be verified completely"
            }
            Self::ManifestDamaged | Self::ManifestForeign => {
                "bring the object back from a copy; without it files cannot be compared with what was backed up"
            }
            Self::FileDiffers | Self::FileMissing | Self::LabelMissing | Self::LabelForeign => {
                "use another backup, and take a new one"
            }
            Self::WalMissing | Self::WalDamaged => {
                "put the segment back from pg_wal of an instance or from a copy, or take a new backup"
            }
            Self::WalGap => {
                "put the segments back from a copy; recovery to later moments needs a backup after the gap"
            }
            Self::WalForeign | Self::WalMisplaced | Self::WalTimeline => {
                "find out who wrote it: two servers archive to one place, or objects were copied; take a new backup"
            }
            Self::WalTwice => "delete the damaged object; the other one is read",
            Self::HistoryMissing | Self::HistoryDamaged => {
                "put the file back from pg_wal of an instance or from a copy: recovery cannot enter the timeline"
            }
            Self::NotRead => "see that the store answers, and verify again",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Kind.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The object: a URL, or the name of what is not there.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// Labels of the backups that cannot be restored because of it; for findings of the archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affects: Vec<String>,
}

impl Finding {
    /// A finding with what usually is to be done about it.
    pub fn new(code: Code, object: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            object: object.into(),
            problem: problem.into(),
            remedy: code.remedy().to_owned(),
            affects: Vec::new(),
        }
    }

    /// Whether something is lost or unknown because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Findings of one thing; there can be as many as files, so only so many are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    more: u64,
}

/// Findings kept of one backup or of the archive.
const KEPT: usize = 100;

impl Findings {
    /// Adds one; the same again, met on another way, only adds the backups that it affects.
    pub fn add(&mut self, finding: Finding) {
        let same = |known: &&mut Finding| {
            (known.code, &known.object, &known.problem) == (finding.code, &finding.object, &finding.problem)
        };
        if let Some(known) = self.list.iter_mut().find(same) {
            let new = finding.affects.into_iter().filter(|label| !known.affects.contains(label));
            known.affects.extend(new.collect::<Vec<_>>());
        } else if self.list.len() < KEPT {
            self.list.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// Adds those of another thing.
    pub fn extend(&mut self, other: Self) {
        other.list.into_iter().for_each(|finding| self.add(finding));
        self.more += other.more;
    }

    /// Whether any of them is an error.
    pub fn any_error(&self) -> bool {
        self.more > 0 || self.list.iter().any(Finding::is_error)
    }

    /// Whether there is one of this kind.
    pub fn has(&self, code: Code) -> bool {
        self.list.iter().any(|finding| finding.code == code)
    }

    /// The list, and how many were not kept.
    pub fn into_parts(self) -> (Vec<Finding>, u64) {
        (self.list, self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_typed_data_with_a_remedy() {
        let finding = Finding::new(Code::PartMissing, "s3://b/x/data.tar", "it is not there");
        let json = serde_json::to_value(&finding).expect("json");
        assert_eq!((&json["code"], &json["severity"]), (&"part-missing".into(), &"error".into()));
        assert!(json["remedy"].as_str().is_some_and(|text| text.contains("new backup")));
        assert_eq!(json["code"], finding.code.as_str());
    }

    #[test]
    fn the_same_finding_is_told_once() {
        let mut findings = Findings::default();
        for affects in [&["a"][..], &["a", "b"]] {
            let mut finding = Finding::new(Code::WalMissing, "x", "y");
            finding.affects = affects.iter().map(|label| (*label).to_owned()).collect();
            findings.add(finding);
        }
        let (list, _) = findings.into_parts();
        assert_eq!((list.len(), list[0].affects.len()), (1, 2));
    }

    #[test]
    fn findings_are_bounded_and_counted() {
        let mut findings = Findings::default();
        for at in 0..250 {
            findings.add(Finding::new(Code::FileDiffers, at.to_string(), "x"));
        }
        let mut all = Findings::default();
        all.extend(findings);
        assert!(all.any_error() && all.has(Code::FileDiffers) && !all.has(Code::WalGap));
        let (list, more) = all.into_parts();
        assert_eq!((list.len(), more), (100, 150));
    }
}
