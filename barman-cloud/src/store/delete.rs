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

/// An object that the store does not delete.
#[derive(Debug)]
pub struct Undeleted {
    /// Its key.
    pub key: String,
    /// Why.
    pub error: Error,
}

impl Undeleted {
    /// Whether the store protects this object (object lock, legal hold, a retention of the bucket) as opposed to not
    /// trusting us with deletions.
    pub fn is_locked(&self) -> bool {
        // The name of a bucket may hold any word.
        let url = self.error.key().unwrap_or_default();
        let text = self.error.report().replace(url, "").to_lowercase();
        ["object lock", "objectlock", "worm", "legal hold", "retention", "immutab"]
            .iter()
            .any(|word| text.contains(word))
    }
}

impl Store {
    /// Deletes an object; one that is not there is deleted already.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.delete_many(&[key.to_owned()]).await
    }

    /// Deletes objects; the order is not defined. Whoever needs an order calls it several times. Objects that the
    /// store does not delete do not save the rest; the first of them is the error.
    pub async fn delete_many(&self, keys: &[String]) -> Result<()> {
        match self.delete_each(keys).await?.into_iter().next() {
            Some(undeleted) => Err(undeleted.error),
            None => Ok(()),
        }
    }

    /// Deletes objects and names those that the store refuses to. Fails only where the rest would fare no better: no
    /// connection, no credentials, no bucket.
    pub async fn delete_each(&self, keys: &[String]) -> Result<Vec<Undeleted>> {
        let mut undeleted = Vec::new();
        for batch in keys.chunks(BATCH) {
            // What a request for many did not delete is asked for by itself: that answer says why.
            let rest = match batch.len() > 1 && self.inner.known.bulk_delete.load(Ordering::Relaxed) {
                true => self.delete_together(batch).await?,
                false => batch.iter().collect(),
            };
            // Made beforehand: a closure that borrows keeps callers from being spawned.
            let deletions: Vec<_> = rest.into_iter().map(|key| self.delete_alone(key)).collect();
            let results: Vec<Option<Undeleted>> =
                futures::stream::iter(deletions).buffer_unordered(PARALLEL).try_collect().await?;
            undeleted.extend(results.into_iter().flatten());
        }
        undeleted.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(undeleted)
    }

    /// Deletes a batch with one request; gives what may still be there.
    async fn delete_together<'a>(&self, batch: &'a [String]) -> Result<Vec<&'a String>> {
        match self.retrying(|| self.delete_batch(batch)).await {
            Ok(failed) => Ok(failed.into_iter().filter_map(|index| batch.get(index)).collect()),
            Err(error) if refuses_bulk(&error) => {
                tracing::info!(store = self.url(), "no bulk deletion here; deleting one by one");
                self.inner.known.bulk_delete.store(false, Ordering::Relaxed);
                Ok(batch.iter().collect())
            }
            Err(error) if concerns_all(&error) => Err(error),
            Err(_) => Ok(batch.iter().collect()),
        }
    }

    /// The indexes of those that were not deleted.
    async fn delete_batch(&self, keys: &[String]) -> Result<Vec<usize>> {
        let paths = keys.iter().map(|key| self.path(key)).collect::<Result<Vec<_>>>()?;
        let first = keys.first().map_or("", String::as_str);
        let results: Vec<_> = self
            .inner
            .objects
            .delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed())
            .collect()
            .await;
        // Results come in the order of the keys; one for all of them is about the request.
        let whole = results.len() == keys.len();
        let mut failed = Vec::new();
        for (index, result) in results.into_iter().enumerate() {
            match result.map_err(|error| self.error("deleting", first, error)) {
                Ok(_) => {}
                Err(error) if error.is_not_found() && whole => {}
                Err(error) if !whole => return Err(error),
                Err(_) => failed.push(index),
            }
        }
        Ok(failed)
    }

    async fn delete_alone(&self, key: &str) -> Result<Option<Undeleted>> {
        match self.retrying(|| self.delete_one(key)).await {
            Ok(()) => Ok(None),
            Err(error) if concerns_all(&error) => Err(error),
            Err(error) => Ok(Some(Undeleted { key: key.to_owned(), error })),
        }
    }

    async fn delete_one(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match self.inner.singles.delete(&path).await.map_err(|error| self.error("deleting", key, error)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether the next object would meet the same failure.
fn concerns_all(error: &Error) -> bool {
    error.is_transient() || matches!(error.kind(), ErrorKind::Credentials | ErrorKind::BucketMissing)
}

/// Stores without bulk deletion answer with an error of the request, not of an object.
fn refuses_bulk(error: &Error) -> bool {
    let report = error.report();
    error.kind() == ErrorKind::Unsupported
        || ["MissingContentMD5", "Content-MD5", "InvalidArgument", "InvalidRequest", "MalformedXML"]
            .iter()
            .any(|word| report.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Access Denied because object protected by object lock.", true)]
    #[case("Object is WORM protected and cannot be overwritten", true)]
    #[case("The object is subject to bucket's retention policy", true)]
    #[case("This operation is not permitted as the blob is immutable due to a policy.", true)]
    #[case("Access Denied", false)]
    fn a_lock_is_told_from_a_missing_permission(#[case] text: &str, #[case] locked: bool) {
        let error = Error::new(ErrorKind::Permission, text);
        assert_eq!(Undeleted { key: "k".into(), error }.is_locked(), locked);
    }
}
