//! A restore from beginning to end.

use super::request::{RestorePlan, RestoreRequest, RestoreResult};
use crate::error::Result;
use crate::progress::Progress;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Chooses the backup and checks that everything is in the store: every part, every segment from begin to end,
/// and as far as names and history files can tell the way to the target. Reads metadata only, writes nothing.
pub async fn plan(request: &RestoreRequest) -> Result<RestorePlan> {
    todo!()
}

/// Restores into `request.pgdata`. May be run again after a crash: what an interrupted run left is cleaned, a
/// finished one is recognised until PostgreSQL has been started on it.
pub async fn run(
    request: RestoreRequest,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<RestoreResult> {
    todo!()
}
