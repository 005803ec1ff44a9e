//! Runs a program of PostgreSQL's whose output belongs into the container's log.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::children::Children;
use super::server::describe;
use crate::error::{Error, Result};

/// Lines that are kept for an error.
const KEPT: usize = 4;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The last lines of its standard error.
    pub last_words: String,
}

/// Hears each line that a program writes; says whether it goes to the log too.
pub type Heard<'a> = &'a (dyn Fn(&str) -> bool + Send + Sync);

/// Takes this process's own settings of libpq away from a program: it is told everything by its arguments.
pub fn without_libpq_settings(command: &mut Command) {
    for name in ["PGHOST", "PGUSER", "PGPASSWORD", "PGPORT", "PGDATABASE"] {
        command.env_remove(name);
    }
}

/// Runs a program to its end; its output goes to the log as far as `heard` wants it. Dropped before, it is killed.
///
/// # Errors
/// When it cannot be started or awaited; a failure of the program itself is in the result.
pub async fn run(children: &Children, mut command: Command, name: &str, heard: Heard<'_>) -> Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    without_libpq_settings(&mut command);
    let mut child = children
        .spawn(&mut command)
        .map_err(|e| Error::permanent(format!("cannot start {name}")).because(e))?;
    let (stdout, stderr) = child.take_output();
    let (_, last_words) = tokio::join!(relay(stdout, name, heard), relay(stderr, name, heard));
    let status =
        child.wait().await.map_err(|e| Error::transient(format!("lost sight of {name}")).because(e))?;
    Ok(Ended { status, last_words })
}

/// As [`run`], with all output in the log; its last words go into the error.
///
/// # Errors
/// When it fails.
pub async fn run_program(children: &Children, command: Command, name: &str, remedy: &str) -> Result<()> {
    let ended = run(children, command, name, &|_| true).await?;
    if ended.status.success() {
        return Ok(());
    }
    Err(Error::transient(format!(
        "{name} failed ({}): {}; {remedy}",
        describe(ended.status),
        ended.last_words
    )))
}

/// Copies lines to the log; returns the last few.
async fn relay(stream: Option<impl AsyncRead + Unpin>, name: &str, heard: Heard<'_>) -> String {
    let Some(stream) = stream else { return String::new() };
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    let mut kept = VecDeque::new();
    // Read as bytes: a program whose output is no UTF-8 must not find its pipe closed.
    while let Ok(1..) = reader.read_until(b'\n', &mut bytes).await {
        let line = String::from_utf8_lossy(&bytes).trim().to_owned();
        bytes.clear();
        if line.is_empty() {
            continue;
        }
        if heard(&line) {
            tracing::info!(program = name, "{line}");
        }
        kept.push_back(line);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
    Vec::from(kept).join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn every_line_is_heard_and_the_last_ones_are_kept() {
        let heard = Mutex::new(Vec::new());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "printf 'a\\n\\nb\\377\\n' >&2; for i in 1 2 3; do echo $i >&2; done; exit 3"]);
        let take = |line: &str| {
            heard.lock().unwrap().push(line.to_owned());
            false
        };
        let ended = run(&Children::default(), command, "sh", &take).await.unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.last_words, "b\u{fffd}; 1; 2; 3");
        assert_eq!(heard.into_inner().unwrap(), ["a", "b\u{fffd}", "1", "2", "3"]);
    }

    #[tokio::test]
    async fn a_failure_names_program_status_and_remedy() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no room >&2; exit 1"]);
        let error = run_program(&Children::default(), command, "sh", "make room").await.unwrap_err();
        assert_eq!(error.report(), "sh failed (exit code 1): no room; make room");
    }
}
