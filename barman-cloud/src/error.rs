//! The one error type of this library.
//!
//! Every error says which object, what was wrong and what to do about it. The kind decides three things for
//! callers: whether a retry may help ([`Error::is_transient`]), the exit code in Barman's scheme
//! ([`Error::exit_code`]), and the remedy ([`Error::remedy`]). Display never repeats the source: use
//! [`Error::report`] for one line with the whole chain.

use std::error::Error as StdError;

/// What went wrong, in terms that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object is not in the repository.
    NotFound,
    /// The object is there already, with other content, or belongs to somebody else.
    AlreadyExists,
    /// The store knows us and refuses.
    Permission,
    /// The store does not accept the credentials, or there are none.
    Credentials,
    /// The bucket does not exist.
    BucketMissing,
    /// No answer: name resolution, connection, TLS, a stall, a broken transfer.
    Network,
    /// The store asks for fewer requests.
    Throttled,
    /// The store answered with a failure of its own (5xx).
    Unavailable,
    /// What was read does not follow its format, or is shorter or longer than it must be.
    Corrupt,
    /// An argument or a setting is wrong.
    Invalid,
    /// The store cannot do what was asked.
    Unsupported,
    /// A local file could not be read or written.
    Io,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Network | Self::Throttled | Self::Unavailable)
    }

    /// Exit code in Barman's scheme: 1 the operation failed, 2 connectivity, 3 usage, 4 anything else.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NotFound | Self::AlreadyExists | Self::BucketMissing => 1,
            Self::Network | Self::Throttled | Self::Unavailable => 2,
            Self::Invalid => 3,
            Self::Permission
            | Self::Credentials
            | Self::Corrupt
            | Self::Unsupported
            | Self::Io
            | Self::Other => 4,
        }
    }

    /// One word for metric labels and condition reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Permission => "PermissionDenied",
            Self::Credentials => "InvalidCredentials",
            Self::BucketMissing => "BucketMissing",
            Self::Network => "Network",
            Self::Throttled => "Throttled",
            Self::Unavailable => "StoreUnavailable",
            Self::Corrupt => "Corrupt",
            Self::Invalid => "Invalid",
            Self::Unsupported => "Unsupported",
            Self::Io => "LocalIO",
            Self::Other => "Other",
        }
    }

    fn default_remedy(self) -> &'static str {
        match self {
            Self::NotFound => {
                "check the destination path and the server name, and whether the object was deleted"
            }
            Self::AlreadyExists => {
                "use another server name or destination, or find out which server wrote the object"
            }
            Self::Permission => {
                "allow the credentials to list, read, write and delete under the destination path"
            }
            Self::Credentials => "check the access key, the secret key, the session token and the region",
            Self::BucketMissing => "create the bucket or correct the destination path",
            Self::Network => {
                "check the endpoint URL, name resolution, network policies and the CA certificate"
            }
            Self::Throttled => "lower the parallelism or raise the request limits of the bucket",
            Self::Unavailable => "wait for the object store to recover",
            Self::Corrupt => "restore the object from a copy, or use another backup",
            Self::Invalid => "correct the value",
            Self::Unsupported => "use a store or a setting that supports the operation",
            Self::Io => "check free space, permissions and the health of the volume",
            Self::Other => "see the log for details",
        }
    }
}

/// A failure, with the object it is about.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    key: Option<String>,
    remedy: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync + 'static>>,
}

/// Result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind; `message` says what was wrong, without the cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), key: None, remedy: None, source: None }
    }

    /// A value that does not follow its format.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Stored content that does not follow its format.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A local file operation that failed.
    pub fn io(message: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, message).with_source(source)
    }

    /// Names the object (key or URL) unless one is named already.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        if self.key.is_none() {
            self.key = Some(key.into());
        }
        self
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
        self.source = Some(source.into());
        self
    }

    /// Changes the kind, for a caller that knows better.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The object the error is about, when there is one.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }

    /// Whether the object simply is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
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
        report(self, Some(self.remedy()))
    }

    /// Carries this error through `std::io` interfaces; [`Error::from_io`] gets it back whole.
    pub fn into_io(self) -> std::io::Error {
        let kind = match self.kind {
            ErrorKind::NotFound => std::io::ErrorKind::NotFound,
            ErrorKind::Corrupt => std::io::ErrorKind::InvalidData,
            ErrorKind::Network | ErrorKind::Throttled | ErrorKind::Unavailable => {
                std::io::ErrorKind::ConnectionAborted
            }
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, self)
    }

    /// The error inside a `std::io::Error` when [`Error::into_io`] made it; otherwise one of `fallback` kind,
    /// or [`ErrorKind::Corrupt`] when decoding says so.
    pub fn from_io(error: std::io::Error, fallback: ErrorKind, message: impl Into<String>) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
            _ => fallback,
        };
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(other) => Self::new(kind, message).with_source(other),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.key {
            Some(key) if !self.message.contains(key.as_str()) => write!(f, "{key}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An error's whole chain, and what to do about it, on one line: `what: cause: cause; remedy: …`.
pub fn report(error: &(dyn std::error::Error + 'static), remedy: Option<&str>) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some of the crates below repeat their source in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    if let Some(remedy) = remedy {
        text.push_str("; remedy: ");
        text.push_str(remedy);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::not_found(ErrorKind::NotFound, false, 1)]
    #[case::other_content(ErrorKind::AlreadyExists, false, 1)]
    #[case::no_bucket(ErrorKind::BucketMissing, false, 1)]
    #[case::network(ErrorKind::Network, true, 2)]
    #[case::throttled(ErrorKind::Throttled, true, 2)]
    #[case::unavailable(ErrorKind::Unavailable, true, 2)]
    #[case::usage(ErrorKind::Invalid, false, 3)]
    #[case::corrupt(ErrorKind::Corrupt, false, 4)]
    #[case::denied(ErrorKind::Permission, false, 4)]
    #[case::disk(ErrorKind::Io, false, 4)]
    fn kinds_decide_class_and_exit_code(#[case] kind: ErrorKind, #[case] transient: bool, #[case] code: u8) {
        let error = Error::new(kind, "x");
        assert_eq!((error.is_transient(), error.exit_code()), (transient, code));
        assert!(!error.remedy().is_empty());
    }

    #[test]
    fn display_names_the_object_and_leaves_the_source_to_report() {
        let error = Error::corrupt("truncated after 12 bytes")
            .with_key("s3://b/wals/X.gz")
            .with_source(std::io::Error::other("end of\n stream"));
        assert_eq!(error.to_string(), "s3://b/wals/X.gz: truncated after 12 bytes");
        assert_eq!(
            error.report(),
            "s3://b/wals/X.gz: truncated after 12 bytes: end of stream; \
             remedy: restore the object from a copy, or use another backup"
        );
    }

    #[test]
    fn io_round_trip_keeps_the_kind() {
        let io = Error::new(ErrorKind::Throttled, "slow down").with_key("k").into_io();
        let back = Error::from_io(io, ErrorKind::Io, "reading");
        assert_eq!((back.kind(), back.key()), (ErrorKind::Throttled, Some("k")));
        let eof = Error::from_io(std::io::ErrorKind::UnexpectedEof.into(), ErrorKind::Io, "reading");
        assert_eq!(eof.kind(), ErrorKind::Corrupt);
    }
}
