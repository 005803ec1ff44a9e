//! The archives of a cluster: each WAL file goes to all of them, side by side.
//!
//! When PostgreSQL is told "archived" the policy says: when every repository has the file, or a number of them. One that
//! fails does not hold up the others: when PostgreSQL asks again, these have the file already and say so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use howdah_api::cluster_status::RepositoryLag;
use howdah_api::instance::ArchiverStatus;
use howdah_engine::{Archiver, ArchiverStats, Group, Lag, Member, Policy, Refusal, Refused};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::environment::Paths;

/// One repository's archiver.
pub struct Archive {
    /// Name of the repository.
    pub name: String,
    /// The service, or why there is none.
    pub archiver: Result<Archiver, String>,
}

/// All archives of the cluster, the first one first.
pub struct Archives(Group);

impl Archives {
    /// These.
    #[must_use]
    pub fn new(archives: Vec<Archive>, policy: Policy, paths: &Paths) -> Arc<Self> {
        let members =
            archives.into_iter().map(|archive| Member::new(archive.name, archive.archiver)).collect();
        Arc::new(Self(Group::new(members, policy, &paths.pgdata, &paths.catch_up())))
    }

    /// Whether there is no repository.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.members().is_empty()
    }

    /// The group behind.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.0
    }

    /// Archives a file, in as many repositories as the policy asks for at least.
    ///
    /// # Errors
    /// When too few have it; the words name each that failed, when there are several.
    pub async fn archive(&self, path: &Path) -> Result<(), Refusal> {
        self.told(self.0.archive(path).await)
    }

    /// Archives this file in every repository, and nothing that waits behind it.
    ///
    /// # Errors
    /// When one does not have it.
    pub async fn archive_alone(&self, path: &Path) -> Result<(), Refusal> {
        self.told(self.0.archive_alone(path).await)
    }

    fn told(&self, outcome: Result<(), Refused>) -> Result<(), Refusal> {
        let Err(refused) = outcome else { return Ok(()) };
        let code = refused.first().map_or(crate::wal_client::GENERAL, |(_, refusal)| refusal.code);
        let count = self.0.members().len();
        let words: Vec<String> =
            refused.iter().map(|(name, refusal)| of(name, &refusal.error, count)).collect();
        Err(Refusal { code, error: words.join("; ") })
    }

    /// Counters of each repository, added to those of services that were replaced.
    #[must_use]
    pub fn stats(&self, before: &BTreeMap<String, ArchiverStats>) -> Vec<(String, ArchiverStats)> {
        let none = ArchiverStats::default();
        self.0
            .members()
            .iter()
            .map(|member| {
                let before = before.get(&member.name).unwrap_or(&none);
                let stats = match &member.archiver {
                    Ok(archiver) => add(before, archiver.stats()),
                    Err(why) => ArchiverStats { last_error: Some(why.clone()), ..before.clone() },
                };
                (member.name.clone(), stats)
            })
            .collect()
    }

    /// What a repository lacks; `None` when it has everything.
    #[must_use]
    pub fn lag(&self, name: &str) -> Option<RepositoryLag> {
        self.0.lag(name).filter(|lag| lag.late || lag.files > 0).map(|lag| words(&lag))
    }
}

/// A lag in the words of the status.
fn words(lag: &Lag) -> RepositoryLag {
    RepositoryLag {
        late: lag.late,
        files: lag.files,
        bytes: lag.bytes,
        oldest_wal: lag.oldest.clone(),
        since: lag.since.map(crate::time::kube),
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

/// The archiver as a whole, when `needed` repositories must have a file: as far as the last of those that decide, and
/// failing when too few work.
#[must_use]
pub fn together(all: &[(String, ArchiverStats)], needed: usize) -> Option<ArchiverStatus> {
    let mut sorted: Vec<&ArchiverStats> = all.iter().map(|(_, stats)| stats).collect();
    sorted.sort_by_key(|stats| std::cmp::Reverse(stats.archived_count));
    let mut whole = (*sorted.get(needed.clamp(1, all.len().max(1)) - 1)?).clone();
    whole.failed_count = all.iter().map(|(_, stats)| stats.failed_count).max().unwrap_or_default();
    (whole.last_failed, whole.last_error) = (None, None);
    let failing = |(_, stats): &&(String, ArchiverStats)| stats.last_error.is_some();
    let working = all.len() - all.iter().filter(failing).count();
    if let Some((name, stats)) = all.iter().find(failing).filter(|_| working < needed) {
        whole.last_failed.clone_from(&stats.last_failed);
        whole.last_error = stats.last_error.as_ref().map(|error| of(name, error, all.len()));
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
        let paths = Paths { controller: "/c".into(), pgdata: "/d".into(), wal_mount: "/w".into() };
        let one = Archives::new(vec![archive("default", "no key")], Policy::All, &paths);
        assert_eq!(one.archive(wal).await.unwrap_err().error, "no key");
        for policy in [Policy::All, Policy::Number(1)] {
            let two = vec![archive("repo1", "no key"), archive("repo2", "no bucket")];
            let refusal = Archives::new(two, policy, &paths).archive(wal).await.unwrap_err();
            assert_eq!(refusal.error, "repository repo1: no key; repository repo2: no bucket");
        }
        assert_eq!(Archives::new(Vec::new(), Policy::All, &paths).archive(wal).await, Ok(()));
    }

    #[test]
    fn counters_survive_a_change_of_credentials() {
        let sum = add(&stats(3, Some("x")), stats(2, None));
        assert_eq!((sum.archived_count, sum.last_error), (5, None));
    }

    #[test]
    fn the_whole_is_as_far_as_the_repository_that_is_behind() {
        let all = [("repo1".to_owned(), stats(9, None)), ("repo2".to_owned(), stats(4, Some("away")))];
        let whole = together(&all, 2).unwrap();
        assert_eq!((whole.archived_count, whole.working), (4, false));
        assert_eq!(whole.last_error.as_deref(), Some("repository repo2: away"));
        assert_eq!(together(&[], 0), None);
    }

    #[test]
    fn one_that_is_away_does_not_fail_the_whole_when_one_is_enough() {
        let all = [("repo1".to_owned(), stats(4, Some("away"))), ("repo2".to_owned(), stats(9, None))];
        let whole = together(&all, 1).unwrap();
        assert_eq!((whole.archived_count, whole.working, whole.last_error), (9, true, None));
        assert!(!together(&all, 2).unwrap().working);
    }
}
