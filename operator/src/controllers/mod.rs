//! The controllers. Each has five steps, one file each: fetch (I/O in) → validate → decide → build (pure) →
//! apply → status (I/O out).

pub mod backup;
pub mod cluster;
pub mod driver;
pub mod scheduled_backup;
