//! Damaged input for every parser that reads from a bucket: real files with random changes.
//!
//! Whatever comes in, a parser ends, allocates no more than a bound, and either gives a value that its writer can
//! write again, or an error that says that the input is wrong. `PROPTEST_CASES` sets the number of cases;
//! `hack/fuzz` runs them for minutes.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod codecs;
mod manifest;
mod mutate;
mod names;
mod records;
mod tar;
mod wal;
mod watch;
