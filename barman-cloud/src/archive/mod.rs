//! The WAL archive: putting files in and getting them out.
//!
//! A name stands for one content for ever. The same file may be put again, in any compression, and nothing
//! happens; another content under a known name is refused, because recovery could then replay foreign WAL.

mod compare;
mod fetch;
mod find;
mod lookout;
mod memory;
mod pack;
mod put;
mod source;
mod window;
mod writer;

pub use fetch::{FetchOptions, FetchedWal};
pub use find::WalObject;
pub use lookout::Lookout;
pub(crate) use pack::blocking;
pub use put::{ArchiveOptions, ArchivedWal};
pub use source::WalSource;
pub use window::WalWindow;
pub use writer::{Lane, WalWriter, WriterLimits};

/// Largest history or label file that is read.
pub(crate) const MAX_TEXT: u64 = 4 << 20;

#[cfg(test)]
mod tests;
