//! Restores: what a caller asks for and what it gets.
//!
//! Everything is checked to be there before a byte is fetched; every file is compared with the manifest while it is
//! written; nothing is called done before it was forced to disk. What is on disk already and right by the manifest
//! is not fetched again.

mod apply;
mod built;
pub(crate) mod check;
mod extract;
mod fetch;
mod inplace;
mod layers;
mod leftover;
mod marker;
mod members;
pub(crate) mod path;
mod place;
mod plan;
mod readahead;
mod request;
mod run;
mod space;

pub use plan::plan;
pub use request::{BackupChoice, RecoveryTarget, RestorePlan, RestoreRequest, RestoreResult, TargetTimeline};
pub use run::run;
