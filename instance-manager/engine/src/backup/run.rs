//! A base backup from beginning to end.

use super::request::{BackupRequest, BackupResult, PrimaryWal};
use crate::error::Result;
use crate::progress::Progress;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Takes a base backup. Returns only when it is restorable: parts, WAL from begin to end, manifest and
/// `backup.info` were confirmed in the store. On failure or cancellation nothing of it stays but a `backup.info`
/// with FAILED (when the store can be reached).
pub async fn run(
    request: BackupRequest,
    primary: Arc<dyn PrimaryWal>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<BackupResult> {
    todo!()
}
