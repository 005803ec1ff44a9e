//! How many files travel ahead of PostgreSQL's request.

/// Successes after which a pace that was lowered rises by one.
const RECOVERY: u32 = 8;

/// The number of files ahead: none while the queue is short, as many as allowed when it is long, fewer while the
/// store asks for fewer requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    most: usize,
    now: usize,
    successes: u32,
}

impl Pace {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self { most, now: most, successes: 0 }
    }

    /// Files that should be under way when so many wait behind the requested one. The very last is left to its own
    /// request: a server that keeps up needs no help, and its processors are PostgreSQL's.
    pub fn ahead(&self, waiting: usize) -> usize {
        self.now.min(waiting.saturating_sub(1))
    }

    /// A file was archived; `throttled` when the store asked for fewer requests meanwhile.
    pub fn done(&mut self, throttled: bool) {
        if throttled {
            self.now /= 2;
            self.successes = 0;
            return;
        }
        self.successes += 1;
        if self.successes >= RECOVERY && self.now < self.most {
            self.now += 1;
            self.successes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_decides() {
        let pace = Pace::new(8);
        assert_eq!([0, 1, 2, 5, 9, 100_000].map(|waiting| pace.ahead(waiting)), [0, 0, 1, 4, 8, 8]);
        assert_eq!(Pace::new(0).ahead(100), 0);
    }

    #[test]
    fn throttling_halves_and_success_restores() {
        let mut pace = Pace::new(8);
        pace.done(true);
        assert_eq!(pace.ahead(100), 4);
        for _ in 0..3 {
            pace.done(true);
        }
        assert_eq!(pace.ahead(100), 0);
        for _ in 0..8 * RECOVERY {
            pace.done(false);
        }
        assert_eq!(pace.ahead(100), 8);
        pace.done(false);
        assert_eq!(pace.ahead(100), 8);
    }
}
