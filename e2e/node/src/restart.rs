//! When a container that ended runs again. Pure: times are handed in.

use std::time::Duration;

/// How long a container that keeps failing is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the second failure; the first restart is immediate.
    pub initial: Duration,
    /// The longest wait; each failure doubles it up to here.
    pub max: Duration,
    /// A run this long forgets the failures before it.
    pub reset_after: Duration,
}

impl Default for Backoff {
    /// The kubelet's values.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(10),
            max: Duration::from_secs(300),
            reset_after: Duration::from_secs(600),
        }
    }
}

/// A pod's restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    pub fn of(name: Option<&str>) -> Self {
        match name {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with `code` runs again. Init containers are done when they succeed.
    pub fn restarts(self, code: i32, init: bool) -> bool {
        match self {
            Self::Always => !init || code != 0,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// The failures of one container so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct History {
    failures: u32,
}

impl History {
    /// Notes that a run ended after `ran` and says how long to wait before the next.
    pub fn next_wait(&mut self, backoff: &Backoff, ran: Duration) -> Duration {
        if ran >= backoff.reset_after {
            self.failures = 0;
        }
        self.failures += 1;
        if self.failures == 1 {
            return Duration::ZERO;
        }
        let doublings = (self.failures - 2).min(16);
        backoff.initial.saturating_mul(1 << doublings).min(backoff.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        for (policy, code, init, expected) in [
            (Policy::Always, 0, false, true),
            (Policy::Always, 0, true, false),
            (Policy::Always, 1, true, true),
            (Policy::OnFailure, 0, false, false),
            (Policy::OnFailure, 1, false, true),
            (Policy::Never, 1, false, false),
            (Policy::Never, 1, true, false),
        ] {
            assert_eq!(policy.restarts(code, init), expected, "{policy:?} {code} {init}");
        }
        assert_eq!(Policy::of(None), Policy::Always);
    }

    #[test]
    fn waits_double_and_are_forgotten() {
        let backoff = Backoff::default();
        let mut history = History::default();
        let seconds: Vec<u64> =
            (0..8).map(|_| history.next_wait(&backoff, Duration::from_secs(1)).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(history.next_wait(&backoff, Duration::from_secs(600)), Duration::ZERO);
        assert_eq!(history.next_wait(&backoff, Duration::from_secs(1)).as_secs(), 10);
    }
}
