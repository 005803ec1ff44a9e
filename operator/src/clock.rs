//! Time as an input. Decisions never look at a clock: the driver asks it once and hands the answer on, so that
//! tests choose the time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

/// Where the present time comes from.
pub trait Clock: Send + Sync {
    /// Wall-clock time, for what is written into objects.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment, never going back; for measuring how long something stayed the same.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// Starts at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { state: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves both readings on.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().expect("no holder of this lock can panic");
        state.0 += by;
        state.1 += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().expect("no holder of this lock can panic").0
    }

    fn elapsed(&self) -> Duration {
        self.state.lock().expect("no holder of this lock can panic").1
    }
}

/// Whole seconds only, as Kubernetes stores times: what is compared must survive a round trip.
#[must_use]
pub fn to_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
