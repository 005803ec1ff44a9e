//! Whose WAL an archive holds: `howdah/lineage.json`.

use serde::{Deserialize, Serialize};

/// The record of the database system that an archive belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// System identifier, as text because JSON numbers lose digits.
    #[serde(rename = "systemID")]
    pub system_id: String,
}
