//! Names of child objects, ports and paths: the only place where they are spelled.

/// Port of PostgreSQL.
pub const POSTGRES_PORT: i32 = 5432;
/// Port of the manager's HTTPS API (client certificates).
pub const STATUS_PORT: i32 = 8000;
/// Port of the manager's probes (plain HTTP, no data).
pub const PROBES_PORT: i32 = 8001;
/// Port of the manager's metrics (plain HTTP).
pub const METRICS_PORT: i32 = 9187;

/// Seconds that the lease of the primary lasts after it was renewed.
pub const PRIMARY_LEASE_SECONDS: i32 = 15;

/// Port of the repository host (client certificates).
pub const REPO_HOST_PORT: i32 = 8432;

/// Mount point of the volume `controller`.
pub const CONTROLLER_DIR: &str = "/controller";
/// The manager inside a PostgreSQL pod.
pub const MANAGER_PATH: &str = "/controller/instance-manager";
/// The manager inside the operator's image.
pub const MANAGER_IN_IMAGE: &str = "/instance-manager";
/// Header of `PUT /v1/manager`: the SHA-256 of the program that is sent, in hexadecimal.
pub const MANAGER_SHA256_HEADER: &str = "x-howdah-manager-sha256";
/// Directory of sockets.
pub const RUN_DIR: &str = "/controller/run";
/// The manager's socket for `wal-archive` and `wal-restore`.
pub const MANAGER_SOCKET: &str = "/controller/run/manager.sock";
/// Certificates written by the manager for PostgreSQL.
pub const CERTIFICATES_DIR: &str = "/controller/run/certificates";
/// WAL fetched ahead of replay.
pub const SPOOL_DIR: &str = "/controller/spool";
/// Mount point of the data volume.
pub const DATA_MOUNT: &str = "/var/lib/postgresql/data";
/// The data directory.
pub const PGDATA: &str = "/var/lib/postgresql/data/pgdata";
/// Mount point of the WAL volume.
pub const WAL_MOUNT: &str = "/var/lib/postgresql/wal";
/// `pg_wal` on the WAL volume.
pub const PG_WAL_ON_VOLUME: &str = "/var/lib/postgresql/wal/pg_wal";
/// Beside PGDATA: the bootstrap of this volume is finished.
pub const BOOTSTRAP_DONE: &str = "howdah-bootstrap.done";
/// Beside PGDATA: what it was restored from.
pub const RESTORED: &str = "howdah-restored.json";
/// WAL that this instance let go of without having archived it, beside PGDATA.
pub const DROPPED_WAL: &str = "howdah-dropped-wal.json";
/// Inside PGDATA: where WAL comes from while recovery goes on.
pub const RECOVERY_FILE: &str = "howdah-recovery.json";

/// Where the volumes of repositories are mounted, each below its name.
pub const REPOSITORIES_DIR: &str = "/repositories";
/// Where the repository host finds its certificates.
pub const REPO_CERTIFICATES_DIR: &str = "/certificates";

/// Container that copies the manager into the pod.
pub const CONTAINER_CONTROLLER: &str = "bootstrap-controller";
/// Init container that fills an empty volume by initdb or join.
pub const CONTAINER_BOOTSTRAP: &str = "bootstrap";
/// Init container that fills an empty volume from a backup.
pub const CONTAINER_RECOVERY: &str = "full-recovery";
/// The container that runs PostgreSQL under the manager.
pub const CONTAINER_POSTGRES: &str = "postgres";

/// The container that serves the repositories on volumes.
pub const CONTAINER_REPO_HOST: &str = "repo-host";

/// Common name of the certificate with which replicas connect.
pub const REPLICATION_USER: &str = "streaming_replica";
/// Common name of the operator's client certificate.
pub const OPERATOR_CN: &str = "howdah-operator";

/// Name of an instance: its pod and its data volume.
#[must_use]
pub fn instance(cluster: &str, serial: i32) -> String {
    format!("{cluster}-{serial}")
}

/// Name of an instance's WAL volume.
#[must_use]
pub fn wal_volume(instance: &str) -> String {
    format!("{instance}-wal")
}

/// Serial of an instance of `cluster`, from its name.
#[must_use]
pub fn serial_of(cluster: &str, instance: &str) -> Option<i32> {
    instance.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok().filter(|s| *s > 0)
}

/// Service of the primary.
#[must_use]
pub fn service_rw(cluster: &str) -> String {
    format!("{cluster}-rw")
}

/// Service of the ready replicas.
#[must_use]
pub fn service_ro(cluster: &str) -> String {
    format!("{cluster}-ro")
}

/// Service of any ready instance.
#[must_use]
pub fn service_r(cluster: &str) -> String {
    format!("{cluster}-r")
}

