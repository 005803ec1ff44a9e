//! The instance manager: process 1 of every PostgreSQL pod, and its init containers.
//!
//! It bootstraps the data directory, runs PostgreSQL, archives and fetches WAL, takes base backups, and tells the
//! operator how things are. Decisions are pure functions ([`config`], [`run::role`], [`bootstrap::plan`], …);
//! the data plane is `howdah-engine`; [`objstore`] alone maps API types to a repository.

pub mod backup;
pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod environment;
pub mod error;
pub mod inspect;
pub mod install;
pub mod kube;
pub mod memory;
pub mod objstore;
pub mod pages;
pub mod pg;
pub mod repo_host;
pub mod report;
pub mod run;
pub mod serve;
pub mod time;
pub mod wal_client;
