//! Repositories that a file describes, for pods and places without an instance manager: a pod that has no PostgreSQL, or
//! a machine of somebody whose cluster is gone. The command does the work in its own process then.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use howdah_api::cluster::{BackupConfiguration, ClusterSpec};
use serde::Deserialize;

use super::repositories::{NamedRepository, configured};
use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;
use crate::report;
use crate::run::served::Served;
use crate::run::socket;

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Description {
    /// Name of the cluster.
    cluster: String,
    /// Its namespace: part of the default path of a repository.
    #[serde(default)]
    namespace: String,
    /// As `spec.backup` of the Cluster.
    backup: BackupConfiguration,
    /// Directory of the Secrets that it names: a directory for each, in it a file for each key, as Kubernetes mounts them.
    /// A relative one is looked for beside the file.
    #[serde(default)]
    secrets: Option<PathBuf>,
}

/// Repositories that a file describes. There is no PostgreSQL with them.
#[derive(Debug)]
pub struct Described {
    cluster: String,
    repositories: Vec<NamedRepository>,
}

impl Described {
    /// Reads a description and the Secrets beside it. No request is made.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be; one repository that cannot be opened is no error yet.
    pub fn read(file: &Path) -> Result<Self> {
        let shown = file.display();
        let text = fs::read(file)
            .map_err(|e| Error::permanent(format!("the description {shown} cannot be read")).because(e))?;
        let found: Description = serde_json::from_slice(&text).map_err(|e| {
            Error::permanent(format!(
                "{shown} is no description of repositories: write an object with the keys cluster, namespace, backup \
                 (as spec.backup of the Cluster) and secrets (a directory)"
            ))
            .because(e)
        })?;
        let beside = file.parent().unwrap_or(Path::new("."));
        let secrets = match &found.secrets {
            Some(dir) => secrets(&beside.join(dir))?,
            None => SecretValues::default(),
        };
        let spec = ClusterSpec { backup: Some(found.backup), ..ClusterSpec::default() };
        let stores = spec.stores(&found.namespace, &found.cluster);
        let repositories = configured(stores, &found.cluster, &secrets);
        Ok(Self { cluster: found.cluster, repositories })
    }

    /// Serves one request, on a thread that ends with it; the other end is as a connection to a manager.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn serve(self) -> io::Result<UnixStream> {
        // Everyone uses the same TLS provider; a second installation would only fail.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let runtime = report::runtime()?;
        std::thread::Builder::new().name("repositories".to_owned()).spawn(move || {
            let answering = async {
                let stream = tokio::net::UnixStream::from_std(theirs)?;
                socket::answer(stream, &Arc::new(self)).await
            };
            // The client sees that the stream ended early.
            let _ = runtime.block_on(answering);
        })?;
        Ok(ours)
    }
}

impl Served for Described {
    fn stanza(&self) -> String {
        self.cluster.clone()
    }

    fn repositories(&self) -> Vec<NamedRepository> {
        self.repositories.clone()
    }
}

/// Secrets as Kubernetes mounts them: what begins with a dot is its own.
fn secrets(dir: &Path) -> Result<SecretValues> {
    let mut values = SecretValues::default();
    for (name, path) in entries(dir)?.into_iter().filter(|(_, path)| path.is_dir()) {
        let mut data = BTreeMap::new();
        for (key, path) in entries(&path)?.into_iter().filter(|(_, path)| path.is_file()) {
            data.insert(key, fs::read(&path).map_err(|e| unreadable(&path, e))?);
        }
        values.insert(&name, data);
    }
    Ok(values)
}

fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| unreadable(dir, e))? {
        let entry = entry.map_err(|e| unreadable(dir, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::permanent(format!("the Secrets in {} cannot be read", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::command::ask;
    use crate::inspect::render::Told;
    use crate::wal_client::{OPERATION, USAGE};
    use howdah_api::instance::SocketRequest;

    fn write(dir: &Path, secret: bool) -> PathBuf {
        let key = |key: &str| serde_json::json!({"name": "creds", "key": key});
        let description = serde_json::json!({
            "cluster": "pg",
            "namespace": "prod",
            "backup": {"repositories": [{
                "name": "repo1",
                "s3": {"bucket": "bucket", "endpoint": "http://127.0.0.1:1"},
                "credentials": {"accessKeyId": key("ID"), "secretAccessKey": key("KEY")},
            }]},
            "secrets": "secrets",
        });
        let creds = dir.join("secrets/creds");
        fs::create_dir_all(&creds).unwrap();
        fs::write(creds.join("ID"), "id").unwrap();
        if secret {
            fs::write(creds.join("KEY"), "sesame\n").unwrap();
        }
        // Kubernetes' own.
        fs::create_dir_all(dir.join("secrets/..data")).unwrap();
        let file = dir.join("repositories.json");
        fs::write(&file, description.to_string()).unwrap();
        file
    }

    fn asked(file: &Path, request: &SocketRequest) -> (Option<u8>, String, Told) {
        let mut told = Told::default();
        let end = ask(Described::read(file).unwrap().serve().unwrap(), request, &mut told).unwrap();
        (end.code, end.error.unwrap_or_default(), told)
    }

    #[test]
    fn repositories_are_found_where_the_cluster_would() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), true);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let found = Described::read(&file).unwrap();
        let one = &found.repositories()[0];
        assert_eq!(one.location, "s3://bucket/prod/pg/repo1/pg");
        assert!(one.opened.is_ok(), "{:?}", one.opened);
        assert!(!format!("{found:?}").contains("sesame"));
    }

    /// The answer comes as from a manager, and what needs PostgreSQL is refused.
    #[test]
    fn one_request_is_served_in_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), false);
        let (code, _, told) = asked(&file, &SocketRequest::Info { repository: None });
        assert_eq!(code, Some(OPERATION));
        let cluster = told.cluster.unwrap();
        assert_eq!(cluster.stanza, "pg");
        let why = cluster.repositories[0].status.message.clone().unwrap();
        assert!(why.contains("Secret creds has no key \"KEY\""), "{why}");
        let (code, error, _) = asked(&file, &SocketRequest::Status);
        assert_eq!(code, Some(USAGE));
        assert!(error.contains("no PostgreSQL in this pod"), "{error}");
        let (code, error, _) = asked(&file, &SocketRequest::Expire { repository: None, confirm: true });
        assert_eq!(code, Some(OPERATION));
        assert!(error.contains("in the pod of the primary"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_description_is_named_with_what_belongs_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.json");
        let missing = Described::read(&file).unwrap_err().report();
        assert!(missing.contains("x.json"), "{missing}");
        fs::write(&file, r#"{"cluster":"pg","backup":{},"password":"sesame"}"#).unwrap();
        let wrong = Described::read(&file).unwrap_err().report();
        assert!(
            wrong.contains("spec.backup") && wrong.contains("password") && !wrong.contains("sesame"),
            "{wrong}"
        );
        fs::write(&file, r#"{"cluster":"pg","backup":{},"secrets":"nowhere"}"#).unwrap();
        let wrong = Described::read(&file).unwrap_err().report();
        assert!(wrong.contains("nowhere"), "{wrong}");
    }
}
