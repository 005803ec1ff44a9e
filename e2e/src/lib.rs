//! The lab and what the end-to-end suite is made of.
//!
//! A [`ground::Ground`] is a Kubernetes API with the operator deployed from `config/`, a node that runs pods, and
//! an S3 server. Tests drive it with stock `kubectl` and SQL alone, as a user would, so that the same suite runs
//! on the lab, on a real API server under the lab's node double, and on a real cluster.

pub mod direct;
pub mod ground;
pub mod kubectl;
pub mod ledger;
pub mod manifests;
pub mod paths;
pub mod sql;
pub mod wait;

pub use ground::Ground;
pub use kubectl::Kubectl;
