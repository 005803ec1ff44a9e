//! The command line, for everything but the two WAL commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::bootstrap::{self, Context};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::inspect::command;
use crate::install::{Ids, install};
use crate::kube::Kubernetes;
use crate::wal_client::USAGE;
use crate::{repo_host, report, run};

/// Runs PostgreSQL in a pod of Howdah.
#[derive(Debug, Parser)]
#[command(name = "instance-manager", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy this program into DIR, with the pod's passwd and group files and its directories
    Install {
        /// Volume that the containers of the pod share
        dir: PathBuf,
        /// User id of PostgreSQL [default: this process's]
        #[arg(long, env = "POSTGRES_UID")]
        uid: Option<u32>,
        /// Group id of PostgreSQL [default: this process's]
        #[arg(long, env = "POSTGRES_GID")]
        gid: Option<u32>,
    },
    /// Fill an empty volume; a finished one is left alone
    Bootstrap {
        /// How
        #[arg(value_enum)]
        how: How,
    },
    /// Run PostgreSQL (process 1 of the container)
    Run,
    /// Serve the repositories on this pod's volumes to the instances of the cluster
    RepoHost(repo_host::Arguments),
    /// Archive the WAL file at PATH (archive_command)
    WalArchive {
        /// %p
        path: String,
    },
    /// Fetch the WAL file NAME into PATH (restore_command)
    WalRestore {
        /// %f
        name: String,
        /// %p
        path: String,
    },
    /// Print the status of the manager in this pod as JSON
    Status,
    /// Show repositories and their backups
    Info(command::Info),
    /// List backups, one line each
    List(command::Common),
    /// Show everything about a backup
    Show(command::Show),
    /// Read backups and WAL, and compare them with what was stored
    Verify(command::Verify),
    /// Tell what retention would delete, or delete it
    Expire(command::Expire),
    /// See whether the repositories work and WAL arrives in them
    Check(command::Check),
    /// Print the version
    Version {
        /// Also say how this program takes over from another one in the same process
        #[arg(long, hide = true)]
        handover: bool,
    },
}

/// Ways to fill a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// An empty database cluster
    Initdb,
    /// The content of a backup
    FullRecovery,
    /// A copy of the primary
    Join,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done when the output is closed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::WalArchive { path } => crate::wal_client::archive(std::iter::once(path.into())),
        Command::WalRestore { name, path } => {
            crate::wal_client::restore([name.into(), path.into()].into_iter())
        }
        Command::Version { handover: false } => print(env!("CARGO_PKG_VERSION")),
        Command::Version { handover: true } => print(&run::replace::install::introduce()),
        Command::Install { dir, uid, gid } => {
            let done = std::env::current_exe()
                .map_err(|e| {
                    Error::permanent("this program cannot find itself; is /proc mounted?").because(e)
                })
                .and_then(|own| {
                    install(&own, &dir, Ids::or_own(uid, gid))
                        .map_err(|e| Error::permanent("the installation failed").because(e))
                });
            report::finish(done, None)
        }
        Command::Status => match report::block_on(status()) {
            Ok(text) => print(&text),
            Err(error) => report::finish(Err(error), None),
        },
        Command::Info(args) => command::info(args),
        Command::List(args) => command::list(args),
        Command::Show(args) => command::show(args),
        Command::Verify(args) => command::verify(args),
        Command::Expire(args) => command::expire(args),
        Command::Check(args) => command::check(args),
        Command::Bootstrap { how } => in_pod(move |env, kube| async move {
            let context = Context::gather(env, kube).await?;
            let work = async {
                match how {
                    How::Initdb => bootstrap::initdb::run(&context).await,
                    How::FullRecovery => bootstrap::recovery::run(&context).await,
                    How::Join => bootstrap::join::run(&context).await,
                }
            };
            // Process 1 of a container gets no signal that it does not ask for.
            let mut stop = signal(SignalKind::terminate())
                .map_err(|e| Error::permanent("signals cannot be received").because(e))?;
            tokio::select! {
                done = work => done,
                _ = stop.recv() => {
                    Err(Error::transient("the pod was told to end; the next one begins this step anew"))
                }
            }
        }),
        Command::RepoHost(arguments) => {
            crate::memory::tune();
            set_up_logging();
            let done = report::block_on(repo_host::run(arguments));
            report::finish(done, Some(std::path::Path::new(report::TERMINATION_LOG)))
        }
        Command::Run => in_pod(run::start::run_with),
    }
}

/// Prints a result on standard output.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn in_pod<F>(work: impl FnOnce(Environment, Kubernetes) -> F) -> ExitCode
where
    F: Future<Output = Result<()>>,
{
    crate::memory::tune();
    set_up_logging();
    let mut known = None;
    let done = report::block_on(async {
        let env = Environment::from_env().map_err(|e| Error::permanent(e.to_string()))?;
        let kube = Kubernetes::connect(&env).await?;
        known = Some(kube.clone());
        let done = work(env, kube.clone()).await;
        if let Err(error) = &done {
            report::tell(&kube, error).await;
        }
        done
    });
    report::finish(done, known.is_some().then_some(std::path::Path::new(report::TERMINATION_LOG)))
}

fn set_up_logging() {
    // Everyone uses the same TLS provider; a second installation would only fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
}

async fn status() -> Result<String> {
    let socket = crate::environment::Paths::from_env().socket();
    let asking = tokio::task::spawn_blocking(move || {
        crate::wal_client::ask_line(&socket, &howdah_api::instance::SocketRequest::Status)
    });
    let line = asking
        .await
        .map_err(|e| Error::transient("the question was not asked").because(e))?
        .map_err(|e| Error::transient("the status is not known").because(e))?;
    Ok(line.trim().to_owned())
}
