//! Base backups: what a caller asks for and what it gets.
//!
//! The order of things is what makes `completed` mean restorable: data, stop, `backup_label`, WAL confirmed in the
//! archive, manifest, and only then `backup.info` with DONE.

mod archive_wait;
pub(crate) mod commit;
mod conclude;
mod copy;
mod copying;
mod fill;
mod history;
mod manifest;
mod naming;
mod pages;
mod part;
mod plan;
mod pool;
pub(crate) mod record;
mod request;
mod rules;
mod run;
mod session;
mod source;
mod sweep;
mod walk;

pub use request::{
    BackupRequest, BackupResult, BadPage, BadPagePolicy, ManifestChecksum, PartSize, PrimaryWal,
    ServerAccess, StoredPart, SwitchRequest, TablespaceInfo,
};
pub use run::run;
pub use sweep::{Sweep, sweep_orphans};
