//! A restore that tells in the log how far it is, and ends when nobody waits for it any more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use howdah_engine::{Phase, Progress, RestoreRequest};
use tokio_util::sync::CancellationToken;

use crate::error::Result;

/// How often progress is written to the log.
const EVERY: Duration = Duration::from_secs(10);

/// Restores what `request` asks for.
///
/// # Errors
/// As [`howdah_engine::restore::run`].
pub async fn run(request: RestoreRequest) -> Result<()> {
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    let progress = Arc::new(Progress::with_callback(|phase: &Phase| tracing::info!(?phase, "restore")));
    let result = tokio::select! {
        result = howdah_engine::restore::run(request, progress.clone(), cancel) => result?,
        never = log(&progress) => match never {},
    };
    tracing::info!(
        backup = %result.plan.backup_id, files = result.files, bytes = result.bytes, kept_files = result.kept_files,
        kept_bytes = result.kept_bytes, fetched_bytes = result.fetched_bytes, verified = result.verified,
        "the backup is restored"
    );
    Ok(())
}

async fn log(progress: &Progress) -> Infallible {
    let mut before = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let (done, total) = (progress.bytes_done(), progress.bytes_total());
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0).min(100);
        let bytes_per_second = done.saturating_sub(before) / EVERY.as_secs();
        tracing::info!(percent, bytes_done = done, bytes_total = total, bytes_per_second, "restoring");
        before = done;
    }
}
