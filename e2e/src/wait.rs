//! Waiting on conditions. The bound is generous: it ends a hang, it measures nothing.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail};
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

/// Watches for so long that something stays as it is: for what must not happen, and may come late.
///
/// # Errors
/// What `look` says, as soon as it says so.
pub async fn holds<F, Fut>(what: &str, time: Duration, mut look: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let start = Instant::now();
    while start.elapsed() < time {
        look().await.with_context(|| format!("{what} held for {:?} only", start.elapsed()))?;
        sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

/// Minutes, as a bound for a wait.
#[must_use]
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}
