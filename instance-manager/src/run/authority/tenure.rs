//! When the lease of the primary may be taken, and when it is over. Pure: times are given.
//!
//! All spans are measured on this process's own monotonic clock; the time in the lease is for people. Clocks of different
//! machines need not agree, they only have to run at about the same speed.

use std::time::{Duration, Instant};

use howdah_api::naming::PRIMARY_LEASE_SECONDS;

/// How long the lease lasts after it was renewed.
pub const LEASE: Duration = Duration::from_secs(PRIMARY_LEASE_SECONDS as u64);
/// Pause between two renewals.
pub const RENEW: Duration = Duration::from_secs(3);
/// A primary that could neither renew the lease nor have its peers' word for so long stops PostgreSQL. What is left of
/// [`LEASE`] is the time that this may take.
pub const FENCE: Duration = Duration::from_secs(10);
/// After this the watchdog kills, whatever the rest of the process is doing.
pub const KILL: Duration = Duration::from_secs(13);

/// What a lease looked like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; empty when nobody does.
    pub holder: String,
    /// When it was renewed, in the holder's own words.
    pub renewed: String,
}

/// Watches somebody else's lease.
#[derive(Debug, Default)]
pub struct Observation(Option<(Seen, Instant)>);

/// Whether a lease may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is free, one's own, or its holder has not renewed it for as long as it lasts.
    Free,
    /// Somebody else holds it.
    Held {
        /// Who.
        by: String,
        /// Longest time until it is free, unless it is renewed.
        left: Duration,
    },
}

impl Observation {
    /// Judges what was seen at `now`.
    pub fn judge(&mut self, seen: Seen, me: &str, now: Instant) -> Claim {
        if seen.holder.is_empty() || seen.holder == me {
            self.0 = None;
            return Claim::Free;
        }
        let since = match &self.0 {
            Some((known, since)) if *known == seen => *since,
            _ => now,
        };
        let by = seen.holder.clone();
        self.0 = Some((seen, since));
        let left = LEASE.saturating_sub(now.saturating_duration_since(since));
        if left.is_zero() { Claim::Free } else { Claim::Held { by, left } }
    }
}

/// One's own time as the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Begin of the last renewal that succeeded, or of the last round of questions in which all peers gave their word.
    since: Instant,
}

impl Tenure {
    /// Begins with a lease that was written after `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now }
    }

    /// A renewal that began at `begun` succeeded, or all peers gave their word to questions that were asked from then on.
    pub fn extend(&mut self, begun: Instant) {
        self.since = self.since.max(begun);
    }

    /// From when on it is in force.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Time until it is over.
    #[must_use]
    pub fn left(&self, now: Instant) -> Duration {
        FENCE.saturating_sub(now.saturating_duration_since(self.since()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, renewed: &str) -> Seen {
        Seen { holder: holder.into(), renewed: renewed.into() }
    }

    #[test]
    fn a_lease_is_free_when_it_stood_still_for_as_long_as_it_lasts() {
        let (mut observation, begin) = (Observation::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let held = |left: u64| Claim::Held { by: "pg-1/a".into(), left: Duration::from_secs(left) };
        assert_eq!(observation.judge(seen("pg-1/a", "1"), "pg-2/b", at(0)), held(15));
        assert_eq!(observation.judge(seen("pg-1/a", "1"), "pg-2/b", at(14)), held(1));
        // It was renewed in the last moment.
        assert_eq!(observation.judge(seen("pg-1/a", "2"), "pg-2/b", at(15)), held(15));
        assert_eq!(observation.judge(seen("pg-1/a", "2"), "pg-2/b", at(29)), held(1));
        assert_eq!(observation.judge(seen("pg-1/a", "2"), "pg-2/b", at(30)), Claim::Free);
        // Another pod of the same name is somebody else.
        assert_eq!(
            observation.judge(seen("pg-2/a", "2"), "pg-2/b", at(31)),
            Claim::Held { by: "pg-2/a".into(), left: LEASE }
        );
        assert_eq!(observation.judge(seen("", "2"), "pg-2/b", at(32)), Claim::Free);
        assert_eq!(observation.judge(seen("pg-2/b", "3"), "pg-2/b", at(33)), Claim::Free);
    }

    #[test]
    fn a_tenure_lasts_from_the_begin_of_what_succeeded() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut tenure = Tenure::new(at(0));
        let left = |tenure: &Tenure, now: u64| tenure.left(at(now)).as_secs();
        assert_eq!((left(&tenure, 0), left(&tenure, 9), left(&tenure, 10)), (10, 1, 0));
        tenure.extend(at(8));
        assert_eq!((left(&tenure, 9), left(&tenure, 17), left(&tenure, 18)), (9, 1, 0));
        tenure.extend(at(16));
        // An answer that comes late counts from when it was asked for.
        tenure.extend(at(12));
        assert_eq!((left(&tenure, 25), left(&tenure, 26), left(&tenure, 40)), (1, 0, 0));
    }

    #[test]
    fn who_stops_is_down_before_anybody_else_may_begin() {
        assert!(RENEW < FENCE && FENCE < KILL && KILL < LEASE);
    }
}
