//! The WAL archive: what `archive_command` and `restore_command` call.

mod ahead;
mod ancestry;
mod archiver;
mod depth;
mod group;
mod hold;
mod overflow;
mod pace;
mod prefetch;
mod queue;
mod restorer;
mod spool;
mod watch;

pub(crate) use ancestry::local_history;
pub use archiver::{Archiver, ArchiverConfig, ArchiverStats};
pub use group::{Group, Hole, Lag, Member, Policy, Refusal, Refused, Tail};
pub use hold::{Held, hold};
pub use overflow::{WalVolume, let_go};
pub use restorer::{Restorer, RestorerConfig, WalFetch};
