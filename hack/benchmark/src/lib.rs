//! Howdah's data plane measured side by side with its rivals, in alternation, on one machine.
//!
//! [`stats`], [`target`] and [`table`] are pure; [`measured`] is the process that runs a command and says what it
//! took; [`tools`] know each program's command line; [`suite`] holds one file per thing measured.

pub mod cgroup;
pub mod context;
pub mod dataset;
pub mod interrupt;
pub mod invocation;
pub mod machine;
pub mod measured;
pub mod options;
pub mod pairs;
pub mod postgres;
pub mod report;
pub mod s3;
pub mod service;
pub mod stats;
pub mod suite;
pub mod table;
pub mod target;
pub mod tools;
pub mod user;
pub mod wal_set;
