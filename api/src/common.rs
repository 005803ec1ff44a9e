//! Small types used by several resources.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names another object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalObjectReference {
    /// Name of the object, for example `pg-backup`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Names one key of a Secret in the same namespace. The key's name is free.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeySelector {
    /// Name of the Secret, for example `aws-creds`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key inside the Secret, for example `ACCESS_KEY_ID`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Which instance a base backup is read from.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BackupTarget {
    /// The primary.
    Primary,
    /// The most advanced ready replica; the primary when there is none.
    #[default]
    PreferStandby,
}

/// What becomes of a backup's data when its Backup object is deleted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays in the repository.
    #[default]
    Retain,
    /// It is deleted from the repository.
    Delete,
}

/// What a backup holds.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    /// Everything.
    #[default]
    Full,
    /// What changed since the last full backup.
    Differential,
    /// What changed since the last backup of any type.
    Incremental,
}

impl BackupType {
    /// The word in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Differential => "differential",
            Self::Incremental => "incremental",
        }
    }
}
