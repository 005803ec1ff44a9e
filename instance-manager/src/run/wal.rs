//! The WAL services behind the socket: which archive a request goes to, and whether it may.
//!
//! Services are made anew when the store's settings or credentials change; until these are known, archiving is
//! answered with an error, so that PostgreSQL keeps the file and asks again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use barman_cloud::Segment;
use barman_cloud::dropped::Dropped;
use howdah_api::instance::{ArchiverStatus, RepositoryState, SocketAnswer};
use howdah_api::object_store::BarmanObjectStore;
use howdah_api::repository::NamedStore;
use howdah_engine::{
    Archiver, ArchiverConfig, ArchiverStats, Held, Policy, Restorer, RestorerConfig, WalFetch, wal,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::archives::{Archive, Archives, status, together};
use super::following_wal::FollowingWal;
use super::recovery_wal::{RecoverySource, RecoveryWal, Timelines};
use super::take_over::{News, take_over};
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::environment::Paths;
use crate::kube::secrets::SecretValues;
use crate::objstore::{Purpose, repository, wal_compression, wal_compression_level, wal_parallel};
use crate::wal_client::{GENERAL, OPERATION, STOP_RECOVERY};

/// How long a replica waits for its archive before it turns to its primary again. In a replica "not there" only
/// means "try streaming", so a store that is away must not hold it up.
const STANDBY_PATIENCE: Duration = Duration::from_secs(20);
/// How long marking files may hold up a promotion.
const HOLD_PATIENCE: Duration = Duration::from_secs(5);

/// The services. One writer (the supervisor), many readers (requests).
pub struct WalService {
    paths: Paths,
    cluster: String,
    /// Who claims archives.
    owner: String,
    state: RwLock<State>,
    /// WAL that waits until it is known whether the archives have it.
    held: Arc<tokio::sync::Mutex<Held>>,
    news: mpsc::UnboundedSender<News>,
    /// Until somebody takes it.
    heard: Mutex<Option<mpsc::UnboundedReceiver<News>>>,
}

struct State {
    /// `None` until it is known whether there are repositories.
    archives: Option<Arc<Archives>>,
    restore: Restore,
    /// Settings from which the services were made.
    made_from: Option<(Vec<NamedStore>, Policy, SecretValues)>,
    /// Whether this is the primary, which looks after repositories that are behind.
    leading: bool,
    /// Name and timeline under which this primary is known to the archives.
    primary: Option<(String, u32)>,
    /// Makes it known, and has sent what its predecessor did not.
    taking_over: JoinSet<()>,
    /// Counters of services that were replaced, by repository.
    before: BTreeMap<String, ArchiverStats>,
}

#[derive(Clone)]
enum Restore {
    None,
    /// For a replica: the cluster's own archives, asked one after the other.
    Standby(Vec<Arc<Restorer>>),
    /// For a recovery: its sources.
    Recovery(Arc<RecoveryWal>),
    /// For a recovery without end: its sources.
    Following(Arc<FollowingWal>),
}

/// What is said while it is not known where WAL goes.
const STARTING: &str = "the instance manager is starting";

impl WalService {
    /// Services that do not know their store yet. `namespace` and `cluster` together are the owner of archives.
    #[must_use]
    pub fn new(paths: Paths, namespace: &str, cluster: String) -> Self {
        let (news, heard) = mpsc::unbounded_channel();
        Self {
            held: Arc::default(),
            news,
            heard: Mutex::new(Some(heard)),
            paths,
            owner: format!("{namespace}/{cluster}"),
            cluster,
            state: RwLock::new(State {
                archives: None,
                restore: Restore::None,
                made_from: None,
                leading: false,
                primary: None,
                taking_over: JoinSet::new(),
                before: BTreeMap::new(),
            }),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the Cluster's repositories; nothing happens unless one of them or its Secrets changed. Returns whether
    /// they did.
    pub fn configure(&self, stores: &[NamedStore], policy: Policy, secrets: &SecretValues) -> bool {
        let used = secrets.only(stores.iter().flat_map(|s| s.store.secret_names()));
        let key = (stores.to_vec(), policy, used);
        let mut state = self.write();
        if state.made_from.as_ref() == Some(&key) {
            return false;
        }
        if let Some(old) = state.archives.take() {
            state.before = old.stats(&state.before).into_iter().collect();
        }
        let archive = |named: &NamedStore| {
            let archiver = self.archiver(&named.store, secrets).map_err(|error| error.report());
            if let Err(why) = &archiver {
                tracing::error!(repository = named.name, "WAL cannot be archived: {why}");
            }
            Archive { name: named.name.clone(), archiver }
        };
        let archives = stores.iter().filter(|named| named.archive_wal).map(archive).collect();
        let archives = Archives::new(archives, policy, &self.paths);
        if state.leading {
            archives.group().start();
        }
        state.archives = Some(archives);
        self.make_known(&mut state);
        if matches!(state.restore, Restore::Standby(_)) {
            state.restore = self.standby_sources(stores, secrets);
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
            claimed_by: Some(self.owner.clone()),
        }))
    }

    fn restorer(
        &self,
        store: &BarmanObjectStore,
        server: &str,
        secrets: &SecretValues,
    ) -> crate::error::Result<Arc<Restorer>> {
        self.restorer_in(self.paths.spool(), wal_parallel(store), store, server, secrets, false)
    }

    fn restorer_in(
        &self,
        spool: PathBuf,
        max_parallel: usize,
        store: &BarmanObjectStore,
        server: &str,
        secrets: &SecretValues,
        allow_partial: bool,
    ) -> crate::error::Result<Arc<Restorer>> {
        Ok(Arc::new(Restorer::new(RestorerConfig {
            repository: repository(store, server, secrets, Purpose::Wal)?,
            pgdata: self.paths.pgdata.clone(),
            spool,
            max_parallel,
            allow_partial,
        })))
    }

    fn standby_sources(&self, stores: &[NamedStore], secrets: &SecretValues) -> Restore {
        let source = |named: &NamedStore| match self.restorer(&named.store, &self.cluster, secrets) {
            Ok(restorer) => Some(restorer),
            Err(error) => {
                tracing::warn!(
                    repository = named.name,
                    "WAL cannot be fetched from the archive: {}",
                    error.report()
                );
                None
            }
        };
        let sources: Vec<_> = stores.iter().filter(|named| named.archive_wal).filter_map(source).collect();
        if sources.is_empty() { Restore::None } else { Restore::Standby(sources) }
    }

    /// Serves a replica from the cluster's own archives.
    pub fn serve_standby(&self, stores: &[NamedStore], secrets: &SecretValues) {
        let sources = self.standby_sources(stores, secrets);
        let mut state = self.write();
        state.restore = sources;
        lead(&mut state, false);
    }

    /// Serves a recovery from its places.
    ///
    /// # Errors
    /// When Secrets or settings of the place that holds the backup cannot be used.
    pub fn serve_recovery(&self, file: &RecoveryFile, secrets: &SecretValues) -> crate::error::Result<()> {
        // Where the end is not known, a part of a segment may be what its cluster left behind when it took another way.
        let several = !file.others.is_empty() && !file.following;
        let mut sources = Vec::new();
        // The last segment of a timeline may be there in part only, and complete in another place.
        let partials = match (several, file.following) {
            (_, true) => &[false][..],
            (true, false) => &[false, true][..],
            (false, false) => &[true][..],
        };
        for partial in partials {
            for (index, place) in file.places().enumerate() {
                let spool = self.paths.spool().join(format!("{index}{}", if *partial { "p" } else { "" }));
                let parallel = if *partial && several { 1 } else { wal_parallel(&place.store) };
                let restorer =
                    self.restorer_in(spool, parallel, &place.store, &place.server_name, secrets, *partial);
                match restorer {
                    Ok(restorer) => {
                        let name = place.repository.clone();
                        sources.push(RecoverySource { name, restorer, holds_backup: index == 0 });
                    }
                    Err(error) if index == 0 => return Err(error),
                    Err(error) => {
                        tracing::warn!("{} cannot help out: {}", place.describe(), error.report());
                    }
                }
            }
        }
        let timelines = Timelines { followed: file.followed, highest: file.highest_timeline };
        let pgdata = self.paths.pgdata.clone();
        let mut state = self.write();
        state.restore = match file.following {
            true => Restore::Following(Arc::new(FollowingWal::new(pgdata, sources, timelines))),
            false => Restore::Recovery(Arc::new(RecoveryWal::new(pgdata, sources, timelines))),
        };
        lead(&mut state, false);
        Ok(())
    }

    /// The other cluster's archive that is followed, when one is.
    #[must_use]
    pub fn following(&self) -> Option<Arc<FollowingWal>> {
        match &self.read().restore {
            Restore::Following(following) => Some(following.clone()),
            _ => None,
        }
    }

    /// Looks after repositories that are behind: this is the primary.
    pub fn lead(&self) {
        lead(&mut self.write(), true);
    }

    /// This replica is about to be promoted. WAL that its lost primary may not have archived is kept, which the first
    /// checkpoint after the promotion would remove; [`WalService::became_primary`] finds out what the archives have of it.
    /// Never fails, never takes long, and does no harm when there is no promotion after all.
    pub async fn about_to_promote(&self) {
        let pgdata = self.paths.pgdata.clone();
        let holding = tokio::task::spawn_blocking(move || wal::hold(&pgdata));
        match timeout(HOLD_PATIENCE, holding).await {
            Ok(Ok(Ok(held))) => {
                tracing::debug!(files = held.len(), "WAL is kept for the archive");
                self.held.lock().await.extend(held);
            }
            Ok(Ok(Err(error))) => tracing::warn!("WAL is not kept for the archive: {}", error.report()),
            Ok(Err(error)) => tracing::warn!(%error, "WAL is not kept for the archive"),
            Err(_) => tracing::warn!("marking WAL for the archive takes too long; the promotion goes on"),
        }
    }

    /// This is the primary now, by promotion or from its start: all archives hear of its timeline, so that they refuse
    /// former primaries, and get what these had not archived. `me` is `<pod>/<uid of the pod>`, or the pod alone. Goes on
    /// in the background and never fails; what a person should know comes as [`WalService::news`].
    pub async fn became_primary(&self, me: &str, timeline: u32) {
        let mut state = self.write();
        state.primary = Some((me.to_owned(), timeline));
        lead(&mut state, true);
        self.make_known(&mut state);
    }

    /// Begins to take over, when this is the primary and it is known where WAL goes.
    fn make_known(&self, state: &mut State) {
        state.taking_over.abort_all();
        state.taking_over = JoinSet::new();
        let (Some((name, timeline)), Some(archives)) = (&state.primary, &state.archives) else { return };
        archives.group().lead(name, *timeline);
        let work = take_over(archives.clone(), *timeline, self.held.clone(), self.news.clone());
        state.taking_over.spawn(work);
    }

    /// What people should hear, for the first who asks.
    #[must_use]
    pub fn news(&self) -> Option<mpsc::UnboundedReceiver<News>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Serves no more restores.
    pub async fn stop_serving(&self) {
        let old = std::mem::replace(&mut self.write().restore, Restore::None);
        let restorers = match old {
            Restore::None => return,
            Restore::Standby(all) => all,
            Restore::Recovery(recovery) => recovery.restorers(),
            Restore::Following(following) => following.restorers(),
        };
        for restorer in restorers {
            if let Err(error) = restorer.shutdown().await {
                tracing::warn!("the spool of fetched WAL could not be removed: {}", error.report());
            }
        }
    }

    /// Answers `archive`.
    pub async fn archive(&self, path: &str, replica: bool) -> SocketAnswer {
        if replica {
            return refuse(OPERATION, "this instance is a replica; only the primary archives".to_owned());
        }
        let Some(archives) = self.read().archives.clone() else {
            return refuse(GENERAL, format!("{STARTING}; PostgreSQL will ask again"));
        };
        match archives.archive(Path::new(path)).await {
            Ok(()) => done(),
            Err(refusal) => refuse(refusal.code, refusal.error),
        }
    }

    /// Archives one file that a former primary still holds, and nothing that waits behind it.
    pub async fn archive_alone(&self, path: &str) -> SocketAnswer {
        let Some(archives) = self.read().archives.clone() else {
            return refuse(GENERAL, STARTING.to_owned());
        };
        match archives.archive_alone(Path::new(path)).await {
            Ok(()) => done(),
            Err(refusal) => refuse(refusal.code, refusal.error),
        }
    }

    /// Answers `restore`.
    pub async fn restore(&self, name: &str, path: &str) -> SocketAnswer {
        // What is not there yet, or cannot be read now, PostgreSQL asks for again.
        let answer = |fetched: Result<WalFetch, String>, failed| match fetched {
            Ok(WalFetch::Restored) => done(),
            Ok(WalFetch::NotThere) => refuse(1, format!("{name} is not in the archive")),
            Err(error) => refuse(failed, error),
        };
        let serving = self.read().restore.clone();
        let standby = match serving {
            Restore::None => return refuse(1, format!("{name}: no archive is configured")),
            Restore::Standby(all) => all,
            // A recovery must not take an unknown answer for the end of the archive.
            Restore::Recovery(recovery) => return answer(recovery.restore(name, path).await, STOP_RECOVERY),
            Restore::Following(following) => return answer(following.restore(name, path).await, 1),
        };
        let mut last = format!("{name} is not in the archive");
        for restorer in standby {
            match timeout(STANDBY_PATIENCE, restorer.restore(name, Path::new(path))).await {
                Ok(Ok(WalFetch::Restored)) => return done(),
                Ok(Ok(WalFetch::NotThere)) => {}
                // A replica asks again.
                Ok(Err(error)) => last = error.report(),
                Err(_) => last = format!("{name}: the archive does not answer; streaming is tried"),
            }
        }
        refuse(1, last)
    }

    /// Counters of all repositories together, for status and metrics; `None` when there is no repository.
    #[must_use]
    pub fn status(&self) -> Option<ArchiverStatus> {
        let state = self.read();
        match &state.archives {
            None => Some(ArchiverStatus { working: true, ..ArchiverStatus::default() }),
            Some(archives) => together(&archives.stats(&state.before), archives.group().needed()),
        }
    }

    /// Each repository, with its part of the archiver and what it lacks. One that gets no WAL by itself does nothing, and
    /// so it works.
    #[must_use]
    pub fn repositories(&self) -> Vec<RepositoryState> {
        let state = self.read();
        let (Some(archives), Some((stores, ..))) = (&state.archives, &state.made_from) else {
            return Vec::new();
        };
        let stats: BTreeMap<_, _> = archives.stats(&state.before).into_iter().collect();
        let idle = ArchiverStatus { working: true, ..ArchiverStatus::default() };
        stores
            .iter()
            .map(|named| {
                let lag = archives.lag(&named.name);
                let mut archiver = stats.get(&named.name).map_or_else(|| idle.clone(), status);
                // The last file that arrived says nothing while one before it is missing.
                if lag.as_ref().is_some_and(|lag| lag.oldest_wal <= archiver.last_archived_wal) {
                    (archiver.last_archived_wal, archiver.last_archived_time) = (None, None);
                }
                RepositoryState { name: named.name.clone(), archiver, lag, ..RepositoryState::default() }
            })
            .collect()
    }

    /// Why a repository does not take WAL at present, or that it is late.
    #[must_use]
    pub fn failure(&self, repository: &str) -> Option<String> {
        let state = self.repositories().into_iter().find(|state| state.name == repository)?;
        let late = state.lag.filter(|lag| lag.late).map(|lag| {
            let oldest = lag.oldest_wal.map(|wal| format!(", {wal} first")).unwrap_or_default();
            format!("it is late: it lacks {} WAL files{oldest}", lag.files)
        });
        state.archiver.last_error.or(late)
    }

    /// From this segment on WAL was let go of: repositories that have some of it help the others.
    pub fn let_go(&self, first: Segment) {
        if let Some(archives) = &self.read().archives {
            archives.group().let_go(first);
        }
    }

    /// Names of the repositories that archive WAL, once they are known.
    #[must_use]
    pub fn archive_names(&self) -> Vec<String> {
        let state = self.read();
        state.archives.iter().flat_map(|archives| archives.group().names()).map(str::to_owned).collect()
    }

    /// Writes the record of a gap into a repository.
    ///
    /// # Errors
    /// Why the repository does not take it.
    pub async fn tell_dropped(&self, repository: &str, dropped: &Dropped) -> Result<(), String> {
        let Some(archives) = self.read().archives.clone() else { return Err(STARTING.to_owned()) };
        archives.group().tell_dropped(repository, dropped).await.map_err(|error| error.report())
    }

    /// From where on other repositories need the WAL of this one; `None` when all have everything.
    #[must_use]
    pub fn wanted_from(&self, repository: &str) -> Option<Segment> {
        self.read().archives.as_ref()?.group().wanted_from(repository)
    }
}

fn lead(state: &mut State, leading: bool) {
    state.leading = leading;
    if !leading {
        state.primary = None;
        state.taking_over.abort_all();
        state.taking_over = JoinSet::new();
        if let Some(archives) = &state.archives {
            archives.group().follow();
        }
    }
    if let Some(archives) = &state.archives {
        if leading { archives.group().start() } else { archives.group().stop() }
    }
}

fn done() -> SocketAnswer {
    SocketAnswer { ok: true, ..SocketAnswer::default() }
}

fn refuse(code: u8, error: String) -> SocketAnswer {
    SocketAnswer { ok: false, code: Some(code), error: Some(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> WalService {
        let paths = Paths { controller: "/c".into(), pgdata: "/d".into(), wal_mount: "/w".into() };
        WalService::new(paths, "ns", "pg".into())
    }

    #[tokio::test]
    async fn until_the_store_is_known_nothing_is_called_archived() {
        let wal = service();
        let answer = wal.archive("pg_wal/000000010000000000000001", false).await;
        assert!(!answer.ok && answer.error.unwrap().contains("will ask again"));
        wal.configure(&[], Policy::All, &SecretValues::default());
        assert!(wal.archive("pg_wal/000000010000000000000001", false).await.ok);
        assert_eq!(wal.status(), None);
    }

    #[tokio::test]
    async fn a_replica_does_not_archive_and_a_pod_without_source_restores_nothing() {
        let wal = service();
        wal.configure(&[], Policy::All, &SecretValues::default());
        let answer = wal.archive("pg_wal/000000010000000000000001", true).await;
        assert_eq!((answer.ok, answer.code), (false, Some(1)));
        assert_eq!(wal.restore("00000002.history", "pg_wal/RECOVERYHISTORY").await.code, Some(1));
    }

    /// Whatever is wrong, a promotion is not held up.
    #[tokio::test]
    async fn a_promotion_waits_for_nothing() {
        let wal = service();
        wal.about_to_promote().await;
        wal.became_primary("pg-2/uid", 2).await;
        wal.configure(&[], Policy::All, &SecretValues::default());
        wal.became_primary("pg-2/uid", 3).await;
        assert_eq!(wal.read().primary, Some(("pg-2/uid".into(), 3)));
        wal.serve_standby(&[], &SecretValues::default());
        assert_eq!(wal.read().primary, None);
        assert!(wal.news().is_some() && wal.news().is_none());
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
        let named = NamedStore::new("default", store);
        wal.configure(&[named], Policy::All, &SecretValues::default());
        let answer = wal.archive("pg_wal/000000010000000000000001", false).await;
        assert!(answer.error.unwrap().contains("Secret aws-creds does not exist"));
        let status = wal.status().unwrap();
        assert!(!status.working && status.last_error.unwrap().contains("aws-creds"));
    }
}
