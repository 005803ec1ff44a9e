//! Deleting.

use super::Store;
use crate::error::{Error, ErrorKind, Result};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use std::sync::atomic::Ordering;

/// Objects in one request where the store takes many.
const BATCH: usize = 1000;
/// Requests at a time where it does not.
const PARALLEL: usize = 8;

impl Store {
    /// Deletes an object; one that is not there is deleted already.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.delete_many(&[key.to_owned()]).await
    }

    /// Deletes objects; the order is not defined. Whoever needs an order calls it several times.
    pub async fn delete_many(&self, keys: &[String]) -> Result<()> {
        for batch in keys.chunks(BATCH) {
            if batch.len() > 1 && self.inner.known.bulk_delete.load(Ordering::Relaxed) {
                match self.retrying(|| self.delete_batch(batch)).await {
                    Ok(()) => continue,
                    Err(error) if refuses_bulk(&error) => {
                        tracing::info!(store = self.url(), "no bulk deletion here; deleting one by one");
                        self.inner.known.bulk_delete.store(false, Ordering::Relaxed);
                    }
                    Err(error) if self.inner.vague_batches && !error.is_transient() => {
                        tracing::debug!(error = %error, "deleting one by one, to know why");
                    }
                    Err(error) => return Err(error),
                }
            }
            futures::stream::iter(batch)
                .map(Ok)
                .try_for_each_concurrent(PARALLEL, |key| self.retrying(move || self.delete_one(key)))
                .await?;
        }
        Ok(())
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<()> {
        let paths = keys.iter().map(|key| self.path(key)).collect::<Result<Vec<_>>>()?;
        let first = keys.first().map_or("", String::as_str);
        let mut results =
            self.inner.objects.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(result) = results.next().await {
            match result.map_err(|error| self.error("deleting", first, error)) {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn delete_one(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match self.inner.singles.delete(&path).await.map_err(|error| self.error("deleting", key, error)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Stores without bulk deletion answer with an error of the request, not of an object.
fn refuses_bulk(error: &Error) -> bool {
    let report = error.report();
    error.kind() == ErrorKind::Unsupported
        || ["MissingContentMD5", "Content-MD5", "InvalidArgument", "InvalidRequest", "MalformedXML"]
            .iter()
            .any(|word| report.contains(word))
}
