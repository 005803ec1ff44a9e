//! WAL for a recovery: from the place that holds the backup, and what that one lacks from the others.
//!
//! The first place decides where the archive ends. Another one is asked only for a file that the first does not have
//! or has damaged, and not for ever: at the end of every recovery PostgreSQL asks for a file that is nowhere, and a place
//! that is lost for good must not hold up the promotion.
//!
//! PostgreSQL chooses its new timeline by asking for history files until one is not there. It is told of every number up to
//! the highest that is in use in any archive, so that it takes one above: archives may lack history files, and the
//! archive that the new server will write to may hold the timelines of an earlier copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use barman_cloud::WalName;
use howdah_engine::{Restorer, WalFetch};
use tokio::time::timeout;

/// How long another place may take for a file that the first one does not have.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place that WAL comes from.
pub struct RecoverySource {
    /// Name of its repository.
    pub name: String,
    /// The service.
    pub restorer: Arc<Restorer>,
    /// Whether it is the place that holds the backup.
    pub holds_backup: bool,
}

/// Numbers of timelines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timelines {
    /// The one that is followed.
    pub followed: u32,
    /// The highest in use anywhere.
    pub highest: u32,
}

impl Timelines {
    /// Whether PostgreSQL asks for this file only to find a number that is free, and this one is not.
    pub(super) fn is_taken(self, name: &str) -> bool {
        matches!(name.parse(), Ok(WalName::History(timeline)) if timeline > self.followed && timeline <= self.highest)
    }
}

/// The service of one recovery.
pub struct RecoveryWal {
    pgdata: PathBuf,
    sources: Vec<RecoverySource>,
    timelines: Timelines,
}

impl RecoveryWal {
    /// From these places, in this order.
    #[must_use]
    pub fn new(pgdata: PathBuf, sources: Vec<RecoverySource>, timelines: Timelines) -> Self {
        Self { pgdata, sources, timelines }
    }

    /// All services, for their end.
    #[must_use]
    pub fn restorers(&self) -> Vec<Arc<Restorer>> {
        self.sources.iter().map(|source| source.restorer.clone()).collect()
    }

    /// Fetches a file; `path` is relative to the data directory.
    ///
    /// # Errors
    /// In words: when the place that holds the backup has the file and it cannot be used, and no other has it.
    pub async fn restore(&self, name: &str, path: &str) -> Result<WalFetch, String> {
        if self.timelines.is_taken(name) {
            return pretend(&self.pgdata, name, path).map(|()| WalFetch::Restored);
        }
        let mut damaged = None;
        for source in &self.sources {
            let fetch = source.restorer.restore(name, Path::new(path));
            let outcome = match source.holds_backup {
                true => fetch.await,
                false => match timeout(PATIENCE, fetch).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        tracing::warn!(
                            repository = source.name,
                            name,
                            "it does not answer, and is not waited for"
                        );
                        continue;
                    }
                },
            };
            match outcome {
                Ok(WalFetch::Restored) => {
                    if !source.holds_backup {
                        tracing::info!(repository = source.name, name, "fetched from another repository");
                    }
                    return Ok(WalFetch::Restored);
                }
                Ok(WalFetch::NotThere) => {}
                Err(error) if source.holds_backup => {
                    damaged.get_or_insert_with(|| error.report());
                }
                Err(error) => {
                    tracing::warn!(repository = source.name, name, "it cannot be used: {}", error.report());
                }
            }
        }
        damaged.map_or(Ok(WalFetch::NotThere), Err)
    }
}

/// A history file that holds nothing but a comment. PostgreSQL removes it when the recovery ends.
pub(super) fn pretend(pgdata: &Path, name: &str, path: &str) -> Result<(), String> {
    let dest = pgdata.join(path);
    std::fs::write(&dest, "# this timeline is in use in an archive\n")
        .map_err(|error| format!("{name}: cannot write {}: {error}", dest.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("00000002.history", false)]
    #[case("00000003.history", true)]
    #[case("00000005.history", true)]
    #[case("00000006.history", false)]
    #[case("000000030000000000000001", false)]
    #[case("nonsense", false)]
    fn numbers_that_are_taken(#[case] name: &str, #[case] taken: bool) {
        assert_eq!(Timelines { followed: 2, highest: 5 }.is_taken(name), taken);
    }

    #[tokio::test]
    async fn a_taken_number_looks_like_one_and_a_free_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let timelines = Timelines { followed: 1, highest: 3 };
        let recovery = RecoveryWal::new(dir.path().to_owned(), Vec::new(), timelines);
        assert_eq!(recovery.restore("00000003.history", "H").await, Ok(WalFetch::Restored));
        assert!(dir.path().join("H").exists());
        assert_eq!(recovery.restore("00000004.history", "H").await, Ok(WalFetch::NotThere));
    }
}
