//! The API double: the Kubernetes API over HTTPS, in memory, close enough to the real one to develop against.
//!
//! Its yardstick are transcripts of a real server, replayed in `tests/transcripts.rs`.

pub mod auth;
mod controllers;
mod discovery;
pub mod faults;
mod managed;
mod openapi;
mod patch;
mod path;
mod proto;
mod quantity;
mod registry;
mod rest;
mod schema;
mod selectors;
mod server;
mod state;
mod status;
mod store;
mod strategy;
mod table;
pub mod tally;

pub use server::{ApiServer, Builder};
