//! AES-256-CBC, then HMAC-SHA-256.
//!
//! After the header comes the ciphertext with PKCS #7 padding under the data key itself, as `openssl enc` makes it,
//! then 32 bytes of HMAC over header and ciphertext. The key of the HMAC is made of the data key and the object's
//! name. A reader is given the last block only after the HMAC was found right; what it was given before is not
//! authenticated until the stream has ended well.

use super::header::{HEADER, Header};
use super::keyfile::DataKey;
use crate::error::{Error, Result};
use aes::Aes256;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use bytes::{Bytes, BytesMut};
use ring::hmac;
use subtle::ConstantTimeEq;

const AES_BLOCK: usize = 16;
/// Bytes of the HMAC.
pub const MAC: usize = 32;
/// Encrypted and authenticated at a time, so that the second finds it in the cache.
const STEP: usize = 32 << 10;

/// Bytes in the store of so many plain ones.
pub fn stored_size(plain: u64) -> u64 {
    HEADER as u64 + (plain / 16 + 1) * 16 + MAC as u64
}

fn mac(data: &DataKey, header: &Header, name: &str) -> hmac::Context {
    let key = data.derive(b"howdah-mac-v1:", &[name.as_bytes()]);
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()));
    mac.update(&header.encode());
    mac
}

/// Encrypts whole blocks in place.
pub fn encrypt(cipher: &mut cbc::Encryptor<Aes256>, bytes: &mut [u8]) {
    let (blocks, rest) = InOutBuf::from(bytes).into_chunks();
    debug_assert!(rest.is_empty());
    cipher.encrypt_blocks_inout(blocks);
}

/// Decrypts whole blocks in place.
pub fn decrypt(cipher: &mut cbc::Decryptor<Aes256>, bytes: &mut [u8]) {
    let (blocks, rest) = InOutBuf::from(bytes).into_chunks();
    debug_assert!(rest.is_empty());
    cipher.decrypt_blocks_inout(blocks);
}

/// Encrypts an object where it is collected.
pub struct CbcSealer {
    cipher: cbc::Encryptor<Aes256>,
    mac: hmac::Context,
    header: Option<[u8; HEADER]>,
    /// Bytes that do not fill a block yet.
    rest: Vec<u8>,
    /// The last block and the HMAC, once they are known.
    tail: Option<Vec<u8>>,
}

impl CbcSealer {
    pub fn new(data: &DataKey, header: &Header, name: &str) -> Self {
        Self {
            cipher: cbc::Encryptor::new(&(*data.secret()).into(), &header.salt.into()),
            mac: mac(data, header, name),
            header: Some(header.encode()),
            rest: Vec::with_capacity(AES_BLOCK),
            tail: None,
        }
    }

    /// See [`super::Sealer::fill`].
    pub fn fill(&mut self, out: &mut Vec<u8>, room: usize, bytes: &[u8]) -> Result<usize> {
        let mut taken = 0;
        if let Some(header) = self.header.take_if(|_| room.saturating_sub(out.len()) >= HEADER) {
            out.extend_from_slice(&header);
        }
        while taken < bytes.len() && self.header.is_none() {
            let bytes = &bytes[taken..];
            let waiting = self.rest.len() + bytes.len();
            if waiting < AES_BLOCK {
                self.rest.extend_from_slice(bytes);
                return Ok(taken + bytes.len());
            }
            let most = waiting.min(room.saturating_sub(out.len())).min(STEP) / AES_BLOCK * AES_BLOCK;
            if most == 0 {
                break;
            }
            let begin = out.len();
            let now = most - self.rest.len();
            out.append(&mut self.rest);
            out.extend_from_slice(&bytes[..now]);
            encrypt(&mut self.cipher, &mut out[begin..]);
            self.mac.update(&out[begin..]);
            taken += now;
        }
        Ok(taken)
    }

    /// See [`super::Sealer::finish`].
    pub fn finish(&mut self, out: &mut Vec<u8>, room: usize) -> Result<bool> {
        let mut tail = match self.tail.take() {
            Some(tail) => tail,
            None => self.last(),
        };
        let now = tail.len().min(room.saturating_sub(out.len()));
        out.extend(tail.drain(..now));
        let done = tail.is_empty();
        self.tail = Some(tail);
        Ok(done)
    }

    fn last(&mut self) -> Vec<u8> {
        let padding = AES_BLOCK - self.rest.len();
        let mut block = std::mem::take(&mut self.rest);
        block.resize(AES_BLOCK, padding as u8);
        encrypt(&mut self.cipher, &mut block);
        self.mac.update(&block);
        let mut tail = self.header.take().map_or_else(Vec::new, Vec::from);
        tail.append(&mut block);
        tail.extend_from_slice(self.mac.clone().sign().as_ref());
        tail
    }
}

/// Decrypts what comes after the header.
pub struct CbcOpener {
    cipher: cbc::Decryptor<Aes256>,
    mac: Option<hmac::Context>,
    /// Bytes of ciphertext to come.
    left: u64,
    waiting: BytesMut,
    tag: Vec<u8>,
}

impl CbcOpener {
    /// `stored`: bytes of the whole object.
    pub fn new(data: &DataKey, header: &Header, name: &str, stored: u64) -> Result<Self> {
        let left = stored.saturating_sub((HEADER + MAC) as u64);
        if left == 0 || !left.is_multiple_of(AES_BLOCK as u64) {
            return Err(Error::corrupt(format!("{stored} bytes are no whole ciphertext: it was cut off")));
        }
        Ok(Self {
            cipher: cbc::Decryptor::new(&(*data.secret()).into(), &header.salt.into()),
            mac: Some(mac(data, header, name)),
            left,
            waiting: BytesMut::new(),
            tag: Vec::with_capacity(MAC),
        })
    }

    /// Takes ciphertext; gives what can be given of it, and how much was taken.
    pub fn push(&mut self, bytes: &[u8]) -> (usize, Option<Bytes>) {
        let take = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)).min(STEP);
        if take == 0 {
            self.tag.extend_from_slice(bytes);
            return (bytes.len(), None);
        }
        if let Some(mac) = &mut self.mac {
            mac.update(&bytes[..take]);
        }
        self.left -= take as u64;
        self.waiting.extend_from_slice(&bytes[..take]);
        // The last block waits for the HMAC.
        let held = if self.left == 0 { AES_BLOCK } else { 0 };
        let ready = self.waiting.len().saturating_sub(held) / AES_BLOCK * AES_BLOCK;
        if ready == 0 {
            return (take, None);
        }
        let mut blocks = self.waiting.split_to(ready);
        decrypt(&mut self.cipher, &mut blocks);
        (take, Some(blocks.freeze()))
    }

    /// The last block, once everything was found right.
    pub fn end(&mut self) -> Result<Bytes> {
        let changed =
            || Error::corrupt("its HMAC is wrong: it was changed, cut off or moved since it was written");
        let mac = self.mac.take().ok_or_else(changed)?.sign();
        let right = self.left == 0 && bool::from(mac.as_ref().ct_eq(&self.tag));
        if !right || self.waiting.len() != AES_BLOCK {
            return Err(changed());
        }
        let mut block = std::mem::take(&mut self.waiting);
        decrypt(&mut self.cipher, &mut block);
        let padding = usize::from(block[AES_BLOCK - 1]);
        if padding == 0 || padding > AES_BLOCK {
            return Err(Error::corrupt("its padding is wrong"));
        }
        block.truncate(AES_BLOCK - padding);
        Ok(block.freeze())
    }
}
