//! A store and the keys of one server in it.

use crate::error::Result;
use barman_cloud::{Layout, Store};

/// Where the backups and the WAL of one server are.
#[derive(Clone, Debug)]
pub struct Repository {
    /// The destination.
    pub store: Store,
    /// The server's keys below it.
    pub layout: Layout,
}

impl Repository {
    /// A repository by store and server name.
    pub fn new(store: Store, server: &str) -> Result<Self> {
        Ok(Self { store, layout: Layout::new(server)? })
    }
}
