//! Client-side encryption of a repository, and what is known of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::SecretKeySelector;

/// Client-side encryption: WAL, base backups and manifests are encrypted in the pod, before they are sent. It is chosen
/// when the repository is empty and stays; only the passphrase can be changed. Who loses every copy of the passphrase
/// loses the repository.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientEncryption {
    /// `aes-256-gcm` (authenticated in blocks) or `aes-256-cbc` (with an HMAC; `openssl` can decrypt it).
    /// Default: `aes-256-gcm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<Cipher>,
    /// The passphrase: one line, long and random, for example from `openssl rand -base64 48`.
    pub passphrase: SecretKeySelector,
    /// Passphrases of before. To change it, put the new one into `passphrase` and the old one here; when
    /// `status.repositories[].encryption.rotated` is true, take it away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub former_passphrases: Vec<SecretKeySelector>,
}

/// How bodies are encrypted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Cipher {
    /// AES-256-GCM in blocks of 64 KiB.
    #[default]
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// AES-256-CBC with HMAC-SHA-256.
    #[serde(rename = "aes-256-cbc")]
    Aes256Cbc,
}

impl ClientEncryption {
    /// Each selector with the name of its field.
    #[must_use]
    pub fn selectors(&self) -> Vec<(&'static str, &SecretKeySelector)> {
        let former = self.former_passphrases.iter().map(|former| ("formerPassphrases", former));
        std::iter::once(("passphrase", &self.passphrase)).chain(former).collect()
    }
}

/// How a repository is encrypted.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionStatus {
    /// The cipher.
    pub cipher: Cipher,
    /// Id of the key that the passphrase makes: a fingerprint, nothing secret. Absent as long as nothing was written.
    #[serde(rename = "keyID", skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Whether every data key is wrapped by the current passphrase: former ones may be taken away then.
    #[serde(default)]
    pub rotated: bool,
}
