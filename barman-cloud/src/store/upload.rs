//! Writing large objects in parts of equal size.
//!
//! The size of the parts is planned from an estimate, because S3 takes 10 000 parts at most and some of its
//! relatives want all parts but the last to be equal. Parts may be sent in any order and several at a time.

use super::Store;
use super::dialect::{BodyCheck, LARGE};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{PutMultipartOptions, PutPayload};
use std::future::Future;

/// Smallest part but the last that S3 takes.
pub const MIN_PART: u64 = 5 << 20;
/// Most parts of one object.
pub const MAX_PARTS: u64 = 10_000;
/// Largest object: 50 TiB.
pub const MAX_OBJECT: u64 = 50 << 40;
/// Largest part that S3 takes.
const MAX_PART: u64 = 5 << 30;
/// Part sizes are multiples of this.
const GRAIN: u64 = 1 << 20;

/// Size of the parts for an object of about `estimate` bytes.
///
/// A quarter is added to the estimate, since data may grow while it is read and a codec may make it longer.
/// `max_parts` is for stores that take fewer than [`MAX_PARTS`].
pub fn part_size(estimate: u64, max_parts: Option<u64>) -> Result<u64> {
    let parts = max_parts.unwrap_or(MAX_PARTS).min(MAX_PARTS);
    if parts == 0 {
        return Err(Error::invalid("an upload needs at least one part"));
    }
    if estimate > MAX_OBJECT {
        return Err(Error::invalid(format!(
            "{estimate} bytes do not fit in one object of at most {MAX_OBJECT}"
        ))
        .with_remedy("split the archive into more parts"));
    }
    let planned = estimate.saturating_add(estimate / 4).div_ceil(parts);
    let size = planned.max(MIN_PART).div_ceil(GRAIN) * GRAIN;
    if size > MAX_PART {
        return Err(Error::invalid(format!(
            "{estimate} bytes do not fit in {parts} parts of at most {MAX_PART} bytes"
        ))
        .with_remedy("raise maxUploadParts or split the archive into more parts"));
    }
    Ok(size)
}

/// What the store gave for a part; needed to complete the upload.
#[derive(Debug, Clone)]
pub struct PartId {
    id: object_store::multipart::PartId,
    size: u64,
}

/// An upload under way. Nothing is visible under the key before [`Upload::complete`]; whoever gives up calls
/// [`Upload::abort`], or the store keeps (and bills) the parts until a lifecycle rule of the bucket removes them.
#[derive(Clone)]
pub struct Upload {
    store: Store,
    key: String,
    path: Path,
    id: String,
    /// How its parts are protected; S3 wants to know when the upload begins, and the same for all.
    check: BodyCheck,
    /// Begun by an earlier process, which alone knew how its parts were encrypted.
    resumed: bool,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins an upload in parts.
    pub async fn upload(&self, key: &str) -> Result<Upload> {
        let path = self.path(key)?;
        let options = PutMultipartOptions { tags: self.inner.tags.of(key), ..PutMultipartOptions::default() };
        let check = self.inner.body_check(LARGE);
        let multipart = self.inner.multipart_for(check);
        let begun = if options.tags.is_empty() {
            // Not every backend knows the call with options.
            multipart.create_multipart(&path).await
        } else {
            multipart.create_multipart_opts(&path, options).await
        };
        let id = begun.map_err(|error| self.error("beginning an upload of", key, error))?;
        Ok(Upload { store: self.clone(), key: key.to_owned(), path, id, check, resumed: false })
    }

    /// Takes up an upload that an earlier process began, by its id. Its further parts are signed: what the earlier
    /// process had told the store about checksums is not known, and a signature always suits. An encrypted upload can
    /// be completed or given up but not gone on with: how its parts were encrypted is not known any more.
    pub fn resume_upload(&self, key: &str, id: &str) -> Result<Upload> {
        let (path, check) = (self.path(key)?, BodyCheck::Signature);
        Ok(Upload { store: self.clone(), key: key.to_owned(), path, id: id.to_owned(), check, resumed: true })
    }
}

