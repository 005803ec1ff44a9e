//! PostgreSQL's configuration files, as pure functions of the Cluster and of the facts of this pod.

pub mod conf;
pub mod hba;
pub mod parameters;
pub mod recovery;
