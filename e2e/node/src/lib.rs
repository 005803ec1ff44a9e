//! The node double: it runs the pods of a Kubernetes API server as local processes in namespaces of their own.
//!
//! It is a client like any kubelet: it registers a Node, watches the pods bound to it, runs their containers and
//! writes their status. It asks nothing of the API server that a real one does not have, so it works under the
//! API double and under a real kube-apiserver alike. Beside the kubelet it holds the controllers that a cluster
//! cannot do without: scheduling, volumes for claims, services, deployments.

mod addresses;
mod controllers;
mod env;
mod error;
mod events;
mod hosts;
mod http;
mod images;
mod kubelet;
mod logs;
mod memory;
mod network;
mod node;
mod pod;
mod probe;
mod processes;
mod quantity;
mod register;
mod restart;
mod sandbox;
mod shared;
mod spawner;
mod status;
mod trust;
mod volumes;

pub use error::Error;
pub use images::{Bind, Image, ImageCatalog, Link};
pub use nix::sys::signal::Signal;
pub use node::{Access, Builder, Node};
pub use restart::Backoff;
