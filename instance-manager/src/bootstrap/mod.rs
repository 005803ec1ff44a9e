//! How an empty volume comes to its data: the init containers `bootstrap` and `full-recovery`.
//!
//! Each way begins with a mark beside PGDATA and ends with another one ([`marker`]), so that a crash at any step
//! leads to a clean new try and a finished directory is never touched again.

pub mod choice;
pub mod initdb;
pub mod join;
pub mod join_backup;
pub mod marker;
pub mod own_places;
pub mod plan;
pub mod private;
pub mod recovery;
pub mod recovery_file;
pub mod restoring;
pub mod source;

use std::path::PathBuf;

use howdah_api::ClusterSpec;

use crate::environment::{Environment, Paths};
use crate::error::Result;
use crate::kube::Kubernetes;
use crate::pg::children::Children;
use crate::pg::programs::Programs;

/// Everything that a bootstrap works with.
pub struct Context {
    /// The pod.
    pub env: Environment,
    /// The API.
    pub kube: Kubernetes,
    /// PostgreSQL's programs.
    pub programs: Programs,
    /// Own children.
    pub children: Children,
    /// The Cluster, read once.
    pub cluster: howdah_api::Cluster,
}

impl Context {
    /// Reads the Cluster and finds PostgreSQL.
    ///
    /// # Errors
    /// When the API does not answer, or the image holds no PostgreSQL.
    pub async fn gather(env: Environment, kube: Kubernetes) -> Result<Self> {
        let programs = Programs::find()?;
        let cluster = kube.cluster().await?;
        Ok(Self { env, kube, programs, children: Children::default(), cluster })
    }

    /// `pg_wal` on its own volume, when the cluster has one.
    #[must_use]
    pub fn wal_dir(&self) -> Option<PathBuf> {
        wal_dir(&self.env.paths, &self.cluster.spec)
    }
}

/// `pg_wal` on its own volume, when a cluster of this specification has one.
#[must_use]
pub fn wal_dir(paths: &Paths, spec: &ClusterSpec) -> Option<PathBuf> {
    spec.wal_storage.as_ref().map(|_| paths.wal_on_volume())
}
