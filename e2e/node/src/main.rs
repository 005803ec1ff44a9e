//! `lab-node`: the node double as a program. It runs until SIGTERM or SIGINT.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use howdah_lab_node::{ImageCatalog, Node};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the pods of a Kubernetes API server as local processes.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How to reach the API server, with the rights of a node and of a controller manager
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// The images that can be pulled, YAML
    #[arg(long, value_name = "FILE")]
    images: PathBuf,
    /// Where pods, logs and claims are kept
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Name of the Node object
    #[arg(long, default_value = "lab-node-1")]
    name: String,
    /// Leave binding pods to a scheduler that runs elsewhere
    #[arg(long)]
    no_scheduler: bool,
    /// Leave claims to a provisioner that runs elsewhere
    #[arg(long)]
    no_claims: bool,
    /// Leave Deployments, endpoints and service accounts to a controller manager that runs elsewhere
    #[arg(long)]
    no_controllers: bool,
    /// Range of pod addresses
    #[arg(long, default_value = "127.80.0.0/16")]
    pod_cidr: String,
    /// Range of addresses for services whose own address is not one of this machine
    #[arg(long, default_value = "127.64.0.0/16")]
    service_cidr: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .init();
    let args = Args::parse();
    let images = std::fs::read_to_string(&args.images)
        .with_context(|| format!("cannot read {}", args.images.display()))?;
    let node = Node::builder(args.kubeconfig)
        .name(args.name)
        .root_dir(args.root)
        .images(ImageCatalog::from_yaml(&images)?)
        .scheduler(!args.no_scheduler)
        .claims(!args.no_claims)
        .controllers(!args.no_controllers)
        .pod_cidr(args.pod_cidr)
        .service_cidr(args.service_cidr)
        .start()
        .await?;
    let mut out = std::io::stdout();
    writeln!(out, "node {} kubelet port {}", node.name(), node.kubelet_port())?;
    out.flush()?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    node.shutdown().await;
    Ok(())
}
