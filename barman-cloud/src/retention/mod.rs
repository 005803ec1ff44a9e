//! Retention: which backups and which WAL may go.
//!
//! A [`Plan`] is made first, from facts alone, and says of every backup why it stays or goes; carrying it out
//! ([`crate::Repository::apply_retention`]) looks again before each deletion. The rules of a [`Policy`] add up; the
//! guards hold whatever the policy says: never the last full backup, nothing that a kept backup builds on or
//! needs of WAL, nothing that is in use, nothing that somebody asked to keep, nothing that cannot be read.

mod apply;
mod facts;
mod gather;
mod guards;
mod outcome;
mod period;
mod plan;
mod policy;
mod reason;
mod rules;
mod single;
mod text;
mod wal;

pub use facts::Facts;
pub use outcome::{Applied, Refusal, Refused, WalHeld};
pub use period::Period;
pub use plan::{Deletable, Kept, Plan};
pub use policy::{FullRule, Policy};
pub use reason::{Calendar, DeleteReason, KeepReason, Miss};
pub use single::Deletion;
pub use wal::{WalCut, WalKept, WalNeed, WalPlan, WalUntouched};

#[cfg(test)]
mod tests;
