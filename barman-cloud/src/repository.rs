//! One server's repository: a store and the keys in it. Everything above the store hangs on this.

use crate::error::Result;
use crate::layout::Layout;
use crate::store::{Finding, Store, StoreFeatures};

/// One server's backups and WAL under a destination. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Store,
    layout: Layout,
}

impl Repository {
    /// The repository of `server`. Makes no request.
    pub fn new(store: Store, server: &str) -> Result<Self> {
        Ok(Self { store, layout: Layout::new(server)? })
    }

    /// The same repository as differential and incremental backups see it: their records, parts and chains are where
    /// Barman does not look ([`Layout::increments`]).
    #[must_use]
    pub fn increments(&self) -> Self {
        Self { store: self.store.clone(), layout: self.layout.increments() }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The keys.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Finds out, once for each bucket, what the store can do; see [`Store::probe_once`]. A store that cannot be
    /// tried out, because it allows no deletion, say, is used as one that can do least.
    pub async fn learn(&self) -> StoreFeatures {
        match self.store.probe_once(&self.layout.probe()).await {
            Ok(features) => features,
            Err(error) => {
                tracing::info!(error = %error.report(), "the object store cannot be tried out");
                self.store.features()
            }
        }
    }

    /// Tries everything that a repository needs of its store; see [`Store::conformance`].
    pub async fn conformance(&self) -> Vec<Finding> {
        self.store.conformance(&self.layout.probe()).await
    }

    /// `<destination>/<server>`, for messages.
    pub fn url(&self) -> String {
        self.store.url_of(self.layout.server())
    }
}
