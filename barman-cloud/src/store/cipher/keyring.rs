//! Passphrases, and the repository keys that they make.

use super::super::Secret;
use super::CipherMode;
use super::header::random;
use super::keyfile::{derived, hex_of};
use crate::archive::blocking;
use crate::error::{Error, ErrorKind, Result};
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::Arc;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// Fewest rounds of the derivation that are accepted: fewer in a record of the store would be an attack.
pub const MIN_ITERATIONS: u32 = 600_000;
/// Most: what a record asks for must not keep a processor busy for hours.
const MAX_ITERATIONS: u32 = 100_000_000;

/// How a repository key is made of a passphrase: PBKDF2 with HMAC-SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// Rounds.
    pub iterations: u32,
    /// Salt, hexadecimal: eight bytes in CBC mode, since `openssl enc` has no longer ones, else sixteen.
    pub salt: String,
}

impl Derivation {
    /// One with a new salt.
    pub fn new(mode: CipherMode) -> Result<Self> {
        let salt: [u8; 16] = random()?;
        let length = if mode == CipherMode::Aes256Cbc { 8 } else { 16 };
        Ok(Self { iterations: MIN_ITERATIONS, salt: hex::encode(&salt[..length]) })
    }

    pub fn salt(&self) -> Result<Vec<u8>> {
        hex::decode(&self.salt)
            .map_err(|error| Error::corrupt("the salt is not hexadecimal").with_source(error))
    }

    fn rounds(&self) -> Result<NonZeroU32> {
        let fits = (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&self.iterations);
        NonZeroU32::new(self.iterations).filter(|_| fits).ok_or_else(|| {
            Error::corrupt(format!("{} rounds of PBKDF2 are not accepted", self.iterations))
                .with_remedy("somebody changed the record: restore it from a copy")
        })
    }
}

/// The key that wraps data keys, made of a passphrase.
pub struct RepositoryKey {
    /// A fingerprint: what errors and records call the key.
    id: String,
    secret: Zeroizing<[u8; 48]>,
}

impl RepositoryKey {
    fn derive(passphrase: &Secret, salt: &[u8], rounds: NonZeroU32) -> Self {
        let mut secret = Zeroizing::new([0; 48]);
        derive(PBKDF2_HMAC_SHA256, rounds, salt, passphrase.expose().as_bytes(), secret.as_mut_slice());
        let id = hex_of(&derived(&secret[..32], b"howdah-repository-key-id-v1", &[])[..8]);
        Self { id, secret }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key, 32 bytes.
    pub fn key(&self) -> &[u8] {
        &self.secret[..32]
    }

    /// What `openssl enc -pbkdf2` takes as initialisation vector, 16 bytes.
    pub fn iv(&self) -> &[u8] {
        &self.secret[32..]
    }
}

/// The current passphrase of a repository and former ones. What the former ones wrapped can be read; new keys are
/// wrapped by the current one. Derives each key once.
pub struct Keyring {
    /// The current one first.
    passphrases: Vec<Secret>,
    derived: Mutex<Vec<(Derivation, usize, Arc<RepositoryKey>)>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("passphrases", &self.passphrases.len()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Passphrases as a Secret holds them; a line end is taken away. One that is empty or has several lines is
    /// refused.
    pub fn new(current: &Secret, former: &[Secret]) -> Result<Self> {
        let clean = |passphrase: &Secret| {
            let text = passphrase.expose().trim_end_matches(['\r', '\n']);
            if text.is_empty() || text.contains(['\r', '\n', '\0']) {
                return Err(Error::invalid("a passphrase of the encryption is empty or not one line")
                    .with_remedy("make one by `openssl rand -base64 48` and put it into the Secret"));
            }
            Ok(Secret::new(text))
        };
        let passphrases = std::iter::once(current).chain(former).map(clean).collect::<Result<_>>()?;
        Ok(Self { passphrases, derived: Mutex::default() })
    }

    /// The key that the current passphrase makes.
    pub async fn current(&self, derivation: &Derivation) -> Result<Arc<RepositoryKey>> {
        self.make(derivation, 0).await
    }

    /// The key with an id, whichever passphrase makes it.
    pub async fn find(&self, derivation: &Derivation, wanted: &str) -> Result<Arc<RepositoryKey>> {
        let mut made = Vec::new();
        for which in 0..self.passphrases.len() {
            let key = self.make(derivation, which).await?;
            if key.id() == wanted {
                return Ok(key);
            }
            made.push(key.id().to_owned());
        }
        let what = if made.len() == 1 { "passphrase given makes" } else { "passphrases given make" };
        Err(Error::new(
            ErrorKind::Credentials,
            format!("the key with id {wanted} is wanted, the {what} {}", made.join(", ")),
        )
        .with_remedy(
            "give the passphrase that the repository was encrypted with in encryption.passphrase, or among the former \
             ones when it was changed",
        ))
    }

    async fn make(&self, derivation: &Derivation, which: usize) -> Result<Arc<RepositoryKey>> {
        // Held while deriving: others wait for the result instead of deriving too.
        let mut derived = self.derived.lock().await;
        let known = derived.iter().find(|(how, passphrase, _)| how == derivation && *passphrase == which);
        if let Some((.., key)) = known {
            return Ok(Arc::clone(key));
        }
        let (salt, rounds) = (derivation.salt()?, derivation.rounds()?);
        let Some(passphrase) = self.passphrases.get(which).cloned() else {
            return Err(Error::invalid("there is no passphrase"));
        };
        let key = blocking(move || Ok(Arc::new(RepositoryKey::derive(&passphrase, &salt, rounds)))).await?;
        derived.push((derivation.clone(), which, Arc::clone(&key)));
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passphrases_are_one_line_and_never_shown() {
        for bad in ["", "\n", "a\nb"] {
            let error = Keyring::new(&bad.into(), &[]).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let ring = Keyring::new(&"sesame\n".into(), &["old sesame".into()]).expect("good");
        assert_eq!(ring.passphrases[0].expose(), "sesame");
        assert!(!format!("{ring:?}").contains("sesame"));
    }

    #[tokio::test]
    async fn weak_records_are_refused() {
        let ring = Keyring::new(&"sesame".into(), &[]).expect("good");
        let good = Derivation::new(CipherMode::Aes256Gcm).expect("random");
        for bad in [
            Derivation { iterations: 1, ..good.clone() },
            Derivation { iterations: u32::MAX, ..good.clone() },
            Derivation { salt: "what".to_owned(), ..good },
        ] {
            assert_eq!(ring.current(&bad).await.map(|_| ()).expect_err("refused").kind(), ErrorKind::Corrupt);
        }
    }
}
