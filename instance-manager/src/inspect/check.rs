//! `check`: whether the repositories can be reached and written, belong to this cluster, and get its WAL.

use std::sync::Arc;
use std::time::Duration;

use barman_cloud::{Lsn, Repository, Segment};
use chrono::{DateTime, TimeDelta, Utc};
use howdah_api::instance::WalSwitch;
use howdah_engine::backup::{NeededWal, wait_for_wal};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::repositories::NamedRepository;
use crate::run::served::Served;

/// How long a segment may take to arrive when nobody says otherwise, in seconds.
const PATIENCE: u64 = 60;
/// Longest time that can be asked for, in seconds.
const MOST: u64 = 3600;
/// Clocks that differ by more are told; S3 refuses requests at 15 minutes.
const SKEW: TimeDelta = TimeDelta::seconds(30);

/// Outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Works, but should be looked at.
    Warning,
    /// Does not work.
    Failed,
    /// Not tried, because something before failed or there is nothing to try with.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked: `reach`, `write`, `clock`, `lineage` or `archive`.
    pub name: String,
    /// Outcome.
    pub outcome: Outcome,
    /// What was seen; of a failure also the remedy.
    pub detail: String,
}

impl Check {
    fn new(name: &str, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), outcome, detail: detail.into() }
    }
}

/// All checks of one repository, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryCheck {
    /// Name.
    pub repository: String,
    /// Destination and server, as a URL.
    pub location: String,
    /// Checks.
    pub checks: Vec<Check>,
}

/// The outcome for all repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Whether nothing failed.
    pub ok: bool,
    /// By repository.
    pub repositories: Vec<RepositoryCheck>,
}

/// Checks all repositories; WAL is switched once, and must reach each.
pub async fn run(
    served: &Arc<impl Served>,
    repositories: &[NamedRepository],
    timeout: Option<u64>,
) -> CheckReport {
    let patience = Duration::from_secs(timeout.unwrap_or(PATIENCE).clamp(1, MOST));
    let system = served.system().map(|system| system.system_id);
    let looks = repositories.iter().map(|named| look(named, system.as_deref()));
    let mut found: Vec<RepositoryCheck> = futures::future::join_all(looks).await;
    let reached = |check: &RepositoryCheck| check.checks.iter().all(|c| c.outcome != Outcome::Failed);
    if found.iter().any(reached) {
        let switched = match served.primary("") {
            Some(_) => Some(served.switch_wal().await.map_err(|error| error.report())),
            None => None,
        };
        let waits = repositories.iter().zip(&found).map(|(named, check)| {
            let (switched, tried) = (&switched, reached(check));
            async move {
                match (&named.opened, tried) {
                    (Ok(_), true) if !named.archive_wal => {
                        Check::new("archive", Outcome::Skipped, "archiveWAL is false for this repository")
                    }
                    (Ok(repository), true) => {
                        archive(served, (&named.name, repository), switched, patience).await
                    }
                    _ => Check::new("archive", Outcome::Skipped, "see above"),
                }
            }
        });
        let archives = futures::future::join_all(waits).await;
        for (check, archive) in found.iter_mut().zip(archives) {
            check.checks.push(archive);
        }
    }
    let failed = |check: &RepositoryCheck| check.checks.iter().any(|c| c.outcome == Outcome::Failed);
    CheckReport { ok: !found.iter().any(failed), repositories: found }
}

async fn look(named: &NamedRepository, system: Option<&str>) -> RepositoryCheck {
    let checks = match &named.opened {
        Ok(repository) => checks(repository, system).await,
        Err(error) => vec![Check::new("reach", Outcome::Failed, error)],
    };
    RepositoryCheck { repository: named.name.clone(), location: named.location.clone(), checks }
}

async fn checks(repository: &Repository, system: Option<&str>) -> Vec<Check> {
    let mut checks = Vec::new();
    match repository.store().list_dir(&repository.layout().base_dir()).await {
        Ok(listing) => {
            let text = format!("listed; {} directories of backups", listing.dirs.len());
            checks.push(Check::new("reach", Outcome::Passed, text));
        }
        Err(error) => {
            checks.push(Check::new("reach", Outcome::Failed, error.report()));
            return checks;
        }
    }
    match write(repository).await {
        Ok((stored, around)) => {
            checks.push(Check::new("write", Outcome::Passed, "an object was written, read and deleted"));
            checks.push(clock(stored, around));
        }
        Err(error) => {
            checks.push(Check::new("write", Outcome::Failed, error.report()));
            checks.push(Check::new("clock", Outcome::Skipped, "nothing could be written"));
        }
    }
    checks.push(lineage(repository, system).await);
    checks
}

/// Writes, reads and deletes an object. Returns when the store says it took it, and the local times around.
async fn write(
    repository: &Repository,
) -> barman_cloud::Result<(DateTime<Utc>, (DateTime<Utc>, DateTime<Utc>))> {
    const BODY: &str = "written by a check of this repository\n";
    let store = repository.store();
    let key = repository.layout().check(&uuid::Uuid::new_v4().to_string());
    let before = Utc::now();
    store.put(&key, BODY.into()).await?;
    let after = Utc::now();
    let look = async {
        let body = store.get(&key, 1024).await?;
        if body != BODY.as_bytes() {
            return Err(barman_cloud::Error::corrupt("the store gave back something else than was written")
                .with_key(store.url_of(&key))
                .with_remedy(
                    "check what is between here and the store: a proxy, a cache, a transformation",
                ));
        }
        Ok(store.head(&key).await?.last_modified)
    };
    let seen = look.await;
    let deleted = store.delete(&key).await;
    let stored = seen?;
    deleted?;
    Ok((stored, (before, after)))
}

