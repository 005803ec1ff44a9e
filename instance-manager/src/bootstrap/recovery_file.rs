//! `howdah-recovery.json`: where WAL comes from while an archive recovery goes on. References only: never the
//! value of a Secret.

use barman_cloud::{BackupId, Repository};
use howdah_api::bootstrap::RecoveryTarget;
use howdah_api::object_store::BarmanObjectStore;
use serde::{Deserialize, Serialize};

use crate::environment::{Environment, Paths};
use crate::error::{Error, IoContext, Result};
use crate::install::write_atomically;
use crate::kube::secrets::SecretValues;
use crate::objstore::{Purpose, repository};
use crate::pg::files::{read_optional, remove_optional};

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryFile {
    /// The store that holds the backup and its WAL.
    pub store: BarmanObjectStore,
    /// Folder of the server in it.
    pub server_name: String,
    /// The backup that was restored.
    #[serde(rename = "backupID")]
    pub backup_id: String,
    /// When the backup ended (RFC 3339): the earliest moment that can be recovered from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_end: Option<String>,
    /// Where replay stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RecoveryTarget>,
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
                self.store.destination_path,
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
        let repository = repository(&self.store, &self.server_name, secrets, Purpose::Data)?;
        Ok((repository, self.backup_id.parse()?))
    }

    /// Removes it: the recovery is over.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(paths: &Paths) -> Result<()> {
        remove_optional(&paths.recovery_file())
    }
}

/// Names this recovery among others from the same backup.
fn reader(env: &Environment) -> String {
    format!("{}.{}.{}", env.namespace, env.cluster, env.pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_and_gone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { controller: "/c".into(), pgdata: dir.path().into(), wal_mount: "/w".into() };
        assert_eq!(RecoveryFile::read(&paths).unwrap(), None);
        let file = RecoveryFile {
            store: BarmanObjectStore { destination_path: "s3://b/".into(), ..BarmanObjectStore::default() },
            server_name: "pg".into(),
            backup_id: "20261121T135740".into(),
            backup_end: None,
            target: Some(RecoveryTarget { target_immediate: Some(true), ..RecoveryTarget::default() }),
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
