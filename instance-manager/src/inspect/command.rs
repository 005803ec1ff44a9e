//! The commands: they ask the resident manager over its socket and render what it tells, without runtime and TLS. With a
//! file that describes the repositories they need no manager.
//!
//! Structs of options have no doc comments: clap would show these instead of the commands' own.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use barman_cloud::report::ClusterReport;
use clap::{Args, ValueEnum};
use howdah_api::instance::{SocketAnswer, SocketRequest};

use super::described::Described;
use super::line::{Line, Progress};
use super::render::{self, Told};
use crate::environment::Paths;
use crate::wal_client::{self, GENERAL, NETWORK, USAGE};

// Which repositories, and who is asked about them.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// Name of one repository [default: all]
    #[arg(long, visible_alias = "repo", value_name = "NAME")]
    repository: Option<String>,
    /// File that describes the repositories; the manager in this pod is not asked then
    #[arg(long, value_name = "FILE", env = "REPOSITORIES_CONFIG")]
    config: Option<PathBuf>,
}

// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    #[command(flatten)]
    wanted: Wanted,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

// Options of `info`.
#[derive(Args, Clone, Debug)]
pub struct Info {
    #[command(flatten)]
    wanted: Wanted,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = InfoOutput::Text)]
    output: InfoOutput,
}

// Options of `show`.
#[derive(Args, Clone, Debug)]
pub struct Show {
    /// Id or label of a backup, or `latest`
    backup: String,
    #[command(flatten)]
    common: Common,
}

// Options of `verify`.
#[derive(Args, Clone, Debug)]
pub struct Verify {
    /// Id or label of a backup, `latest` or `all` [default: latest; with --wal-only: all]
    backup: Option<String>,
    /// Verify WAL alone, from the oldest of the backups on
    #[arg(long, conflicts_with = "no_data")]
    wal_only: bool,
    /// Only look at names and sizes of a backup's objects; WAL is read all the same
    #[arg(long)]
    no_data: bool,
    #[command(flatten)]
    common: Common,
}

// Options of `expire`.
#[derive(Args, Clone, Debug)]
pub struct Expire {
    #[command(flatten)]
    how: ExpireHow,
    #[command(flatten)]
    common: Common,
}

// Whether anything is deleted. It has to be said.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct ExpireHow {
    /// Only tell what would be deleted, and why
    #[arg(long)]
    dry_run: bool,
    /// Delete
    #[arg(long)]
    confirm: bool,
}

// Options of `check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// How long a WAL segment may take to arrive
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    common: Common,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Forms of output of `info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InfoOutput {
    /// For people, in pgBackRest's shape
    Text,
    /// For programs
    Json,
    /// For programs that read `pgbackrest info --output=json`
    PgbackrestJson,
}

/// `info`.
#[must_use]
pub fn info(args: Info) -> ExitCode {
    let show = match args.output {
        InfoOutput::Text => render::info_text,
        InfoOutput::Json => render::cluster_json,
        InfoOutput::PgbackrestJson => render::pgbackrest_json,
    };
    run(args.wanted, |repository| SocketRequest::Info { repository }, show)
}

/// `list`.
#[must_use]
pub fn list(args: Common) -> ExitCode {
    let show = match args.output {
        Output::Text => render::list_text,
        Output::Json => render::cluster_json,
    };
    run(args.wanted, |repository| SocketRequest::Info { repository }, show)
}

/// `show`.
#[must_use]
pub fn show(args: Show) -> ExitCode {
    let show = match args.common.output {
        Output::Text => render::backups_text,
        Output::Json => render::backups_json,
    };
    run(args.common.wanted, |repository| SocketRequest::Show { repository, backup: args.backup }, show)
}

/// `verify`.
#[must_use]
pub fn verify(args: Verify) -> ExitCode {
    let show = match args.common.output {
        Output::Text => render::verified_text,
        Output::Json => render::verified_json,
    };
    let request = |repository| SocketRequest::Verify {
        repository,
        backup: args.backup,
        no_data: args.no_data,
        wal_only: args.wal_only,
    };
    run(args.common.wanted, request, show)
}

/// `expire`.
#[must_use]
pub fn expire(args: Expire) -> ExitCode {
    let show = match args.common.output {
        Output::Text => render::expired_text,
        Output::Json => render::expired_json,
    };
    let confirm = args.how.confirm && !args.how.dry_run;
    run(args.common.wanted, |repository| SocketRequest::Expire { repository, confirm }, show)
}

/// `check`.
#[must_use]
pub fn check(args: Check) -> ExitCode {
    let show = match args.common.output {
        Output::Text => render::checked_text,
        Output::Json => render::checked_json,
    };
    let request = |repository| SocketRequest::Check { repository, timeout: Some(args.timeout) };
    run(args.common.wanted, request, show)
}

fn run(
    wanted: Wanted,
    request: impl FnOnce(Option<String>) -> SocketRequest,
    show: fn(&Told) -> String,
) -> ExitCode {
    let mut told = Told::default();
    let stream = match &wanted.config {
        None => {
            wal_client::connect(&Paths::from_env().socket()).map_err(|error| (NETWORK, error.to_string()))
        }
        Some(file) => match Described::read(file) {
            Ok(described) => described.serve().map_err(|error| (GENERAL, error.to_string())),
            Err(error) => Err((USAGE, error.report())),
        },
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err((code, error)) => return fail(code, &error),
    };
    let end = match ask(stream, &request(wanted.repository), &mut told) {
        Ok(end) => end,
        Err(error) => return fail(NETWORK, &error.to_string()),
    };
    // What a repository has told is shown also when another one failed.
    if (end.ok || !told.is_empty()) && io::stdout().write_all(show(&told).as_bytes()).is_err() {
        return ExitCode::from(GENERAL);
    }
    match end {
        SocketAnswer { ok: true, .. } => ExitCode::SUCCESS,
        SocketAnswer { code, error, .. } => {
            let code = code.unwrap_or(GENERAL);
            error.map_or_else(|| ExitCode::from(code), |error| fail(code, &error))
        }
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Nothing can be done when standard error is closed.
    let _ = writeln!(io::stderr(), "instance-manager: {message}");
    ExitCode::from(code)
}

/// Sends a question and takes lines in until the last one, which is returned.
pub(super) fn ask(stream: UnixStream, request: &SocketRequest, told: &mut Told) -> io::Result<SocketAnswer> {
    let stream = wal_client::send(stream, request)?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Ok(end) = serde_json::from_str::<SocketAnswer>(&line) {
            return Ok(end);
        }
        match serde_json::from_str(&line)? {
            Line::Stanza(name) => {
                told.cluster = Some(ClusterReport { stanza: name, ..ClusterReport::default() })
            }
            Line::Repository(report) => told.add(*report),
            Line::Backup(detail) => told.backups.push(*detail),
            Line::Verified(report) => told.verified.push(*report),
            Line::Checked(report) => told.checked = Some(report),
            Line::Expired(report) => told.expired.push(report),
            Line::Progress(progress) => tell(&progress),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the instance manager closed the connection before the end of its answer; it is restarting",
    ))
}

/// Shows how far it is, to a person who waits.
fn tell(progress: &Progress) {
    let mut out = io::stderr();
    if out.is_terminal() {
        // Nothing can be done when it is closed.
        let _ = writeln!(out, "{}", render::progress_text(progress));
    }
}
