//! Changing the passphrase: only the small records of the data keys are written again.

use super::guard::check_record;
use super::keys::{RepositoryRecord, json, read_key};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;

/// What a rotation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRotation {
    /// Data keys that were wrapped again.
    pub rewrapped: usize,
    /// Data keys that were wrapped by the current passphrase already.
    pub current: usize,
    /// Id of the repository key from now on.
    pub key_id: String,
}

impl Repository {
    /// Wraps every data key by the current passphrase of the store's keyring, then says in the repository's record
    /// that it is the one that is wanted. From then on the former passphrases may be forgotten.
    ///
    /// Repeating it is harmless; one that was interrupted is finished by the next, as long as the former passphrases
    /// are given. No data is read or written.
    pub async fn rotate_keys(&self) -> Result<KeyRotation> {
        let (plain, layout) = (self.store().plain(), self.layout());
        let Some(cipher) = &self.store().cipher else {
            return Err(Error::invalid(
                "keys can be changed only in a repository that is opened with encryption",
            ));
        };
        let url = plain.url_of(&layout.repository_key());
        let Some(mut record) = RepositoryRecord::read(&plain, layout).await? else {
            return Err(Error::new(ErrorKind::NotFound, "the repository has no keys").with_key(url));
        };
        check_record(&record, cipher.mode(), &cipher.0.keyring).await.map_err(|error| error.with_key(url))?;
        let keys = cipher.keys(self.store(), &layout.repository_key())?;
        let mut done = KeyRotation::default();
        loop {
            let again = done.key_id == record.key_id;
            let mut changed = 0;
            done.current = 0;
            for id in self.data_keys().await? {
                let mut file = read_key(&plain, layout, &id).await?;
                let by = keys.keyring().current(&file.derivation).await?;
                if file.wrapped_by == by.id() {
                    done.current += 1;
                    continue;
                }
                let data = keys
                    .open(&file)
                    .await
                    .map_err(|error| error.with_key(plain.url_of(&layout.data_key(&id))))?;
                file.wrap(cipher.mode(), &data, &by)?;
                plain.put(&layout.data_key(&id), json(&file)?.into()).await?;
                changed += 1;
            }
            done.rewrapped += changed;
            // Once more after the record was changed: a process with the former passphrase may have made a key
            // meanwhile.
            if again && changed == 0 {
                done.current -= done.rewrapped.min(done.current);
                return Ok(done);
            }
            done.key_id = keys.keyring().current(&record.derivation).await?.id().to_owned();
            if record.key_id != done.key_id {
                record.key_id.clone_from(&done.key_id);
                record.write(&plain, layout, true).await?;
            }
        }
    }

    /// Ids of all data keys.
    async fn data_keys(&self) -> Result<Vec<String>> {
        let listing = self.store().list_dir(&self.layout().keys_dir()).await?;
        let names = listing.objects.iter().filter(|object| object.key != self.layout().repository_key());
        Ok(names.filter_map(|object| object.file_name().strip_suffix(".json").map(str::to_owned)).collect())
    }
}
