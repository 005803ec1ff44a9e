//! The controllers against the API double, with instances that are HTTPS servers of the test.
//!
//! The operator speaks to the API with exactly the rights of `rbac::rules()`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by ending"
)]

mod backups;
mod certificates;
mod clusters;
mod faults;
mod instance;
mod lifecycle;
mod node;
mod process;
mod scale;
mod schedules;
mod takeover;
mod trust;
mod world;
