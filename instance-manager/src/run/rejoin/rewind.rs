//! `pg_rewind`: takes a data directory back to where another server's history begins, and copies what changed since.
//!
//! Before it changes anything it replays what a crash left (a server in single-user mode, which archives nothing) and
//! reads the WAL of this directory from the last checkpoint that both servers have; what of it is no longer here comes
//! from the archive, through `restore_command`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::transcript::{Transcript, Verdict};
use crate::bootstrap::join::conninfo_with_database;
use crate::error::Result;
use crate::pg::relayed;
use crate::pg::server::describe;
use crate::run::shared::Shared;

/// How often its progress goes to the log; it writes a line in every second.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Runs it once. The directory is configured, the archive is served, and the mark of an unfinished return is there.
///
/// # Errors
/// When it cannot be started; the directory is as it was then.
pub async fn run(shared: &Shared) -> Result<Verdict> {
    let mut command = Command::new(shared.programs.program("pg_rewind")?);
    command
        .arg("--target-pgdata")
        .arg(&shared.env.paths.pgdata)
        .arg(format!("--source-server={}", conninfo_with_database(&shared.env)))
        .args(["--restore-target-wal", "--progress"])
        // Its words are read.
        .env("LC_ALL", "C");
    let heard = Mutex::new((Transcript::default(), None::<Instant>));
    let take = |line: &str| {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.0.take(line);
        if !Transcript::is_progress(line) {
            return true;
        }
        let due = heard.1.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY);
        if due {
            heard.1 = Some(Instant::now());
        }
        due
    };
    let ended = relayed::run(&shared.children, command, "pg_rewind", &take).await?;
    let (transcript, _) = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
    let killed = ended.status.code().is_none();
    Ok(transcript.verdict(ended.status.success(), killed, &describe(ended.status)))
}
