//! What the parts of a running manager share. Each field has one writer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use howdah_api::Cluster;
use howdah_api::bootstrap::RecoveryStatus;
use howdah_api::instance::Recoverability;
use howdah_api::repository::NamedStore;
use howdah_api::retention::RetentionStatus;
use howdah_api::wal_runway::WalRunway;
use howdah_engine::{Policy, Progress};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use super::replace::Replacer;
use super::role::Running;
use super::runway::gaps::Gaps;
use super::wal::WalService;
use crate::backup::care::Care;
use crate::backup::window::Windows;
use crate::bootstrap::recovery_file::read_restored;
use crate::environment::Environment;
use crate::kube::Kubernetes;
use crate::kube::secrets::SecretValues;
use crate::pg::children::Children;
use crate::pg::programs::Programs;
use crate::pg::sql::LocalServer;

/// State of the PostgreSQL server, written by the supervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerState {
    /// What it is; `None` while it does not run.
    pub running: Option<Running>,
    /// It took connections at least once since it was started.
    pub up: bool,
    /// What a recovery without end follows, once it takes connections.
    pub following: Option<String>,
    /// It is being stopped.
    pub stopping: bool,
    /// What is going on, for people.
    pub message: String,
    /// What a person must mend.
    pub fatal: Option<String>,
    /// It is kept down by the annotation of fenced instances.
    pub fenced: bool,
    /// It does not run, and its data is that of a primary that has followed nobody since.
    pub former_primary: Option<FormerPrimary>,
}

/// How far the data of a former primary goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerPrimary {
    /// Timeline of its last checkpoint.
    pub timeline: u32,
    /// Position of its last checkpoint; all of its WAL goes at least so far.
    pub lsn: String,
}

/// The backup that is being taken.
#[derive(Clone, Debug)]
pub struct RunningBackup {
    /// UID of the Backup object.
    pub uid: String,
    /// Name of the repository that it goes to.
    pub repository: String,
    /// Its counters.
    pub progress: Arc<Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// What does not change while the process lives.
pub struct PodFacts {
    /// The pod.
    pub env: Environment,
    /// PostgreSQL's programs.
    pub programs: Programs,
    /// Major version of the programs.
    pub major: u32,
    /// Whether the server can do TLS.
    pub tls: bool,
    /// Own children.
    pub children: Children,
    /// The API.
    pub kube: Kubernetes,
    /// SHA-256 of the program of this process, when it is known.
    pub sha256: Option<String>,
}

/// Shared state.
pub struct Shared {
    /// The pod.
    pub env: Environment,
    /// Random id of this process.
    pub session: String,
    /// PostgreSQL's programs.
    pub programs: Programs,
    /// Major version of the programs.
    pub major: u32,
    /// Whether the server can do TLS.
    pub tls: bool,
    /// Own children.
    pub children: Children,
    /// The API.
    pub kube: Kubernetes,
    /// The local server.
    pub local: LocalServer,
    /// The Cluster as last seen; kept when the API is away.
    pub cluster: watch::Sender<Arc<Cluster>>,
    /// Secrets as last seen.
    pub secrets: watch::Sender<Arc<SecretValues>>,
    /// State of the server.
    pub server: watch::Sender<ServerState>,
    /// The WAL services.
    pub wal: WalService,
    /// Whether this instance may take writes.
    pub authority: Authority,
    /// Rung when PostgreSQL shall be restarted.
    pub restart: Notify,
    /// The program of this process, and the one that shall take its place.
    pub replacer: Replacer,
    /// What the volume was restored from, when it was.
    pub restored: Option<RecoveryStatus>,
    told: Mutex<String>,
    backup: Mutex<Option<RunningBackup>>,
    recoverability: Mutex<BTreeMap<String, Recoverability>>,
    /// Rung when a backup ended, or one is to go with its data: the repositories are looked at anew.
    pub backup_ended: Notify,
    /// Recovery windows of the repositories.
    pub windows: Windows,
    /// Retention of each repository.
    retention: Mutex<BTreeMap<String, RetentionStatus>>,
    /// Store and keys of each repository.
    care: Mutex<BTreeMap<String, Care>>,
    wal_runway: Mutex<Option<WalRunway>>,
    /// WAL that was let go of.
    gaps: Mutex<Gaps>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Everything that is known before PostgreSQL starts.
    #[must_use]
    pub fn new(facts: PodFacts, cluster: Arc<Cluster>, secrets: Arc<SecretValues>) -> Arc<Self> {
        let PodFacts { env, programs, major, tls, children, kube, sha256 } = facts;
        let port = cluster_port();
        Arc::new(Self {
            session: uuid::Uuid::new_v4().to_string(),
            local: LocalServer::new(&env.paths.run(), port),
            wal: WalService::new(env.paths.clone(), &env.namespace, env.cluster.clone()),
            authority: Authority::new(kube.clone(), &env),
            restart: Notify::new(),
            replacer: Replacer::new(sha256),
            restored: read_restored(&env.paths),
            gaps: Mutex::new(Gaps::read(&env.paths.dropped_wal())),
            env,
            programs,
            major,
            tls,
            children,
            kube,
            cluster: watch::Sender::new(cluster),
            secrets: watch::Sender::new(secrets),
            server: watch::Sender::new(ServerState::default()),
            told: Mutex::new(String::new()),
            backup: Mutex::new(None),
            recoverability: Mutex::default(),
            backup_ended: Notify::new(),
            windows: Windows::default(),
            retention: Mutex::default(),
            care: Mutex::default(),
            wal_runway: Mutex::default(),
        })
    }

