//! The manager's error: what happened to which object, and whether trying again can help.

use std::error::Error as StdError;
use std::fmt;

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The world may change by itself: a network, a server that starts, an object that will be made.
    Transient,
    /// A person must change something first.
    Permanent,
}

/// A failure. `Display` names the object, what was wrong and the remedy; [`Error::report`] adds the causes.
#[derive(Debug)]
pub struct Error {
    class: Class,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync + 'static>>,
}

/// Result of the manager.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that may pass.
    #[must_use]
    pub fn transient(message: impl Into<String>) -> Self {
        Self { class: Class::Transient, message: message.into(), source: None }
    }

    /// A failure that needs a person.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { class: Class::Permanent, message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether a person must change something first.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.class == Class::Permanent
    }

    /// Message and causes on one line.
    #[must_use]
    pub fn report(&self) -> String {
        barman_cloud::error::report(self, None)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}

impl From<howdah_engine::Error> for Error {
    fn from(error: howdah_engine::Error) -> Self {
        let class = if error.is_transient() { Class::Transient } else { Class::Permanent };
        Self { class, message: error.report(), source: None }
    }
}

impl From<barman_cloud::Error> for Error {
    fn from(error: barman_cloud::Error) -> Self {
        howdah_engine::Error::from(error).into()
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let message = match error.as_db_error() {
            Some(db) => match db.detail().or(db.hint()) {
                Some(more) => format!("PostgreSQL answered: {} ({more})", db.message()),
                None => format!("PostgreSQL answered: {}", db.message()),
            },
            None => "the connection to PostgreSQL failed".to_owned(),
        };
        Self { class: Class::Transient, message, source: Some(Box::new(error)) }
    }
}

/// Adds "what was done to which object" to an I/O error.
pub trait IoContext<T> {
    /// `doing` is a phrase such as `cannot write`.
    ///
    /// # Errors
    /// The I/O error, with its context.
    fn at(self, doing: &str, path: &std::path::Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, doing: &str, path: &std::path::Path) -> Result<T> {
        self.map_err(|e| {
            let remedy = match e.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    "; the volume is full: enlarge it"
                }
                std::io::ErrorKind::PermissionDenied => "; check owner and mode of the volume",
                _ => "",
            };
            Error::permanent(format!("{doing} {}{remedy}", path.display())).because(e)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_everything_once() {
        let inner = std::io::Error::other("the disk\nis gone");
        let error = Error::permanent("cannot write /x").because(inner);
        assert_eq!(error.to_string(), "cannot write /x");
        assert_eq!(error.report(), "cannot write /x: the disk is gone");
        assert!(error.is_permanent());
    }

    #[test]
    fn full_volumes_get_their_remedy() {
        let full: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(28));
        let text = full.at("cannot write", std::path::Path::new("/d")).unwrap_err().report();
        assert!(text.contains("/d; the volume is full: enlarge it"), "{text}");
    }
}
