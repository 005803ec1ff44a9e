//! The engine against real PostgreSQL servers and a real S3 server.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod archiving;
mod backup_restore;
mod chain;
mod chain_hazards;
mod chain_oracle;
mod chain_targets;
mod chain_trouble;
mod chains;
mod damage;
mod delta;
mod encryption;
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
mod several;
mod site;
mod standby;
mod storages;
mod succession;
mod verify;
mod volume;
