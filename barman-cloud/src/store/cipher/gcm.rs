//! AES-256-GCM in blocks.
//!
//! The object is cut into blocks of 64 KiB as they lie in the store, so that uploads in equal parts of whole MiB cut
//! between blocks. Each block is ciphertext and a tag of 16 bytes; the first begins with the header. The last block is
//! always shorter than the others, empty if need be, and says in its nonce that it is the last: an object that was cut
//! off, or whose blocks were moved, does not decrypt.
//!
//! Every object has a key of its own, made of the data key, its header and its name, so nonces are plain counters and
//! an object under another name does not decrypt either.

use super::header::{HEADER, Header};
use super::keyfile::DataKey;
use crate::error::{Error, ErrorKind, Result};
use bytes::{Bytes, BytesMut};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes of a block in the store.
pub const BLOCK: usize = 64 << 10;
const TAG: usize = 16;
/// Bytes of a block that are not its tag.
const PAYLOAD: usize = BLOCK - TAG;

/// Bytes in the store of so many plain ones.
pub fn stored_size(plain: u64) -> u64 {
    let payload = plain + HEADER as u64;
    payload + TAG as u64 * (payload / PAYLOAD as u64 + 1)
}

/// Plain bytes of so many in the store; `None` when no object has that size.
pub fn plain_size(stored: u64) -> Option<u64> {
    let (blocks, rest) = (stored / BLOCK as u64, stored % BLOCK as u64);
    (blocks * PAYLOAD as u64 + rest.checked_sub(TAG as u64)?).checked_sub(HEADER as u64)
}

/// The block that holds a plain byte, and how many plain bytes of the block come before it.
pub fn block_of(plain: u64) -> (u64, u64) {
    let at = plain + HEADER as u64;
    let (block, within) = (at / PAYLOAD as u64, at % PAYLOAD as u64);
    (block, if block == 0 { within - HEADER as u64 } else { within })
}

fn object_key(data: &DataKey, header: &Header, name: &str) -> Result<LessSafeKey> {
    let key = data.derive(b"howdah-gcm-v1:", &[&header.encode(), name.as_bytes()]);
    UnboundKey::new(&AES_256_GCM, key.as_ref()).map(LessSafeKey::new).map_err(|_| failed())
}

fn failed() -> Error {
    Error::new(ErrorKind::Other, "AES-256-GCM failed")
}

fn nonce(index: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&index.to_be_bytes());
    nonce[NONCE_LEN - 1] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

/// Encrypts an object where it is collected.
pub struct GcmSealer {
    key: LessSafeKey,
    header: [u8; HEADER],
    index: u64,
    /// Bytes of the block under construction, the header included; it lies at the end of the output.
    filled: usize,
}

impl GcmSealer {
    pub fn new(data: &DataKey, header: &Header, name: &str) -> Result<Self> {
        Ok(Self { key: object_key(data, header, name)?, header: header.encode(), index: 0, filled: 0 })
    }

    /// See [`super::Sealer::fill`].
    pub fn fill(&mut self, out: &mut Vec<u8>, room: usize, mut bytes: &[u8]) -> Result<usize> {
        let all = bytes.len();
        while !bytes.is_empty() {
            if self.filled == 0 {
                if room.saturating_sub(out.len()) < BLOCK {
                    break;
                }
                self.begin(out);
            }
            let (now, rest) = bytes.split_at(bytes.len().min(PAYLOAD - self.filled));
            out.extend_from_slice(now);
            self.filled += now.len();
            bytes = rest;
            if self.filled == PAYLOAD {
                self.close(out, false)?;
            }
        }
        Ok(all - bytes.len())
    }

    /// See [`super::Sealer::finish`].
    pub fn finish(&mut self, out: &mut Vec<u8>, room: usize) -> Result<bool> {
        if self.filled == 0 {
            if room.saturating_sub(out.len()) < HEADER + TAG {
                return Ok(false);
            }
            self.begin(out);
        }
        self.close(out, true).map(|()| true)
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.index == 0 {
            out.extend_from_slice(&self.header);
            self.filled = HEADER;
        }
    }

    fn close(&mut self, out: &mut Vec<u8>, last: bool) -> Result<()> {
        let clear = if self.index == 0 { HEADER } else { 0 };
        let begin = out.len() - self.filled + clear;
        let sealed =
            self.key.seal_in_place_separate_tag(nonce(self.index, last), Aad::empty(), &mut out[begin..]);
        out.extend_from_slice(sealed.map_err(|_| failed())?.as_ref());
        self.index += 1;
        self.filled = 0;
        Ok(())
    }
}

/// Decrypts what comes after the header, or blocks from the middle of an object.
pub struct GcmOpener {
    key: LessSafeKey,
    index: u64,
    /// Stored bytes of the current block in the whole.
    size: usize,
    block: BytesMut,
    /// Whether the object's last block is among what comes.
    to_the_end: bool,
}

impl GcmOpener {
    /// From block `index` on; with 0 the header was taken away already.
    pub fn new(data: &DataKey, header: &Header, name: &str, index: u64, to_the_end: bool) -> Result<Self> {
        let size = if index == 0 { BLOCK - HEADER } else { BLOCK };
        Ok(Self { key: object_key(data, header, name)?, index, size, block: BytesMut::new(), to_the_end })
    }

    /// Takes ciphertext; gives a block when one is complete, and how much was taken.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Bytes>)> {
        if self.block.capacity() == 0 {
            self.block.reserve(self.size);
        }
        let take = bytes.len().min(self.size - self.block.len());
        self.block.extend_from_slice(&bytes[..take]);
        let block = if self.block.len() == self.size { Some(self.open(false)?) } else { None };
        Ok((take, block))
    }

    /// The last block.
    pub fn end(&mut self) -> Result<Bytes> {
        match (self.to_the_end, self.block.is_empty()) {
            (true, false) => self.open(true),
            (false, true) => Ok(Bytes::new()),
            _ => Err(Error::corrupt(format!(
                "it ends after block {} of its ciphertext: it was cut off",
                self.index
            ))),
        }
    }

    fn open(&mut self, last: bool) -> Result<Bytes> {
        let mut block = std::mem::take(&mut self.block);
        let opened = self.key.open_in_place(nonce(self.index, last), Aad::empty(), &mut block);
        let length = opened.map(|plain| plain.len()).map_err(|_| {
            Error::corrupt(format!(
                "block {} of its ciphertext is not what was written under this name: it was changed, cut off or moved",
                self.index
            ))
        })?;
        self.index += 1;
        self.size = BLOCK;
        block.truncate(length);
        Ok(block.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_go_both_ways() {
        let payload = PAYLOAD as u64;
        let edges = [0, 1, payload - 48, payload, 2 * payload - 48, 1 << 20, 1 << 30, 50 << 40];
        for plain in edges.iter().flat_map(|edge| [edge.saturating_sub(1), *edge, edge + 1]) {
            let stored = stored_size(plain);
            assert_eq!(plain_size(stored), Some(plain), "{plain}");
            assert!(stored % BLOCK as u64 >= TAG as u64, "the last block is short: {plain}");
        }
        // An object that ends between blocks, or before its first tag.
        assert_eq!((plain_size(BLOCK as u64), plain_size(63), plain_size(64)), (None, None, Some(0)));
    }

    #[test]
    fn places_are_found() {
        let payload = PAYLOAD as u64;
        assert_eq!((block_of(0), block_of(payload - 49)), ((0, 0), (0, payload - 49)));
        assert_eq!((block_of(payload - 48), block_of(payload - 47)), ((1, 0), (1, 1)));
    }
}
