//! `howdah-s3`: the server as a program. It runs until SIGTERM or SIGINT.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// An S3 server for tests and demonstrations.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: String,
    /// Keep everything in memory
    #[arg(long, group = "store")]
    memory: bool,
    /// Keep everything in this directory, durably
    #[arg(long, group = "store", value_name = "DIR")]
    disk: Option<PathBuf>,
    /// Acknowledge and drop bodies above 64 KiB
    #[arg(long, group = "store")]
    sink: bool,
    /// Make random entity tags, not MD5 sums
    #[arg(long)]
    random_etags: bool,
    /// Bucket to make; may be repeated
    #[arg(long, value_name = "NAME")]
    bucket: Vec<String>,
    /// Serve HTTPS with this certificate chain, PEM
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Serve HTTPS with a certificate made now and written to this file, PEM
    #[arg(long, conflicts_with = "tls_cert", value_name = "FILE")]
    tls_self_signed: Option<PathBuf>,
    /// Loopback address and port for fault injection
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// Access key, from the environment so that it is in no process list
    #[arg(skip)]
    access_key: String,
    /// Its secret, from the environment too
    #[arg(skip)]
    secret_key: String,
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("environment variable {name} is not set: set it to the key"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The protocol crate calls every refused request an error; the client is told, that is enough.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,s3s=off")),
        )
        .init();
    let mut args = Args::parse();
    args.access_key = variable("AWS_ACCESS_KEY_ID")?;
    args.secret_key = variable("AWS_SECRET_ACCESS_KEY")?;

    let mut builder = howdah_s3::Server::builder().listen(&args.listen);
    builder = match std::env::var("AWS_SESSION_TOKEN") {
        Ok(token) => builder.session_credentials(args.access_key, args.secret_key, token),
        Err(_) => builder.credentials(args.access_key, args.secret_key),
    };
    if let Some(directory) = args.disk {
        builder = builder.disk(directory);
    } else if args.sink {
        builder = builder.sink();
    }
    if args.random_etags {
        builder = builder.random_etags();
    }
    for bucket in args.bucket {
        builder = builder.bucket(bucket);
    }
    if let (Some(chain), Some(key)) = (&args.tls_cert, &args.tls_key) {
        let read =
            |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        builder = builder.tls(howdah_s3::Tls::pem(read(chain)?, read(key)?));
    }
    if let Some(file) = args.tls_self_signed {
        let tls = howdah_s3::Tls::self_signed(&[])?;
        std::fs::write(&file, tls.certificate_pem())
            .with_context(|| format!("cannot write {}", file.display()))?;
        builder = builder.tls(tls);
    }
    if let Some(admin) = args.admin {
        builder = builder.admin(admin);
    }
    let server = builder.start().await?;
    let mut out = std::io::stdout();
    writeln!(out, "endpoint {}", server.endpoint())?;
    if let Some(admin) = server.admin_endpoint() {
        writeln!(out, "admin {admin}")?;
    }
    out.flush()?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.shutdown().await;
    Ok(())
}
