//! Encrypting while a body is collected: in place, in the buffers that are sent.

use super::super::Store;
use super::super::dialect::LARGE;
use super::bound_name;
use super::cbc::CbcSealer;
use super::gcm::GcmSealer;
use super::header::Header;
use super::{CipherMode, header};
use crate::archive::blocking;
use crate::error::Result;
use bytes::Bytes;

/// Turns a body into what is stored, for one object. Without encryption it only copies.
///
/// The stored bytes are collected in buffers of `room` bytes, which are the parts of an upload; `room` is a multiple of
/// 64 KiB. Every buffer is filled to its end but the last, so the parts are equal. Call it where blocking is allowed:
/// it takes processor time.
pub struct Sealer(State);

enum State {
    Plain,
    Gcm(Box<GcmSealer>),
    Cbc(Box<CbcSealer>),
}

impl Sealer {
    pub(super) fn plain() -> Self {
        Self(State::Plain)
    }

    /// Whether nothing is encrypted.
    pub fn is_plain(&self) -> bool {
        matches!(self.0, State::Plain)
    }

    /// Bytes in the store of a body of `plain` bytes.
    pub fn stored_size(&self, plain: u64) -> u64 {
        match &self.0 {
            State::Plain => plain,
            State::Gcm(_) => CipherMode::Aes256Gcm.stored_size(plain),
            State::Cbc(_) => CipherMode::Aes256Cbc.stored_size(plain),
        }
    }

    /// Appends what becomes of `bytes` to `out`, which never grows beyond `room`; returns how many were taken. When it
    /// takes none, `out` is full. What a full buffer holds is final.
    pub fn fill(&mut self, out: &mut Vec<u8>, room: usize, bytes: &[u8]) -> Result<usize> {
        match &mut self.0 {
            State::Plain => {
                let take = bytes.len().min(room.saturating_sub(out.len()));
                out.extend_from_slice(&bytes[..take]);
                Ok(take)
            }
            State::Gcm(sealer) => sealer.fill(out, room, bytes),
            State::Cbc(sealer) => sealer.fill(out, room, bytes),
        }
    }

    /// Appends what ends the object. `false` when `out` is full before the end: send it and call again with an empty
    /// one.
    pub fn finish(&mut self, out: &mut Vec<u8>, room: usize) -> Result<bool> {
        match &mut self.0 {
            State::Plain => Ok(true),
            State::Gcm(sealer) => sealer.finish(out, room),
            State::Cbc(sealer) => sealer.finish(out, room),
        }
    }
}

/// A whole body as it is stored.
#[derive(Debug, Clone)]
pub struct Sealed(pub(crate) Bytes);

impl Sealed {
    /// Bytes in the store.
    pub fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Store {
    /// What encrypts one object. The first of a backup, or of a day, makes and stores a data key.
    pub async fn sealer(&self, key: &str) -> Result<Sealer> {
        let Some(cipher) = self.cipher_of(key) else { return Ok(Sealer::plain()) };
        let data = cipher.keys(self, key)?.for_writing(&self.plain(), key).await?;
        let header = Header::new(cipher.mode(), data.id())?;
        let name = bound_name(key);
        Ok(Sealer(match cipher.mode() {
            CipherMode::Aes256Gcm => State::Gcm(Box::new(GcmSealer::new(&data, &header, name)?)),
            CipherMode::Aes256Cbc => State::Cbc(Box::new(CbcSealer::new(&data, &header, name))),
        }))
    }

    /// A body as it is stored under a key.
    pub(in crate::store) async fn seal(&self, key: &str, content: Bytes) -> Result<Sealed> {
        let mut sealer = self.sealer(key).await?;
        if sealer.is_plain() {
            return Ok(Sealed(content));
        }
        let size = usize::try_from(self.stored_size(key, content.len() as u64)).unwrap_or(usize::MAX);
        let large = content.len() >= LARGE;
        let mut work = move || {
            let mut out = Vec::with_capacity(size);
            sealer.fill(&mut out, usize::MAX, &content)?;
            sealer.finish(&mut out, usize::MAX)?;
            Ok(Sealed(out.into()))
        };
        if large { blocking(work).await } else { work() }
    }

    /// Whether the first part of an upload is what a sealer made: a caller that forgot it must not get through.
    pub(in crate::store) fn is_sealed(&self, key: &str, first: &[u8]) -> bool {
        self.cipher_of(key).is_none() || header::is_encrypted(first)
    }
}
