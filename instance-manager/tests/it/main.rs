//! The instance manager against real PostgreSQL, the S3 server and the API double.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive;
mod backup;
mod bad_pages;
mod certificates;
mod faults;
mod https;
mod initdb;
mod install;
mod join;
mod pod;
mod recovery;
mod removal;
mod settings;
mod sources;
mod world;
