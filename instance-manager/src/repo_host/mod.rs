//! `repo-host`: what the pod `<cluster>-repo-host-0` runs. It serves the cluster's repositories on volumes over the
//! S3 protocol to those who show a certificate of the cluster. It needs nothing of the Kubernetes API.

mod certificates;
mod looking;
pub mod own;
mod probes;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use howdah_api::naming;
use howdah_s3_server::{DiskStore, Identity, Limits, OpenError, Policy, Retention, Server};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::environment;
use crate::error::{Error, Result};
use crate::serve::listen;

/// Pause before another look at a volume that is still in use, and at certificates.
const PAUSE: Duration = Duration::from_secs(2);
/// How often abandoned uploads are looked for.
const SWEEP: Duration = Duration::from_secs(24 * 3600);

/// Arguments of `repo-host`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Arguments {
    /// A repository and the directory of its volume; may be repeated
    #[arg(long = "repository", required = true, value_name = "NAME=DIR", value_parser = repository)]
    repositories: Vec<(String, PathBuf)>,
    /// A repository and its folder on the volume, where it is not NAMESPACE/CLUSTER/NAME; may be repeated
    #[arg(long = "folder", value_name = "NAME=FOLDER", value_parser = folder)]
    folders: Vec<(String, String)>,
    /// Directory with tls.crt, tls.key and ca.crt
    #[arg(long, value_name = "DIR", default_value = naming::REPO_CERTIFICATES_DIR)]
    certificates: PathBuf,
}

fn repository(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => Ok((name.to_owned(), dir.into())),
        _ => Err(format!("write it as repo1={}/repo1", naming::REPOSITORIES_DIR)),
    }
}

fn folder(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
            Ok((name.to_owned(), folder.to_owned()))
        }
        _ => Err("write it as repo1=backups/prod".to_owned()),
    }
}

impl Arguments {
    /// The repositories of this pod, and where on their volumes they are. See [`own::Own`].
    #[must_use]
    pub fn places(&self, namespace: &str, cluster: &str) -> Vec<own::Place> {
        let place = |(name, _): &(String, PathBuf)| {
            let given = self.folders.iter().find(|(of, _)| of == name).map(|(_, folder)| folder.clone());
            let folder = given.unwrap_or_else(|| naming::repository_folder(namespace, cluster, name));
            own::Place { repository: name.clone(), folder }
        };
        self.repositories.iter().map(place).collect()
    }
}

/// Who may do what: instances read and write; the operator, which never touches data, reads.
fn policy() -> Policy {
    Policy {
        writers: BTreeSet::from([naming::REPLICATION_USER.to_owned()]),
        readers: BTreeSet::from([naming::OPERATOR_CN.to_owned()]),
    }
}

/// Serves until the pod is told to end.
///
/// # Errors
/// When a volume belongs to something else or fails, or a port is taken.
pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = signal(SignalKind::terminate())
        .map_err(|e| Error::permanent("signals cannot be received").because(e))?;
    let stop = CancellationToken::new();
    tokio::select! {
        served = serve(&arguments, &stop) => served,
        () = told(&mut end, &stop) => Ok(()),
    }
}

/// Ends some time after the signal: requests get their grace.
async fn told(end: &mut Signal, stop: &CancellationToken) {
    end.recv().await;
    tracing::info!("told to end");
    stop.cancel();
    sleep(Limits::default().grace + PAUSE).await;
}

