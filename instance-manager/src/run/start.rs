//! The beginning of `run`: what must be known before PostgreSQL may start.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::shared::{PodFacts, Shared};
use super::{news, rejoin, runway, socket, supervisor, watch};
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::environment::Environment;
use crate::error::{Error, IoContext, Result};
use crate::kube::Kubernetes;
use crate::pg::children::Children;
use crate::pg::probe;
use crate::pg::programs::Programs;
use crate::run::certificates;
use crate::{backup, serve};

/// Runs until PostgreSQL has ended; `Ok` when it was told to.
///
/// # Errors
/// When something is permanently wrong or PostgreSQL ended by itself; the container then starts anew.
pub async fn run(env: Environment) -> Result<()> {
    let kube = Kubernetes::connect(&env).await?;
    run_with(env, kube).await
}

/// As [`run`], with a given client.
///
/// # Errors
/// As [`run`].
pub async fn run_with(env: Environment, kube: Kubernetes) -> Result<()> {
    let mut stop = signal(SignalKind::terminate())
        .map_err(|e| Error::permanent("signals cannot be received").because(e))?;
    let children = Children::default();
    tokio::spawn(reap(children.clone()));
    let prepared = tokio::select! {
        prepared = prepare(env, kube, children) => prepared?,
        _ = stop.recv() => return Ok(()),
    };
    tokio::spawn(watch::follow_cluster(prepared.clone()));
    tokio::spawn(watch::follow_secrets(prepared.clone()));
    tokio::spawn(news::tell(prepared.clone()));
    tokio::spawn(backup::runner::run(prepared.clone()));
    tokio::spawn(backup::catalogue::follow(prepared.clone()));
    tokio::spawn(crate::pages::keep_small(prepared.clone()));
    tokio::spawn(runway::watch(prepared.clone()));
    supervisor::supervise(prepared, stop).await
}

async fn prepare(env: Environment, kube: Kubernetes, children: Children) -> Result<Arc<Shared>> {
    let run = env.paths.run();
    std::fs::create_dir_all(&run).at("cannot make", &run)?;
    if !env.paths.bootstrap_done().exists() && !rejoin::unfinished(&env.paths)? {
        return Err(Error::permanent(format!(
            "the data directory {} is not finished ({} is missing): the init container has to run first",
            env.paths.pgdata.display(),
            env.paths.bootstrap_done().display()
        )));
    }
    let programs = Programs::find()?;
    let major = programs.major_version(&children).await?;
    let tls = probe::has_tls(&children, &programs, &env.paths.pgdata, &run).await?;
    if !tls {
        tracing::warn!(
            "this PostgreSQL was built without TLS: connections are not encrypted and replicas cannot join"
        );
    }
    let recovery = RecoveryFile::read(&env.paths)?;
    let cluster = patiently("the Cluster", || async { kube.cluster().await }).await;
    let secrets = patiently("the Secrets of the cluster", || async {
        let secrets = watch::read_secrets(&kube, &cluster, recovery.as_ref()).await?;
        certificates::write(&secrets, &cluster, &env.cluster, &env.paths.certificates())?;
        Ok(secrets)
    })
    .await;
    let facts = PodFacts { env, programs, major, tls, children, kube };
    let shared = Shared::new(facts, Arc::new(cluster), Arc::new(secrets));
    shared.wal.configure(&shared.stores(), shared.wal_policy(), &shared.secrets());
    let listener = socket::listen(&shared.env.paths.socket())?;
    tokio::spawn(socket::serve(listener, shared.clone()));
    serve::start(&shared).await?;
    tracing::info!(
        session = shared.session,
        pod = shared.env.pod,
        postgresql = major,
        tls,
        "ready to start PostgreSQL"
    );
    Ok(shared)
}

/// Tries until it succeeds: an instance without its Cluster or its certificates cannot do anything, and both may
/// come at any time.
async fn patiently<T, F: Future<Output = Result<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let mut pause = Duration::from_millis(200);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!("{what} cannot be read yet; trying again: {}", error.report()),
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Reaps orphans at every SIGCHLD, and now and then for one that was hidden behind an own child.
async fn reap(children: Children) {
    let Ok(mut died) = signal(SignalKind::child()) else { return };
    loop {
        tokio::select! {
            _ = died.recv() => {}
            () = sleep(Duration::from_secs(10)) => {}
        }
        children.reap_orphans();
    }
}
