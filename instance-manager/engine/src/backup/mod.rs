//! Base backups: what a caller asks for and what it gets.
//!
//! The order of things is what makes `completed` mean restorable: data, stop, `backup_label`, WAL confirmed in the
//! archive, manifest, and only then `backup.info` with DONE.

mod archive_wait;
mod bad_pages;
mod begin;
mod borrowed;
mod changes;
pub(crate) mod commit;
mod conclude;
mod copy;
mod copy_blocks;
mod copying;
mod fill;
mod history;
mod listed;
mod manifest;
mod naming;
mod outcome;
mod pages;
mod parent;
mod part;
pub(crate) mod place;
mod plan;
mod pool;
mod priority;
pub(crate) mod record;
mod request;
mod resume;
mod rules;
mod run;
mod session;
mod source;
mod sweep;
mod throttle;
mod walk;

pub use archive_wait::{NeededWal, wait as wait_for_wal};
pub use bad_pages::{BadPage, BadPagePolicy, BadPages};
pub use borrowed::BorrowedWal;
#[doc(hidden)]
pub use pages::checksum as page_checksum;
pub(crate) use pages::relation_segment;
pub use parent::{NoParent, Parent, Position, choose_parent};
pub use priority::{IoPriority, Priority};
pub use request::{
    BackupRequest, BackupResult, ManifestChecksum, PartSize, PrimaryWal, RateLimits, ServerAccess,
    StoredPart, SwitchRequest, TablespaceInfo,
};
pub use resume::Resume;
pub use run::run;
pub use sweep::{Sweep, sweep_orphans};
pub use throttle::{Clock, SystemClock};
