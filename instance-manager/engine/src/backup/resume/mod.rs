//! Going on from what an interrupted backup left in the store.
//!
//! PostgreSQL ends backup mode with the session, so a backup whose process died cannot simply continue: the next one
//! begins at a new position, and WAL before that position is not replayed. A part of the old one may stay only when
//! every file in it is, after the new beginning, byte for byte what the part holds; then it is as if it had just been
//! read. Reading again is cheap; compressing and sending is what is saved.
//!
//! When PostgreSQL had been told the end already, nothing but the archive was waited for, and that goes on.

mod keep;
mod record;
mod take_over;

pub use keep::Kept;
pub use record::{Origin, PartRecord, Sealed, Shelf};
pub use take_over::{Leftover, manifest_path};

use barman_cloud::BackupId;

/// The backup to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Its id; the backup keeps it.
    pub id: BackupId,
    /// PostgreSQL was told its end already: begin nothing anew.
    pub finishing: bool,
}
