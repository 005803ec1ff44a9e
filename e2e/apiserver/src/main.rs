//! `lab-apiserver`: the API double as a program of its own.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use howdah_lab_apiserver::ApiServer;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Serves the Kubernetes API from memory, until it is told to stop (SIGINT, SIGTERM).
#[derive(Parser)]
#[command(name = "lab-apiserver")]
struct Arguments {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: String,
    /// Where to write a kubeconfig for an administrator.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Range of Service addresses.
    #[arg(long, default_value = "127.64.0.0/16")]
    service_cidr: String,
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let server =
        ApiServer::builder().bind(arguments.listen).service_cidr(arguments.service_cidr).start().await?;
    write_private(&arguments.kubeconfig, &server.admin_kubeconfig()?)
        .with_context(|| format!("cannot write {}", arguments.kubeconfig.display()))?;
    tracing::info!(url = %server.url(), kubeconfig = %arguments.kubeconfig.display(), "serving");
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    server.shutdown().await;
    Ok(())
}
