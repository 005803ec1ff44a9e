//! The real Barman reads what we write, and we read what it writes.
//!
//! Needs `hack/install-barman` to have run: without it these tests fail and say so.

mod barman;
mod base;
mod foreign;
mod postgres;

mod synthetic;
mod wal;
