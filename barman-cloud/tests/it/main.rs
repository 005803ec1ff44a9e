//! The library against an S3 server on a loopback port: operations, and what happens on a bad day of the store.

mod archive;
mod connection;
mod dialect;
mod encryption;
mod encryption_damage;
mod encryption_keys;
mod encryption_openssl;
mod golden;
mod operations;
mod recovery;
mod repertoire;
mod stalls;
mod support;
mod throttling;
mod uploads;
mod wrong_answers;
