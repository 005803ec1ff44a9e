//! The repositories of a cluster, by name.

use barman_cloud::Repository;
use barman_cloud::report::{Facts, RunningBackup, ServerFacts};
use howdah_api::repository::NamedStore;
use howdah_api::retention::Retention;

use crate::backup::retention::{self, Expired};
use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;
use crate::objstore::{self, Purpose};

/// A repository with its name.
#[derive(Clone, Debug)]
pub struct NamedRepository {
    /// Its name in the Cluster.
    pub name: String,
    /// Where it is, for people, also when it cannot be opened.
    pub location: String,
    /// Cipher of client-side encryption.
    pub cipher: Option<String>,
    /// Whether all WAL goes there.
    pub archive_wal: bool,
    /// Parts read at the same time.
    pub jobs: usize,
    /// How long backups and WAL stay; `None` is for ever.
    pub retention: Option<Retention>,
    /// The repository, or what is wrong with its settings and what to do.
    pub opened: std::result::Result<Repository, String>,
}

impl NamedRepository {
    /// What is known of it without reading it.
    #[must_use]
    pub fn facts(&self, server: Option<ServerFacts>, running: Option<&(String, RunningBackup)>) -> Facts {
        Facts {
            name: self.name.clone(),
            location: self.location.clone(),
            cipher: self.cipher.clone(),
            server,
            running: running.filter(|(name, _)| *name == self.name).map(|(_, running)| *running),
        }
    }

    /// The repository with its policy; `None` without one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn retained(&self) -> Result<Option<(&Repository, &Retention)>> {
        let repository = self.opened.as_ref().map_err(Error::permanent)?;
        Ok(self.retention.as_ref().map(|wanted| (repository, wanted)))
    }

    /// What retention would delete; `None` without a policy. Nothing is changed.
    ///
    /// # Errors
    /// When it cannot be opened or the store does not answer.
    pub async fn planned(&self) -> Result<Option<Expired>> {
        match self.retained()? {
            Some((repository, wanted)) => Ok(Some(retention::run(repository, wanted, None, false).await?)),
            None => Ok(None),
        }
    }
}

/// Repositories as they are configured, ready to be read: `stores` are those of `ClusterSpec::stores`. No request is
/// made, and one that cannot be opened says why.
#[must_use]
pub fn configured(stores: Vec<NamedStore>, cluster: &str, secrets: &SecretValues) -> Vec<NamedRepository> {
    let open = |NamedStore { name, store, retention, archive_wal }: NamedStore| {
        let opened = objstore::repository(&store, cluster, secrets, Purpose::Data);
        let location = match &opened {
            Ok(repository) => repository.url(),
            Err(_) => {
                let destination = store.destination_path.trim_end_matches('/');
                format!("{destination}/{}", store.server_name_or(cluster))
            }
        };
        NamedRepository {
            name,
            location,
            cipher: opened
                .as_ref()
                .ok()
                .and_then(|repository| repository.store().cipher_mode())
                .map(|mode| mode.to_string()),
            archive_wal,
            jobs: objstore::jobs(&store),
            retention,
            opened: opened.map_err(|error| error.report()),
        }
    };
    stores.into_iter().map(open).collect()
}

/// The one with this name, or all.
///
/// # Errors
/// A message with the names that there are.
pub(super) fn select(
    all: Vec<NamedRepository>,
    wanted: Option<&str>,
) -> std::result::Result<Vec<NamedRepository>, String> {
    let Some(wanted) = wanted else {
        return match all.is_empty() {
            true => Err("no repository is configured: set spec.backup.barmanObjectStore or spec.backup.repositories of the \
                         Cluster"
                .to_owned()),
            false => Ok(all),
        };
    };
    let names: Vec<String> = all.iter().map(|repository| repository.name.clone()).collect();
    let found: Vec<NamedRepository> =
        all.into_iter().filter(|repository| repository.name == wanted).collect();
    match (found.is_empty(), names.as_slice()) {
        (false, _) => Ok(found),
        (true, []) => Err(format!("there is no repository {wanted:?}: none is configured")),
        (true, names) => Err(format!("there is no repository {wanted:?}; there are: {}", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::common::SecretKeySelector;
    use howdah_api::object_store::{BarmanObjectStore, S3Credentials};

    fn named(name: &str) -> NamedRepository {
        NamedRepository {
            name: name.to_owned(),
            location: format!("s3://b/{name}"),
            cipher: None,
            archive_wal: true,
            jobs: 2,
            retention: None,
            opened: Err("no Secret".to_owned()),
        }
    }

    #[test]
    fn every_place_of_a_cluster_is_a_repository() {
        let store = |destination: &str| BarmanObjectStore {
            destination_path: destination.to_owned(),
            s3_credentials: Some(S3Credentials {
                access_key_id: Some(SecretKeySelector { name: "creds".into(), key: "ID".into() }),
                secret_access_key: Some(SecretKeySelector { name: "creds".into(), key: "KEY".into() }),
                ..S3Credentials::default()
            }),
            ..BarmanObjectStore::default()
        };
        let stores = vec![
            NamedStore::new("default", store("s3://b/one/")),
            NamedStore {
                retention: Some(Retention::default()),
                ..NamedStore::new("repo1", store("s3://b/two"))
            },
        ];
        let found = configured(stores, "pg", &SecretValues::default());
        let seen: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.location.as_str())).collect();
        assert_eq!(seen, [("default", "s3://b/one/pg"), ("repo1", "s3://b/two/pg")]);
        assert!(found[1].retention.is_some());
        let why = found[0].opened.as_ref().unwrap_err();
        assert!(why.contains("Secret creds does not exist"), "{why}");
    }

    #[test]
    fn a_name_selects_and_a_wrong_one_is_told_with_those_there_are() {
        let all = || vec![named("repo1"), named("repo2")];
        let one = select(all(), Some("repo2")).unwrap();
        assert_eq!((one.len(), one[0].name.as_str()), (1, "repo2"));
        assert_eq!(select(all(), None).unwrap().len(), 2);
        let error = select(all(), Some("repo3")).unwrap_err();
        assert!(error.contains("\"repo3\"") && error.contains("repo1, repo2"), "{error}");
        assert!(select(Vec::new(), None).unwrap_err().contains("barmanObjectStore"));
        assert!(select(Vec::new(), Some("x")).unwrap_err().contains("none is configured"));
    }

    #[test]
    fn a_backup_runs_into_one_of_them() {
        let running = ("repo1".to_owned(), RunningBackup { bytes_done: 1, bytes_total: 2 });
        assert!(named("repo1").facts(None, Some(&running)).running.is_some());
        assert!(named("repo2").facts(None, Some(&running)).running.is_none());
    }
}
