//! Running a program inside a container that runs: exec probes, hooks, and what a test wants to know.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::error::Error;
use crate::sandbox;
use crate::spawner::{Spawner, With};

/// Runs `argv` in the namespaces of the container whose PID 1 is `pid`. The error says how it failed.
pub(super) async fn run(
    spawner: &Spawner,
    pid: i32,
    argv: &[String],
    env: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<(), String> {
    let output = output(spawner, pid, argv, env, timeout).await?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let text: String = text.trim().chars().take(1024).collect();
    Err(if text.is_empty() { format!("{:?} failed: {}", argv.first(), output.status) } else { text })
}

/// As [`run`], whatever the exit code. The error says why there is none.
pub(super) async fn output(
    spawner: &Spawner,
    pid: i32,
    argv: &[String],
    env: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<Output, String> {
    let mut command = Command::new(sandbox::nsenter().map_err(|error| error.chain())?);
    command
        .args(["--target", &pid.to_string(), "--user", "--mount", "--pid", "--ipc", "--uts"])
        .args(["--preserve-credentials", "--root", "--wd", "--"])
        .args(argv)
        .env_clear()
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group: what it started inside has to end with it when it takes too long.
        .process_group(0);
    let child =
        spawner.spawn("nsenter", command, With::default()).await.map_err(|error: Error| error.chain())?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    match tokio::time::timeout(timeout, child.wait_with_output()).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => {
            if let Some(group) = group {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            Err(format!("command timed out after {} s", timeout.as_secs_f32()))
        }
    }
}
