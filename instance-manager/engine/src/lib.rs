//! Howdah's data plane without Kubernetes: base backups, restores and the WAL archive, between a PostgreSQL data
//! directory and a repository in Barman's format.
//!
//! Nothing here knows an API object. A caller brings a [`Repository`], tells where PostgreSQL is, and gets typed
//! results. Memory is a fixed pool of buffers, never a function of database size, and nothing is spooled to
//! scratch disk (prefetched WAL excepted, which is bounded).

pub mod backup;
#[doc(hidden)]
pub mod bench;
pub mod control;
mod error;
mod identity;
mod increment;
mod owner;
mod progress;

pub mod restore;
pub mod verify;
pub mod wal;

pub use backup::{
    BackupRequest, BackupResult, BadPage, BadPagePolicy, BadPages, IoPriority, PrimaryWal, Priority,
    RateLimits, ServerAccess,
};
pub use barman_cloud::Repository;
pub use control::ControlData;
pub use error::{Error, ErrorKind, Result};
pub use progress::{BackupStart, Phase, Progress};
pub use restore::{BackupChoice, RecoveryTarget, RestoreRequest, RestoreResult, TargetTimeline};
pub use wal::{
    Archiver, ArchiverConfig, ArchiverStats, Group, Held, Hole, Lag, Member, Policy, Refusal, Refused,
    Restorer, RestorerConfig, Tail, WalFetch, WalVolume,
};
