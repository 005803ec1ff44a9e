//! The one error type of the data plane.
//!
//! Every error says which object, what was wrong and what to do. The kind decides whether a retry may help, the
//! exit code in Barman's scheme, and the word for conditions and metrics. Display never repeats the source;
//! [`Error::report`] renders the whole chain on one line.

use std::error::Error as StdError;
use std::path::Path;

/// What went wrong, in terms that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object store or an object in it; the library's own kind says more.
    Store(barman_cloud::ErrorKind),
    /// PostgreSQL refused something or went away.
    Postgres,
    /// The server is not set up so that a backup could be restored.
    Precondition,
    /// WAL that the backup needs did not reach the archive in time.
    WalNotArchived,
    /// The archive or the backup belongs to another database system.
    Lineage,
    /// A backup, a part or WAL that the restore needs is not in the repository.
    Missing,
    /// The recovery target cannot be reached from this backup and this archive.
    Unreachable,
    /// What was read is damaged.
    Corrupt,
    /// Data pages whose checksum is wrong.
    BadPages,
    /// A volume is full.
    DiskFull,
    /// A local file could not be read or written.
    Io,
    /// An argument or a setting is wrong.
    Invalid,
    /// The caller asked to stop.
    Cancelled,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Store(kind) => kind.is_transient(),
            Self::Postgres | Self::WalNotArchived | Self::Cancelled => true,
            _ => false,
        }
    }

    /// Exit code in Barman's scheme: 1 the operation failed, 2 connectivity, 3 usage, 4 anything else.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Store(kind) => kind.exit_code(),
            Self::Postgres
            | Self::Precondition
            | Self::WalNotArchived
            | Self::Lineage
            | Self::Missing
            | Self::Unreachable
            | Self::BadPages => 1,
            Self::Invalid => 3,
            Self::Corrupt | Self::DiskFull | Self::Io | Self::Cancelled => 4,
        }
    }

    /// One word for metric labels and condition reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store(kind) => kind.as_str(),
            Self::Postgres => "PostgreSQL",
            Self::Precondition => "Precondition",
            Self::WalNotArchived => "WalNotArchived",
            Self::Lineage => "OtherDatabaseSystem",
            Self::Missing => "Missing",
            Self::Unreachable => "TargetUnreachable",
            Self::Corrupt => "Corrupt",
            Self::BadPages => "BadPages",
            Self::DiskFull => "DiskFull",
            Self::Io => "LocalIO",
            Self::Invalid => "Invalid",
            Self::Cancelled => "Cancelled",
        }
    }

    fn default_remedy(self) -> &'static str {
        match self {
            Self::Store(_) => "check the object store and its settings",
            Self::Postgres => "see the log of PostgreSQL",
            Self::Precondition => "correct the setting and try again",
            Self::WalNotArchived => "see why archiving fails, mend it, and take the backup again",
            Self::Lineage => "use another server name or destination for this cluster",
            Self::Missing => "restore the object from a copy, or use another backup",
            Self::Unreachable => "choose an earlier target, another backup, or another timeline",
            Self::Corrupt => "restore the object from a copy, or use another backup",
            Self::BadPages => {
                "keep every older backup, move the server to sound storage, rebuild damaged indexes by REINDEX and \
                 take damaged tables from an older backup; or let backups warn about bad pages instead of failing"
            }
            Self::DiskFull => "enlarge the volume or free space on it",
            Self::Io => "check permissions and the health of the volume",
            Self::Invalid => "correct the value",
            Self::Cancelled => "start it again",
        }
    }
}

/// A failure, with the object it is about in its message.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    remedy: Option<String>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    None,
    Other(Box<dyn StdError + Send + Sync + 'static>),
    /// The message is this error's own text, so its cause is what comes next in the chain.
    Store(Box<barman_cloud::Error>),
}

/// Result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind; `message` names the object and says what was wrong, without the cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: None, source: Source::None }
    }

    /// The operation was cancelled.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// A local file operation that failed. A full volume gets its own kind.
    pub fn io(doing: &str, path: &Path, source: std::io::Error) -> Self {
        let full =
            matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let kind = if full { ErrorKind::DiskFull } else { ErrorKind::Io };
        Self::new(kind, format!("{doing} {}", path.display())).with_source(source)
    }

    /// An error of claiming an archive: one that belongs to another system gets its own kind.
    pub(crate) fn foreign(error: barman_cloud::Error) -> Self {
        match error.kind() {
            barman_cloud::ErrorKind::AlreadyExists => Self { kind: ErrorKind::Lineage, ..error.into() },
            _ => error.into(),
        }
    }

    /// Replaces the general remedy of the kind.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        self.source = Source::Other(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }

    /// Exit code in Barman's scheme; see [`ErrorKind::exit_code`].
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        self.remedy.as_deref().unwrap_or_else(|| self.kind.default_remedy())
    }

    /// The whole chain and the remedy on one line: `what: cause: cause; remedy: …`.
    pub fn report(&self) -> String {
        barman_cloud::error::report(self, Some(self.remedy()))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.source {
            Source::None => None,
            Source::Other(source) => Some(source.as_ref()),
            Source::Store(error) => error.source(),
        }
    }
}

impl From<barman_cloud::Error> for Error {
    fn from(error: barman_cloud::Error) -> Self {
        let kind = match error.kind() {
            barman_cloud::ErrorKind::Corrupt => ErrorKind::Corrupt,
            kind => ErrorKind::Store(kind),
        };
        Self {
            kind,
            message: error.to_string(),
            remedy: Some(error.remedy().to_owned()),
            source: Source::Store(Box::new(error)),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let message = match error.as_db_error() {
            Some(db) => format!("PostgreSQL answered {}: {}", db.code().code(), db.message()),
            None => "the connection to PostgreSQL failed".to_owned(),
        };
        Self::new(ErrorKind::Postgres, message).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(ErrorKind::Store(barman_cloud::ErrorKind::Network), true, 2)]
    #[case(ErrorKind::Store(barman_cloud::ErrorKind::Permission), false, 4)]
    #[case(ErrorKind::WalNotArchived, true, 1)]
    #[case(ErrorKind::Lineage, false, 1)]
    #[case(ErrorKind::Invalid, false, 3)]
    #[case(ErrorKind::DiskFull, false, 4)]
    fn class_and_exit_code(#[case] kind: ErrorKind, #[case] transient: bool, #[case] code: u8) {
        let error = Error::new(kind, "x");
        assert_eq!((error.is_transient(), error.exit_code()), (transient, code));
        assert!(!error.remedy().is_empty());
    }

    #[test]
    fn a_full_volume_is_told_from_other_io_errors() {
        let path = Path::new("/data/x");
        let full = Error::io("cannot write", path, std::io::Error::from_raw_os_error(28));
        let denied = Error::io("cannot write", path, std::io::Error::from_raw_os_error(13));
        assert_eq!((full.kind(), denied.kind()), (ErrorKind::DiskFull, ErrorKind::Io));
        assert!(full.report().starts_with("cannot write /data/x: No space left"), "{}", full.report());
    }
}
