//! What is in a repository: backups, their objects, and the WAL between them.

mod backups;
mod inventory;
mod objects;
mod select;
mod wal;

pub use backups::{Catalog, CatalogEntry, Keep};
pub use inventory::{Inventory, Member};
pub use objects::{BackupObjects, PartObject};
pub use select::{RecoveryTarget, first_recoverability_point, select_backup};

#[cfg(test)]
mod tests;
