//! The WAL services behind the socket: which archive a request goes to, and whether it may.
//!
//! Services are made anew when the store's settings or credentials change; until these are known, archiving is
//! answered with an error, so that PostgreSQL keeps the file and asks again.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use howdah_api::instance::{ArchiverStatus, SocketAnswer};
use howdah_api::object_store::BarmanObjectStore;
use howdah_engine::{Archiver, ArchiverConfig, ArchiverStats, Restorer, RestorerConfig, WalFetch};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::timeout;

use crate::environment::Paths;
use crate::kube::secrets::SecretValues;
use crate::objstore::{Purpose, repository, wal_compression, wal_compression_level, wal_parallel};
use crate::wal_client::{GENERAL, OPERATION, STOP_RECOVERY};

/// How long a replica waits for its archive before it turns to its primary again. In a replica "not there" only
/// means "try streaming", so a store that is away must not hold it up.
const STANDBY_PATIENCE: Duration = Duration::from_secs(20);

/// The services. One writer (the supervisor), many readers (requests).
pub struct WalService {
    paths: Paths,
    cluster: String,
    state: RwLock<State>,
}

struct State {
    archive: Archive,
    restore: Restore,
    /// Settings from which the services were made.
    made_from: Option<(Option<BarmanObjectStore>, SecretValues)>,
    /// Counters of services that were replaced.
    before: ArchiverStats,
}

enum Archive {
    /// Not known whether there is a store.
    Unknown(String),
    /// No store is configured.
    Off,
    /// A store that cannot be used, and why.
    Broken(String),
    On(Arc<Archiver>),
}

enum Restore {
    None,
    /// For a replica: its own archive.
    Standby(Arc<Restorer>),
    /// For a recovery: the source.
    Recovery(Arc<Restorer>),
}

impl WalService {
    /// Services that do not know their store yet.
    #[must_use]
    pub fn new(paths: Paths, cluster: String) -> Self {
        Self {
            paths,
            cluster,
            state: RwLock::new(State {
                archive: Archive::Unknown("the instance manager is starting".to_owned()),
                restore: Restore::None,
                made_from: None,
                before: ArchiverStats::default(),
            }),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the Cluster's store; nothing happens unless it or its Secrets changed. Returns whether they did.
    pub fn configure(&self, store: Option<&BarmanObjectStore>, secrets: &SecretValues) -> bool {
        let mut used = SecretValues::default();
        for name in store.iter().flat_map(|s| s.secret_names()) {
            used.copy(name, secrets);
        }
        let key = (store.cloned(), used);
        let mut state = self.write();
        if state.made_from.as_ref() == Some(&key) {
            return false;
        }
        if let Archive::On(old) = &state.archive {
            state.before = add(&state.before, old.stats());
        }
        let standby = matches!(state.restore, Restore::Standby(_));
        state.archive = match store {
            None => Archive::Off,
            Some(store) => match self.archiver(store, secrets) {
                Ok(archiver) => Archive::On(Arc::new(archiver)),
                Err(error) => {
                    tracing::error!("WAL cannot be archived: {}", error.report());
                    Archive::Broken(error.report())
                }
            },
        };
        if standby {
            state.restore = self.standby_source(store, secrets);
        }
        state.made_from = Some(key);
        true
    }

    fn archiver(&self, store: &BarmanObjectStore, secrets: &SecretValues) -> crate::error::Result<Archiver> {
        Ok(Archiver::new(ArchiverConfig {
            pgdata: self.paths.pgdata.clone(),
            repository: repository(store, &self.cluster, secrets, Purpose::Wal)?,
            compression: wal_compression(store),
            compression_level: wal_compression_level(store),
            max_parallel: wal_parallel(store),
            claimed_by: Some(self.cluster.clone()),
        }))
    }

    fn restorer(
        &self,
        store: &BarmanObjectStore,
        server: &str,
        secrets: &SecretValues,
        allow_partial: bool,
    ) -> crate::error::Result<Arc<Restorer>> {
        Ok(Arc::new(Restorer::new(RestorerConfig {
            repository: repository(store, server, secrets, Purpose::Wal)?,
            pgdata: self.paths.pgdata.clone(),
            spool: self.paths.spool(),
            max_parallel: wal_parallel(store),
            allow_partial,
        })))
    }

    fn standby_source(&self, store: Option<&BarmanObjectStore>, secrets: &SecretValues) -> Restore {
        match store.map(|s| self.restorer(s, &self.cluster, secrets, false)) {
            Some(Ok(restorer)) => Restore::Standby(restorer),
            Some(Err(error)) => {
                tracing::warn!("WAL cannot be fetched from the archive: {}", error.report());
                Restore::None
            }
            None => Restore::None,
        }
    }

    /// Serves a replica from the cluster's own archive.
    pub fn serve_standby(&self, store: Option<&BarmanObjectStore>, secrets: &SecretValues) {
        self.write().restore = self.standby_source(store, secrets);
    }

    /// Serves a recovery from `store`.
    ///
    /// # Errors
    /// When its Secrets or settings cannot be used.
    pub fn serve_recovery(
        &self,
        store: &BarmanObjectStore,
        server: &str,
        secrets: &SecretValues,
    ) -> crate::error::Result<()> {
        let restorer = self.restorer(store, server, secrets, true)?;
        self.write().restore = Restore::Recovery(restorer);
        Ok(())
    }

    /// Serves no more restores: this is the primary.
    pub async fn stop_serving(&self) {
        let old = std::mem::replace(&mut self.write().restore, Restore::None);
        if let Restore::Standby(restorer) | Restore::Recovery(restorer) = old
            && let Err(error) = restorer.shutdown().await
        {
            tracing::warn!("the spool of fetched WAL could not be removed: {}", error.report());
        }
    }

    /// Answers `archive`.
    pub async fn archive(&self, path: &str, replica: bool) -> SocketAnswer {
        if replica {
            return refuse(OPERATION, "this instance is a replica; only the primary archives".to_owned());
        }
        let archiver = match &self.read().archive {
            Archive::Off => return done(),
            Archive::Unknown(why) => return refuse(GENERAL, format!("{why}; PostgreSQL will ask again")),
            Archive::Broken(why) => return refuse(GENERAL, why.clone()),
            Archive::On(archiver) => archiver.clone(),
        };
        match archiver.archive(Path::new(path)).await {
            Ok(()) => done(),
            Err(error) => refuse(error.exit_code(), error.report()),
        }
    }

    /// Answers `restore`.
    pub async fn restore(&self, name: &str, path: &str) -> SocketAnswer {
        let (restorer, standby) = match &self.read().restore {
            Restore::None => return refuse(1, format!("{name}: no archive is configured")),
            Restore::Standby(restorer) => (restorer.clone(), true),
            Restore::Recovery(restorer) => (restorer.clone(), false),
        };
        let fetch = restorer.restore(name, Path::new(path));
        let outcome = if standby {
            match timeout(STANDBY_PATIENCE, fetch).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    return refuse(1, format!("{name}: the archive does not answer; streaming is tried"));
                }
            }
        } else {
            fetch.await
        };
        match outcome {
            Ok(WalFetch::Restored) => done(),
            Ok(WalFetch::NotThere) => refuse(1, format!("{name} is not in the archive")),
            // A replica asks again; a recovery must not take an unknown answer for the end of the archive.
            Err(error) if standby => refuse(1, error.report()),
            Err(error) => refuse(STOP_RECOVERY, error.report()),
        }
    }

