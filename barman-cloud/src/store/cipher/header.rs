//! What stands before the ciphertext of every object: 48 bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | `HOWDAHEN` |
//! | 8 | version of the format: 1 |
//! | 9 | mode: 1 AES-256-GCM, 2 AES-256-CBC |
//! | 10–15 | zero |
//! | 16–31 | id of the data key |
//! | 32–47 | GCM: salt of the object's key; CBC: initialisation vector |

use super::CipherMode;
use crate::error::{Error, ErrorKind, Result};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::str::FromStr;

/// Bytes of a header.
pub const HEADER: usize = 48;
/// The first bytes of every encrypted object.
pub const MAGIC: &[u8; 8] = b"HOWDAHEN";
const VERSION: u8 = 1;

/// Id of a data key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 16]);

impl KeyId {
    pub fn random() -> Result<Self> {
        random().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map(|()| Self(id))
    }
}

/// Random bytes from the system.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Other, "the system gives no random numbers"))?;
    Ok(bytes)
}

/// Whether an object that begins like this is encrypted.
pub fn is_encrypted(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub mode: CipherMode,
    pub key: KeyId,
    /// Salt or initialisation vector.
    pub salt: [u8; 16],
}

impl Header {
    /// A header for a new object.
    pub fn new(mode: CipherMode, key: KeyId) -> Result<Self> {
        Ok(Self { mode, key, salt: random()? })
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = match self.mode {
            CipherMode::Aes256Gcm => 1,
            CipherMode::Aes256Cbc => 2,
        };
        bytes[16..32].copy_from_slice(&self.key.0);
        bytes[32..].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads a header; fewer bytes than that are no encrypted object.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if !is_encrypted(bytes) {
            return Err(Error::corrupt("it is not encrypted, as everything in this repository must be").with_remedy(
                "somebody wrote it past the encryption: find out who, and restore the object from a copy, or turn \
                 encryption off if the whole repository is not encrypted",
            ));
        }
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(Error::corrupt("it ends within its encryption header"));
        };
        let mode = match (bytes[8], bytes[9], &bytes[10..16]) {
            (VERSION, 1, [0, 0, 0, 0, 0, 0]) => CipherMode::Aes256Gcm,
            (VERSION, 2, [0, 0, 0, 0, 0, 0]) => CipherMode::Aes256Cbc,
            (VERSION, ..) => return Err(Error::corrupt("its encryption header is damaged")),
            (version, ..) => {
                let text = format!("it is encrypted in version {version} of the format; known is {VERSION}");
                return Err(Error::new(ErrorKind::Unsupported, text)
                    .with_remedy("use the version of this software that wrote it, or a newer one"));
            }
        };
        let (mut key, mut salt) = ([0; 16], [0; 16]);
        key.copy_from_slice(&bytes[16..32]);
        salt.copy_from_slice(&bytes[32..]);
        Ok(Self { mode, key: KeyId(key), salt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        for mode in [CipherMode::Aes256Gcm, CipherMode::Aes256Cbc] {
            let header = Header::new(mode, KeyId::random().expect("random")).expect("random");
            assert_eq!(Header::decode(&header.encode()).expect("read"), header);
            assert_eq!(header.key.to_string().parse::<KeyId>().expect("hexadecimal"), header.key);
        }
    }

    #[test]
    fn other_beginnings_are_named() {
        let good = Header::new(CipherMode::Aes256Gcm, KeyId([7; 16])).expect("random").encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Header::decode(&bytes).expect_err("refused").report()
        };
        assert!(with(0, b'X').contains("not encrypted"));
        assert!(with(8, 2).contains("version 2"));
        assert!(with(9, 3).contains("damaged") && with(12, 1).contains("damaged"));
        assert!(Header::decode(&good[..40]).expect_err("short").report().contains("ends within"));
    }
}
