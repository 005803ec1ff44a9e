//! The cipher of a repository. What is derived of a passphrase takes a while, so it is kept for those who open the same
//! repository again.

use std::sync::{LazyLock, Mutex, PoisonError};

use barman_cloud::store::{Cipher, CipherMode, Keyring, Secret};
use howdah_api::encryption::{Cipher as Wanted, ClientEncryption};

use crate::error::Result;
use crate::kube::secrets::SecretValues;

/// Ciphers that are kept; beyond that the one that was not used for the longest time goes.
const KEPT: usize = 16;

struct Known {
    mode: CipherMode,
    passphrases: Vec<Secret>,
    cipher: Cipher,
}

static KNOWN: LazyLock<Mutex<Vec<Known>>> = LazyLock::new(Mutex::default);

/// The cipher that `wanted` describes.
///
/// # Errors
/// When a Secret or a key is missing, or a passphrase is empty or not one line.
pub fn cipher(wanted: &ClientEncryption, secrets: &SecretValues) -> Result<Cipher> {
    let mode = match wanted.cipher.unwrap_or_default() {
        Wanted::Aes256Gcm => CipherMode::Aes256Gcm,
        Wanted::Aes256Cbc => CipherMode::Aes256Cbc,
    };
    let passphrases = wanted
        .selectors()
        .into_iter()
        .map(|(_, selector)| Ok(Secret::new(secrets.selected(selector)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let same = known.iter().position(|one| one.mode == mode && one.passphrases == passphrases);
    let one = match same {
        Some(index) => known.remove(index),
        None => {
            let (current, former) =
                passphrases.split_first().unwrap_or_else(|| unreachable!("one is current"));
            let cipher = Cipher::new(mode, Keyring::new(current, former)?);
            Known { mode, passphrases, cipher }
        }
    };
    let cipher = one.cipher.clone();
    known.insert(0, one);
    known.truncate(KEPT);
    Ok(cipher)
}
