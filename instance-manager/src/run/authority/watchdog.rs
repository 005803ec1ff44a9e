//! The last resort: a thread of its own that kills PostgreSQL when the lease ran out and nobody did anything about it,
//! because the rest of this process hangs or the whole pod was frozen for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::tenure::KILL;
use crate::run::replace::signals;

/// Pause between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// Time between telling the server to end and killing it.
const GRACE: Duration = Duration::from_secs(2);

/// What the thread looks at.
#[derive(Debug)]
pub struct Watchdog {
    origin: Instant,
    /// Milliseconds after `origin` at which it bites; 0: never.
    deadline: AtomicU64,
    /// Process id of the postmaster; 0: none.
    postmaster: AtomicI32,
    bit: AtomicBool,
}

impl Watchdog {
    /// Starts the thread. When none can be started, there is no last resort, and that is logged.
    #[must_use]
    pub fn start() -> Arc<Self> {
        let this = Arc::new(Self {
            origin: Instant::now(),
            deadline: AtomicU64::new(0),
            postmaster: AtomicI32::new(0),
            bit: AtomicBool::new(false),
        });
        let watching = Arc::downgrade(&this);
        let started = thread::Builder::new().name("watchdog".into()).stack_size(64 << 10).spawn(move || {
            signals::block();
            while let Some(this) = watching.upgrade() {
                this.look(Instant::now());
                drop(this);
                thread::sleep(EVERY);
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread for the watchdog of the primary's lease");
        }
        this
    }

    /// The server to kill; `None` when none runs.
    pub fn guard(&self, postmaster: Option<i32>) {
        self.postmaster.store(postmaster.unwrap_or(0), Ordering::SeqCst);
    }

    /// Lets it bite [`KILL`] after `since`; `None`: not at all.
    pub fn wind(&self, since: Option<Instant>) {
        let deadline = since.map_or(0, |since| {
            let after = (since + KILL).saturating_duration_since(self.origin).as_millis();
            u64::try_from(after).unwrap_or(u64::MAX).max(1)
        });
        self.deadline.store(deadline, Ordering::SeqCst);
    }

    /// Tells the server to end at once, and kills it when it still runs a moment later.
    pub fn bite(&self) {
        let pid = self.postmaster.load(Ordering::SeqCst);
        if pid == 0 {
            return;
        }
        let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        let soon = self.origin.elapsed() + GRACE;
        self.deadline.store(u64::try_from(soon.as_millis()).unwrap_or(u64::MAX).max(1), Ordering::SeqCst);
    }

    /// Whether it ever killed.
    #[must_use]
    pub fn has_bitten(&self) -> bool {
        self.bit.load(Ordering::SeqCst)
    }

    fn look(&self, now: Instant) {
        let (deadline, pid) = (self.deadline.load(Ordering::SeqCst), self.postmaster.load(Ordering::SeqCst));
        let past = u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX);
        if deadline == 0 || pid == 0 || past < deadline {
            return;
        }
        tracing::error!(pid, "the lease of the primary ran out: PostgreSQL is killed");
        self.bit.store(true, Ordering::SeqCst);
        // Its children notice at their next wait; what is left of them is killed before the next start (`pg::stale`).
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        self.deadline.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn it_kills_only_what_is_guarded_and_only_after_the_deadline() {
        let dog = Watchdog {
            origin: Instant::now(),
            deadline: AtomicU64::new(0),
            postmaster: AtomicI32::new(0),
            bit: AtomicBool::new(false),
        };
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let begin = dog.origin;
        dog.look(begin + KILL * 2);
        dog.wind(Some(begin));
        dog.look(begin + KILL * 2);
        dog.guard(i32::try_from(child.id()).ok());
        dog.look(begin + KILL - Duration::from_millis(1));
        assert!(!dog.has_bitten());
        dog.wind(None);
        dog.look(begin + KILL * 2);
        assert!(!dog.has_bitten() && child.try_wait().unwrap().is_none());
        dog.wind(Some(begin));
        dog.look(begin + KILL);
        assert!(dog.has_bitten());
        assert!(!child.wait().unwrap().success());
    }
}
