//! The operator of Howdah: controllers for Cluster, Backup and ScheduledBackup. It decides and never touches
//! data; the instance managers in the pods do the work.

pub mod cli;
pub mod clock;
pub mod context;
pub mod controllers;
pub mod error;
pub mod http;
pub mod instance_client;
pub mod leader;
pub mod lsn;
pub mod manager_program;
pub mod merge;
pub mod metrics;
pub mod password;
pub mod pki;
pub mod rbac;
pub mod reduce;
pub mod run;
pub mod schedule;
pub mod session;
pub mod shelf;
pub mod switchover;
pub mod telemetry;

#[cfg(test)]
mod fixtures;
