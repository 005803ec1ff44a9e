//! Names of files in the write-ahead log archive.
//!
//! A segment name is timeline, high part and low part, eight hexadecimal digits each; how far the low part counts
//! depends on the segment size (1 MiB to 1 GiB, a power of two, fixed at initdb). Besides segments the archive
//! holds partial segments, backup labels and timeline history files. Hexadecimal is read in either case and
//! written in upper case.

use crate::error::{Error, Result};
use crate::lsn::Lsn;
use std::fmt;
use std::str::FromStr;

/// Bytes in a WAL segment: a power of two from 1 MiB to 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// PostgreSQL's default, 16 MiB.
    pub const DEFAULT: Self = Self(16 << 20);
    /// The smallest, 1 MiB.
    pub const MIN: Self = Self(1 << 20);
    /// The largest, 1 GiB.
    pub const MAX: Self = Self(1 << 30);

    /// Checks a size in bytes.
    pub fn new(bytes: u64) -> Result<Self> {
        u32::try_from(bytes)
            .ok()
            .filter(|size| size.is_power_of_two() && (Self::MIN.0..=Self::MAX.0).contains(size))
            .map(Self)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "{bytes} bytes is not a WAL segment size (a power of two from 1 MiB to 1 GiB)"
                ))
            })
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Segments that share the high part of the name.
    pub fn segments_per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

impl Default for SegmentSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A complete WAL segment. Ordered as the names are: by timeline, then by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Timeline.
    pub timeline: u32,
    /// High part of the position, the second eight digits.
    pub log: u32,
    /// Number within `log`, the last eight digits.
    pub seg: u32,
}

impl Segment {
    /// The segment with this running number.
    pub fn from_number(timeline: u32, number: u64, size: SegmentSize) -> Self {
        let per_log = size.segments_per_log();
        // `number` counts segments of at least 1 MiB in 64 bits of address space, so both parts fit in 32 bits.
        Self { timeline, log: (number / per_log) as u32, seg: (number % per_log) as u32 }
    }

    /// The segment that holds the byte at `lsn`. On a boundary this is the segment that begins there: Barman's
    /// rule for both `begin_wal` and `end_wal`.
    pub fn containing(timeline: u32, lsn: Lsn, size: SegmentSize) -> Self {
        Self::from_number(timeline, lsn.0 / size.bytes(), size)
    }

    /// The segment that holds the last byte before `lsn`: on a boundary the one that ends there. This is the last
    /// segment that recovery up to `lsn` must read.
    pub fn ending_at(timeline: u32, lsn: Lsn, size: SegmentSize) -> Self {
        Self::from_number(timeline, lsn.0.saturating_sub(1) / size.bytes(), size)
    }

    /// Running number of the segment, counted from 0.
    pub fn number(self, size: SegmentSize) -> u64 {
        u64::from(self.log) * size.segments_per_log() + u64::from(self.seg)
    }

    /// Position of the first byte.
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.number(size) * size.bytes())
    }

    /// Whether the low part can occur with this segment size.
    pub fn fits(self, size: SegmentSize) -> bool {
        u64::from(self.seg) < size.segments_per_log()
    }

    /// The next segment on the same timeline.
    pub fn next(self, size: SegmentSize) -> Self {
        Self::from_number(self.timeline, self.number(size).wrapping_add(1), size)
    }

    /// The previous segment on the same timeline; `None` for the very first.
    pub fn prev(self, size: SegmentSize) -> Option<Self> {
        let number = self.number(size).checked_sub(1)?;
        Some(Self::from_number(self.timeline, number, size))
    }

    /// The same position on another timeline.
    #[must_use]
    pub fn on_timeline(self, timeline: u32) -> Self {
        Self { timeline, ..self }
    }

    /// Name of the directory that Barman puts the segment in: the first 16 digits.
    pub fn hash_dir(self) -> String {
        format!("{:08X}{:08X}", self.timeline, self.log)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline, self.log, self.seg)
    }
}

