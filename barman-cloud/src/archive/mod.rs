//! The WAL archive: putting files in and getting them out.
//!
//! A name stands for one content for ever. The same file may be put again, in any compression, and nothing
//! happens; another content under a known name is refused, because recovery could then replay foreign WAL.

mod fetch;
mod find;
mod put;

pub use fetch::{FetchOptions, FetchedWal};
pub use find::WalObject;
pub use put::{ArchiveOptions, ArchivedWal, WalSource};

/// Largest history or label file that is read.
pub(crate) const MAX_TEXT: u64 = 4 << 20;

#[cfg(test)]
mod tests;
