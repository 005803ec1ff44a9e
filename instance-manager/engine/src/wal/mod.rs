//! The WAL archive: what `archive_command` and `restore_command` call.

mod ahead;
mod archiver;
mod depth;
mod group;
mod pace;
mod prefetch;
mod queue;
mod restorer;
mod spool;

pub use archiver::{Archiver, ArchiverConfig, ArchiverStats};
pub use group::{Group, Lag, Member, Policy, Refusal, Refused};
pub use restorer::{Restorer, RestorerConfig, WalFetch};