/// Secret of the superuser.
#[must_use]
pub fn superuser_secret(cluster: &str) -> String {
    format!("{cluster}-superuser")
}

/// Secret of the application user.
#[must_use]
pub fn app_secret(cluster: &str) -> String {
    format!("{cluster}-app")
}

/// Secret of the cluster's certificate authority, with its key; only the operator reads it.
#[must_use]
pub fn ca_secret(cluster: &str) -> String {
    format!("{cluster}-ca")
}

/// Secret of the server certificate of PostgreSQL and of the manager.
#[must_use]
pub fn server_secret(cluster: &str) -> String {
    format!("{cluster}-server")
}

/// Secret of the client certificate of replicas.
#[must_use]
pub fn replication_secret(cluster: &str) -> String {
    format!("{cluster}-replication")
}

/// Secret of the client certificate of the operator.
#[must_use]
pub fn operator_secret(cluster: &str) -> String {
    format!("{cluster}-operator")
}

/// Secret of the server certificate that PostgreSQL shows, with its authority, when it is a provided one: the operator's copy
/// of what it has checked.
#[must_use]
pub fn server_in_use(cluster: &str) -> String {
    format!("{cluster}-server-in-use")
}

/// Secret of the client certificate of replicas, with the authority of clients, when it is a provided one: the operator's
/// copy of what it has checked.
#[must_use]
pub fn replication_in_use(cluster: &str) -> String {
    format!("{cluster}-replication-in-use")
}

/// Service of the repository host, and Secret of its server certificate.
#[must_use]
pub fn repo_host(cluster: &str) -> String {
    format!("{cluster}-repo-host")
}

/// Pod of the repository host.
#[must_use]
pub fn repo_host_pod(cluster: &str) -> String {
    format!("{cluster}-repo-host-0")
}

/// Endpoint of the repository host, for the instances.
#[must_use]
pub fn repo_host_endpoint(cluster: &str) -> String {
    format!("https://{}:{REPO_HOST_PORT}", repo_host(cluster))
}

/// Volume of a repository.
#[must_use]
pub fn repo_volume(cluster: &str, repository: &str) -> String {
    format!("{cluster}-repo-{repository}")
}

/// Lease of the primary: who holds it may take writes.
#[must_use]
pub fn primary_lease(cluster: &str) -> String {
    format!("{cluster}-primary")
}

/// Who holds the lease of the primary: an instance, and the pod that it lives in. Another pod of the same name is
/// somebody else.
#[must_use]
pub fn lease_holder(instance: &str, pod_uid: &str) -> String {
    format!("{instance}/{pod_uid}")
}

/// PodDisruptionBudget of the primary.
#[must_use]
pub fn primary_budget(cluster: &str) -> String {
    format!("{cluster}-primary")
}

/// PodDisruptionBudget of the replicas.
#[must_use]
pub fn replicas_budget(cluster: &str) -> String {
    cluster.to_owned()
}

/// Service account, Role and RoleBinding of the instances.
#[must_use]
pub fn service_account(cluster: &str) -> String {
    cluster.to_owned()
}

/// Folder of a repository in its bucket or on its volume, when the Cluster names none: clusters never share one.
#[must_use]
pub fn repository_folder(namespace: &str, cluster: &str, repository: &str) -> String {
    format!("{namespace}/{cluster}/{repository}")
}

/// ScheduledBackup of a cluster for one repository and type.
#[must_use]
pub fn repository_schedule(cluster: &str, repository: &str, kind: &str) -> String {
    format!("{cluster}-{repository}-{kind}")
}

/// Backup that is ordered in a repository because of a gap that begins with this WAL file; the first try.
#[must_use]
pub fn gap_backup(cluster: &str, first_wal: &str, repository: &str) -> String {
    format!("{cluster}-gap-{}-{repository}", first_wal.to_lowercase())
}

/// Child of a ScheduledBackup for the slot due at `due` (`YYYYMMDDHHMMSS`, UTC).
#[must_use]
pub fn scheduled_child(schedule: &str, due: &str) -> String {
    format!("{schedule}-{due}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_come_from_names_of_the_same_cluster_only() {
        assert_eq!(serial_of("pg", "pg-12"), Some(12));
        assert_eq!(serial_of("pg", "pg-0"), None);
        assert_eq!(serial_of("pg", "pg-x"), None);
        assert_eq!(serial_of("pg", "pgx-1"), None);
        assert_eq!(serial_of("pg", "pg-backup-1"), None);
        assert_eq!(serial_of("pg", &repo_host_pod("pg")), None);
        assert_eq!(serial_of("pg", &repo_volume("pg", "1")), None);
    }
}
