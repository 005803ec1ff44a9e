//! Inner loops, for micro-benchmarks and for measuring stages alone; no part of the interface.

pub use crate::backup::page_checksum;
pub use crc_fast::crc32_iscsi as crc32c;
