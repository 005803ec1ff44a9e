//! What is in a repository: backups, their objects, the WAL between them, and what can be recovered with it.

mod backups;
mod delete;
mod facts;
mod faults;
mod histories;
mod inventory;
mod objects;
mod reach;
mod select;
mod strays;
mod survey;
mod wal;
mod window;

pub use backups::{Catalog, CatalogEntry, Keep};
pub use delete::Removal;
pub use facts::{BackupFacts, OwnWal, State, borders};
pub use faults::{Fault, faults};
pub use histories::{Histories, all_readable, newest_from};
pub use inventory::{Inventory, Member};
pub use objects::{BackupObjects, PartObject};
pub use reach::Reach;
pub use select::{RecoveryTarget, first_recoverability_point, select_backup};
pub use strays::{Stray, StrayReason};
pub use survey::{Run, Tally, WalSurvey};
pub use window::{Earliest, Gap, Latest, RecoveryWindow};

pub(crate) use histories::history_of;
pub(crate) use survey::directory;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;
