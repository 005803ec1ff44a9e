//! Base backups: from a Backup object that is assigned to this process to its terminal phase.
//!
//! [`decide`] and [`fields`] are pure; [`runner`] watches and runs; [`writer`] is the only one that writes a
//! Backup's status; [`execute`] drives the engine; [`catalogue`] keeps the recovery window fresh.

pub mod care;
pub mod catalogue;
pub mod decide;
pub mod execute;
pub mod fields;
pub mod primary;
pub mod removal;
pub mod retention;
pub mod runner;
pub mod writer;
