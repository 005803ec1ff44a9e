//! Words of the HTTP API between operator and instance manager (port 8000, mutual TLS), and of the socket
//! between PostgreSQL's commands and the manager.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bootstrap::RecoveryStatus;
use crate::cluster_status::RepositoryLag;
use crate::encryption::EncryptionStatus;
use crate::retention::RetentionStatus;
use crate::store_probe::StoreProbe;
use crate::wal_runway::{DroppedWal, WalRunway};
use crate::window::RecoveryWindow;

/// Role of an instance, as PostgreSQL itself reports it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceRole {
    /// Takes writes.
    Primary,
    /// Follows the primary, or replays an archive.
    Replica,
}

/// Answer of `GET /v1/status`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Name of the pod.
    pub pod_name: String,
    /// Random id of this manager process.
    #[serde(rename = "sessionID")]
    pub session_id: String,
    /// Version of the manager.
    pub manager_version: String,
    /// SHA-256 of the program of this manager process, in hexadecimal; `None` from managers that cannot be replaced in
    /// place.
    #[serde(default)]
    pub manager_sha256: Option<String>,
    /// What machine that program is for, for example `x86_64`.
    #[serde(default)]
    pub manager_architecture: Option<String>,
    /// Whether PostgreSQL takes connections.
    pub ready: bool,
    /// Whether archive recovery (not mere standby replay) is going on.
    #[serde(default)]
    pub recovering: bool,
    /// What the recovery follows without end (`spec.replica`), once its data can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub following: Option<String>,
    /// Role; `None` while PostgreSQL does not answer.
    pub role: Option<InstanceRole>,
    /// What it is doing, or why it is not ready.
    pub message: String,
    /// System identifier.
    #[serde(rename = "systemID")]
    pub system_id: Option<String>,
    /// `server_version_num`.
    pub server_version: Option<i32>,
    /// Timeline.
    #[serde(rename = "timelineID")]
    pub timeline_id: Option<u32>,
    /// Current write position (primary) or last received position (replica).
    #[serde(rename = "receivedLSN")]
    pub received_lsn: Option<String>,
    /// Last replayed position (replica).
    #[serde(rename = "replayedLSN")]
    pub replayed_lsn: Option<String>,
    /// When the last replayed transaction ended on the source, in Unix seconds; only of an instance that follows an archive
    /// without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_time: Option<i64>,
    /// Whether a replica streams from the primary.
    #[serde(default)]
    pub streaming: bool,
    /// A change of parameters waits for a restart of PostgreSQL.
    #[serde(default)]
    pub pending_restart: bool,
    /// That restart lowers parameters in which a replica must not be below its primary (`max_connections` and the like): it
    /// has to come to the primary first, in its place.
    #[serde(default)]
    pub pending_restart_lowers: bool,
    /// The archiver; `None` when no store is configured.
    pub archiver: Option<ArchiverStatus>,
    /// What the store holds, looked at every few minutes and after each backup; `None` until known.
    pub recoverability: Option<Recoverability>,
    /// Each repository.
    #[serde(default)]
    pub repositories: Vec<RepositoryState>,
    /// What this instance was restored from, when it was.
    #[serde(default)]
    pub restored: Option<RecoveryStatus>,
    /// UID of the Backup that is being taken.
    #[serde(rename = "runningBackupUID")]
    pub running_backup_uid: Option<String>,
    /// A failure that needs a person, for example a recovery target out of reach.
    pub fatal: Option<String>,
    /// Whether a PostgreSQL process runs, answering or not.
    #[serde(default)]
    pub server_running: bool,
    /// PostgreSQL is kept down because the Cluster says that this instance is fenced.
    #[serde(default)]
    pub fenced: bool,
    /// Whether this instance holds the lease of the primary: it may take writes.
    #[serde(default)]
    pub holds_lease: bool,
    /// PostgreSQL does not run, and its data is that of a primary which has not followed another one since: it can be the
    /// primary again without loss. `receivedLSN` and `timelineID` are those of its control file.
    #[serde(default)]
    pub former_primary: bool,
    /// `synchronous_standby_names` as the running primary has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronous_standby_names: Option<String>,
    /// Replicas that stream from this primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaState>,
    /// How long the volume with `pg_wal` lasts; `None` until known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_runway: Option<WalRunway>,
    /// WAL that this instance let go of without having archived it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_wal: Vec<DroppedWal>,
}

/// A replica as its primary sees it (`pg_stat_replication`).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaState {
    /// Name of the instance: `application_name`.
    pub name: String,
    /// `streaming`, `catchup`, `startup`, `backup` or `stopping`.
    pub state: String,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: String,
    /// Position that it has flushed.
    #[serde(rename = "flushLSN")]
    pub flush_lsn: Option<String>,
}

