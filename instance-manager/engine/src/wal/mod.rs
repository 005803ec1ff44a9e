//! The WAL archive: what `archive_command` and `restore_command` call.

mod archiver;
mod lineage;
mod restorer;

pub use archiver::{Archiver, ArchiverConfig, ArchiverStats};
pub use lineage::Lineage;
pub use restorer::{Restorer, RestorerConfig, WalFetch};
