//! The engine against a real PostgreSQL 15 and a real S3 server.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod archiving;
mod backup_restore;
mod damage;
mod delta;
mod faults;
mod gentle;
mod interrupted;
mod modes;
mod oracle;
mod pages;
mod postgres;
mod recovery_targets;
mod resume;
mod segments;
mod site;
mod standby;
mod volume;
