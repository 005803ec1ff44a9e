//! `ScheduledBackup`: backups at times given by a cron expression.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{BackupTarget, BackupType, DeletionPolicy, LocalObjectReference};

/// Backups of a cluster at regular times.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[kube(
    group = "postgresql.k8s.enterprisedb.io",
    version = "v1alpha1",
    kind = "ScheduledBackup",
    namespaced,
    status = "ScheduledBackupStatus",
    derive = "Default",
    derive = "PartialEq",
    category = "howdah",
    doc = "Backups of a cluster at regular times.",
    printcolumn(json_path = ".spec.schedule", name = "Schedule", type_ = "string"),
    printcolumn(json_path = ".spec.cluster.name", name = "Cluster", type_ = "string"),
    printcolumn(json_path = ".spec.suspend", name = "Suspend", type_ = "boolean"),
    printcolumn(json_path = ".status.active", name = "Active", type_ = "integer"),
    printcolumn(json_path = ".status.lastScheduleTime", name = "Last Schedule", type_ = "date"),
    printcolumn(json_path = ".status.nextScheduleTime", name = "Next", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBackupSpec {
    /// When backups are taken. Six fields: seconds, minutes, hours, day of month, month, day of week
    /// (`0 0 0 * * *` is every midnight). Five fields are read as crontab, without seconds (`30 2 * * *`).
    /// `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually` and `@every 90m` too.
    #[schemars(length(min = 1, max = 200))]
    pub schedule: String,
    /// The cluster to back up, in the same namespace. It cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("cluster cannot be changed: create another ScheduledBackup"))]
    pub cluster: LocalObjectReference,
    /// Time zone of the schedule, for example `Europe/Berlin`. Default: `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Take no backups for now. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Take one at once when this object is created. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immediate: Option<bool>,
    /// Owner of the Backups: `none` (they stay), `self` (they go with this object) or `cluster`.
    /// Default: `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_owner_reference: Option<BackupOwner>,
    /// The repository that receives the backups. Default: as for a Backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub repository: Option<String>,
    /// Type of the backups. Default: `full`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<BackupType>,
    /// How many Backups are created for one due time when they fail: after a failure another one follows, after one
    /// minute, then two, four and so on, until one completes, this many have failed or the next time is due.
    /// Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub attempts: Option<i32>,
    /// Which instance backups are read from. Default: the cluster's `backup.target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<BackupTarget>,
    /// Ask for an immediate checkpoint. Default: the cluster's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immediate_checkpoint: Option<bool>,
    /// What becomes of the data of a Backup when its object is deleted, by whomever: `Retain` or `Delete`.
    /// Default: `Retain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Completed Backup objects that are kept; older objects are deleted, their data stays in the store unless
    /// `deletionPolicy` is `Delete`. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub successful_backups_history_limit: Option<i32>,
    /// Failed Backup objects that are kept. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failed_backups_history_limit: Option<i32>,
}

/// Who owns the Backups of a schedule.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupOwner {
    /// Nobody.
    #[default]
    None,
    /// The ScheduledBackup.
    #[serde(rename = "self")]
    Itself,
    /// The Cluster.
    Cluster,
}

/// What is known about a schedule.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBackupStatus {
    /// When the schedule was last looked at with a decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check_time: Option<Time>,
    /// Due time of the last Backup that was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// Name of that Backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup_name: Option<String>,
    /// When the next one is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// The next three due times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_schedule_times: Vec<Time>,
    /// Number of Backups of this schedule that are not done.
    #[serde(default)]
    pub active: i32,
    /// What is wrong with the schedule, and the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `Scheduled`: due times can be computed, or why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
