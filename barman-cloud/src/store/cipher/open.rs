//! Decrypting what is read, above the stream that goes on where a connection broke.

use super::super::read::ObjectStream;
use super::super::{ObjectInfo, Store};
use super::cbc::CbcOpener;
use super::gcm::{self, BLOCK, GcmOpener};
use super::header::{HEADER, Header, MAGIC, is_encrypted};
use super::{Cipher, CipherMode, bound_name, guard};
use crate::error::{Error, Result};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use std::ops::Range;

enum Opener {
    Gcm(Box<GcmOpener>),
    Cbc(Box<CbcOpener>),
}

impl Opener {
    fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Bytes>)> {
        match self {
            Self::Gcm(opener) => opener.push(bytes),
            Self::Cbc(opener) => Ok(opener.push(bytes)),
        }
    }

    fn end(&mut self) -> Result<Bytes> {
        match self {
            Self::Gcm(opener) => opener.end(),
            Self::Cbc(opener) => opener.end(),
        }
    }
}

impl Cipher {
    /// Opens an object, or a plain range of it. The object's size is that of the store.
    pub(in crate::store) fn open<'a>(
        &'a self,
        store: &'a Store,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<(ObjectInfo, ObjectStream)>> {
        // Boxed, since the keys are read by the same function.
        Box::pin(async move {
            match range {
                None => self.open_whole(store, key).await,
                Some(range) => self.open_range(store, key, range).await,
            }
        })
    }

    async fn open_whole(&self, store: &Store, key: &str) -> Result<(ObjectInfo, ObjectStream)> {
        let (info, stream) = store.open_stored(key, None).await?;
        let mut reading = Reading::new(store.url_of(key), stream);
        let header = reading.header().await?;
        let opener = self.opener(store, key, &header, 0..info.size, info.size).await;
        Ok((info, reading.into_stream(opener.map_err(|error| error.with_key(store.url_of(key)))?)))
    }

    async fn open_range(
        &self,
        store: &Store,
        key: &str,
        range: Range<u64>,
    ) -> Result<(ObjectInfo, ObjectStream)> {
        let named = |error: Error| error.with_key(store.url_of(key));
        let (info, stream) = store.open_stored(key, Some(0..HEADER as u64)).await?;
        let header = Reading::new(store.url_of(key), stream).header().await?;
        let span = self.span(&header, &range, info.size).map_err(named)?;
        let opener = self.opener(store, key, &header, span.stored.clone(), info.size).await.map_err(named)?;
        // The first block follows the header.
        let begin = span.stored.start.max(HEADER as u64);
        let (again, stream) = store.open_stored(key, Some(begin..span.stored.end)).await?;
        if again.etag != info.etag {
            return Err(named(Error::corrupt("the object was replaced while it was read: read it again")));
        }
        let mut reading = Reading::new(store.url_of(key), stream);
        (reading.skip, reading.left) = (span.skip, Some(range.end - range.start));
        Ok((info, reading.into_stream(opener)))
    }

    /// What must be read for a plain range.
    fn span(&self, header: &Header, range: &Range<u64>, size: u64) -> Result<Span> {
        let outside = |plain: u64| {
            Error::corrupt(format!("asked for bytes {range:?} of the {plain} in the encrypted object"))
        };
        match header.mode {
            CipherMode::Aes256Gcm => {
                let plain = gcm::plain_size(size).ok_or_else(|| {
                    Error::corrupt(format!("{size} bytes are no whole ciphertext: it was cut off"))
                })?;
                if range.start >= range.end || range.end > plain {
                    return Err(outside(plain));
                }
                let ((first, skip), (last, _)) = (gcm::block_of(range.start), gcm::block_of(range.end - 1));
                let stored = first * BLOCK as u64..((last + 1) * BLOCK as u64).min(size);
                Ok(Span { stored, skip })
            }
            // Nothing of it is authentic before all of it was read.
            CipherMode::Aes256Cbc => {
                if range.start >= range.end || range.end > size.saturating_sub(HEADER as u64) {
                    return Err(outside(size.saturating_sub(HEADER as u64)));
                }
                Ok(Span { stored: 0..size, skip: range.start })
            }
        }
    }

    async fn opener(
        &self,
        store: &Store,
        key: &str,
        header: &Header,
        stored: Range<u64>,
        size: u64,
    ) -> Result<Opener> {
        let mode = self.mode();
        if header.mode != mode {
            return Err(guard::other_mode(header.mode, mode));
        }
        let data = self.keys(store, key)?.for_reading(&store.plain(), header.key).await?;
        let name = bound_name(key);
        Ok(match mode {
            CipherMode::Aes256Gcm => {
                let index = stored.start / BLOCK as u64;
                Opener::Gcm(Box::new(GcmOpener::new(&data, header, name, index, stored.end == size)?))
            }
            CipherMode::Aes256Cbc => Opener::Cbc(Box::new(CbcOpener::new(&data, header, name, size)?)),
        })
    }
}

