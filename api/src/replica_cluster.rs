//! A cluster that follows another one's archive: `spec.replica`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterSpec;

/// A cluster that follows the archive of another one, in another region for example, and takes its place by one change.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaCluster {
    /// `true`: the first instance replays what the source archives, for as long as this stands, and serves reads; nothing
    /// is archived or backed up here. `false`: it is promoted on a timeline of its own, takes writes, archives to
    /// `spec.backup`, and the other instances join it. There is no way back: the source and this cluster are two
    /// databases then.
    pub enabled: bool,
    /// Name of the entry in `spec.externalClusters` that is followed; the same as in `bootstrap.fullRecovery.source`.
    /// Example: `origin`.
    #[schemars(length(min = 1, max = 63))]
    pub source: String,
}

impl ClusterSpec {
    /// The external cluster that is followed, while one is.
    #[must_use]
    pub fn follows(&self) -> Option<&str> {
        self.replica.as_ref().filter(|replica| replica.enabled).map(|replica| replica.source.as_str())
    }
}
