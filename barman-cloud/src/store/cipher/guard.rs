//! Encryption of a repository that holds something cannot change by accident: not begin, not end, not become another.

use super::super::Store;
use super::keyring::Keyring;
use super::keys::RepositoryRecord;
use super::{Cipher, CipherMode};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Layout;
use crate::repository::Repository;

/// How a repository is encrypted, and by which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryCipher {
    /// The mode.
    pub mode: CipherMode,
    /// Id of the repository key; `None` as long as nothing was written.
    pub key_id: Option<String>,
    /// A former passphrase makes that key: [`Repository::rotate_keys`] was not run to its end.
    pub rotation_due: bool,
}

impl Repository {
    /// Whether the repository can be used with the cipher that its store has, or has not. Refuses a wrong passphrase,
    /// another mode than it was begun with, encryption of a repository that holds unencrypted objects, and none where
    /// it is encrypted. Reads one small object; lists when there is none.
    pub async fn check_encryption(&self) -> Result<Option<RepositoryCipher>> {
        let (plain, layout) = (self.store().plain(), self.layout());
        let url = plain.url_of(&layout.repository_key());
        let record = RepositoryRecord::read(&plain, layout).await?;
        match (&self.store().cipher, record) {
            (None, None) => Ok(None),
            (None, Some(record)) => Err(not_given(&record.key_id).with_key(url)),
            (Some(cipher), Some(record)) => {
                let (mode, keyring) = (cipher.mode(), cipher.keyring());
                let rotation_due =
                    check_record(&record, mode, keyring).await.map_err(|error| error.with_key(url))?;
                Ok(Some(RepositoryCipher { mode, key_id: Some(record.key_id), rotation_due }))
            }
            (Some(cipher), None) => {
                refuse_filled(&plain, layout).await?;
                Ok(Some(RepositoryCipher { mode: cipher.mode(), key_id: None, rotation_due: false }))
            }
        }
    }
}

impl Cipher {
    fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }
}

/// Whether mode and passphrases fit a repository; `true` when it is a former passphrase that fits.
pub async fn check_record(record: &RepositoryRecord, mode: CipherMode, keyring: &Keyring) -> Result<bool> {
    let theirs: CipherMode =
        record.cipher.parse().map_err(|error: Error| error.with_kind(ErrorKind::Unsupported))?;
    if theirs != mode {
        return Err(other_mode(theirs, mode));
    }
    keyring.find(&record.derivation, &record.key_id).await?;
    Ok(keyring.current(&record.derivation).await?.id() != record.key_id)
}

/// Encryption begins with the first object or not at all.
pub async fn refuse_filled(store: &Store, layout: &Layout) -> Result<()> {
    let filled = match store.head(&layout.lineage()).await {
        Ok(_) => true,
        Err(error) if error.is_not_found() => {
            !store.list_dir(&layout.base_dir()).await?.dirs.is_empty()
                || !store.list_dir(&layout.wals_dir()).await?.dirs.is_empty()
        }
        Err(error) => return Err(error),
    };
    if !filled {
        return Ok(());
    }
    Err(Error::invalid("the repository holds objects and no record of encryption: it is not encrypted")
        .with_key(store.url_of(layout.server()))
        .with_remedy(format!(
            "turn encryption off for this repository, or encrypt a new one at another path; if it was encrypted, \
             restore {} from a copy",
            store.url_of(&layout.repository_key())
        )))
}

/// The mode cannot change.
pub fn other_mode(theirs: CipherMode, ours: CipherMode) -> Error {
    Error::invalid(format!("the repository is encrypted with {theirs}, not {ours}"))
        .with_remedy(format!("set the cipher to {theirs}, or begin a new repository at another path"))
}

fn not_given(key_id: &str) -> Error {
    let text = format!("this repository is encrypted; the key with id {key_id} is wanted");
    Error::new(ErrorKind::Credentials, text)
        .with_remedy("give the passphrase of the repository in encryption.passphrase")
}

/// What an unencrypted store says of an encrypted object.
pub async fn without_key(store: &Store, key: &str) -> Error {
    let record = async {
        let layout = Layout::new(key.split('/').next()?).ok()?;
        RepositoryRecord::read(store, &layout).await.ok()?
    };
    // The record may be gone, or not be allowed to be read: then the error goes without the id.
    let error = match record.await {
        Some(record) => not_given(&record.key_id),
        None => not_given("in howdah/keys/repository.json"),
    };
    error.with_key(store.url_of(key))
}
