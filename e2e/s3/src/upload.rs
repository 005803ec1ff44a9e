//! What tests see of an upload.

use serde::Serialize;

/// A multipart upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UploadInfo {
    /// The upload's id.
    pub id: String,
    /// The key it will have.
    pub key: String,
    /// Number and size of each part that arrived.
    pub parts: Vec<(u32, u64)>,
}
