//! The archives of a cluster: each WAL file goes to all of them, side by side.
//!
//! PostgreSQL is told "archived" only when every repository has the file. One that fails does not hold up the others:
//! when PostgreSQL asks again, these have the file already and say so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use howdah_api::instance::ArchiverStatus;
use howdah_engine::{Archiver, ArchiverStats};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::wal_client::GENERAL;

/// One repository's archiver.
pub struct Archive {
    /// Name of the repository.
    pub name: String,
    /// The service, or why there is none.
    pub archiver: Result<Arc<Archiver>, String>,
}

/// All archives of the cluster, the first one first.
#[derive(Default)]
pub struct Archives(Vec<Archive>);

/// Why a file is not archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Exit code of the command.
    pub code: u8,
    /// What was wrong, and the remedy.
    pub error: String,
}

impl Archives {
    /// These.
    #[must_use]
    pub fn new(archives: Vec<Archive>) -> Arc<Self> {
        Arc::new(Self(archives))
    }

    /// Whether there is no repository.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Archives a file in all repositories.
    ///
    /// # Errors
    /// When one of them does not have it; the words name each that failed, when there are several.
    pub async fn archive(&self, path: &Path) -> Result<(), Refusal> {
        let all = self.0.iter().map(|archive| async {
            let refused = match &archive.archiver {
                Err(why) => Some((GENERAL, why.clone())),
                Ok(archiver) => {
                    archiver.archive(path).await.err().map(|error| (error.exit_code(), error.report()))
                }
            };
            refused.map(|(code, error)| (archive.name.as_str(), code, error))
        });
        let refusals: Vec<_> = join_all(all).await.into_iter().flatten().collect();
        let Some((_, code, _)) = refusals.first() else { return Ok(()) };
        let words: Vec<String> =
            refusals.iter().map(|(name, _, error)| of(name, error, self.0.len())).collect();
        Err(Refusal { code: *code, error: words.join("; ") })
    }

    /// Counters of each repository, added to those of services that were replaced.
    #[must_use]
    pub fn stats(&self, before: &BTreeMap<String, ArchiverStats>) -> Vec<(String, ArchiverStats)> {
        let none = ArchiverStats::default();
        self.0
            .iter()
            .map(|archive| {
                let before = before.get(&archive.name).unwrap_or(&none);
                let stats = match &archive.archiver {
                    Ok(archiver) => add(before, archiver.stats()),
                    Err(why) => ArchiverStats { last_error: Some(why.clone()), ..before.clone() },
                };
                (archive.name.clone(), stats)
            })
            .collect()
    }
}

/// An error of one of `count` repositories: which one it was is worth a word only when there are several.
fn of(name: &str, error: &str, count: usize) -> String {
    match count {
        1 => error.to_owned(),
        _ => format!("repository {name}: {error}"),
    }
}

/// Counters of two services, the later one's words.
fn add(before: &ArchiverStats, now: ArchiverStats) -> ArchiverStats {
    ArchiverStats {
        archived_count: before.archived_count + now.archived_count,
        failed_count: before.failed_count + now.failed_count,
        last_archived: now.last_archived.or_else(|| before.last_archived.clone()),
        last_failed: now.last_failed.or_else(|| before.last_failed.clone()),
        last_error: now.last_error,
        waiting: now.waiting,
    }
}

/// The archiver as a whole: as far as the repository that is behind, and failing when one fails.
#[must_use]
pub fn together(all: &[(String, ArchiverStats)]) -> Option<ArchiverStatus> {
    let behind = all.iter().map(|(_, stats)| stats).min_by_key(|stats| stats.archived_count)?;
    let failing = all.iter().find_map(|(name, stats)| Some((name, stats, stats.last_error.as_ref()?)));
    let mut whole = behind.clone();
    whole.failed_count = all.iter().map(|(_, stats)| stats.failed_count).max().unwrap_or_default();
    if let Some((name, stats, error)) = failing {
        whole.last_failed.clone_from(&stats.last_failed);
        whole.last_error = Some(of(name, error, all.len()));
    }
    Some(status(&whole))
}

/// Counters in the words of the status.
#[must_use]
pub fn status(stats: &ArchiverStats) -> ArchiverStatus {
    let split = |pair: &Option<(String, chrono::DateTime<chrono::Utc>)>| match pair {
        Some((wal, at)) => (Some(wal.clone()), Some(crate::time::kube(*at))),
        None => (None, None::<Time>),
    };
    let (last_archived_wal, last_archived_time) = split(&stats.last_archived);
    let (last_failed_wal, last_failed_time) = split(&stats.last_failed);
    ArchiverStatus {
        working: stats.last_error.is_none(),
        confirmed: stats.archived_count > 0,
        archived_count: stats.archived_count,
        failed_count: stats.failed_count,
        last_archived_wal,
        last_archived_time,
        last_failed_wal,
        last_failed_time,
        last_error: stats.last_error.clone(),
        waiting: stats.waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, why: &str) -> Archive {
        Archive { name: name.into(), archiver: Err(why.into()) }
    }

    fn stats(archived: u64, error: Option<&str>) -> ArchiverStats {
        ArchiverStats {
            archived_count: archived,
            last_error: error.map(str::to_owned),
            ..ArchiverStats::default()
        }
    }

    #[tokio::test]
    async fn every_repository_that_fails_is_named_when_there_are_several() {
        let wal = Path::new("pg_wal/000000010000000000000001");
        let one = Archives::new(vec![archive("default", "no key")]);
        assert_eq!(one.archive(wal).await.unwrap_err().error, "no key");
        let two = Archives::new(vec![archive("repo1", "no key"), archive("repo2", "no bucket")]);
        let refusal = two.archive(wal).await.unwrap_err();
        assert_eq!(refusal.error, "repository repo1: no key; repository repo2: no bucket");
        assert_eq!(Archives::default().archive(wal).await, Ok(()));
    }

    #[test]
    fn counters_survive_a_change_of_credentials() {
        let sum = add(&stats(3, Some("x")), stats(2, None));
        assert_eq!((sum.archived_count, sum.last_error), (5, None));
    }

    #[test]
    fn the_whole_is_as_far_as_the_repository_that_is_behind() {
        let all = [("repo1".to_owned(), stats(9, None)), ("repo2".to_owned(), stats(4, Some("away")))];
        let whole = together(&all).unwrap();
        assert_eq!((whole.archived_count, whole.working), (4, false));
        assert_eq!(whole.last_error.as_deref(), Some("repository repo2: away"));
        assert_eq!(together(&[]), None);
    }
}