    /// Counters for status and metrics; `None` when no store is configured.
    #[must_use]
    pub fn status(&self) -> Option<ArchiverStatus> {
        let state = self.read();
        match &state.archive {
            Archive::Off => None,
            Archive::Unknown(_) => {
                Some(ArchiverStatus { working: state.before.last_error.is_none(), ..status(&state.before) })
            }
            Archive::Broken(why) => Some(ArchiverStatus {
                working: false,
                last_error: Some(why.clone()),
                ..status(&state.before)
            }),
            Archive::On(archiver) => Some(status(&add(&state.before, archiver.stats()))),
        }
    }
}

fn done() -> SocketAnswer {
    SocketAnswer { ok: true, ..SocketAnswer::default() }
}

fn refuse(code: u8, error: String) -> SocketAnswer {
    SocketAnswer { ok: false, code: Some(code), error: Some(error) }
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

fn status(stats: &ArchiverStats) -> ArchiverStatus {
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

    fn service() -> WalService {
        let paths = Paths { controller: "/c".into(), pgdata: "/d".into(), wal_mount: "/w".into() };
        WalService::new(paths, "pg".into())
    }

    #[tokio::test]
    async fn until_the_store_is_known_nothing_is_called_archived() {
        let wal = service();
        let answer = wal.archive("pg_wal/000000010000000000000001", false).await;
        assert!(!answer.ok && answer.error.unwrap().contains("will ask again"));
        wal.configure(None, &SecretValues::default());
        assert!(wal.archive("pg_wal/000000010000000000000001", false).await.ok);
        assert_eq!(wal.status(), None);
    }

    #[tokio::test]
    async fn a_replica_does_not_archive_and_a_pod_without_source_restores_nothing() {
        let wal = service();
        wal.configure(None, &SecretValues::default());
        let answer = wal.archive("pg_wal/000000010000000000000001", true).await;
        assert_eq!((answer.ok, answer.code), (false, Some(1)));
        assert_eq!(wal.restore("00000002.history", "pg_wal/RECOVERYHISTORY").await.code, Some(1));
    }

    #[tokio::test]
    async fn a_store_without_its_secret_says_which_one() {
        use howdah_api::common::SecretKeySelector;
        use howdah_api::object_store::S3Credentials;
        let selector = |key: &str| Some(SecretKeySelector { name: "aws-creds".into(), key: key.into() });
        let store = BarmanObjectStore {
            destination_path: "s3://bucket/".into(),
            s3_credentials: Some(S3Credentials {
                access_key_id: selector("ID"),
                secret_access_key: selector("KEY"),
                ..S3Credentials::default()
            }),
            ..BarmanObjectStore::default()
        };
        let wal = service();
        wal.configure(Some(&store), &SecretValues::default());
        let answer = wal.archive("pg_wal/000000010000000000000001", false).await;
        assert!(answer.error.unwrap().contains("Secret aws-creds does not exist"));
        let status = wal.status().unwrap();
        assert!(!status.working && status.last_error.unwrap().contains("aws-creds"));
    }

    #[test]
    fn counters_survive_a_change_of_credentials() {
        let old =
            ArchiverStats { archived_count: 3, last_error: Some("x".into()), ..ArchiverStats::default() };
        let sum = add(&old, ArchiverStats { archived_count: 2, ..ArchiverStats::default() });
        assert_eq!((sum.archived_count, sum.last_error), (5, None));
    }
}
