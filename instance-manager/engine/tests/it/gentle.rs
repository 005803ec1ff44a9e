//! Backups that hold back: rate limits and priorities, with a clock that jumps to what it is asked to wait for.

use crate::site::Site;
use async_trait::async_trait;
use howdah_engine::backup::Clock;
use howdah_engine::{Priority, RateLimits};
use rustix::process::getpriority_process;
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Time that passes only while somebody waits for it.
#[derive(Debug, Default)]
struct Waits(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    now: Duration,
    waits: u64,
    /// Niceness of those that asked, by whether they were a thread of the backup.
    niceness: BTreeSet<(bool, i32)>,
}

impl Waits {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("nobody panicked")
    }
}

#[async_trait]
impl Clock for Waits {
    fn now(&self) -> Duration {
        let mut seen = self.seen();
        let own = std::thread::current().name() == Some("howdah-backup");
        seen.niceness.insert((own, getpriority_process(None).expect("a niceness")));
        seen.now
    }

    async fn sleep_until(&self, moment: Duration) {
        let mut seen = self.seen();
        seen.waits += u64::from(moment > seen.now);
        seen.now = seen.now.max(moment);
    }
}

fn rate(bytes: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_keep_to_their_rate() {
    const RATE: u64 = 4 << 20;
    // A tenth of a second: more than one read.
    const BURST: u64 = RATE / 10;
    let site = Site::new().await;
    let primary = site.primary("reads");
    let clock = Arc::new(Waits::default());
    let mut request = site.backup_request(&primary, "reads");
    request.limits = RateLimits { read: rate(RATE), upload: None, clock: clock.clone() };
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));

    let seen = clock.seen();
    let allowed = RATE as u128 * seen.now.as_nanos() / 1_000_000_000 + u128::from(BURST);
    assert!(seen.waits > 0 && u128::from(result.database_bytes) <= allowed + 1, "{result:?} {seen:?}");
    // Nor is it slower than asked; the control file is read too and not counted.
    let read = u128::from(result.database_bytes - BURST + (64 << 10));
    assert!(seen.now.as_nanos() <= read * 1_000_000_000 / u128::from(RATE), "{result:?} {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_keep_to_theirs_and_only_the_backup_is_nice() {
    const RATE: u64 = 2 << 20;
    // One upload buffer.
    const BURST: u64 = 5 << 20;
    let site = Site::new().await;
    let primary = site.primary("uploads");
    let clock = Arc::new(Waits::default());
    let mut request = site.backup_request(&primary, "uploads");
    request.limits = RateLimits { read: rate(1 << 40), upload: rate(RATE), clock: clock.clone() };
    request.priority = Priority { niceness: Some(7), io: None };
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));

    let seen = clock.seen();
    let allowed = RATE as u128 * seen.now.as_nanos() / 1_000_000_000 + u128::from(BURST);
    assert!(seen.waits > 0 && u128::from(result.stored_bytes) <= allowed + 1, "{result:?} {seen:?}");
    let usual = getpriority_process(None).expect("a niceness");
    assert_eq!(seen.niceness, BTreeSet::from([(true, 7), (false, usual)]));
}
