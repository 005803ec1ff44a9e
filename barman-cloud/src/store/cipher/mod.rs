//! Client-side encryption: every body is encrypted before it leaves and decrypted when it is read. Nothing above the
//! store knows, but that stored sizes are a little larger ([`Store::stored_size`]).
//!
//! Each object has a [`header`] and is encrypted with a data key of its own or of its backup; data keys lie beside the
//! data, each wrapped by the repository key that the passphrase gives ([`keyfile`]). Two ciphers: AES-256-GCM in blocks
//! that are authenticated each ([`gcm`]), and AES-256-CBC with an HMAC at the end ([`cbc`]), whose payload `openssl`
//! decrypts. Key names, sizes and times are not hidden; docs/encryption.md says what is protected.

mod cbc;
mod gcm;
mod guard;
mod header;
mod keyfile;
mod keyring;
mod keys;
mod open;
mod rotate;
mod seal;

pub use guard::RepositoryCipher;
pub use keyring::{Keyring, MIN_ITERATIONS};
pub use rotate::KeyRotation;
pub use seal::{Sealed, Sealer};

pub(super) use open::refuse_encrypted;

use super::Store;
use crate::error::{Error, Result};
use crate::layout::Layout;
use keys::ServerKeys;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

/// How bodies are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CipherMode {
    /// AES-256-GCM in blocks of 64 KiB: not a byte is given out that was not authenticated.
    #[default]
    Aes256Gcm,
    /// AES-256-CBC with HMAC-SHA-256 over all of it: what a stream gives is authenticated at its end only.
    Aes256Cbc,
}

impl CipherMode {
    /// As settings and records spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Aes256Cbc => "aes-256-cbc",
        }
    }

    /// Bytes in the store of a body of `plain` bytes.
    pub fn stored_size(self, plain: u64) -> u64 {
        match self {
            Self::Aes256Gcm => gcm::stored_size(plain),
            Self::Aes256Cbc => cbc::stored_size(plain),
        }
    }
}

impl fmt::Display for CipherMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CipherMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Aes256Gcm, Self::Aes256Cbc].into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            Error::invalid(format!("{text:?} is no cipher that is known here"))
                .with_remedy("use aes-256-gcm or aes-256-cbc")
        })
    }
}

/// What encrypts a store: a mode and the passphrases. Clones share what was derived and read, so whoever opens a
/// repository often keeps one and gives it to every [`Store`].
#[derive(Clone)]
pub struct Cipher(Arc<Shared>);

struct Shared {
    mode: CipherMode,
    keyring: Arc<Keyring>,
    /// Keys of each destination and server.
    servers: Mutex<HashMap<(String, String), Arc<ServerKeys>>>,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").field("mode", &self.0.mode).finish_non_exhaustive()
    }
}

impl Cipher {
    /// A cipher; derives nothing yet.
    pub fn new(mode: CipherMode, keyring: Keyring) -> Self {
        Self(Arc::new(Shared { mode, keyring: Arc::new(keyring), servers: Mutex::default() }))
    }

    /// How it encrypts.
    pub fn mode(&self) -> CipherMode {
        self.0.mode
    }

    /// The keys for an object: those of its server.
    fn keys(&self, store: &Store, key: &str) -> Result<Arc<ServerKeys>> {
        let Some((server, _)) = key.split_once('/') else {
            return Err(Error::invalid(format!(
                "{key:?} is in no server's directory: it cannot be encrypted"
            )));
        };
        let layout = Layout::new(server)?;
        let mut servers = self.0.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = servers.entry((store.url().to_owned(), server.to_owned()));
        let make = || Arc::new(ServerKeys::new(self.0.mode, Arc::clone(&self.0.keyring), layout));
        Ok(Arc::clone(entry.or_insert_with(make)))
    }
}

impl Store {
    /// The same store, encrypting what is written and decrypting what is read. Makes no request.
    #[must_use]
    pub fn with_cipher(&self, cipher: &Cipher) -> Self {
        Self { inner: Arc::clone(&self.inner), cipher: Some(cipher.clone()) }
    }

    /// How bodies are encrypted; `None` when they are not.
    pub fn cipher_mode(&self) -> Option<CipherMode> {
        self.cipher.as_ref().map(Cipher::mode)
    }

    /// Bytes that a body of `plain` bytes takes under a key: what listings and looks show of it.
    pub fn stored_size(&self, key: &str, plain: u64) -> u64 {
        self.cipher_of(key).map_or(plain, |cipher| cipher.mode().stored_size(plain))
    }

    /// The same store without encryption, for what must be readable before any key is known.
    fn plain(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), cipher: None }
    }

    /// The cipher for an object, when it has one.
    pub(super) fn cipher_of(&self, key: &str) -> Option<&Cipher> {
        self.cipher.as_ref().filter(|_| !Layout::is_always_plain(key))
    }
}

/// What an object is called where its name is authenticated: its key without the server, so that a repository may be
/// copied to another destination or server name, and objects of one repository cannot stand in for each other.
fn bound_name(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, name)| name)
}
