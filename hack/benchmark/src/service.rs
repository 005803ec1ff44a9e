//! The resident WAL service: `engine-cli serve`, the manager's socket without a pod.

use crate::context::{BUCKET, Context};
use crate::s3::S3;
use crate::tools::howdah::PREFIX;
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running service, stopped when dropped.
pub struct Service {
    child: Child,
    /// What `CONTROLLER_DIR` is for its clients.
    pub controller: PathBuf,
}

impl Service {
    /// Starts a service for the data directory `pgdata`, in a cgroup when one is given.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        context: &Context,
        pgdata: &Path,
        codec: &str,
        jobs: usize,
        cgroup: Option<&Path>,
    ) -> Result<Self> {
        let controller = context.fresh("controller")?;
        let mut command = Command::new("/bin/sh");
        // The shell joins the cgroup, so that the service is in it from its first page on.
        command.args([
            "-c",
            "if [ -n \"$1\" ]; then echo $$ >\"$1/cgroup.procs\"; fi; shift; exec \"$@\"",
            "sh",
        ]);
        command
            .arg(cgroup.unwrap_or(Path::new("")))
            .arg(context.program("engine-cli"))
            .args(["--endpoint", &context.s3.endpoint, "--server", "pg", "--compression", codec])
            .args(["--destination", &format!("s3://{BUCKET}/{PREFIX}"), "--jobs", &jobs.to_string()])
            .arg("--pgdata")
            .arg(pgdata)
            .args(["--cipher", context.cipher.get()])
            .args(["serve", "--controller"])
            .arg(&controller)
            .envs(S3::keys());
        let mut child = command.stdout(Stdio::piped()).spawn().context("engine-cli does not start")?;
        let out = child.stdout.take().context("engine-cli has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line.trim() != "serving" {
            let _ = child.wait();
            bail!("the WAL service does not start: {}", line.trim());
        }
        // PostgreSQL's own calls come from another user.
        let socket = controller.join("run/manager.sock");
        std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        Ok(Self { child, controller })
    }

    /// The command that PostgreSQL archives with.
    #[must_use]
    pub fn archive_command(&self, context: &Context) -> String {
        let program = context.program("instance-manager");
        format!("CONTROLLER_DIR={} {} wal-archive %p", self.controller.display(), program.display())
    }

    /// Processor seconds so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu(&self) -> Result<f64> {
        Ok(seconds(read_ticks(self.child.id(), OWN)?))
    }

    /// Peak resident memory, MiB.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("the WAL service is gone")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = line.split_whitespace().next().unwrap_or_default().parse()?;
        Ok(kib / 1024.0)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fields of `/proc/<pid>/stat` after the name: user and system time of the process, and of the children it waited for.
const OWN: [usize; 2] = [11, 12];
const CHILDREN: [usize; 2] = [13, 14];

/// Processor time of the children that a process waited for, in ticks.
///
/// # Errors
/// When the process is gone.
pub fn child_ticks(pid: u32) -> Result<u64> {
    read_ticks(pid, CHILDREN)
}

/// Ticks as seconds: the kernel's USER_HZ is the same on every Linux architecture that PostgreSQL runs on.
#[must_use]
pub fn seconds(ticks: u64) -> f64 {
    ticks as f64 / 100.0
}

fn read_ticks(pid: u32, fields: [usize; 2]) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ticks(&text, fields).with_context(|| format!("{path} is not as expected"))
}

/// The sum of two fields; the name in brackets may hold anything.
fn ticks(stat: &str, [first, second]: [usize; 2]) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(first)?.parse::<u64>().ok()? + fields.get(second)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_of_a_stat_line() {
        let line = "42 (a ) b) S 1 42 42 0 -1 4194560 9 0 0 0 70 8 1 2 20 0 7 0 55 1 1";
        assert_eq!((ticks(line, OWN), ticks(line, CHILDREN)), (Some(78), Some(3)));
        assert_eq!(ticks("42 (x", OWN), None);
    }
}
