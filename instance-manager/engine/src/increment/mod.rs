//! Files that hold only changed blocks: PostgreSQL's own form of them, for servers that do not know it as well.
//!
//! `INCREMENTAL.<name>` stands where `<name>` would. What lies there is the same as in the incremental backups of
//! PostgreSQL 17, so that its `pg_combinebackup` can put a chain together without us.

mod decode;
mod encode;
mod label;
mod name;

pub use decode::{Decoder, Header, Shape};
pub use encode::{file_size, header};
pub use label::{add_origin, without_origin};
pub use name::{RelationFile, incremental_name, plain_name};

/// First four bytes of such a file, little-endian.
pub const MAGIC: u32 = 0xd3ae_1f0d;
/// Bytes before the block numbers: magic, number of blocks, truncation length.
const FIXED: usize = 12;

/// Bytes before the first block: the numbers are padded to a whole block, when any block follows.
fn header_size(blocks: u64, page: u64) -> u64 {
    let size = FIXED as u64 + 4 * blocks;
    if blocks == 0 { size } else { size.next_multiple_of(page) }
}

#[cfg(test)]
mod tests;
