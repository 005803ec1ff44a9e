//! WAL for a recovery without end: the archive of another cluster is followed until this one is promoted.
//!
//! Unlike a recovery that ends ([`RecoveryWal`]), nothing is taken for the end of the archive: what cannot be fetched now is
//! asked for again by PostgreSQL, and a new history file of the source is a timeline to go to. Only during the promotion
//! numbers that are in use in an archive look taken, so that the new timeline gets a free one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use barman_cloud::WalName;
use howdah_engine::{Restorer, WalFetch};
use tokio::time::timeout;

use super::recovery_wal::{RecoverySource, RecoveryWal, Timelines, pretend};

/// How long the source may take for one file: PostgreSQL hears of a promotion only between two of them.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service of one cluster that follows.
pub struct FollowingWal {
    pgdata: PathBuf,
    wal: RecoveryWal,
    timelines: Timelines,
    ending: AtomicBool,
    trouble: Mutex<Trouble>,
}

/// PostgreSQL asks for segments and histories in turn: what one of them says is not gone because the other is fine.
#[derive(Default)]
struct Trouble {
    segments: Option<String>,
    histories: Option<String>,
}

impl FollowingWal {
    /// From these places, in this order.
    #[must_use]
    pub fn new(pgdata: PathBuf, sources: Vec<RecoverySource>, timelines: Timelines) -> Self {
        Self {
            wal: RecoveryWal::new(pgdata.clone(), sources, Timelines::default()),
            pgdata,
            timelines,
            ending: AtomicBool::new(false),
            trouble: Mutex::default(),
        }
    }

    /// All services, for their end.
    #[must_use]
    pub fn restorers(&self) -> Vec<Arc<Restorer>> {
        self.wal.restorers()
    }

    /// The promotion begins.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Why the source could not be read when it was asked last.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.segments.clone().or_else(|| trouble.histories.clone())
    }

    fn note(&self, name: &str, error: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let history = matches!(name.parse(), Ok(WalName::History(_)));
        *(if history { &mut trouble.histories } else { &mut trouble.segments }) = error;
    }

    /// Fetches a file; `path` is relative to the data directory.
    ///
    /// # Errors
    /// In words, when it cannot be fetched now. PostgreSQL asks again.
    pub async fn restore(&self, name: &str, path: &str) -> Result<WalFetch, String> {
        let asked = timeout(PATIENCE, self.wal.restore(name, path)).await;
        let outcome = asked.unwrap_or_else(|_| {
            Err(format!("{name}: the store did not answer within {} s", PATIENCE.as_secs()))
        });
        self.note(name, outcome.as_ref().err().cloned());
        let ending = self.ending.load(Ordering::Relaxed);
        match outcome {
            Ok(WalFetch::Restored) => Ok(WalFetch::Restored),
            _ if ending && self.timelines.is_taken(name) => {
                pretend(&self.pgdata, name, path).map(|()| WalFetch::Restored)
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_look_taken_only_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let timelines = Timelines { followed: 1, highest: 3 };
        let wal = FollowingWal::new(dir.path().to_owned(), Vec::new(), timelines);
        assert_eq!(wal.restore("00000002.history", "H").await, Ok(WalFetch::NotThere));
        assert!(!dir.path().join("H").exists(), "it would be taken for a timeline of the source");
        wal.end();
        assert_eq!(wal.restore("00000002.history", "H").await, Ok(WalFetch::Restored));
        assert_eq!(wal.restore("00000004.history", "H").await, Ok(WalFetch::NotThere));
        assert_eq!(wal.trouble(), None);
    }

    #[test]
    fn a_fine_history_does_not_hide_a_segment_that_cannot_be_read() {
        let wal = FollowingWal::new("/d".into(), Vec::new(), Timelines::default());
        wal.note("000000010000000000000007", Some("it is damaged".into()));
        wal.note("00000002.history", None);
        assert_eq!(wal.trouble().as_deref(), Some("it is damaged"));
        wal.note("000000010000000000000007", None);
        assert_eq!(wal.trouble(), None);
    }
}
