//! Restores: what a caller asks for and what it gets.

mod request;
mod run;

pub use request::{BackupChoice, RecoveryTarget, RestorePlan, RestoreRequest, RestoreResult, TargetTimeline};
pub use run::{plan, run};
