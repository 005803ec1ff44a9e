//! What other repositories of a cluster may lack: `howdah/arrears/<repository>.json`.
//!
//! Where WAL counts as archived before every repository has it, each that has it also holds a word about those that may
//! not: from which segment on. The word is written before PostgreSQL is told "archived", so whoever takes over later,
//! on whatever machine, learns from the stores alone where to look for holes. It says no more than "from here on": what
//! is missing the listings tell.

use crate::archive::WalObject;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::wal_name::{Segment, WalName};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Largest word that is read.
const MAX_SIZE: u64 = 64 << 10;

/// From where on a repository may lack WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrears {
    /// Name of the repository in the cluster.
    pub repository: String,
    /// Where it is, `<destination>/<server>`: under the same name there may be another one later.
    pub place: String,
    /// Everything before was in it when this was written.
    pub since: Segment,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Word {
    repository: String,
    place: String,
    since: String,
    noted_at: DateTime<Utc>,
}

/// The segment from which on one must look when `name` may be missing. Histories are few and all looked at, but what
/// follows one is on its timeline.
pub fn mark(name: WalName) -> Segment {
    name.segment().unwrap_or(Segment { timeline: name.timeline(), log: 0, seg: 0 })
}

impl Repository {
    /// Writes down what another repository may lack, in place of an older word about it.
    pub async fn put_arrears(&self, arrears: &Arrears, now: DateTime<Utc>) -> Result<()> {
        let word = Word {
            repository: arrears.repository.clone(),
            place: arrears.place.clone(),
            since: arrears.since.to_string(),
            noted_at: now,
        };
        let body = serde_json::to_vec_pretty(&word).map_err(|error| {
            Error::new(ErrorKind::Other, "writing what a repository lacks").with_source(error)
        })?;
        self.store().put(&self.layout().arrears(&arrears.repository), body.into()).await
    }

    /// Takes the word about a repository back.
    pub async fn remove_arrears(&self, repository: &str) -> Result<()> {
        self.store().delete(&self.layout().arrears(repository)).await
    }

    /// All words in this repository. One that cannot be read is passed over with a warning: it would be in the way for
    /// ever, and the other repositories hold the same word.
    pub async fn arrears(&self) -> Result<Vec<Arrears>> {
        let mut all = Vec::new();
        for object in self.store().list(&self.layout().arrears_dir()).await? {
            let Some(body) = self.store().get_if_exists(&object.key, MAX_SIZE).await? else { continue };
            let word: Option<Word> = serde_json::from_slice(&body).ok();
            match word.and_then(|word| Some((word.since.parse().ok()?, word))) {
                Some((since, word)) => {
                    all.push(Arrears { repository: word.repository, place: word.place, since });
                }
                None => tracing::warn!(
                    url = self.store().url_of(&object.key),
                    "this is no note of what a repository lacks; it is passed over"
                ),
            }
        }
        Ok(all)
    }

    /// Copies a file of this archive into another one: fetched and checked as for a recovery, then archived with the
    /// other's codec. `found` are the objects that hold it, `scratch` is a file that is made and removed.
    pub async fn copy_wal(
        &self,
        name: WalName,
        found: &[WalObject],
        scratch: &Path,
        check: &crate::archive::FetchOptions,
        to: &crate::archive::WalWriter,
    ) -> Result<crate::archive::ArchivedWal> {
        use crate::archive::{Lane, WalSource};
        self.fetch_wal_found(name, found, scratch, check).await?;
        let outcome = to.archive(name, &WalSource::File(scratch.to_owned()), Lane::Requested).await;
        // Best effort: it is in a directory of scratch files.
        let _ = std::fs::remove_file(scratch);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Destination, Store};

    #[tokio::test]
    async fn words_are_kept_replaced_and_taken_back() {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        let repository = Repository::new(store, "srv").expect("valid");
        let word = |since: &str| Arrears {
            repository: "repo2".into(),
            place: "s3://other/pg".into(),
            since: since.parse().expect("a segment"),
        };
        repository.put_arrears(&word("000000010000000000000007"), Utc::now()).await.expect("stored");
        repository.put_arrears(&word("000000010000000000000009"), Utc::now()).await.expect("replaced");
        let damaged = repository.layout().arrears("repo3");
        repository.store().put(&damaged, "{}".into()).await.expect("stored");
        assert_eq!(repository.arrears().await.expect("read"), [word("000000010000000000000009")]);
        repository.remove_arrears("repo2").await.expect("removed");
        assert!(repository.arrears().await.expect("read").is_empty());
    }

    #[test]
    fn a_history_marks_the_beginning_of_its_timeline() {
        let name = |text: &str| mark(text.parse().expect("a name")).to_string();
        assert_eq!(name("00000003.history"), "000000030000000000000000");
        assert_eq!(name("000000010000000000000004.partial"), "000000010000000000000004");
        assert_eq!(name("000000010000000000000004.00000028.backup"), "000000010000000000000004");
    }
}
