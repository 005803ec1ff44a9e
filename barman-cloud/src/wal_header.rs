//! The head of a WAL segment: whose it is and where it belongs.
//!
//! The first page of each segment has PostgreSQL's long page header (`XLogLongPageHeaderData`): magic, flags,
//! timeline, page address, and then system identifier, segment size and block size, all in the byte order of the
//! server, little endian on every platform that Howdah runs on.

use crate::lsn::Lsn;

/// Bytes of the long page header.
pub const LONG_HEADER: usize = 40;
/// Flag of a long header.
const LONG: u16 = 0x0002;

/// What the first page of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Version mark of the WAL format.
    pub magic: u16,
    /// Timeline on which the page was written: that of the segment's name or an ancestor of it.
    pub timeline: u32,
    /// Position of the page.
    pub address: Lsn,
    /// System identifier of the server.
    pub system_id: u64,
    /// Bytes in a segment.
    pub segment_size: u32,
}

impl WalHeader {
    /// Reads the head of a segment; `None` when it is no WAL of PostgreSQL 10 or newer.
    pub fn parse(head: &[u8]) -> Option<Self> {
        let head = head.get(..LONG_HEADER)?;
        let two = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
        let four = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let eight = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let (magic, flags) = (two(0)?, two(2)?);
        if !(0xD090..=0xD1FF).contains(&magic) || flags & LONG == 0 {
            return None;
        }
        let segment_size = four(32)?;
        crate::wal_name::SegmentSize::new(u64::from(segment_size)).ok()?;
        Some(Self { magic, timeline: four(4)?, address: Lsn(eight(8)?), system_id: eight(24)?, segment_size })
    }
}

#[cfg(test)]
pub(crate) fn test_segment(system_id: u64, address: Lsn, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[..2].copy_from_slice(&0xD110u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&LONG.to_le_bytes());
    bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&address.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&system_id.to_le_bytes());
    bytes[32..36].copy_from_slice(&(size as u32).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192u32.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_segment_is_read() {
        let segment = test_segment(7_710_429_130_419_897_343, Lsn(0x400_0000), 1 << 20);
        let header = WalHeader::parse(&segment).expect("a long header");
        assert_eq!((header.system_id, header.segment_size), (7_710_429_130_419_897_343, 1 << 20));
        assert_eq!((header.address, header.timeline), (Lsn(0x400_0000), 1));
    }

    #[test]
    fn other_bytes_are_none() {
        assert_eq!(WalHeader::parse(&[0; 100]), None);
        let mut segment = test_segment(1, Lsn(0), 1 << 20);
        assert_eq!(WalHeader::parse(&segment[..39]), None);
        segment[2] = 0;
        assert_eq!(WalHeader::parse(&segment), None);
    }
}
