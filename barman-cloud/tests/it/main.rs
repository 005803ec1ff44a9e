//! The library against an S3 server on a loopback port: operations, and what happens on a bad day of the store.

mod archive;
mod connection;
mod dialect;
mod golden;
mod operations;
mod recovery;
mod repertoire;
mod retention;
mod stalls;
mod support;
mod throttling;
mod uploads;
mod wrong_answers;
