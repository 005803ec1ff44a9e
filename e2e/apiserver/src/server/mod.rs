//! The server: listeners, TLS, and the way of a request from the wire to the verbs and back.

pub mod bootstrap;
mod builder;
mod handler;
mod listener;
mod paths;

pub use builder::{ApiServer, Builder};
