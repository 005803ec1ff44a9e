//! The beginning of `run`: what must be known before PostgreSQL may start.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use howdah_api::Cluster;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::replace::handover::{Handover, HeldLease, future, past};
use super::replace::{self, Adopted, signals};
use super::role::Running;
use super::shared::{PodFacts, ServerState, Shared};
use super::{news, rejoin, runway, socket, supervisor, watch};
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::environment::Environment;
use crate::error::{Error, IoContext, Result};
use crate::kube::Kubernetes;
use crate::kube::secrets::SecretValues;
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
    // A former program of this process leaves the signal blocked: one that came meanwhile is heard from here on.
    signals::unblock();
    let children = Children::default();
    let left = replace::take_over(&env, &children);
    tokio::spawn(reap(children.clone()));
    let runs = left.is_some();
    let preparing = prepare(env, kube, children, left);
    let (prepared, adopted) = if runs {
        // A server that runs is stopped in the ordinary way.
        preparing.await?
    } else {
        tokio::select! {
            prepared = preparing => prepared?,
            _ = stop.recv() => return Ok(()),
        }
    };
    tokio::spawn(watch::follow_cluster(prepared.clone()));
    tokio::spawn(watch::follow_secrets(prepared.clone()));
    tokio::spawn(news::tell(prepared.clone()));
    tokio::spawn(backup::runner::run(prepared.clone()));
    tokio::spawn(backup::catalogue::follow(prepared.clone()));
    tokio::spawn(crate::pages::keep_small(prepared.clone()));
    tokio::spawn(runway::watch(prepared.clone()));
    supervisor::supervise(prepared, stop, adopted).await
}

/// What must be known of the pod, whether it is found out or was handed over.
struct Known {
    major: u32,
    tls: bool,
    cluster: Cluster,
    secrets: SecretValues,
}

async fn prepare(
    env: Environment,
    kube: Kubernetes,
    children: Children,
    left: Option<(Handover, Adopted)>,
) -> Result<(Arc<Shared>, Option<Adopted>)> {
    let sha256 = tokio::task::spawn_blocking(replace::own_sha256);
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
    let (known, adopted, lease) = match left {
        Some((handover, adopted)) => {
            let Handover { major, tls, cluster, secrets, lease, promised_until, .. } = handover;
            (Known { major, tls, cluster, secrets }, Some(adopted), (lease, promised_until))
        }
        None => (look(&env, &kube, &children, &programs).await?, None, (None, None)),
    };
    let Known { major, tls, cluster, secrets } = known;
    let sha256 = sha256.await.unwrap_or_default();
    let facts = PodFacts { env, programs, major, tls, children, kube, sha256 };
    let shared = Shared::new(facts, Arc::new(cluster), Arc::new(secrets));
    shared.wal.configure(&shared.stores(), shared.wal_policy(), &shared.secrets());
    if let Some(adopted) = &adopted {
        // Before anybody asks: for who asks, nothing has happened.
        go_on(&shared, adopted, lease).await?;
    }
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
    Ok((shared, adopted))
}

/// Goes on with what the former program of this process did for the server that it has left.
async fn go_on(
    shared: &Arc<Shared>,
    adopted: &Adopted,
    (lease, promised_until): (Option<HeldLease>, Option<Duration>),
) -> Result<()> {
    shared.authority.watchdog.guard(Some(adopted.child.pid().as_raw()));
    let held = match lease {
        Some(HeldLease { lease, since }) => Some((lease, past(since)?)),
        None => None,
    };
    let promised = promised_until.map(future).transpose()?;
    shared.authority.take_over(shared, held, promised).await;
    shared.server.send_modify(|server| {
        *server = ServerState {
            running: Some(adopted.role),
            up: true,
            message: "PostgreSQL takes connections".to_owned(),
            ..ServerState::default()
        };
    });
    if adopted.role == Running::Standby {
        shared.wal.serve_standby(&shared.stores(), &shared.secrets());
    } else {
        shared.wal.lead();
    }
    Ok(())
}

/// Finds out what must be known.
async fn look(
    env: &Environment,
    kube: &Kubernetes,
    children: &Children,
    programs: &Programs,
) -> Result<Known> {
    let run = env.paths.run();
    let major = programs.major_version(children).await?;
    let tls = probe::has_tls(children, programs, &env.paths.pgdata, &run).await?;
    if !tls {
        tracing::warn!(
            "this PostgreSQL was built without TLS: connections are not encrypted and replicas cannot join"
        );
    }
    let recovery = RecoveryFile::read(&env.paths)?;
    let cluster = patiently("the Cluster", || async { kube.cluster().await }).await;
    let secrets = patiently("the Secrets of the cluster", || async {
        let secrets = watch::read_secrets(kube, &cluster, recovery.as_ref()).await?;
        certificates::write(&secrets, &cluster, &env.cluster, &env.paths.certificates())?;
        Ok(secrets)
    })
    .await;
    Ok(Known { major, tls, cluster, secrets })
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