/// Answer of `GET /v1/primary?name=<instance>`: what a replica says to a primary that cannot reach the API server.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PrimaryConfirmation {
    /// The replica cannot reach the API server either, and it promises not to become the primary for as long as a lease
    /// lasts.
    pub confirmed: bool,
    /// Why not, for people.
    #[serde(default)]
    pub reason: String,
}

/// State of the WAL archiver.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ArchiverStatus {
    /// Whether the last attempt succeeded (true also when nothing was to be done yet).
    pub working: bool,
    /// Whether at least one file reached the store since this manager started or is known from before.
    pub confirmed: bool,
    /// Files archived since the manager started.
    pub archived_count: u64,
    /// Failed attempts since the manager started.
    pub failed_count: u64,
    /// Last file archived.
    pub last_archived_wal: Option<String>,
    /// When.
    pub last_archived_time: Option<Time>,
    /// Last file that failed.
    pub last_failed_wal: Option<String>,
    /// When.
    pub last_failed_time: Option<Time>,
    /// Why, and the remedy.
    pub last_error: Option<String>,
    /// Number of files waiting (`.ready`).
    pub waiting: u64,
}

/// What the store holds.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Recoverability {
    /// End of the oldest of them.
    pub first_recoverability_point: Option<Time>,
    /// End of the newest of them.
    pub last_backup: Option<Time>,
    /// Backups of any type that can be restored with all that they build on.
    pub backups: u32,
    /// Its recovery window; `None` until known.
    #[serde(default)]
    pub window: Option<RecoveryWindow>,
}

/// One repository, as the primary sees it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryState {
    /// Its name.
    pub name: String,
    /// Its part of the archiver.
    pub archiver: ArchiverStatus,
    /// What it holds; `None` until known.
    pub recoverability: Option<Recoverability>,
    /// What it lacks of the WAL that was acknowledged without it; `None` when it has everything.
    #[serde(default)]
    pub lag: Option<RepositoryLag>,
    /// What retention decided and did; `None` without a policy, or until known.
    #[serde(default)]
    pub retention: Option<RetentionStatus>,
    /// What its store can do; `None` until known.
    #[serde(default)]
    pub probe: Option<StoreProbe>,
    /// How it is encrypted; `None` when it is not, or until known.
    #[serde(default)]
    pub encryption: Option<EncryptionStatus>,
    /// Why its keys cannot be used.
    #[serde(default)]
    pub encryption_error: Option<String>,
}

/// Answer of `POST /v1/wal/switch`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WalSwitch {
    /// Segment that was closed by the switch.
    pub closed_wal: String,
    /// Position after the switch.
    pub lsn: String,
    /// Timeline.
    #[serde(rename = "timelineID")]
    pub timeline_id: u32,
}

/// Answer of `PUT /v1/manager`: the program that runs, or takes over in a moment.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagerProgram {
    /// Its version.
    pub version: String,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
}

/// Body of an answer other than 200.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// What was wrong and what to do.
    pub error: String,
}

/// Request on the manager's socket: one line of JSON.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "op", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum SocketRequest {
    /// Archive the WAL file at `path` (relative to PGDATA).
    Archive {
        /// `%p` of `archive_command`.
        path: String,
    },
    /// Fetch the WAL file `name` into `path` (relative to PGDATA).
    Restore {
        /// `%f` of `restore_command`.
        name: String,
        /// `%p` of `restore_command`.
        path: String,
    },
    /// Tell the status; answered with one line that holds an [`InstanceStatus`].
    Status,
    /// Tell what is in the repositories. This and what follows is answered with any number of lines, each an object
    /// with one key (`stanza`, `repository`, `backup`, `progress`, `verified`, `checked`,
    /// `expired`), and a [`SocketAnswer`] as
    /// the last one. The work ends when the client goes away.
    Info {
        /// Name of one repository; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
    },
    /// Tell everything about a backup.
    Show {
        /// Name of one repository; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// Id, label or `latest`.
        backup: String,
    },
    /// Read backups and WAL, and compare them with what was stored.
    Verify {
        /// Name of one repository; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// Id, label, `latest` or `all`; `latest` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backup: Option<String>,
        /// Only look at names and sizes of parts.
        #[serde(default)]
        no_data: bool,
        /// Verify WAL alone.
        #[serde(default)]
        wal_only: bool,
    },
    /// Tell what retention would delete, or delete it.
    Expire {
        /// Name of one repository; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// Delete.
        #[serde(default)]
        confirm: bool,
    },
    /// See whether repositories can be reached and written, and whether WAL arrives in them.
    Check {
        /// Name of one repository; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// Seconds to wait for the WAL segment; 60 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<u64>,
    },
}

/// Answer on the manager's socket: one line of JSON.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketAnswer {
    /// Done, and confirmed.
    pub ok: bool,
    /// Exit code of the command when not ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// What was wrong and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