/// What is read of the store for a plain range.
struct Span {
    stored: Range<u64>,
    /// Plain bytes before the range.
    skip: u64,
}

struct Reading {
    url: String,
    stored: Option<ObjectStream>,
    /// Ciphertext that was not looked at yet.
    current: Bytes,
    /// Plain bytes to pass over.
    skip: u64,
    /// Plain bytes to give then; all when `None`.
    left: Option<u64>,
}

impl Reading {
    fn new(url: String, stream: ObjectStream) -> Self {
        Self { url, stored: Some(stream), current: Bytes::new(), skip: 0, left: None }
    }

    async fn more(&mut self) -> Result<bool> {
        let Some(stream) = &mut self.stored else { return Ok(false) };
        match stream.next().await {
            Some(piece) => {
                self.current = piece?;
                Ok(true)
            }
            None => {
                self.stored = None;
                Ok(false)
            }
        }
    }

    async fn header(&mut self) -> Result<Header> {
        let mut head = BytesMut::with_capacity(HEADER);
        while head.len() < HEADER {
            if self.current.is_empty() && !self.more().await? {
                break;
            }
            let take = self.current.len().min(HEADER - head.len());
            head.extend_from_slice(&self.current.split_to(take));
        }
        Header::decode(&head).map_err(|error| error.with_key(&self.url))
    }

    fn into_stream(self, opener: Opener) -> ObjectStream {
        let state = Some((self, Some(opener)));
        futures::stream::unfold(state, |state| async move {
            let (mut reading, mut opener) = state?;
            match reading.next(&mut opener).await {
                Ok(Some(piece)) => Some((Ok(piece), Some((reading, opener)))),
                Ok(None) => None,
                Err(error) => Some((Err(error.with_key(&reading.url)), None)),
            }
        })
        .boxed()
    }

    /// The next plain bytes. The end comes only after everything was found authentic, wanted or not.
    async fn next(&mut self, opener: &mut Option<Opener>) -> Result<Option<Bytes>> {
        while let Some(open) = opener {
            let plain = if !self.current.is_empty() || self.more().await? {
                let (taken, plain) = open.push(&self.current)?;
                self.current.advance(taken);
                plain
            } else {
                let last = open.end()?;
                *opener = None;
                Some(last)
            };
            let Some(mut plain) = plain else { continue };
            let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(plain.len());
            plain.advance(passed);
            self.skip -= passed as u64;
            if let Some(left) = &mut self.left {
                plain.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= plain.len() as u64;
            }
            if !plain.is_empty() {
                return Ok(Some(plain));
            }
        }
        match self.left {
            Some(left) if left > 0 => {
                Err(Error::corrupt(format!("the last {left} bytes of the range are not in the object")))
            }
            _ => Ok(None),
        }
    }
}

/// The stream of an unencrypted store, which fails when the object turns out to be encrypted.
pub fn refuse_encrypted(store: Store, key: String, stream: ObjectStream) -> ObjectStream {
    // A body shorter than the mark is given when its end is known, and the end is asked for once more then.
    let state = (Some((store, key, BytesMut::new())), stream.fuse().boxed());
    futures::stream::unfold(state, |(mut look, mut stream)| async move {
        loop {
            let piece = stream.next().await;
            let Some((store, key, mut head)) = look.take() else {
                return piece.map(|piece| (piece, (None, stream)));
            };
            let end = piece.is_none();
            let piece = match piece {
                Some(Err(error)) => return Some((Err(error), (None, stream))),
                Some(Ok(piece)) if head.is_empty() && piece.len() >= MAGIC.len() => piece,
                piece => {
                    head.extend_from_slice(&piece.and_then(Result::ok).unwrap_or_default());
                    if head.len() < MAGIC.len() && !end {
                        look = Some((store, key, head));
                        continue;
                    }
                    head.freeze()
                }
            };
            if is_encrypted(&piece) {
                return Some((Err(guard::without_key(&store, &key).await), (None, stream.take(0).boxed())));
            }
            return if piece.is_empty() { None } else { Some((Ok(piece), (None, stream))) };
        }
    })
    .boxed()
}
