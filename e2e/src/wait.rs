//! Waiting on conditions. The bound is generous: it ends a hang, it measures nothing.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// Asks `probe` again and again until it answers `Some`; an error of the probe counts as "not yet" and is told
/// when time runs out.
///
/// # Errors
/// After `limit`, with the last error or the words "not yet".
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        let last = match probe().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("gave up waiting after {limit:?} for {what}: {last}");
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Minutes, as a bound for a wait.
#[must_use]
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}