fn hex8(text: &str) -> Option<u32> {
    if text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        u32::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

fn parse_segment(text: &str) -> Option<Segment> {
    if text.len() != 24 || !text.is_ascii() {
        return None;
    }
    Some(Segment { timeline: hex8(&text[..8])?, log: hex8(&text[8..16])?, seg: hex8(&text[16..])? })
}

impl FromStr for Segment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_segment(text).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not a WAL segment name (24 hexadecimal digits)"))
        })
    }
}

/// Anything that PostgreSQL archives, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalName {
    /// A complete segment.
    Segment(Segment),
    /// The last, unfinished segment of a timeline: `<segment>.partial`.
    Partial(Segment),
    /// Backup label kept with the WAL: `<segment>.<offset>.backup`.
    BackupLabel {
        /// Segment in which the backup began.
        segment: Segment,
        /// Byte offset in that segment.
        offset: u32,
    },
    /// Timeline history: `<timeline>.history`.
    History(u32),
}

impl WalName {
    /// The segment that the file belongs to; `None` for a history file.
    pub fn segment(self) -> Option<Segment> {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::BackupLabel { segment, .. } => {
                Some(segment)
            }
            Self::History(_) => None,
        }
    }

    /// The timeline in the name.
    pub fn timeline(self) -> u32 {
        match self {
            Self::History(timeline) => timeline,
            Self::Segment(s) | Self::Partial(s) | Self::BackupLabel { segment: s, .. } => s.timeline,
        }
    }

    /// Whether the file must have exactly the length of a segment.
    pub fn has_segment_size(self) -> bool {
        matches!(self, Self::Segment(_) | Self::Partial(_))
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::BackupLabel { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
            Self::History(timeline) => write!(f, "{timeline:08X}.history"),
        }
    }
}

impl From<Segment> for WalName {
    fn from(segment: Segment) -> Self {
        Self::Segment(segment)
    }
}

impl FromStr for WalName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.split_once('.') {
            None => parse_segment(text).map(Self::Segment),
            Some((stem, "partial")) => parse_segment(stem).map(Self::Partial),
            Some((stem, "history")) => hex8(stem).map(Self::History),
            Some((stem, rest)) => rest.strip_suffix(".backup").and_then(|offset| {
                Some(Self::BackupLabel { segment: parse_segment(stem)?, offset: hex8(offset)? })
            }),
        };
        parsed.ok_or_else(|| {
            Error::invalid(format!(
                "{text:?} is not the name of a WAL segment, a partial segment, a backup label or a timeline history"
            ))
        })
    }
}

/// The segments from `begin` to `end`, both included, on one timeline.
#[derive(Debug, Clone)]
pub struct SegmentRange {
    timeline: u32,
    next: u64,
    last: u64,
    size: SegmentSize,
}

impl SegmentRange {
    /// Refuses segments of two timelines, an end before the begin, and names that the size does not allow.
    pub fn new(begin: Segment, end: Segment, size: SegmentSize) -> Result<Self> {
        if begin.timeline != end.timeline {
            return Err(Error::invalid(format!("{begin} and {end} are on different timelines")));
        }
        if let Some(bad) = [begin, end].into_iter().find(|segment| !segment.fits(size)) {
            return Err(Error::invalid(format!(
                "{bad} does not exist with segments of {} bytes",
                size.bytes()
            )));
        }
        let (next, last) = (begin.number(size), end.number(size));
        if last < next {
            return Err(Error::invalid(format!("{end} is before {begin}")));
        }
        Ok(Self { timeline: begin.timeline, next, last, size })
    }

    /// Segments still to come.
    pub fn remaining(&self) -> u64 {
        (self.last + 1).saturating_sub(self.next)
    }
}

impl Iterator for SegmentRange {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if self.next > self.last {
            return None;
        }
        let segment = Segment::from_number(self.timeline, self.next, self.size);
        self.next += 1;
        Some(segment)
    }
}

#[cfg(test)]
mod tests;
