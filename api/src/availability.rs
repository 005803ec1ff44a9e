//! Settings of a Cluster that keep it up: synchronous replication, how changes are rolled out.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose confirmation a synchronous commit waits for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SynchronousMethod {
    /// Any `number` of the replicas, whichever are fastest.
    #[default]
    Any,
    /// The first `number` of the list that are connected.
    First,
}

/// What happens to commits when there are fewer replicas than they wait for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataDurability {
    /// They wait: nothing that was acknowledged can be lost.
    #[default]
    Required,
    /// They go on with as many as are ready, none at worst.
    Preferred,
}

/// Synchronous replication.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SynchronousReplication {
    /// `any` or `first`. Default: `any`.
    #[serde(default)]
    pub method: SynchronousMethod,
    /// How many replicas must have a transaction before it is acknowledged. Less than `instances`.
    #[schemars(range(min = 1, max = 99))]
    pub number: i32,
    /// `required`: commits wait while too few replicas are there. `preferred`: they go on with those that are ready.
    /// Default: `required`.
    #[serde(default)]
    pub data_durability: DataDurability,
}

/// Who begins the last step of a rolling change, the one that touches the primary.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrimaryUpdateStrategy {
    /// The operator, as soon as all replicas are done.
    #[default]
    Unsupervised,
    /// A person, by a switchover.
    Supervised,
}

/// Where a new replica's data comes from.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaSource {
    /// From the newest backup where that is cheaper, else from the primary.
    #[default]
    Auto,
    /// Always from the primary.
    Primary,
    /// From the newest backup, and from the primary only when no backup can serve.
    Backup,
}

/// How the primary is changed by a rolling change.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrimaryUpdateMethod {
    /// It is restarted in its place.
    #[default]
    Restart,
    /// The most advanced replica becomes the primary first.
    Switchover,
}
