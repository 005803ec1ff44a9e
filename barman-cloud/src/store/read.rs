//! Reading objects: whole small ones, and streams that go on where a connection broke.

use super::cipher::refuse_encrypted;
use super::{ObjectInfo, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Layout;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use object_store::{GetOptions, GetRange};
use std::ops::Range;

/// Content of an object, piece by piece.
pub type ObjectStream = BoxStream<'static, Result<Bytes>>;

impl Store {
    /// A whole object of at most `limit` bytes, as they were before encryption.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.whole(key, limit).await.map(|(_, content)| content)
    }

    async fn whole(&self, key: &str, limit: u64) -> Result<(ObjectInfo, Bytes)> {
        let (info, mut stream) = self.open(key, None).await?;
        if info.size > self.stored_size(key, limit) {
            let text =
                format!("{} bytes long, more than the {limit} that such an object can have", info.size);
            return Err(Error::corrupt(text).with_key(self.url_of(key)));
        }
        // Bounded by `limit`, whatever the store says.
        let mut content = BytesMut::with_capacity(usize::try_from(info.size).unwrap_or(0));
        while let Some(piece) = stream.next().await {
            content.extend_from_slice(&piece?);
        }
        Ok((info, content.freeze()))
    }

    /// A whole small object, or `None` when there is none.
    pub async fn get_if_exists(&self, key: &str, limit: u64) -> Result<Option<Bytes>> {
        match self.get(key, limit).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same with what the store says of it: its version mark is what [`Store::replace`] asks for.
    pub async fn get_marked(&self, key: &str, limit: u64) -> Result<Option<(ObjectInfo, Bytes)>> {
        match self.whole(key, limit).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens an object, or a range of it, for reading. The stream gives exactly the bytes of the range: when the
    /// connection breaks it asks for the rest, and it fails when the object was replaced meanwhile or is shorter
    /// than the store had said.
    ///
    /// Range and stream are of the content before encryption; the size that is given beside is that of the store. In
    /// CBC mode what the stream has given is authentic only once it has ended without an error, and a range costs the
    /// transfer of the whole object.
    pub async fn open(&self, key: &str, range: Option<Range<u64>>) -> Result<(ObjectInfo, ObjectStream)> {
        if let Some(cipher) = self.cipher_of(key) {
            return cipher.open(self, key, range).await;
        }
        let from_the_beginning = range.as_ref().is_none_or(|range| range.start == 0);
        let (info, stream) = self.open_stored(key, range).await?;
        let watched = from_the_beginning && !Layout::is_always_plain(key);
        Ok((info, if watched { refuse_encrypted(self.clone(), key.to_owned(), stream) } else { stream }))
    }

    /// [`Store::open`] without decryption.
    pub(super) async fn open_stored(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(ObjectInfo, ObjectStream)> {
        let first = self.request(key, range.clone().map(GetRange::Bounded), None).await?;
        let span = first.range.clone();
        if let Some(asked) = range
            && span != asked
        {
            let text = format!("asked for bytes {asked:?} and got {span:?} of {}", first.meta.size);
            return Err(Error::corrupt(text).with_key(self.url_of(key)));
        }
        let other = || Error::new(ErrorKind::Other, "the store answered for another object");
        let info = self.info(first.meta.clone()).ok_or_else(|| other().with_key(self.url_of(key)))?;
        let resumable = Resumable {
            store: self.clone(),
            key: key.to_owned(),
            etag: info.etag.clone(),
            position: span.start,
            end: span.end,
            failures: 0,
            body: Some(first.into_stream()),
        };
        Ok((info, resumable.into_stream().boxed()))
    }

    async fn request(
        &self,
        key: &str,
        range: Option<GetRange>,
        etag: Option<String>,
    ) -> Result<object_store::GetResult> {
        let path = self.path(key)?;
        let options = GetOptions { range, if_match: etag, ..GetOptions::default() };
        self.inner.objects.get_opts(&path, options).await.map_err(|error| self.error("reading", key, error))
    }
}

struct Resumable {
    store: Store,
    key: String,
    etag: Option<String>,
    position: u64,
    end: u64,
    /// Failures since the last byte arrived.
    failures: usize,
    body: Option<BoxStream<'static, object_store::Result<Bytes>>>,
}

impl Resumable {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        futures::stream::unfold(Some(self), |state| async move {
            let mut state = state?;
            match state.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(state))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.position < self.end {
            let failure = match self.piece().await {
                Ok(Some(piece)) => {
                    self.position += piece.len() as u64;
                    if self.position > self.end {
                        let text = format!("longer than the {} bytes the store had said", self.end);
                        return Err(Error::corrupt(text).with_key(self.store.url_of(&self.key)));
                    }
                    self.failures = 0;
                    return Ok(Some(piece));
                }
                Ok(None) => {
                    let text = format!("the transfer ended after {} of {} bytes", self.position, self.end);
                    Error::new(ErrorKind::Network, text).with_key(self.store.url_of(&self.key))
                }
                Err(error) => error,
            };
            self.body = None;
            self.failures += 1;
            let limits = self.store.limits();
            if !failure.is_transient() || self.failures > limits.retries {
                return Err(failure);
            }
            tracing::debug!(error = %failure, position = self.position, "going on with the rest");
            let shift = u32::try_from(self.failures.min(16)).unwrap_or(16);
            let pause = limits.backoff_first.saturating_mul(1 << shift).min(limits.backoff_max);
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        }
        Ok(None)
    }

    /// The next piece that is not empty; `None` at the end of the body.
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        if self.body.is_none() {
            let range = GetRange::Bounded(self.position..self.end);
            let result = self.store.request(&self.key, Some(range), self.etag.clone()).await;
            let result = result.map_err(|error| match error.kind() {
                // The condition did not hold: 412.
                ErrorKind::AlreadyExists => error
                    .with_kind(ErrorKind::Corrupt)
                    .with_remedy("the object was replaced while it was read: read it again"),
                _ => error,
            })?;
            let replaced = |mark: &String| result.meta.e_tag.as_ref().is_some_and(|now| now != mark);
            if self.etag.as_ref().is_some_and(replaced) {
                return Err(Error::corrupt("the store gave another object's bytes")
                    .with_key(self.store.url_of(&self.key))
                    .with_remedy("the object was replaced while it was read: read it again"));
            }
            if result.range.start != self.position {
                let text = "the store sent another part of the object than asked for";
                return Err(Error::corrupt(text).with_key(self.store.url_of(&self.key)));
            }
            self.body = Some(result.into_stream());
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            match body.next().await {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => return Ok(Some(piece)),
                Some(Err(error)) => return Err(self.store.error("reading", &self.key, error)),
                None => return Ok(None),
            }
        }
    }
}
