//! Where the backup of a recovery may be: the place that a Backup's status names, or those of an external cluster.

use howdah_api::Cluster;
use howdah_api::backup::{Backup, BackupPhase};
use howdah_api::bootstrap::Recovery;
use howdah_api::object_store::BarmanObjectStore;
use howdah_api::repository::DEFAULT;
use serde::{Deserialize, Serialize};

use super::Context;
use crate::error::{Error, Result};
use crate::kube::client::bounded;

/// A place with backups and WAL of the server that is recovered. References to credentials, never their values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Name of the repository.
    pub repository: String,
    /// Store.
    pub store: BarmanObjectStore,
    /// Folder of the server.
    pub server_name: String,
}

impl Place {
    /// The place in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let path = self.store.destination_path.trim_end_matches('/');
        format!("repository {} ({path}/{})", self.repository, self.server_name)
    }
}

/// What is recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The places, the nearest first.
    pub places: Vec<Place>,
    /// The backup; `None` lets the target decide.
    pub backup_id: Option<String>,
    /// Major version of PostgreSQL, when it is known already.
    pub major: Option<u32>,
    /// The Backup object that names the place: no other place is looked at.
    pub backup: Option<String>,
}

/// What `recovery` asks for.
///
/// # Errors
/// When the Backup or the external cluster that it names is not there, or not ready.
pub async fn find(context: &Context, recovery: &Recovery) -> Result<Source> {
    if let Some(reference) = &recovery.backup {
        let name = &reference.name;
        let backup = bounded("Backup", name, context.kube.backups().get(name)).await?;
        return from_backup(&backup, name);
    }
    from_external(&context.cluster, &context.env.namespace, recovery)
}

/// What `spec.externalClusters` says.
///
/// # Errors
/// When the name is not in it.
pub fn from_external(cluster: &Cluster, namespace: &str, recovery: &Recovery) -> Result<Source> {
    let name = recovery.source.as_deref().unwrap_or_default();
    let external = cluster.spec.external_clusters.iter().find(|e| e.name == name).ok_or_else(|| {
        Error::permanent(format!(
            "bootstrap.recovery.source {name:?} is not in spec.externalClusters: make a new Cluster that describes it"
        ))
    })?;
    let place = |named: howdah_api::repository::NamedStore| Place {
        repository: named.name,
        server_name: named.store.server_name_or(name).to_owned(),
        store: named.store,
    };
    Ok(Source {
        places: external.stores(namespace).into_iter().map(place).collect(),
        backup_id: recovery.recovery_target.as_ref().and_then(|target| target.backup_id.clone()),
        major: None,
        backup: None,
    })
}

/// What the status of a Backup says about where its data is.
///
/// # Errors
/// When the Backup is not completed, or was completed by something that wrote no destination.
pub fn from_backup(backup: &Backup, name: &str) -> Result<Source> {
    let status = backup.status.clone().unwrap_or_default();
    match status.phase() {
        BackupPhase::Completed => {}
        BackupPhase::Failed => {
            return Err(Error::permanent(format!(
                "Backup {name} failed ({}): name a completed one",
                status.error.as_deref().unwrap_or("no reason was kept")
            )));
        }
        phase => {
            return Err(Error::transient(format!(
                "Backup {name} is {phase}: recovery begins once it is completed"
            )));
        }
    }
    let missing = |what: &str| {
        Error::permanent(format!(
            "status.{what} of Backup {name} is missing: name a Backup that Howdah completed"
        ))
    };
    let place = Place {
        repository: status.repository.clone().unwrap_or_else(|| DEFAULT.to_owned()),
        store: status.object_store().ok_or_else(|| missing("destinationPath"))?,
        server_name: status.server_name.clone().unwrap_or_else(|| backup.spec.cluster.name.clone()),
    };
    Ok(Source {
        places: vec![place],
        backup_id: Some(status.backup_id.clone().ok_or_else(|| missing("backupId"))?),
        major: status.major_version.and_then(|m| u32::try_from(m).ok()),
        backup: Some(name.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::backup::{BackupSpec, BackupStatus};
    use howdah_api::common::LocalObjectReference;

    fn backup(phase: BackupPhase) -> Backup {
        let mut backup = Backup::new(
            "nightly",
            BackupSpec { cluster: LocalObjectReference { name: "pg".into() }, ..BackupSpec::default() },
        );
        backup.status = Some(BackupStatus {
            phase: Some(phase),
            backup_id: Some("20261121T135740".into()),
            repository: Some("repo2".into()),
            destination_path: Some("s3://b/".into()),
            major_version: Some(15),
            error: Some("the store was away".into()),
            ..BackupStatus::default()
        });
        backup
    }

    #[test]
    fn a_completed_backup_is_all_that_is_needed_and_names_its_repository() {
        let source = from_backup(&backup(BackupPhase::Completed), "nightly").unwrap();
        assert_eq!(source.places.len(), 1, "no other place is looked at");
        assert_eq!(source.places[0].describe(), "repository repo2 (s3://b/pg)");
        assert_eq!((source.major, source.backup.as_deref()), (Some(15), Some("nightly")));
        assert_eq!(source.backup_id.as_deref(), Some("20261121T135740"));
    }

    #[test]
    fn other_backups_are_refused_or_awaited() {
        let failed = from_backup(&backup(BackupPhase::Failed), "nightly").unwrap_err();
        assert!(failed.is_permanent() && failed.report().contains("the store was away"));
        let running = from_backup(&backup(BackupPhase::Running), "nightly").unwrap_err();
        assert!(!running.is_permanent() && running.report().contains("is running"));
        let mut unfinished = backup(BackupPhase::Completed);
        unfinished.status.as_mut().unwrap().destination_path = None;
        assert!(from_backup(&unfinished, "nightly").unwrap_err().report().contains("destinationPath"));
    }

    #[test]
    fn an_external_cluster_that_is_not_described_is_named() {
        let recovery = Recovery { source: Some("origin".into()), ..Recovery::default() };
        let error = from_external(&Cluster::default(), "ns", &recovery).unwrap_err();
        assert!(error.is_permanent() && error.report().contains("\"origin\""), "{}", error.report());
    }
}
