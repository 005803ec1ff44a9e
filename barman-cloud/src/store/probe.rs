//! Trying out what a store can do, once.

use super::{Created, Store};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::sync::atomic::Ordering;

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFeatures {
    /// Writes that must not replace anything are atomic.
    pub conditional_writes: bool,
}

impl Store {
    /// Writes, reads back, tries to write again on condition, and deletes an object. Fails as any operation would
    /// when the bucket is missing, the credentials are wrong, or one of the four is not allowed.
    ///
    /// Some stores take a conditional write and ignore the condition; only trying shows it. From then on this
    /// store looks before it writes.
    pub async fn probe(&self, key: &str) -> Result<StoreFeatures> {
        // Left over from a probe that was interrupted.
        self.delete(key).await?;
        let body = Bytes::from_static(b"probe");
        self.create(key, body.clone()).await?;
        let read = self.get(key, 1024).await?;
        if read != body {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the store gave back something else than was written",
            )
            .with_key(self.url_of(key))
            .with_remedy("check what is between here and the store: a proxy, a cache, a transformation"));
        }
        if self.inner.conditional.load(Ordering::Relaxed)
            && self.create(key, Bytes::from_static(b"again")).await? == Created::Yes
        {
            tracing::warn!(
                store = self.url(),
                "the store ignores the condition of a write; looking before writing"
            );
            self.inner.conditional.store(false, Ordering::Relaxed);
        }
        self.delete(key).await?;
        Ok(StoreFeatures { conditional_writes: self.inner.conditional.load(Ordering::Relaxed) })
    }
}
