//! A PostgreSQL server as a child process: start, wait until it answers, stop.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::children::{Children, OwnChild};
use super::programs::Programs;
use super::sql::{LocalServer, MAINTENANCE_DB};
use crate::error::{Error, Result};

/// How PostgreSQL is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until sessions end by themselves.
    Smart,
    /// Ends sessions, archives, writes a checkpoint.
    Fast,
    /// Ends at once; the next start replays WAL.
    Immediate,
    /// Kills it.
    Kill,
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::SIGTERM,
            Self::Fast => Signal::SIGINT,
            Self::Immediate => Signal::SIGQUIT,
            Self::Kill => Signal::SIGKILL,
        }
    }
}

/// The steps of a shutdown and how long each may take, within `total` altogether. Sessions get a moment to end
/// by themselves; most of the time belongs to the fast shutdown, which archives what is left and writes a
/// checkpoint.
#[must_use]
pub fn stop_plan(total: Duration) -> [(StopMode, Duration); 4] {
    let smart = (total / 10).min(Duration::from_secs(5));
    let immediate = (total / 10).min(Duration::from_secs(20));
    [
        (StopMode::Smart, smart),
        (StopMode::Fast, total.saturating_sub(smart + 2 * immediate)),
        (StopMode::Immediate, immediate),
        (StopMode::Kill, immediate),
    ]
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: OwnChild,
    local: LocalServer,
    relays: Vec<JoinHandle<()>>,
    /// The ends of the pipes that PostgreSQL writes to, once more: what is handed over when this program is replaced.
    output: Vec<OwnedFd>,
}

/// Sees each line that PostgreSQL writes, without its line break and cut to a few kilobytes.
pub type OnLine = Arc<dyn Fn(&str) + Send + Sync>;

/// Longest part of a line that is looked at; all of it goes to the log.
const LINE_LIMIT: usize = 4096;

/// Copies PostgreSQL's output to this process's standard error, which is the log of the container.
async fn relay(mut from: impl AsyncRead + Unpin, on_line: OnLine) {
    let mut buffer = vec![0u8; 8192];
    let mut line = Vec::new();
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        let chunk = &buffer[..read];
        // A closed log must not stop PostgreSQL: its output is read on.
        let _ = std::io::stderr().write_all(chunk);
        for byte in chunk {
            if *byte == b'\n' {
                on_line(&String::from_utf8_lossy(&line));
                line.clear();
            } else if line.len() < LINE_LIMIT {
                line.push(*byte);
            }
        }
    }
}

impl Server {
    /// Starts `postgres -D pgdata` with `extra` arguments. Its output goes where this process's goes.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(
        programs: &Programs,
        children: &Children,
        pgdata: &Path,
        local: LocalServer,
        extra: &[&str],
        on_line: OnLine,
    ) -> Result<Self> {
        let program = programs.program("postgres")?;
        let mut command = Command::new(&program);
        command
            .arg("-D")
            .arg(pgdata)
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        // The variables of this process's own libpq would end up in PostgreSQL's.
        for name in ["PGHOST", "PGUSER", "PGPASSWORD", "PGPORT", "PGDATABASE", "KUBECONFIG"] {
            command.env_remove(name);
        }
        let mut child = children
            .spawn(&mut command)
            .map_err(|e| Error::permanent(format!("cannot start {}", program.display())).because(e))?;
        let (stdout, stderr) = child.take_output();
        let again = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().ok();
        let output =
            stdout.iter().filter_map(|s| again(s)).chain(stderr.iter().filter_map(|s| again(s))).collect();
        let mut relays = Vec::new();
        relays.extend(stdout.map(|s| tokio::spawn(relay(s, on_line.clone()))));
        relays.extend(stderr.map(|s| tokio::spawn(relay(s, on_line))));
        Ok(Self { child, local, relays, output })
    }

    /// Takes on a server that the program which ran in this process before has started. `output` are the pipes that it
    /// writes to.
    ///
    /// # Errors
    /// When a pipe cannot be read.
    pub fn adopt(
        child: OwnChild,
        local: LocalServer,
        output: Vec<OwnedFd>,
        on_line: &OnLine,
    ) -> io::Result<Self> {
        let mut server = Self { child, local, relays: Vec::new(), output };
        server.relay_again(on_line)?;
        Ok(server)
    }

    /// Stops copying the server's output, which waits in its pipes until somebody reads on. Nothing that was read is lost.
    pub async fn pause_relay(&mut self) {
        for relay in self.relays.drain(..) {
            relay.abort();
            let _ = relay.await;
        }
    }

    /// Goes on with it.
    ///
    /// # Errors
    /// When a pipe cannot be read.
    pub fn relay_again(&mut self, on_line: &OnLine) -> io::Result<()> {
        for fd in &self.output {
            let pipe = Receiver::from_owned_fd(fd.try_clone()?)?;
            self.relays.push(tokio::spawn(relay(pipe, on_line.clone())));
        }
        Ok(())
    }

    /// The pipes that it writes to.
    #[must_use]
    pub fn output(&self) -> &[OwnedFd] {
        &self.output
    }

    /// Waits until it takes connections, or ended.
    ///
    /// # Errors
    /// When it ended, or `limit` passed.
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            tokio::select! {
                status = self.child.wait() => {
                    let status = status.map_err(|e| Error::transient("lost sight of PostgreSQL").because(e))?;
                    return Err(Error::permanent(format!(
                        "PostgreSQL ended while starting ({}): see its log above", describe(status)
                    )));
                }
                connected = self.local.connect(MAINTENANCE_DB) => match connected {
                    Ok(_) => return Ok(()),
                    Err(error) if Instant::now() > deadline => {
                        return Err(Error::transient("PostgreSQL takes no connections in time").because(error));
                    }
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        }
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// After its end: waits a moment for the last lines of its log.
    pub async fn drain_log(&mut self) {
        for relay in self.relays.drain(..) {
            let _ = timeout(Duration::from_secs(2), relay).await;
        }
    }

    /// Process id of the postmaster.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.pid().as_raw()
    }

    /// Asks it to read its configuration again.
    pub fn reload(&self) {
        if let Err(error) = kill(self.child.pid(), Signal::SIGHUP) {
            tracing::warn!(%error, "PostgreSQL could not be told to reload");
        }
    }

    /// Stops it by `plan`; each step begins when the one before did not help.
    ///
    /// # Errors
    /// When even the last step did not end it.
    pub async fn stop(&mut self, plan: &[(StopMode, Duration)]) -> Result<ExitStatus> {
        for (mode, patience) in plan {
            tracing::info!(mode = ?mode, "stopping PostgreSQL");
            if let Err(error) = kill(self.child.pid(), mode.signal()) {
                tracing::debug!(%error, "PostgreSQL could not be signalled");
            }
            if let Ok(ended) = timeout(*patience, self.child.wait()).await {
                return ended.map_err(|e| Error::transient("lost sight of PostgreSQL").because(e));
            }
        }
        Err(Error::transient("PostgreSQL did not end, not even when killed; its storage may hang"))
    }
}

/// How a process ended, in words.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("killed by {name}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => "unknown status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_fit_into_the_time_given() {
        for secs in [1, 10, 30, 1800] {
            let total = Duration::from_secs(secs);
            let sum: Duration = stop_plan(total).iter().map(|(_, d)| *d).sum();
            assert!(sum <= total, "{secs}: {sum:?}");
        }
        assert_eq!(stop_plan(Duration::from_secs(1800))[1].1, Duration::from_secs(1755));
    }
}
