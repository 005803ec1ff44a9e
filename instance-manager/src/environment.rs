//! Where this process runs: the pod's identity and paths, from environment variables that the operator sets
//! (ARCHITECTURE.md, "A pod").

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use howdah_api::naming;

/// The pod and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `CLUSTER_NAME`: the Cluster that this instance belongs to.
    pub cluster: String,
    /// `NAMESPACE`.
    pub namespace: String,
    /// `POD_NAME`: also the name of the instance.
    pub pod: String,
    /// `POD_UID`.
    pub pod_uid: String,
    /// `POD_IP`, when the pod already has one.
    pub pod_ip: Option<IpAddr>,
    /// Files of the pod.
    pub paths: Paths,
}

/// Files of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `CONTROLLER_DIR`, by default `/controller`.
    pub controller: PathBuf,
    /// `PGDATA`.
    pub pgdata: PathBuf,
    /// `WAL_MOUNT`, by default `/var/lib/postgresql/wal`; used only when the cluster has a WAL volume.
    pub wal_mount: PathBuf,
}

/// A variable that is needed and not set.
#[derive(Debug, thiserror::Error)]
#[error("the environment variable {name} is {what}; the operator sets it in every PostgreSQL pod")]
pub struct EnvironmentError {
    name: &'static str,
    what: &'static str,
}

impl Environment {
    /// Reads the environment.
    ///
    /// # Errors
    /// When a variable is missing or `POD_IP` is no address.
    pub fn from_env() -> Result<Self, EnvironmentError> {
        let need = |name: &'static str| {
            std::env::var(name)
                .ok()
                .filter(|v| !v.is_empty())
                .ok_or(EnvironmentError { name, what: "not set" })
        };
        Ok(Self {
            cluster: need("CLUSTER_NAME")?,
            namespace: need("NAMESPACE")?,
            pod: need("POD_NAME")?,
            pod_uid: std::env::var("POD_UID").unwrap_or_default(),
            pod_ip: pod_ip()?,
            paths: Paths::from_env(),
        })
    }

    /// The address that servers listen on: `None` means all.
    #[must_use]
    pub fn listen_ip(&self) -> Option<IpAddr> {
        listen_ip(self.pod_ip)
    }
}

/// The pod's address (`POD_IP`), when it already has one.
///
/// # Errors
/// When it is no address.
pub fn pod_ip() -> Result<Option<IpAddr>, EnvironmentError> {
    match std::env::var("POD_IP") {
        Ok(text) if !text.is_empty() => {
            text.parse().map(Some).map_err(|_| EnvironmentError { name: "POD_IP", what: "not an IP address" })
        }
        _ => Ok(None),
    }
}

/// The address that servers of a pod listen on: `None` means all. A pod whose address is a loopback one shares its
/// network with others and keeps to its own address.
#[must_use]
pub fn listen_ip(pod_ip: Option<IpAddr>) -> Option<IpAddr> {
    pod_ip.filter(IpAddr::is_loopback)
}

impl Paths {
    /// Reads the environment; everything has a default.
    #[must_use]
    pub fn from_env() -> Self {
        let path = |name: &str, default: &str| {
            PathBuf::from(std::env::var_os(name).filter(|v| !v.is_empty()).unwrap_or_else(|| default.into()))
        };
        Self {
            controller: path("CONTROLLER_DIR", naming::CONTROLLER_DIR),
            pgdata: path("PGDATA", naming::PGDATA),
            wal_mount: path("WAL_MOUNT", naming::WAL_MOUNT),
        }
    }

    fn below(&self, standard: &str) -> PathBuf {
        match Path::new(standard).strip_prefix(naming::CONTROLLER_DIR) {
            Ok(rest) => self.controller.join(rest),
            Err(_) => PathBuf::from(standard),
        }
    }

    /// This program, as PostgreSQL calls it.
    #[must_use]
    pub fn manager(&self) -> PathBuf {
        self.below(naming::MANAGER_PATH)
    }

    /// Directory of sockets.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.below(naming::RUN_DIR)
    }

    /// The manager's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.below(naming::MANAGER_SOCKET)
    }

    /// Certificates and keys.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.below(naming::CERTIFICATES_DIR)
    }

    /// WAL fetched ahead of replay.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.below(naming::SPOOL_DIR)
    }

    /// WAL on its way to a repository that is behind.
    #[must_use]
    pub fn catch_up(&self) -> PathBuf {
        self.controller.join("catch-up")
    }

    /// `pg_wal` on the WAL volume.
    #[must_use]
    pub fn wal_on_volume(&self) -> PathBuf {
        match Path::new(naming::PG_WAL_ON_VOLUME).strip_prefix(naming::WAL_MOUNT) {
            Ok(rest) => self.wal_mount.join(rest),
            Err(_) => PathBuf::from(naming::PG_WAL_ON_VOLUME),
        }
    }

    /// The data volume: the directory above PGDATA.
    #[must_use]
    pub fn data_volume(&self) -> &Path {
        self.pgdata.parent().unwrap_or(Path::new("/"))
    }

    /// The mark of a finished bootstrap, beside PGDATA.
    #[must_use]
    pub fn bootstrap_done(&self) -> PathBuf {
        self.data_volume().join(naming::BOOTSTRAP_DONE)
    }

    /// What this volume was restored from, beside PGDATA.
    #[must_use]
    pub fn restored_file(&self) -> PathBuf {
        self.data_volume().join(naming::RESTORED)
    }

    /// WAL that this instance let go of without having archived it, beside PGDATA.
    #[must_use]
    pub fn dropped_wal(&self) -> PathBuf {
        self.data_volume().join(naming::DROPPED_WAL)
    }

    /// While recovery goes on: where its WAL comes from.
    #[must_use]
    pub fn recovery_file(&self) -> PathBuf {
        self.pgdata.join(naming::RECOVERY_FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_their_roots() {
        let paths = Paths { controller: "/c".into(), pgdata: "/d/pgdata".into(), wal_mount: "/w".into() };
        assert_eq!(paths.manager(), Path::new("/c/instance-manager"));
        assert_eq!(paths.socket(), Path::new("/c/run/manager.sock"));
        assert_eq!(paths.certificates(), Path::new("/c/run/certificates"));
        assert_eq!(paths.spool(), Path::new("/c/spool"));
        assert_eq!(paths.wal_on_volume(), Path::new("/w/pg_wal"));
        assert_eq!(paths.bootstrap_done(), Path::new("/d/howdah-bootstrap.done"));
        assert_eq!(paths.recovery_file(), Path::new("/d/pgdata/howdah-recovery.json"));
    }
}
