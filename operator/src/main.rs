//! Starts the operator: reads the command line, waits for the leader lease, runs the controllers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use howdah_operator::cli::{Cli, Command};
use howdah_operator::clock::SystemClock;
use howdah_operator::context::{AppliedCache, Attempts, Context, Heartbeats, Locks, Settings};
use howdah_operator::controllers::cluster::nodes::NodeAccess;
use howdah_operator::controllers::cluster::resting::Resting;
use howdah_operator::http::Readiness;
use howdah_operator::instance_client::HttpInstances;
use howdah_operator::leader::Elector;
use howdah_operator::manager_program::ManagerProgram;
use howdah_operator::metrics::Metrics;
use howdah_operator::shelf::Seen;
use howdah_operator::{http, run, switchover, telemetry};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    let cli = Cli::parse();
    if let Some(Command::Switchover(wanted)) = &cli.command {
        return tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let client =
                Client::try_default().await.context("cannot find out how to reach the API server")?;
            switchover::run(client, wanted, &mut std::io::stdout()).await
        });
    }
    telemetry::init(&cli)?;
    // Two workers: everything here waits for the network.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()?
        .block_on(operate(cli))
}

async fn operate(cli: Cli) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let identity = if cli.pod_name.is_empty() {
        format!("operator-{}", uuid::Uuid::new_v4())
    } else {
        cli.pod_name.clone()
    };
    let client = Client::try_default().await.context("cannot find out how to reach the API server")?;
    let metrics = Metrics::new();
    let readiness = Readiness::default();
    let servers = tokio::try_join!(
        bind(cli.listen(cli.health_address), http::health(readiness.clone()), &stop),
        bind(cli.listen(cli.metrics_address), http::metrics(metrics.clone()), &stop),
    )?;
    tokio::select! {
        result = reach(&client) => result?,
        () = stop.cancelled() => return Ok(()),
    }
    readiness.set(true);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), identity, namespaces = ?cli.namespaces(), "operator started");

    let mut elector = Elector::new(client.clone(), &cli.operator_namespace, identity.clone());
    if cli.leader_election {
        tokio::select! {
            () = elector.acquire() => tracing::info!("leading"),
            () = stop.cancelled() => return Ok(()),
        }
    }
    metrics.leading(true);
    let manager = manager_program(&cli.instance_manager_path);
    let ctx = Arc::new(Context {
        settings: Settings {
            postgres_image: cli.postgres_image_name.clone(),
            operator_image: cli.operator_image_name.clone(),
            manager,
            manager_in_place: cli.instance_manager_inplace_updates,
        },
        clock: Arc::new(SystemClock::default()),
        instances: Arc::new(HttpInstances::default()),
        recorder: Recorder::new(
            client.clone(),
            Reporter { controller: howdah_api::OPERATOR_MANAGER.into(), instance: Some(identity) },
        ),
        metrics: metrics.clone(),
        attempts: Attempts::default(),
        applied: AppliedCache::default(),
        heartbeats: Heartbeats::default(),
        nodes: NodeAccess::default(),
        dispatch: Locks::default(),
        seen: Seen::default(),
        resting: Resting::default(),
        client,
    });
    let namespaces = cli.namespaces();
    let finished = CancellationToken::new();
    let work = async {
        run::controllers(ctx, &namespaces, cli.max_concurrent_reconciles, stop.clone()).await;
        // Only now may another process lead.
        finished.cancel();
    };
    let lead = async {
        if cli.leader_election {
            elector.hold(finished.clone()).await
        } else {
            finished.cancelled().await;
            true
        }
    };
    tokio::pin!(lead);
    tokio::select! {
        () = work => {
            lead.await;
        }
        kept = &mut lead => {
            // Another process may lead already: stop at once, in the middle of whatever is going on.
            anyhow::ensure!(kept, "the leader lease was lost");
        }
    }
    metrics.leading(false);
    for server in [servers.0, servers.1] {
        server.abort();
    }
    Ok(())
}

/// The instance manager that instances are given. Without it they get it with new pods.
fn manager_program(path: &std::path::Path) -> Option<ManagerProgram> {
    match ManagerProgram::read(path) {
        Ok(program) => {
            tracing::info!(sha256 = program.sha256, "instance manager of this operator");
            Some(program)
        }
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the instance manager cannot be read: it reaches instances with new pods only");
            None
        }
    }
}

async fn bind(
    address: std::net::SocketAddr,
    router: axum::Router,
    stop: &CancellationToken,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let listener = http::listen(address).await?;
    let stop = stop.clone();
    Ok(tokio::spawn(async move {
        if let Err(error) = http::serve(listener, router, stop).await {
            tracing::error!(error = %error, "an HTTP server ended");
        }
    }))
}

/// Waits until the API server answers and knows our resources.
async fn reach(client: &Client) -> anyhow::Result<()> {
    let mut told = false;
    loop {
        match client.list_api_group_resources(&format!("{}/{}", howdah_api::GROUP, howdah_api::VERSION)).await
        {
            Ok(list) if list.resources.len() >= 3 => return Ok(()),
            Ok(_) => tracing::warn!("custom resources are missing: apply config/crd"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                if !told {
                    tracing::warn!("custom resources are missing: apply config/crd");
                }
            }
            Err(error) => tracing::warn!(error = %error, "the API server does not answer yet"),
        }
        told = true;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}