async fn serve(arguments: &Arguments, stop: &CancellationToken) -> Result<()> {
    let ip = environment::listen_ip(environment::pod_ip().map_err(|e| Error::permanent(e.to_string()))?);
    let (say, said) = watch::channel(probes::State::waiting("starting"));
    let port = |p: i32| u16::try_from(p).unwrap_or_default();
    let probing = listen::bind(ip, port(naming::PROBES_PORT)).await?;
    tokio::spawn(listen::serve_plain(probing, probes::router(said)));
    let Some((store, identity)) = prepare(arguments, &say, stop).await? else { return Ok(()) };
    let listener: TcpListener = listen::bind(ip, port(naming::REPO_HOST_PORT)).await?;
    let store = Arc::new(store);
    let server = Server::new(store.clone(), policy(), identity.0, Limits::default());
    tokio::spawn(certificates::follow(arguments.certificates.clone(), identity.1, server.clone()));
    tokio::spawn(keep_clean(store.clone()));
    // Serving comes first: whoever cannot look can still archive.
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let (Some(namespace), Some(cluster)) = (variable("NAMESPACE"), variable("CLUSTER_NAME"))
        && let Err(error) = looking::answer(store, &arguments.places(&namespace, &cluster), &cluster).await
    {
        tracing::warn!("commands such as info are not answered: {}", error.report());
    }
    let names: Vec<&str> = arguments.repositories.iter().map(|(name, _)| name.as_str()).collect();
    say.send_replace(probes::State::serving(&names));
    tracing::info!(repositories = names.join(", "), "serving");
    server.serve(listener, stop.clone()).await;
    Ok(())
}

type Ready = (DiskStore, (Identity, certificates::Files));

/// Opens the volumes and the certificates, as soon as they can be used; `None` when told to end before that.
async fn prepare(
    arguments: &Arguments,
    say: &watch::Sender<probes::State>,
    stop: &CancellationToken,
) -> Result<Option<Ready>> {
    let store = loop {
        match open(arguments).await? {
            Ok(store) => break store,
            Err(why) if !later(&why, say, stop).await => return Ok(None),
            Err(_) => {}
        }
    };
    loop {
        match certificates::read(&arguments.certificates) {
            Ok(identity) => return Ok(Some((store, identity))),
            Err(error) if !later(&error.report(), say, stop).await => return Ok(None),
            Err(_) => {}
        }
    }
}

/// Says what is waited for and pauses; false when told to end.
async fn later(why: &str, say: &watch::Sender<probes::State>, stop: &CancellationToken) -> bool {
    if say.send_replace(probes::State::waiting(why)).message != why {
        tracing::warn!("not serving yet: {why}");
    }
    tokio::select! {
        () = stop.cancelled() => false,
        () = sleep(PAUSE) => true,
    }
}

/// Opens the volumes; in the inner error, why that will work later: the pod before this one may not have ended yet.
async fn open(arguments: &Arguments) -> Result<Result<DiskStore, String>> {
    let volumes = arguments.repositories.clone();
    let opening = tokio::task::spawn_blocking(move || DiskStore::volumes(&volumes, Retention::default()));
    match opening.await.map_err(|e| Error::transient("the volumes were not opened").because(e))? {
        Ok(store) => Ok(Ok(store)),
        Err(error @ OpenError::InUse { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(Error::permanent("a volume of a repository cannot be used").because(error)),
    }
}

async fn keep_clean(store: Arc<DiskStore>) {
    loop {
        sleep(SWEEP).await;
        let store = store.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.sweep()).await {
            tracing::warn!(%error, "abandoned uploads could not be looked for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_its_usual_folder_unless_another_is_named() {
        let arguments = Arguments {
            repositories: vec![("repo1".into(), "/r/repo1".into()), ("repo2".into(), "/r/repo2".into())],
            folders: vec![folder("repo2=attic").unwrap()],
            certificates: "/c".into(),
        };
        let places = arguments.places("prod", "pg");
        let folders: Vec<&str> = places.iter().map(|place| place.folder.as_str()).collect();
        assert_eq!(folders, ["prod/pg/repo1", "attic"]);
        assert!(folder("attic").unwrap_err().contains("repo1=backups/prod"));
    }

    #[test]
    fn repositories_are_read() {
        assert_eq!(
            repository("repo1=/repositories/repo1"),
            Ok(("repo1".into(), "/repositories/repo1".into()))
        );
        for wrong in ["", "repo1", "=/x", "repo1="] {
            assert!(repository(wrong).unwrap_err().contains("repo1=/repositories/repo1"), "{wrong}");
        }
    }
}
