//! Data keys, and how they lie in the store: `howdah/keys/<id>.json`, each wrapped by the repository key.
//!
//! In GCM mode `wrapped` is a nonce of 12 bytes, the encrypted key and a tag. In CBC mode it is exactly what
//! `openssl enc -aes-256-cbc -pbkdf2` writes, and `mac` is an HMAC-SHA-256 over it. Both authenticate id and cipher too.

use super::CipherMode;
use super::cbc::{decrypt, encrypt};
use super::header::{KeyId, random};
use super::keyring::{Derivation, RepositoryKey};
use crate::error::{Error, ErrorKind, Result};
use aes::cipher::KeyIvInit;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// What `openssl enc` begins with; the salt follows.
const SALTED: &[u8; 8] = b"Salted__";
/// The key and a block of padding.
const PADDED: usize = 48;

/// HMAC-SHA-256 of `label` and `parts` under `key`: keys for one purpose each.
pub fn derived(key: &[u8], label: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(label);
    parts.iter().for_each(|part| context.update(part));
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// Hexadecimal digits.
pub fn hex_of(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// A data key.
pub struct DataKey {
    id: KeyId,
    secret: Zeroizing<[u8; 32]>,
}

impl DataKey {
    /// A new one.
    pub fn random() -> Result<Self> {
        Ok(Self { id: KeyId::random()?, secret: Zeroizing::new(random()?) })
    }

    pub fn id(&self) -> KeyId {
        self.id
    }

    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// A key for one purpose.
    pub fn derive(&self, label: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        derived(self.secret.as_slice(), label, parts)
    }
}

/// A data key as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyFile {
    /// Id of the data key, as in the headers of what it encrypts and in the name of this file.
    pub id: String,
    /// Mode of the repository.
    pub cipher: String,
    /// What it encrypts, for people who look: the id of a backup, or `wal`.
    pub scope: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// How the repository key is derived.
    #[serde(flatten)]
    pub derivation: Derivation,
    /// Id of the repository key.
    pub wrapped_by: String,
    /// The wrapped key, base64.
    pub wrapped: String,
    /// HMAC over it, hexadecimal; in CBC mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

impl KeyFile {
    /// Wraps a data key.
    pub fn new(
        mode: CipherMode,
        data: &DataKey,
        scope: &str,
        now: DateTime<Utc>,
        by: &RepositoryKey,
        derivation: &Derivation,
    ) -> Result<Self> {
        let mut file = Self {
            id: data.id().to_string(),
            cipher: mode.as_str().to_owned(),
            scope: scope.to_owned(),
            created_at: now,
            derivation: derivation.clone(),
            wrapped_by: String::new(),
            wrapped: String::new(),
            mac: None,
        };
        file.wrap(mode, data, by)?;
        Ok(file)
    }

    /// Wraps the same data key by another repository key.
    pub fn wrap(&mut self, mode: CipherMode, data: &DataKey, by: &RepositoryKey) -> Result<()> {
        by.id().clone_into(&mut self.wrapped_by);
        let wrapped = match mode {
            CipherMode::Aes256Gcm => {
                let mut wrapped = random::<NONCE_LEN>()?.to_vec();
                let mut key = Zeroizing::new(*data.secret());
                let tag = gcm(by)?
                    .seal_in_place_separate_tag(nonce(&wrapped)?, Aad::from(self.bound()), key.as_mut_slice())
                    .map_err(|_| Error::new(ErrorKind::Other, "AES-256-GCM failed"))?;
                wrapped.extend_from_slice(key.as_slice());
                wrapped.extend_from_slice(tag.as_ref());
                wrapped
            }
            CipherMode::Aes256Cbc => {
                let mut key = Zeroizing::new([16; PADDED]);
                key[..32].copy_from_slice(data.secret());
                let mut cipher = cbc::Encryptor::new_from_slices(by.key(), by.iv()).map_err(unusable)?;
                encrypt(&mut cipher, key.as_mut_slice());
                let wrapped = [SALTED.as_slice(), &self.derivation.salt()?, key.as_slice()].concat();
                self.mac = Some(hex_of(self.mac_of(by, &wrapped).as_slice()));
                wrapped
            }
        };
        self.wrapped = STANDARD.encode(wrapped);
        Ok(())
    }

    /// The data key.
    pub fn unwrap(&self, mode: CipherMode, by: &RepositoryKey) -> Result<DataKey> {
        let damaged = |what: &str| Error::corrupt(format!("the wrapped key is damaged: {what}"));
        let id: KeyId = self.id.parse().map_err(|error| damaged("its id").with_source(error))?;
        let mut wrapped =
            STANDARD.decode(&self.wrapped).map_err(|error| damaged("no base64").with_source(error))?;
        let mut secret = Zeroizing::new([0; 32]);
        match mode {
            CipherMode::Aes256Gcm => {
                let (head, rest) =
                    wrapped.split_at_mut_checked(NONCE_LEN).ok_or_else(|| damaged("its length"))?;
                let opened = gcm(by)?
                    .open_in_place(nonce(head)?, Aad::from(self.bound()), rest)
                    .map_err(|_| damaged("it is not what was written"))?;
                if opened.len() != secret.len() {
                    return Err(damaged("its length"));
                }
                secret.copy_from_slice(opened);
            }
            CipherMode::Aes256Cbc => {
                let mac = self.mac.as_deref().and_then(|mac| hex::decode(mac).ok()).unwrap_or_default();
                if !bool::from(self.mac_of(by, &wrapped).as_slice().ct_eq(&mac)) {
                    return Err(damaged("it is not what was written"));
                }
                let begin = wrapped.len().checked_sub(PADDED).ok_or_else(|| damaged("its length"))?;
                let mut cipher = cbc::Decryptor::new_from_slices(by.key(), by.iv()).map_err(unusable)?;
                decrypt(&mut cipher, &mut wrapped[begin..]);
                secret.copy_from_slice(&wrapped[begin..begin + 32]);
            }
        }
        wrapped.zeroize();
        Ok(DataKey { id, secret })
    }

    /// What is authenticated with the key.
    fn bound(&self) -> String {
        format!("howdah-key-v1:{}:{}", self.cipher, self.id)
    }

    fn mac_of(&self, by: &RepositoryKey, wrapped: &[u8]) -> Zeroizing<[u8; 32]> {
        let key = derived(by.key(), b"howdah-key-mac-v1", &[]);
        derived(key.as_slice(), self.bound().as_bytes(), &[b":", wrapped])
    }
}

fn gcm(by: &RepositoryKey) -> Result<LessSafeKey> {
    // Not the key itself: in CBC mode and for the id it serves otherwise.
    let key = derived(by.key(), b"howdah-key-gcm-v1", &[]);
    UnboundKey::new(&AES_256_GCM, key.as_slice())
        .map(LessSafeKey::new)
        .map_err(|_| Error::new(ErrorKind::Other, "AES-256-GCM failed"))
}

fn nonce(bytes: &[u8]) -> Result<Nonce> {
    Nonce::try_assume_unique_for_key(bytes).map_err(|_| Error::corrupt("the wrapped key has no nonce"))
}

fn unusable(error: aes::cipher::InvalidLength) -> Error {
    Error::new(ErrorKind::Other, "AES-256-CBC failed").with_source(error)
}
