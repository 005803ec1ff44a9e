//! The controllers that a cluster cannot do without, for API servers that have no controller manager beside them.

pub(crate) mod claims;
pub(crate) mod scheduler;
