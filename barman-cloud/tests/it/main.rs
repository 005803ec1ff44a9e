//! The library against servers of each storage on loopback ports: operations, and what happens on a bad day of the store.

mod archive;
mod backends;
mod conformance;
mod connection;
mod dialect;
mod encryption;
mod encryption_damage;
mod encryption_keys;
mod encryption_openssl;
mod golden;
mod operations;
mod proxy;
mod recovery;
mod repertoire;
mod retention;
mod servers;
mod stalls;
mod storages;
mod support;
mod throttling;
mod uploads;
mod wrong_answers;
