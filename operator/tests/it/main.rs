//! The controllers against the API double, with instances that are HTTPS servers of the test.
//!
//! The operator speaks to the API with exactly the rights of `rbac::rules()`.

mod backups;
mod clusters;
mod instance;
mod node;
mod schedules;
mod world;
