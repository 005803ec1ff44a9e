//! The Kubernetes API as this manager needs it: its own Cluster, its Secrets, its Backups, and Events.

pub mod client;
pub mod events;
pub mod secrets;

pub use client::Kubernetes;
