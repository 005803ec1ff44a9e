//! Rate limits: a token bucket that all workers of a backup share.
//!
//! [`Bucket`] is accounting alone and is told the time. [`Limits`] waits by a [`Clock`], and gives up when the backup
//! is cancelled.

use super::request::RateLimits;
use crate::error::{Error, Result};
use async_trait::async_trait;
use std::fmt::Debug;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// A bucket holds at least what flows in within this fraction of a second, so that a wait that ends late is made
/// good.
const BURSTS_PER_SECOND: u64 = 10;

/// The time as a limit sees it. A moment is the time since a fixed point in the past.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// The moment now.
    fn now(&self) -> Duration;
    /// Returns at `moment` or later; at once when it is over.
    async fn sleep_until(&self, moment: Duration);
}

/// The time of the system.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep_until(&self, moment: Duration) {
        tokio::time::sleep_until((self.0 + moment).into()).await;
    }
}

/// A token bucket. What may move in any span of time is the rate times the span and one burst more.
#[derive(Debug)]
pub struct Bucket {
    /// Bytes per second.
    rate: NonZeroU64,
    /// Time in which an empty bucket fills.
    depth: Duration,
    /// When it is full, provided that nothing more is taken.
    full_at: Duration,
}

impl Bucket {
    /// A full bucket. Its burst is `largest`, the most that is ever taken at once, or a tenth of a second's bytes
    /// when that is more.
    pub fn new(rate: NonZeroU64, largest: u64) -> Self {
        let burst = largest.max(rate.get() / BURSTS_PER_SECOND);
        Self { rate, depth: span(burst, rate), full_at: Duration::ZERO }
    }

    /// Takes `bytes` at the moment `now`; they may move from the moment on that is returned. Whoever comes first is
    /// served first, so everyone is served.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        self.full_at = self.full_at.max(now).saturating_add(span(bytes, self.rate));
        self.full_at.saturating_sub(self.depth).max(now)
    }
}

/// Time that `bytes` take, rounded up.
fn span(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate.get()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The limits of one backup; clones share them.
#[derive(Debug, Clone)]
pub struct Limits {
    read: Option<Arc<Mutex<Bucket>>>,
    upload: Option<Arc<Mutex<Bucket>>>,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    runtime: Handle,
}

impl Limits {
    /// Limits as asked for, of a backup that reads and uploads at most so many bytes at once. Call it within the
    /// runtime.
    pub fn new(asked: &RateLimits, read: u64, upload: u64, cancel: CancellationToken) -> Self {
        let bucket = |rate: Option<NonZeroU64>, largest| {
            rate.map(|rate| Arc::new(Mutex::new(Bucket::new(rate, largest))))
        };
        Self {
            read: bucket(asked.read, read),
            upload: bucket(asked.upload, upload),
            clock: Arc::clone(&asked.clock),
            cancel,
            runtime: Handle::current(),
        }
    }

    /// Waits until `bytes` may be read; call it on a thread of its own only.
    pub fn read(&self, bytes: usize) -> Result<()> {
        match &self.read {
            None => Ok(()),
            Some(bucket) => self.runtime.block_on(self.pass(bucket, bytes as u64)),
        }
    }

    /// Waits until `bytes` may be sent.
    pub async fn upload(&self, bytes: u64) -> Result<()> {
        match &self.upload {
            None => Ok(()),
            Some(bucket) => self.pass(bucket, bytes).await,
        }
    }

    async fn pass(&self, bucket: &Mutex<Bucket>, bytes: u64) -> Result<()> {
        let moment = {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(bytes, self.clock.now())
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            () = self.clock.sleep_until(moment) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANOS: u128 = 1_000_000_000;

    proptest! {
        /// In any window: the rate, and one burst. Rounding is worth a nanosecond at most.
        #[test]
        fn no_window_holds_more_than_the_rate_and_one_burst(
            rate in 1_u64..1 << 40,
            largest in 1_u64..1 << 24,
            requests in prop::collection::vec((0_u64..1 << 24, 0_u64..3_000_000_000), 1..60),
        ) {
            let rate = NonZeroU64::new(rate).expect("not zero");
            let mut bucket = Bucket::new(rate, largest);
            let burst = largest.max(rate.get() / BURSTS_PER_SECOND);
            let mut now = Duration::ZERO;
            let mut granted: Vec<(Duration, u64)> = Vec::new();
            for (bytes, pause) in requests {
                let bytes = bytes.min(largest);
                now += Duration::from_nanos(pause);
                let moment = bucket.take(bytes, now);
                prop_assert!(moment >= now);
                // First come, first served: nobody is overtaken, so nobody waits for ever.
                prop_assert!(granted.last().is_none_or(|(last, _)| moment >= *last));
                granted.push((moment, bytes));
            }
            for (first, (from, _)) in granted.iter().enumerate() {
                let mut sum = 0_u128;
                for (until, bytes) in &granted[first..] {
                    sum += u128::from(*bytes);
                    let window = until.saturating_sub(*from).as_nanos() + 1;
                    let allowed = u128::from(rate.get()) * window / NANOS + u128::from(burst) + 1;
                    prop_assert!(sum <= allowed, "{sum} bytes in {window} ns, {allowed} allowed");
                }
            }
        }

        /// The other side: what is asked for without a pause is served at the rate, not slower.
        #[test]
        fn a_busy_bucket_gives_all_of_its_rate(
            rate in 1_u64..1 << 40,
            chunk in 1_u64..1 << 24,
            count in 1_u64..200,
        ) {
            let rate = NonZeroU64::new(rate).expect("not zero");
            let mut bucket = Bucket::new(rate, chunk);
            let mut moment = Duration::ZERO;
            for _ in 0..count {
                moment = bucket.take(chunk, moment);
            }
            let ideal = u128::from(chunk * count) * NANOS / u128::from(rate.get());
            prop_assert!(moment.as_nanos() <= ideal + u128::from(count), "{moment:?}");
        }
    }

    #[test]
    fn an_idle_bucket_saves_one_burst_and_no_more() {
        let rate = NonZeroU64::new(100).expect("not zero");
        let mut bucket = Bucket::new(rate, 50);
        let hour = Duration::from_secs(3600);
        assert_eq!(bucket.take(50, hour), hour);
        assert_eq!(bucket.take(50, hour), hour + Duration::from_millis(500));
        assert_eq!(bucket.take(25, hour + Duration::from_secs(2)), hour + Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_backup_is_cancelled() {
        let slow =
            RateLimits { read: NonZeroU64::new(1), upload: NonZeroU64::new(1), ..RateLimits::default() };
        let cancel = CancellationToken::new();
        let limits = Limits::new(&slow, 1 << 20, 1 << 20, cancel.clone());
        limits.upload(1 << 20).await.expect("the first burst is free");
        let reader = {
            let limits = limits.clone();
            tokio::task::spawn_blocking(move || (limits.read(1 << 20).is_ok(), limits.read(1 << 20)))
        };
        let sender = tokio::spawn(async move { limits.upload(1 << 20).await });
        cancel.cancel();
        assert_eq!(sender.await.expect("joins").expect_err("cancelled").kind(), crate::ErrorKind::Cancelled);
        let (_, read) = reader.await.expect("joins");
        assert_eq!(read.expect_err("cancelled").kind(), crate::ErrorKind::Cancelled);
    }
}