    /// The Cluster as last seen.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        self.cluster.borrow().clone()
    }

    /// The instance that shall be the primary, as last seen.
    #[must_use]
    pub fn target_primary(&self) -> Option<String> {
        self.cluster.borrow().status.as_ref().and_then(|status| status.target_primary.clone())
    }

    /// The Secrets as last seen.
    #[must_use]
    pub fn secrets(&self) -> Arc<SecretValues> {
        self.secrets.borrow().clone()
    }

    /// State of the server.
    #[must_use]
    pub fn server(&self) -> ServerState {
        self.server.borrow().clone()
    }

    /// Whether this failure is another one than the last.
    #[must_use]
    pub fn tell_once(&self, failure: &str) -> bool {
        let mut told = lock(&self.told);
        let new = *told != failure;
        failure.clone_into(&mut told);
        new
    }

    /// All places for backups and WAL of the cluster.
    #[must_use]
    pub fn stores(&self) -> Vec<NamedStore> {
        self.cluster().spec.stores(&self.env.namespace, &self.env.cluster)
    }

    /// When a WAL file counts as archived.
    #[must_use]
    pub fn wal_policy(&self) -> Policy {
        self.cluster().spec.wal_acknowledgement().map_or(Policy::All, Policy::Number)
    }

    /// The backup that is being taken.
    #[must_use]
    pub fn backup(&self) -> Option<RunningBackup> {
        lock(&self.backup).clone()
    }

    /// Sets or clears it.
    pub fn set_backup(&self, backup: Option<RunningBackup>) {
        if backup.is_none() {
            self.backup_ended.notify_one();
        }
        *lock(&self.backup) = backup;
    }

    /// What retention decided and did in a repository.
    #[must_use]
    pub fn retention(&self, repository: &str) -> Option<RetentionStatus> {
        lock(&self.retention).get(repository).cloned()
    }

    /// Sets it.
    pub fn set_retention(&self, repository: &str, status: RetentionStatus) {
        lock(&self.retention).insert(repository.to_owned(), status);
    }

    /// What is known of store and keys of a repository.
    #[must_use]
    pub fn care(&self, repository: &str) -> Care {
        lock(&self.care).get(repository).cloned().unwrap_or_default()
    }

    /// Sets it.
    pub fn set_care(&self, repository: &str, care: Care) {
        lock(&self.care).insert(repository.to_owned(), care);
    }

    /// How long the volume with `pg_wal` lasts.
    #[must_use]
    pub fn wal_runway(&self) -> Option<WalRunway> {
        lock(&self.wal_runway).clone()
    }

    /// Sets it; `None` when it is no longer known.
    pub fn set_wal_runway(&self, runway: Option<WalRunway>) {
        *lock(&self.wal_runway) = runway;
    }

    /// Looks at the gaps that this instance made in the archive.
    pub fn gaps<T>(&self, look: impl FnOnce(&Gaps) -> T) -> T {
        look(&lock(&self.gaps))
    }

    /// Changes what is noted of them, durably; `change` says whether it did.
    ///
    /// # Errors
    /// When it cannot be noted; then nothing has changed.
    pub fn change_gaps(&self, change: impl FnOnce(&mut Gaps) -> bool) -> crate::error::Result<()> {
        let mut gaps = lock(&self.gaps);
        let mut new = gaps.clone();
        if change(&mut new) {
            new.write(&self.env.paths.dropped_wal())?;
            *gaps = new;
        }
        Ok(())
    }

    /// What each repository holds, as far as it is known.
    #[must_use]
    pub fn recoverability(&self) -> BTreeMap<String, Recoverability> {
        lock(&self.recoverability).clone()
    }

    /// Sets it; empty when it is no longer known.
    pub fn set_recoverability(&self, known: BTreeMap<String, Recoverability>) {
        *lock(&self.recoverability) = known;
    }
}

/// Port of PostgreSQL.
#[must_use]
pub fn cluster_port() -> u16 {
    u16::try_from(howdah_api::naming::POSTGRES_PORT).unwrap_or(5432)
}
