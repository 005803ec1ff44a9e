//! The controllers that a cluster cannot do without, for API servers that have no controller manager beside them.

pub(crate) mod accounts;
pub(crate) mod claims;
pub(crate) mod deployments;
mod endpoints;
pub(crate) mod lifecycle;
mod proxy;
mod rollout;
pub(crate) mod scheduler;
pub(crate) mod services;
