//! The keys of one repository: found for reading, made for writing.

use super::super::{Created, Store};
use super::CipherMode;
use super::guard;
use super::header::KeyId;
use super::keyfile::{DataKey, KeyFile};
use super::keyring::{Derivation, Keyring};
use crate::backup_id::BackupId;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Layout;
use chrono::{DateTime, NaiveDate, Utc};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Largest record of a key that is read.
const MAX_SIZE: u64 = 64 << 10;
/// Data keys that are remembered. A restore meets one for each day of WAL.
const REMEMBERED: usize = 1024;

/// `howdah/keys/repository.json`: how the repository is encrypted, and which key that takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryRecord {
    /// The mode.
    pub cipher: String,
    /// Always `pbkdf2-hmac-sha256`.
    pub kdf: String,
    /// Rounds and salt.
    #[serde(flatten)]
    pub derivation: Derivation,
    /// Id of the repository key.
    pub key_id: String,
    /// When the repository was first written to.
    pub created_at: DateTime<Utc>,
}

impl RepositoryRecord {
    /// The only way to derive a key that is known.
    pub const KDF: &str = "pbkdf2-hmac-sha256";

    /// Reads the record; `None` when the repository has none. `store` does not encrypt.
    pub async fn read(store: &Store, layout: &Layout) -> Result<Option<Self>> {
        let key = layout.repository_key();
        let Some(body) = store.get_if_exists(&key, MAX_SIZE).await? else { return Ok(None) };
        let record = serde_json::from_slice::<Self>(&body).map_err(|error| {
            Error::corrupt("it is not a record of a repository's encryption")
                .with_key(store.url_of(&key))
                .with_source(error)
                .with_remedy("restore the object from a copy: without it nobody knows which key is wanted")
        })?;
        if record.kdf != Self::KDF {
            let text = format!("keys derived by {:?} are not known here", record.kdf);
            return Err(Error::new(ErrorKind::Unsupported, text).with_key(store.url_of(&key)));
        }
        Ok(Some(record))
    }

    pub async fn write(&self, store: &Store, layout: &Layout, replace: bool) -> Result<()> {
        let (key, body) = (layout.repository_key(), json(self)?);
        if replace {
            return store.put(&key, body.into()).await;
        }
        // Whoever was first is right; the caller reads again.
        store.create(&key, body.into()).await.map(|_: Created| ())
    }
}

pub fn json<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(record)
        .map_err(|error| Error::new(ErrorKind::Other, "writing a key record").with_source(error))
}

/// Reads the record of a data key. `store` does not encrypt.
pub async fn read_key(store: &Store, layout: &Layout, id: &str) -> Result<KeyFile> {
    let key = layout.data_key(id);
    let body = store.get(&key, MAX_SIZE).await.map_err(|error| match error.is_not_found() {
        true => Error::corrupt(format!("the data key {id} is not in the repository"))
            .with_key(store.url_of(&key))
            .with_remedy(
                "restore the object from a copy: what was encrypted by this key cannot be read without it",
            ),
        false => error,
    })?;
    let file: KeyFile = serde_json::from_slice(&body).map_err(|error| {
        Error::corrupt("it is not the record of a data key").with_key(store.url_of(&key)).with_source(error)
    })?;
    if file.id != id {
        return Err(Error::corrupt("it is the record of another data key").with_key(store.url_of(&key)));
    }
    Ok(file)
}

/// The keys of one repository. Every `store` given to it does not encrypt.
pub struct ServerKeys {
    mode: CipherMode,
    keyring: Arc<Keyring>,
    layout: Layout,
    data: Mutex<HashMap<KeyId, Arc<DataKey>>>,
    /// What new objects are encrypted by, by scope, and since when.
    current: tokio::sync::Mutex<HashMap<String, (NaiveDate, Arc<DataKey>)>>,
}

