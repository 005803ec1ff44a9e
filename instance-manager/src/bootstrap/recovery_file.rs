//! `howdah-recovery.json`: where WAL comes from while an archive recovery goes on. References only: never the
//! value of a Secret.

use barman_cloud::{BackupId, Repository};
use howdah_api::bootstrap::{RecoveryStatus, RecoveryTarget};
use serde::{Deserialize, Serialize};

use super::source::Place;
use crate::environment::{Environment, Paths};
use crate::error::{Error, IoContext, Result};
use crate::install::write_atomically;
use crate::kube::secrets::SecretValues;
use crate::objstore::{Purpose, repository};
use crate::pg::files::{RECOVERY_SIGNAL, STANDBY_SIGNAL, read_optional, remove_optional};

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryFile {
    /// The place that holds the backup and its WAL.
    #[serde(flatten)]
    pub place: Place,
    /// Places that may have WAL which that one lacks, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Place>,
    /// The backup that was restored.
    #[serde(rename = "backupID")]
    pub backup_id: String,
    /// When the backup ended (RFC 3339): the earliest moment that can be recovered from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_end: Option<String>,
    /// Where replay stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RecoveryTarget>,
    /// `recovery_target_timeline`, known from the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<String>,
    /// The timeline that is followed.
    #[serde(default)]
    pub followed: u32,
    /// The highest timeline in the archives of the source and in the own ones: the new one is above it.
    #[serde(default)]
    pub highest_timeline: u32,
    /// The recovery has no end: the archive is followed, onto whichever timeline its cluster goes, until the Cluster no
    /// longer wants it (`spec.replica`).
    #[serde(default)]
    pub following: bool,
}

impl RecoveryFile {
    /// Reads it; `None` when no recovery goes on.
    ///
    /// # Errors
    /// When it is there and cannot be read or understood.
    pub fn read(paths: &Paths) -> Result<Option<Self>> {
        let path = paths.recovery_file();
        let Some(text) = read_optional(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|e| {
            Error::permanent(format!(
                "{} is damaged: delete this instance's volumes so that the recovery begins anew",
                path.display()
            ))
            .because(e)
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, paths: &Paths) -> Result<()> {
        let path = paths.recovery_file();
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::permanent("the recovery settings cannot be written as JSON").because(e))?;
        write_atomically(&path, &text, 0o600).at("cannot write", &path)
    }

    /// Tells retention, in whichever cluster owns the repository, to leave the backup and its WAL alone. Credentials
    /// that cannot write are enough to recover, so it is only a warning when it cannot be said.
    pub async fn mark_in_use(&self, env: &Environment, secrets: &SecretValues) {
        let by = format!("Cluster {} in namespace {}", env.cluster, env.namespace);
        let said = async {
            let (repository, id) = self.source(secrets)?;
            Ok::<_, Error>(repository.mark_in_use(&id, &reader(env), &by, chrono::Utc::now()).await?)
        };
        if let Err(error) = said.await {
            tracing::warn!(
                "retention of {} is not told that its backup is read: {}",
                self.place.store.destination_path,
                error.report()
            );
        }
    }

    /// Takes that back.
    pub async fn unmark_in_use(&self, env: &Environment, secrets: &SecretValues) {
        let done = async {
            let (repository, id) = self.source(secrets)?;
            Ok::<_, Error>(repository.unmark_in_use(&id, &reader(env)).await?)
        };
        if let Err(error) = done.await {
            tracing::warn!(
                "that backup {} was read is forgotten in a week: {}",
                self.backup_id,
                error.report()
            );
        }
    }

    fn source(&self, secrets: &SecretValues) -> Result<(Repository, BackupId)> {
        let repository = repository(&self.place.store, &self.place.server_name, secrets, Purpose::Data)?;
        Ok((repository, self.backup_id.parse()?))
    }

    /// All places, the one that holds the backup first.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.place).chain(&self.others)
    }

    /// The file by which PostgreSQL knows what it shall do.
    #[must_use]
    pub fn signal(&self) -> &'static str {
        if self.following { STANDBY_SIGNAL } else { RECOVERY_SIGNAL }
    }

    /// Removes it: the recovery is over.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(paths: &Paths) -> Result<()> {
        remove_optional(&paths.recovery_file())
    }
}

/// Writes beside PGDATA what it was restored from; it stays there for the status.
///
/// # Errors
/// When it cannot be written.
pub fn write_restored(paths: &Paths, restored: &RecoveryStatus) -> Result<()> {
    let path = paths.restored_file();
    let text = serde_json::to_vec_pretty(restored)
        .map_err(|e| Error::permanent("what was restored cannot be written as JSON").because(e))?;
    write_atomically(&path, &text, 0o600).at("cannot write", &path)
}

/// Reads that; `None` when nothing was restored here. Nothing depends on it, so damage is no error.
#[must_use]
pub fn read_restored(paths: &Paths) -> Option<RecoveryStatus> {
    let text = read_optional(&paths.restored_file()).ok()??;
    serde_json::from_str(&text)
        .inspect_err(|error| tracing::warn!(%error, "{} is damaged", paths.restored_file().display()))
        .ok()
}

/// Names this recovery among others from the same backup.
fn reader(env: &Environment) -> String {
    format!("{}.{}.{}", env.namespace, env.cluster, env.pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::object_store::BarmanObjectStore;

    fn place(name: &str) -> Place {
        Place {
            repository: name.into(),
            store: BarmanObjectStore { destination_path: "s3://b/".into(), ..BarmanObjectStore::default() },
            server_name: "pg".into(),
        }
    }

    #[test]
    fn what_was_restored_is_read_again_and_damage_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { controller: "/c".into(), pgdata: dir.path().join("d"), wal_mount: "/w".into() };
        assert_eq!(read_restored(&paths), None);
        let restored = RecoveryStatus { repository: Some("repo2".into()), ..RecoveryStatus::default() };
        write_restored(&paths, &restored).unwrap();
        assert_eq!(read_restored(&paths), Some(restored));
        std::fs::write(paths.restored_file(), "{").unwrap();
        assert_eq!(read_restored(&paths), None);
    }

    #[test]
    fn there_and_back_and_gone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { controller: "/c".into(), pgdata: dir.path().into(), wal_mount: "/w".into() };
        assert_eq!(RecoveryFile::read(&paths).unwrap(), None);
        let file = RecoveryFile {
            place: place("repo1"),
            others: vec![place("repo2")],
            backup_id: "20261121T135740".into(),
            backup_end: None,
            target: Some(RecoveryTarget { target_immediate: Some(true), ..RecoveryTarget::default() }),
            timeline: Some("2".into()),
            followed: 2,
            highest_timeline: 4,
            following: true,
        };
        file.write(&paths).unwrap();
        assert_eq!(RecoveryFile::read(&paths).unwrap(), Some(file));
        std::fs::write(paths.recovery_file(), "{").unwrap();
        assert!(RecoveryFile::read(&paths).unwrap_err().to_string().contains("is damaged"));
        RecoveryFile::remove(&paths).unwrap();
        RecoveryFile::remove(&paths).unwrap();
        assert_eq!(RecoveryFile::read(&paths).unwrap(), None);
    }
}
