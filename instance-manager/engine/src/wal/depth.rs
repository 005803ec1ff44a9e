//! How far fetching runs ahead of replay.

/// Most bytes of segments fetched ahead.
const MOST_BYTES: u64 = 512 << 20;
/// The share of the free space that may be used, as a divisor: the volume is not ours alone.
const SHARE: u64 = 4;
/// Windows are at most this many times as long as files are fetched at a time.
const LONGEST: usize = 4;

/// The number of segments ahead: it grows while replay has to wait for segments that are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    now: usize,
    most: usize,
}

impl Depth {
    /// Begins with as many as are fetched at a time; none means that nothing is fetched ahead.
    pub fn new(parallel: usize) -> Self {
        Self { now: parallel, most: parallel * LONGEST }
    }

    /// Replay asked for a segment that was not complete.
    pub fn waited(&mut self) {
        self.now = (self.now + 1).min(self.most);
    }

    /// Segments of `size` bytes that may be ahead, when `held` are and `free` bytes are free.
    pub fn segments(&self, size: u64, held: usize, free: u64) -> usize {
        let room = usize::try_from(free / SHARE / size).unwrap_or(usize::MAX);
        let most = usize::try_from(MOST_BYTES / size).unwrap_or(usize::MAX).max(1);
        self.now.min(held.saturating_add(room)).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_and_size_bound_the_window() {
        let mut depth = Depth::new(7);
        let (mib, gib) = (1 << 20, 1 << 30);
        assert_eq!(depth.segments(16 * mib, 0, 100 * gib), 7);
        assert_eq!(depth.segments(16 * mib, 0, 128 * mib), 2);
        assert_eq!(depth.segments(16 * mib, 2, 128 * mib), 4);
        assert_eq!(depth.segments(16 * mib, 0, 16 * mib), 0);
        assert_eq!(depth.segments(gib, 0, 100 * gib), 1);
        assert_eq!(depth.segments(gib, 0, 2 * gib), 0);
        for _ in 0..100 {
            depth.waited();
        }
        assert_eq!(depth.segments(16 * mib, 0, 100 * gib), 28);
        assert_eq!(depth.segments(64 * mib, 0, 100 * gib), 8);
        assert_eq!(Depth::new(0).segments(mib, 0, gib), 0);
    }
}