/// Compares clocks: pure. The store's time has a resolution of a second.
fn clock(stored: DateTime<Utc>, (before, after): (DateTime<Utc>, DateTime<Utc>)) -> Check {
    let skew = if stored < before - TimeDelta::seconds(1) {
        stored - before
    } else if stored > after + TimeDelta::seconds(1) {
        stored - after
    } else {
        TimeDelta::zero()
    };
    let seconds = skew.num_seconds();
    let text = match seconds {
        0 => "the store's clock agrees with this pod's".to_owned(),
        1.. => format!("the store's clock is {seconds} s ahead of this pod's"),
        _ => format!("the store's clock is {} s behind this pod's", -seconds),
    };
    if skew.abs() <= SKEW {
        return Check::new("clock", Outcome::Passed, text);
    }
    let remedy = "set the clocks of node and store (NTP): times of recovery targets are compared with both, and \
                  requests are refused when they differ by 15 minutes";
    Check::new("clock", Outcome::Warning, format!("{text}; remedy: {remedy}"))
}

async fn lineage(repository: &Repository, system: Option<&str>) -> Check {
    let name = "lineage";
    let found = match repository.lineage().await {
        Ok(found) => found,
        Err(error) => return Check::new(name, Outcome::Failed, error.report()),
    };
    match (found.map(|lineage| lineage.system_identifier), system) {
        (None, _) => Check::new(name, Outcome::Passed, "nobody's yet: the first WAL file claims it"),
        (Some(owner), None) => Check::new(
            name,
            Outcome::Skipped,
            format!("it is of the system {owner}; there is no database here"),
        ),
        (Some(owner), Some(own)) if owner == own => {
            Check::new(name, Outcome::Passed, format!("it is of this system, {own}"))
        }
        (Some(owner), Some(own)) => {
            let text = format!(
                "it is of the system {owner}, this one is {own}; remedy: give this cluster a place of its own"
            );
            Check::new(name, Outcome::Failed, text)
        }
    }
}

/// Waits until the segment that was closed is in the repository.
async fn archive(
    served: &Arc<impl Served>,
    (repository_name, repository): (&str, &Repository),
    switched: &Option<Result<WalSwitch, String>>,
    patience: Duration,
) -> Check {
    let name = "archive";
    let switch = match switched {
        Some(Ok(switch)) => switch,
        Some(Err(error)) => {
            return Check::new(name, Outcome::Failed, format!("no WAL segment could be closed: {error}"));
        }
        None => return Check::new(name, Outcome::Skipped, "there is no PostgreSQL here"),
    };
    let size = served.segment_size();
    let needed = switch.closed_wal.parse::<Segment>().and_then(|end| {
        let end_lsn: Lsn = switch.lsn.parse()?;
        Ok(NeededWal { begin: end, end, end_lsn, size, closed: true })
    });
    let (needed, primary) = match (needed, served.primary(repository_name)) {
        (Ok(needed), Some(primary)) => (needed, primary),
        (Err(error), _) => return Check::new(name, Outcome::Failed, error.report()),
        (_, None) => return Check::new(name, Outcome::Skipped, "there is no PostgreSQL here"),
    };
    let begun = std::time::Instant::now();
    let (limit, cancel) = (Some(patience), CancellationToken::new());
    match wait_for_wal(&[repository], needed, primary.as_ref(), limit, &cancel).await {
        Ok(()) => {
            let took = begun.elapsed().as_secs_f64();
            Check::new(name, Outcome::Passed, format!("segment {} arrived within {took:.1} s", needed.end))
        }
        Err(error) => Check::new(name, Outcome::Failed, error.report()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::{Destination, Store};
    use rstest::rstest;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_000_000 + seconds)
    }

    #[rstest]
    #[case(0, Outcome::Passed, "agrees")]
    #[case(-1, Outcome::Passed, "agrees")]
    #[case(12, Outcome::Passed, "10 s ahead")]
    #[case(-20, Outcome::Passed, "20 s behind")]
    #[case(902, Outcome::Warning, "900 s ahead")]
    #[case(-60, Outcome::Warning, "NTP")]
    fn clocks(#[case] stored: i64, #[case] outcome: Outcome, #[case] text: &str) {
        let check = clock(at(stored), (at(0), at(2)));
        assert_eq!(check.outcome, outcome, "{check:?}");
        assert!(check.detail.contains(text), "{check:?}");
    }

    fn repository() -> Repository {
        let store = Store::memory(&Destination::parse("s3://b/p").unwrap());
        Repository::new(store, "pg").unwrap()
    }

    #[tokio::test]
    async fn whose_archive_it_is() {
        let repository = repository();
        assert_eq!(lineage(&repository, Some("7")).await.outcome, Outcome::Passed);
        repository.claim("7", None, at(0)).await.unwrap();
        assert_eq!(lineage(&repository, Some("7")).await.outcome, Outcome::Passed);
        assert_eq!(lineage(&repository, None).await.outcome, Outcome::Skipped);
        let foreign = lineage(&repository, Some("8")).await;
        assert_eq!(foreign.outcome, Outcome::Failed);
        assert!(foreign.detail.contains("place of its own"), "{foreign:?}");
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_check() {
        let repository = repository();
        let all = checks(&repository, None).await;
        assert!(all.iter().all(|check| check.outcome == Outcome::Passed), "{all:?}");
        assert!(repository.store().list("pg").await.unwrap().is_empty());
    }
}
