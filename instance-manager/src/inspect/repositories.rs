//! The repositories of a cluster, by name.

use barman_cloud::Repository;
use barman_cloud::report::{Facts, RunningBackup, ServerFacts};
use howdah_api::ClusterSpec;

use crate::kube::secrets::SecretValues;
use crate::objstore::{self, Purpose};

/// Name of the repository that `spec.backup.barmanObjectStore` is.
pub const DEFAULT: &str = "default";

/// A repository with its name.
#[derive(Clone, Debug)]
pub struct NamedRepository {
    /// Its name in the Cluster.
    pub name: String,
    /// Where it is, for people, also when it cannot be opened.
    pub location: String,
    /// Cipher of client-side encryption.
    pub cipher: Option<String>,
    /// Parts read at the same time.
    pub jobs: usize,
    /// The repository, or what is wrong with its settings and what to do.
    pub opened: Result<Repository, String>,
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
}

/// The repositories that a Cluster configures. No request is made.
#[must_use]
pub fn configured(spec: &ClusterSpec, cluster: &str, secrets: &SecretValues) -> Vec<NamedRepository> {
    let Some(store) = spec.object_store() else { return Vec::new() };
    let opened = objstore::repository(store, cluster, secrets, Purpose::Data);
    let location = match &opened {
        Ok(repository) => repository.url(),
        Err(_) => {
            let destination = store.destination_path.trim_end_matches('/');
            format!("{destination}/{}", store.server_name_or(cluster))
        }
    };
    vec![NamedRepository {
        name: DEFAULT.to_owned(),
        location,
        cipher: None,
        jobs: objstore::jobs(store),
        opened: opened.map_err(|error| error.report()),
    }]
}

/// The one with this name, or all.
///
/// # Errors
/// A message with the names that there are.
pub(super) fn select(
    all: Vec<NamedRepository>,
    wanted: Option<&str>,
) -> Result<Vec<NamedRepository>, String> {
    let Some(wanted) = wanted else {
        return match all.is_empty() {
            true => Err("the Cluster configures no repository: set spec.backup.barmanObjectStore".to_owned()),
            false => Ok(all),
        };
    };
    let names: Vec<String> = all.iter().map(|repository| repository.name.clone()).collect();
    let found: Vec<NamedRepository> =
        all.into_iter().filter(|repository| repository.name == wanted).collect();
    match (found.is_empty(), names.as_slice()) {
        (false, _) => Ok(found),
        (true, []) => Err(format!("there is no repository {wanted:?}: the Cluster configures none")),
        (true, names) => Err(format!("there is no repository {wanted:?}; there are: {}", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> NamedRepository {
        NamedRepository {
            name: name.to_owned(),
            location: format!("s3://b/{name}"),
            cipher: None,
            jobs: 2,
            opened: Err("no Secret".to_owned()),
        }
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
        assert!(select(Vec::new(), Some("x")).unwrap_err().contains("configures none"));
    }

    #[test]
    fn a_backup_runs_into_one_of_them() {
        let running = ("repo1".to_owned(), RunningBackup { bytes_done: 1, bytes_total: 2 });
        assert!(named("repo1").facts(None, Some(&running)).running.is_some());
        assert!(named("repo2").facts(None, Some(&running)).running.is_none());
    }
}
