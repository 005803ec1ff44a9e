//! How long backups and WAL stay, and what retention has decided.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which backups of a repository are kept. Rules add up: a backup stays when any of them keeps it. WAL stays as long as a
/// kept backup needs it. The newest full backup that can be restored, what kept backups build on, pinned backups and what
/// a restore reads are never deleted.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.full) || has(self.recoveryWindow) || has(self.daily) || has(self.weekly) || has(self.monthly) || has(self.differential)")
    .message("give a rule: full, recoveryWindow, daily, weekly, monthly or differential; without retention everything is kept"))]
pub struct Retention {
    /// Full backups, by number or by age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<FullRetention>,
    /// Number of newest differential backups. Default: all that build on a kept full one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub differential: Option<u32>,
    /// Every moment of this time can be recovered: days, weeks or months, for example `30d`, `4w` or `6m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 8))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]*[dwm]$')").message("recoveryWindow must be a number of days, weeks or months, for example 30d, 4w or 6m"))]
    pub recovery_window: Option<String>,
    /// The newest full backup of each of the last so many days (UTC) that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub daily: Option<u32>,
    /// The newest full backup of each of the last so many weeks (from Monday) that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub weekly: Option<u32>,
    /// The newest full backup of each of the last so many months that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub monthly: Option<u32>,
    /// Complete full backups are never made fewer than this. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub minimum_redundancy: Option<u32>,
    /// Only make the plan and show it in the status; delete nothing. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// Which full backups are kept.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.count) != has(self.age)").message("give either count or age"))]
pub struct FullRetention {
    /// The newest so many. Example: `7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub count: Option<u32>,
    /// Those that are not older, and the newest that is, so that all of the time can be recovered. Example: `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 8))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]*[dwm]$')").message("age must be a number of days, weeks or months, for example 30d, 4w or 6m"))]
    pub age: Option<String>,
}

/// What retention decided and did the last time.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionStatus {
    /// The policy in words.
    pub policy: String,
    /// When the plan was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_time: Option<Time>,
    /// Backups that stay and why, the newest fifty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<JudgedBackup>,
    /// Backups that may go and why, the first fifty: with `dryRun`, or because the store did not delete them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletable: Vec<JudgedBackup>,
    /// WAL objects that may go.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deletable_wal_files: u64,
    /// Backups deleted by the last run that deleted something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<String>,
    /// WAL objects deleted by that run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted_wal_files: u64,
    /// When that run was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_time: Option<Time>,
    /// What was not deleted though it should have been, or why no plan could be made; and the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A backup and what was decided about it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgedBackup {
    /// Id.
    pub id: String,
    /// `full`, `differential` or `incremental`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Why.
    pub reason: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
