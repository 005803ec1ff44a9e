//! Writing the head of a file of changed blocks; the blocks follow it as they are.

use super::{MAGIC, header_size};
use roaring::RoaringBitmap;

/// Bytes of a file with so many blocks of `page` bytes.
pub fn file_size(blocks: u64, page: u64) -> u64 {
    header_size(blocks, page) + blocks * page
}

/// Everything before the first block. Block numbers count from the start of the file. `truncation` is the number of
/// blocks that the file had: of older copies nothing at or after it is valid.
pub fn header(blocks: &RoaringBitmap, truncation: u32, page: u64) -> Vec<u8> {
    let size = header_size(blocks.len(), page);
    // Files have at most 2^17 blocks of 8 KiB, so this is half a megabyte.
    let mut out = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&u32::try_from(blocks.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&truncation.to_le_bytes());
    for block in blocks {
        out.extend_from_slice(&block.to_le_bytes());
    }
    out.resize(usize::try_from(size).unwrap_or(out.len()), 0);
    out
}
