//! The instance manager against real PostgreSQL, the S3 server and the API double.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive;
mod authority;
mod backup;
mod bad_pages;
mod certificates;
mod faults;
mod following;
mod given_certificates;
mod https;
mod info;
mod initdb;
mod install;
mod join;
mod overflow;
mod pod;
mod recovery;
mod rejoin;
mod removal;
mod replace;
mod repo_host;
mod settings;
mod several;
mod sources;
mod synchronous;
mod world;
