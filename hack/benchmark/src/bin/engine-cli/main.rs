//! The engine from the command line, for measuring: backup, restore and WAL against an S3 endpoint, with the
//! settings that the instance manager has: the same allocator limits, runtime, and client of the store.
//!
//! Credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, never from arguments. Every command prints
//! one line of JSON.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod place;
mod serve;

use async_trait::async_trait;
use barman_cloud::BackupType;
use clap::{Parser, Subcommand};
use howdah_engine::backup::{self, ManifestChecksum, SwitchRequest};
use howdah_engine::{
    Archiver, ArchiverConfig, BackupRequest, Error, ErrorKind, PrimaryWal, Progress, RestoreRequest,
    Restorer, RestorerConfig, Result, ServerAccess, WalFetch, restore,
};
use howdah_instance_manager::objstore::Purpose;
use howdah_instance_manager::{memory, report};
use place::Place;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// The data plane alone.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes a base backup.
    Backup {
        /// Directory of the server's socket.
        #[arg(long)]
        socket: PathBuf,
        /// Port.
        #[arg(long, default_value_t = 5432)]
        port: u16,
        /// SHA-256 instead of CRC-32C in the manifest.
        #[arg(long)]
        sha256: bool,
        /// Only what changed since the last backup, which must be there.
        #[arg(long)]
        incremental: bool,
    },
    /// Restores the newest backup into the data directory.
    Restore {
        /// Into a data directory of the same system: only what differs.
        #[arg(long)]
        delta: bool,
    },
    /// Archives files of the data directory.
    Archive {
        /// `%p`, as often as wanted.
        paths: Vec<PathBuf>,
    },
    /// Serves a manager's socket to `wal-archive` and `wal-restore` until SIGTERM.
    Serve {
        /// What `CONTROLLER_DIR` is for the two commands.
        #[arg(long)]
        controller: PathBuf,
    },
    /// Fetches WAL files into the data directory's `pg_wal/RECOVERYXLOG`, one after the other.
    Fetch {
        /// `%f`, as often as wanted.
        names: Vec<String>,
        /// Spool directory.
        #[arg(long)]
        spool: PathBuf,
    },
}

/// `pg_backup_stop` on a primary closes the segment by itself.
struct Nothing;

#[async_trait]
impl PrimaryWal for Nothing {
    async fn close_segment(&self, _request: SwitchRequest) -> Result<()> {
        Ok(())
    }
}

fn main() -> ExitCode {
    memory::tune();
    // The only provider in the graph.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match report::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("{}", serde_json::json!({ "error": error.to_string() }));
            return ExitCode::from(4);
        }
    };
    match runtime.block_on(run(Cli::parse())) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", serde_json::json!({ "error": error.report() }));
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<serde_json::Value> {
    let place = cli.place;
    let begun = Instant::now();
    let progress = Arc::new(Progress::new());
    let mut line = match cli.command {
        Command::Backup { socket, port, sha256, incremental } => {
            let server = ServerAccess {
                socket_dir: socket,
                port,
                user: "postgres".into(),
                database: "postgres".into(),
            };
            let mut request = BackupRequest::new(server, &place.pgdata, place.repository(Purpose::Data)?);
            (request.compression, request.jobs, request.immediate_checkpoint) =
                (place.compression, place.jobs, true);
            if sha256 {
                request.manifest_checksum = ManifestChecksum::Sha256;
            }
            if incremental {
                (request.kind, request.fallback_full) = (BackupType::Incremental, false);
            }
            let done = backup::run(request, Arc::new(Nothing), progress, CancellationToken::new()).await?;
            serde_json::json!({
                "id": done.backup_id.to_string(), "type": done.kind.as_str(), "read": done.database_bytes, "stored": done.stored_bytes,
                "parts": done.parts.len(), "badPages": done.bad_pages.count,
            })
        }
        Command::Restore { delta } => {
            let mut request = RestoreRequest::new(place.repository(Purpose::Data)?, place.pgdata);
            (request.jobs, request.delta) = (place.jobs, delta);
            let done = restore::run(request, progress, CancellationToken::new()).await?;
            serde_json::json!({
                "id": done.plan.backup_id.to_string(), "files": done.files, "bytes": done.bytes, "verified": done.verified,
                "keptFiles": done.kept_files, "keptBytes": done.kept_bytes, "fetchedBytes": done.fetched_bytes,
            })
        }
        Command::Archive { paths } => archive(&place, paths).await?,
        Command::Serve { controller } => {
            serve::serve(&place, controller, || println!("serving")).await?;
            serde_json::json!({})
        }
        Command::Fetch { names, spool } => {
            let config = RestorerConfig {
                repository: place.repository(Purpose::Wal)?,
                pgdata: place.pgdata,
                spool,
                max_parallel: place.jobs,
                allow_partial: false,
            };
            fetch(config, names).await?
        }
    };
    line["seconds"] = begun.elapsed().as_secs_f64().into();
    line["peakMemoryKiB"] = peak_memory().into();
    Ok(line)
}

async fn archive(place: &Place, paths: Vec<PathBuf>) -> Result<serde_json::Value> {
    let archiver = Archiver::new(ArchiverConfig {
        pgdata: place.pgdata.clone(),
        repository: place.repository(Purpose::Wal)?,
        compression: place.compression,
        compression_level: None,
        max_parallel: place.jobs,
        claimed_by: None,
    });
    for path in &paths {
        archiver.archive(path).await?;
    }
    Ok(serde_json::json!({ "archived": paths.len() }))
}

async fn fetch(config: RestorerConfig, names: Vec<String>) -> Result<serde_json::Value> {
    let restorer = Restorer::new(config);
    for name in &names {
        if restorer.restore(name, "pg_wal/RECOVERYXLOG".as_ref()).await? == WalFetch::NotThere {
            return Err(Error::new(ErrorKind::Missing, format!("{name} is not in the archive")));
        }
    }
    restorer.shutdown().await?;
    Ok(serde_json::json!({ "fetched": names.len() }))
}

/// `VmHWM` of this process in KiB; 0 where `/proc` is not mounted.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
