//! Backups that somebody reads: `howdah/in-use/<id>/<reader>.json`.
//!
//! A recovery says what it reads before it begins and takes it back when its server has left recovery, so that retention
//! in the cluster that owns the repository leaves the backup and the WAL behind it alone. One that died cannot take it
//! back; after a week the word is void. A recovery with credentials that cannot write goes without.

use crate::backup_id::BackupId;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How long a word holds.
const VALID: Duration = Duration::days(7);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Word {
    /// Who reads, for people who look.
    by: String,
    since: DateTime<Utc>,
}

impl Repository {
    /// Says that `reader` (a word without slashes that nobody else uses) reads a backup.
    pub async fn mark_in_use(&self, id: &BackupId, reader: &str, by: &str, now: DateTime<Utc>) -> Result<()> {
        let body = serde_json::to_vec_pretty(&Word { by: by.to_owned(), since: now })
            .map_err(|error| Error::new(ErrorKind::Other, "writing who reads a backup").with_source(error))?;
        self.store().put(&self.layout().in_use(id, reader), body.into()).await
    }

    /// Takes it back.
    pub async fn unmark_in_use(&self, id: &BackupId, reader: &str) -> Result<()> {
        self.store().delete(&self.layout().in_use(id, reader)).await
    }

    /// Backups that are read at present.
    pub async fn in_use(&self, now: DateTime<Utc>) -> Result<BTreeSet<BackupId>> {
        let dir = self.layout().in_use_dir();
        let fresh =
            self.store().list(&dir).await?.into_iter().filter(|object| now - object.last_modified < VALID);
        let id = |key: &str| key.strip_prefix(&dir)?.trim_start_matches('/').split('/').next()?.parse().ok();
        Ok(fresh.filter_map(|object| id(&object.key)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Destination, Store};

    #[tokio::test]
    async fn what_is_read_is_known_until_it_is_taken_back_or_old() {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        let repository = Repository::new(store, "srv").expect("valid");
        let id: BackupId = "20261121T010000".parse().expect("an id");
        let now = Utc::now();
        for reader in ["one", "two"] {
            repository.mark_in_use(&id, reader, "ns/again", now).await.expect("stored");
        }
        assert_eq!(repository.in_use(now).await.expect("listed"), BTreeSet::from([id.clone()]));
        repository.unmark_in_use(&id, "one").await.expect("deleted");
        assert_eq!(repository.in_use(now).await.expect("listed").len(), 1, "two still reads");
        let later = now + VALID + Duration::hours(1);
        assert!(repository.in_use(later).await.expect("listed").is_empty());
        repository.unmark_in_use(&id, "two").await.expect("deleted");
        assert!(repository.in_use(now).await.expect("listed").is_empty());
    }
}
