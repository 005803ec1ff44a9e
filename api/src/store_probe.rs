//! What a probe of a store found.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a store can do, tried out when the repository appears, when its settings change, and again while something
/// does not work.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreProbe {
    /// When it was tried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Whether all that is needed works.
    #[serde(default)]
    pub works: bool,
    /// What works, in single words, for example `List`, `Put`, `Multipart`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported: Vec<String>,
    /// What does not work or is done without, each with what that means.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<StoreFinding>,
}

/// One thing that a store does not do.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreFinding {
    /// What was tried, for example `Delete`.
    pub operation: String,
    /// `Failed`, `NotSupported` or `Untried`.
    pub outcome: String,
    /// What that means.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
