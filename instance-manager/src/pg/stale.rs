//! What a killed predecessor left: `postmaster.pid`, and perhaps processes.
//!
//! After SIGKILL of the manager, a container comes back with new process ids. PostgreSQL would compare the old
//! id in `postmaster.pid` with whatever process has it now, and might refuse to start. Whether a server still
//! runs in the data directory is therefore decided by what processes really work in it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::error::{Error, IoContext, Result};

/// How long leftovers are given to end after SIGQUIT, and again after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends what still works in `pgdata` and removes `postmaster.pid` and stale sockets.
///
/// # Errors
/// When a leftover cannot be ended.
pub async fn clear(pgdata: &Path, socket_dir: &Path, port: u16) -> Result<()> {
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        let deadline = Instant::now() + PATIENCE;
        let mut told = Vec::new();
        loop {
            let left = working_in(pgdata);
            if left.is_empty() {
                return remove_files(pgdata, socket_dir, port);
            }
            for pid in left {
                if !told.contains(&pid) {
                    tracing::warn!(pid, signal = signal.as_str(), "ending a process of a former server");
                    let _ = kill(Pid::from_raw(pid), signal);
                    told.push(pid);
                }
            }
            if Instant::now() > deadline {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Err(Error::transient(format!(
        "processes of a former PostgreSQL still work in {}: end them",
        pgdata.display()
    )))
}

/// Processes other than this one whose working directory is `pgdata`: every PostgreSQL process has it.
fn working_in(pgdata: &Path) -> Vec<i32> {
    let Ok(real) = fs::canonicalize(pgdata) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id().to_string();
    entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy() != own)
        .filter_map(|e| {
            let pid: i32 = e.file_name().to_str()?.parse().ok()?;
            (fs::read_link(e.path().join("cwd")).ok()? == real).then_some(pid)
        })
        .collect()
}

fn remove_files(pgdata: &Path, socket_dir: &Path, port: u16) -> Result<()> {
    let socket = format!(".s.PGSQL.{port}");
    for path in
        [pgdata.join("postmaster.pid"), socket_dir.join(&socket), socket_dir.join(format!("{socket}.lock"))]
    {
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).at("cannot remove", &path),
            Ok(()) => tracing::info!(path = %path.display(), "removed what a former server left"),
        }
    }
    Ok(())
}
