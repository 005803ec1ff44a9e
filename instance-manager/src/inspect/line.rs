//! The lines between the manager and the commands.

use barman_cloud::report::{BackupDetail, RepositoryReport};
use howdah_engine::verify::{VerifyCounts, VerifyReport};
use serde::{Deserialize, Serialize};

use super::check::CheckReport;
use super::expire::ExpireReport;

/// One line of an answer, but for the last, which is a `SocketAnswer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Name of the cluster; the first line.
    Stanza(String),
    /// One repository (`info`).
    Repository(Box<RepositoryReport>),
    /// One backup (`show`).
    Backup(Box<BackupDetail>),
    /// How far it is (`verify`).
    Progress(Progress),
    /// Outcome for one repository (`verify`).
    Verified(Box<VerifyReport>),
    /// Outcome (`check`).
    Checked(CheckReport),
    /// What goes, or went, of one repository (`expire`).
    Expired(ExpireReport),
}

/// How far the verification of a repository is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Name of the repository.
    pub repository: String,
    /// Counters.
    #[serde(flatten)]
    pub counts: VerifyCounts,
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::instance::SocketAnswer;

    #[test]
    fn a_line_is_an_object_with_one_key_and_never_looks_like_the_end() {
        let counts = VerifyCounts { doing: "backup x".into(), bytes_done: 1, bytes_total: 2, segments: 0 };
        let line = Line::Progress(Progress { repository: "repo1".into(), counts });
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"progress":{"repository":"repo1","doing":"backup x","bytesDone":1,"bytesTotal":2,"segments":0}}"#
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        assert!(serde_json::from_str::<SocketAnswer>(&text).is_err());
        assert!(serde_json::from_str::<Line>(r#"{"ok":true}"#).is_err());
    }
}
