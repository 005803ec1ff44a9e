//! The real Barman reads what we write, and we read what it writes.
//!
//! Needs `hack/install-barman` to have run and PostgreSQL to be installed: without them these tests fail and say so.

#![allow(clippy::panic, reason = "helpers of tests, which clippy does not take for tests")]

mod barman;
mod base;
mod encrypted;
mod foreign;
mod info;
mod postgres;

mod retention;
mod synthetic;
mod wal;
