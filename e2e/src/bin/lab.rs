//! `lab`: leaves a lab running for anyone's `kubectl`. `./hack/lab up|down` is its front.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use howdah_e2e::Ground;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a lab until SIGTERM or SIGINT.
#[derive(Parser)]
struct Cli {
    /// Where the administrator's kubeconfig is written.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where the S3 server's address and keys are written, as shell variables.
    #[arg(long)]
    s3: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let ground = Ground::start().await?;
    let s3 = &ground.s3;
    let variables = format!(
        "S3_ENDPOINT={}\nS3_BUCKET={}\nS3_ACCESS_KEY={}\nS3_SECRET_KEY={}\n",
        s3.endpoint, s3.bucket, s3.access_key, s3.secret_key
    );
    std::fs::write(&cli.s3, variables).with_context(|| format!("cannot write {}", cli.s3.display()))?;
    // Last: who waits for this file finds everything ready.
    std::fs::copy(&ground.kubectl.kubeconfig, &cli.kubeconfig)
        .with_context(|| format!("cannot write {}", cli.kubeconfig.display()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    ground.stop().await
}