impl Upload {
    /// The key under which the object will be.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The store's id of the upload, to take it up later.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sends one part as it is stored: in an encrypted store, what [`Store::sealer`] made of it. `index` counts from 0.
    /// Sending an index again replaces the part. The future owns all it needs, so several can run at a time.
    pub fn put_part(
        &self,
        index: usize,
        content: Bytes,
    ) -> impl Future<Output = Result<PartId>> + Send + 'static {
        self.put_part_pieces(index, vec![content])
    }

    /// Sends one part made of several buffers, without copying them together.
    pub fn put_part_pieces(
        &self,
        index: usize,
        pieces: Vec<Bytes>,
    ) -> impl Future<Output = Result<PartId>> + Send + 'static {
        let this = self.clone();
        let refusal = self.refuse_plain(index, pieces.first().map_or(&[], Bytes::as_ref));
        let payload: PutPayload = pieces.into_iter().collect();
        let size = payload.content_length() as u64;
        async move {
            if index as u64 >= MAX_PARTS {
                let text = format!("the object needs more than {MAX_PARTS} parts");
                return Err(Error::invalid(text)
                    .with_key(this.store.url_of(&this.key))
                    .with_remedy("plan larger parts or split the archive"));
            }
            refusal?;
            let multipart = this.store.inner.multipart_for(this.check);
            let sent = multipart.put_part(&this.path, &this.id, index, payload).await;
            sent.map(|id| PartId { id, size })
                .map_err(|error| this.gone(this.store.error("sending a part of", &this.key, error)))
        }
    }

    /// Plain parts of an encrypted object are a mistake of the caller that must not get through.
    fn refuse_plain(&self, index: usize, head: &[u8]) -> Result<()> {
        let refused = |kind, text: &str| Err(Error::new(kind, text).with_key(self.store.url_of(&self.key)));
        if self.resumed && self.store.cipher_of(&self.key).is_some() {
            return refused(
                ErrorKind::Unsupported,
                "an encrypted upload cannot be gone on with: begin it again",
            );
        }
        if index == 0 && !self.store.is_sealed(&self.key, head) {
            return refused(
                ErrorKind::Invalid,
                "a part that is not encrypted was to be sent to an encrypted store",
            );
        }
        Ok(())
    }

    /// Makes the object from its parts, in order. On return it is in the store.
    pub async fn complete(&self, parts: Vec<PartId>) -> Result<()> {
        let size: u64 = parts.iter().map(|part| part.size).sum();
        let parts = parts.into_iter().map(|part| part.id).collect();
        let multipart = self.store.inner.multipart_for(self.check);
        let done = multipart.complete_multipart(&self.path, &self.id, parts).await;
        let Err(error) = done else { return Ok(()) };
        let error = self.store.error("completing the upload of", &self.key, error);
        // When the answer to a first try was lost, the second finds the upload gone and the object there.
        if error.is_not_found() && self.store.head(&self.key).await.is_ok_and(|info| info.size == size) {
            return Ok(());
        }
        Err(self.gone(error))
    }

    /// Gives the upload up and frees its parts.
    pub async fn abort(&self) -> Result<()> {
        let call = || async {
            let aborted = self.store.inner.multipart.abort_multipart(&self.path, &self.id).await;
            match aborted.map_err(|error| self.store.error("giving up the upload of", &self.key, error)) {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok(()),
            }
        };
        self.store.retrying(call).await
    }

    /// "Not found" about a part means that the store forgot the upload: begin it again.
    fn gone(&self, error: Error) -> Error {
        if error.is_not_found() {
            error.with_kind(ErrorKind::Other).with_remedy(
                "the store no longer knows the upload (a lifecycle rule or an abort removed it): start again",
            )
        } else {
            error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing(0, None, 5 << 20)]
    #[case::small(1 << 30, None, 5 << 20)]
    #[case::hundred_gib(100 << 30, None, 13 << 20)]
    #[case::largest(50 << 40, Some(12_500), 6554 << 20)]
    #[case::few_parts(10 << 30, Some(1000), 13 << 20)]
    fn parts_are_planned(#[case] estimate: u64, #[case] max_parts: Option<u64>, #[case] expected: u64) {
        match part_size(estimate, max_parts) {
            Ok(size) => {
                assert_eq!(size, expected);
                assert!(size * max_parts.unwrap_or(MAX_PARTS).min(MAX_PARTS) >= estimate);
            }
            Err(error) => assert!(expected > MAX_PART, "{}", error.report()),
        }
    }

    #[test]
    fn what_cannot_fit_is_refused() {
        assert!(part_size(MAX_OBJECT + 1, None).is_err());
        assert!(part_size(1 << 40, Some(10)).is_err());
        assert!(part_size(1, Some(0)).is_err());
    }
}