impl ServerKeys {
    pub fn new(mode: CipherMode, keyring: Arc<Keyring>, layout: Layout) -> Self {
        Self { mode, keyring, layout, data: Mutex::default(), current: tokio::sync::Mutex::default() }
    }

    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The data key with an id.
    pub async fn for_reading(&self, store: &Store, id: KeyId) -> Result<Arc<DataKey>> {
        if let Some(data) = self.known().get(&id) {
            return Ok(Arc::clone(data));
        }
        let file = read_key(store, &self.layout, &id.to_string()).await?;
        let opened = self.open(&file).await;
        let data = opened.map_err(|error| error.with_key(store.url_of(&self.layout.data_key(&file.id))))?;
        let data = Arc::new(data);
        self.remember(&data);
        Ok(data)
    }

    /// Unwraps a data key with whichever passphrase fits.
    pub async fn open(&self, file: &KeyFile) -> Result<DataKey> {
        let by = self.keyring.find(&file.derivation, &file.wrapped_by).await?;
        file.unwrap(self.mode, &by)
    }

    /// The data key for a new object: one for each backup, one for the rest, new ones every day.
    pub fn for_writing<'a>(&'a self, store: &'a Store, key: &'a str) -> BoxFuture<'a, Result<Arc<DataKey>>> {
        // Boxed, since the keys are written by the function that asks for them.
        Box::pin(self.current(store, scope(key), Utc::now()))
    }

    async fn current(&self, store: &Store, scope: String, now: DateTime<Utc>) -> Result<Arc<DataKey>> {
        let mut current = self.current.lock().await;
        if let Some((day, data)) = current.get(&scope)
            && *day == now.date_naive()
        {
            return Ok(Arc::clone(data));
        }
        let record = self.establish(store, now).await?;
        let by = self.keyring.current(&record.derivation).await?;
        let data = Arc::new(DataKey::random()?);
        let file = KeyFile::new(self.mode, &data, &scope, now, &by, &record.derivation)?;
        store.put(&self.layout.data_key(&file.id), json(&file)?.into()).await?;
        // What cannot be read back must not encrypt anything.
        self.open(&read_key(store, &self.layout, &file.id).await?).await?;
        current.retain(|_, (day, _)| *day == now.date_naive());
        current.insert(scope, (now.date_naive(), Arc::clone(&data)));
        self.remember(&data);
        Ok(data)
    }

    /// The repository's record, made if this is the first write to it.
    async fn establish(&self, store: &Store, now: DateTime<Utc>) -> Result<RepositoryRecord> {
        if let Some(record) = RepositoryRecord::read(store, &self.layout).await? {
            guard::check_record(&record, self.mode, &self.keyring).await?;
            return Ok(record);
        }
        guard::refuse_filled(store, &self.layout).await?;
        let derivation = Derivation::new(self.mode)?;
        let record = RepositoryRecord {
            cipher: self.mode.as_str().to_owned(),
            kdf: RepositoryRecord::KDF.to_owned(),
            key_id: self.keyring.current(&derivation).await?.id().to_owned(),
            derivation,
            created_at: now,
        };
        record.write(store, &self.layout, false).await?;
        let written = RepositoryRecord::read(store, &self.layout).await?.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "it was written and is not there")
                .with_key(store.url_of(&self.layout.repository_key()))
        })?;
        guard::check_record(&written, self.mode, &self.keyring).await?;
        tracing::info!(store = store.url(), cipher = %self.mode, key = written.key_id, "the repository is encrypted");
        Ok(written)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, Arc<DataKey>>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, data: &Arc<DataKey>) {
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(data.id(), Arc::clone(data));
    }
}

/// What shares a data key with an object: the backup that it belongs to, or all WAL and records.
fn scope(key: &str) -> String {
    let within = key.split('/').skip(1);
    let mut ids = within.filter(|part| part.parse::<BackupId>().is_ok());
    ids.next().unwrap_or("wal").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_have_keys_of_their_own() {
        for (key, expected) in [
            ("20260101T000000/wals/0000000100000000/000000010000000000000001.gz", "wal"),
            ("srv/howdah/lineage.json", "wal"),
            ("srv/base/20261121T012341/data.tar", "20261121T012341"),
            ("srv/howdah/manifests/20261121T012341/parts.json", "20261121T012341"),
            ("srv/howdah/incremental/20261121T012341/chain.json", "20261121T012341"),
        ] {
            assert_eq!(scope(key), expected, "{key}");
        }
    }
}
