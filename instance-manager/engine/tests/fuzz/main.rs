//! Damaged input for the parsers of files that PostgreSQL writes, and of the engine's own records.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod control;
#[path = "../../../../barman-cloud/tests/fuzz/mutate.rs"]
#[allow(dead_code, reason = "shared with the tests of the format")]
mod mutate;
