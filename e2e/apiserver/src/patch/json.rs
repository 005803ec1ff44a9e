//! JSON patch (RFC 6902).

use serde_json::Value;

use crate::status::{ApiError, ApiResult};

/// Carries out a JSON patch.
pub fn apply(target: &mut Value, patch: &Value) -> ApiResult<()> {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    json_patch::patch(target, &operations).map_err(|_| ApiError::patch_rejected())
}
