//! A container as bubblewrap builds it: its own mount, pid, ipc, uts and user namespaces, the host's network.
//!
//! The command is PID 1 of its pid namespace, so a signal to it means what it means in a real container, and
//! its death takes every other process of the container with it. One outer user (this process's own) is mapped
//! to the container's user: whatever the pod owns on the host belongs to the outer user.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::error::Error;
use crate::images::Image;
use crate::memory::Group;
use crate::spawner::{Spawner, With};

/// The program that builds the namespaces.
const BWRAP: &str = "bwrap";

/// A host path that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

/// Everything that makes a container. Not `Debug`: its environment may hold secrets.
#[derive(Clone)]
pub(crate) struct Plan {
    pub image: Image,
    pub mounts: Vec<Mount>,
    pub user: u32,
    pub group: u32,
    pub hostname: String,
    pub working_dir: PathBuf,
    pub read_only_root: bool,
    pub argv: Vec<String>,
    /// Handed over in the environment of the process, never in arguments, which everybody can read.
    pub env: std::collections::BTreeMap<String, String>,
    /// Most memory in bytes, where the node enforces it.
    pub memory: Option<u64>,
    /// Through which a process enters the control group of the pod, where there is one.
    pub network: Option<PathBuf>,
}

/// The arguments for bubblewrap. `status` is the descriptor on which it reports.
fn arguments(plan: &Plan, status: i32) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
        args.extend(words.iter().map(|word| word.as_ref().to_owned()));
    };
    add(&[&"--unshare-user", &"--unshare-pid", &"--unshare-ipc", &"--unshare-uts"]);
    add(&[&"--die-with-parent", &"--new-session", &"--as-pid-1"]);
    add(&[&"--uid", &plan.user.to_string(), &"--gid", &plan.group.to_string()]);
    add(&[&"--hostname", &plan.hostname, &"--json-status-fd", &status.to_string()]);
    for bind in &plan.image.binds {
        let flag = if bind.optional { "--ro-bind-try" } else { "--ro-bind" };
        add(&[&flag, &bind.source, &bind.target()]);
    }
    for link in &plan.image.links {
        add(&[&"--symlink", &link.to, &link.at]);
    }
    add(&[&"--proc", &"/proc", &"--dev", &"/dev", &"--mqueue", &"/dev/mqueue"]);
    for directory in &plan.image.directories {
        add(&[&"--perms", &"1777", &"--dir", directory]);
    }
    let mut mounts: Vec<&Mount> = plan.mounts.iter().collect();
    // A mount below another has to come after it.
    mounts.sort_by_key(|mount| mount.target.components().count());
    for mount in mounts {
        add(&[&if mount.read_only { "--ro-bind" } else { "--bind" }, &mount.source, &mount.target]);
    }
    if plan.read_only_root {
        add(&[&"--remount-ro", &"/"]);
    }
    add(&[&"--chdir", &plan.working_dir, &"--"]);
    for word in &plan.argv {
        add(&[word]);
    }
    args
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Started {
    child_pid: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ended {
    exit_code: i32,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It ran; a signal shows as 128 and its number.
    Code(i32),
    /// Its command could not be executed.
    NeverRan(String),
}

/// A running container.
pub(crate) struct Sandbox {
    child: Child,
    /// The container's PID 1 as the host numbers it.
    pub pid: i32,
    status: tokio::io::Lines<BufReader<tokio::net::unix::pipe::Receiver>>,
    /// The exit code, once it was reported.
    code: Option<i32>,
    group: Option<Arc<Group>>,
}

impl Sandbox {
    /// Starts a container. Its output is the caller's to read.
    pub async fn start(spawner: &Spawner, plan: &Plan) -> Result<(Self, ChildStdout, ChildStderr), Error> {
        let failed = |source: std::io::Error| Error::Start { what: plan.argv[0].clone(), source };
        let (read, write): (OwnedFd, OwnedFd) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let mut command = enter(plan.network.as_deref(), &program()?);
        command
            .args(arguments(plan, write.as_raw_fd()))
            .env_clear()
            .envs(&plan.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let name = || uuid::Uuid::new_v4().simple().to_string();
        let group = plan.memory.map(|limit| Group::create(&name(), limit).map(Arc::new)).transpose();
        let group = group.map_err(failed)?;
        let with = With { inherit: Some(write), group: group.clone() };
        let mut child = spawner.spawn(&plan.argv[0], command, with).await?;
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
            .map_err(|errno| failed(errno.into()))?;
        let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(read).map_err(failed)?;
        let mut status = BufReader::new(reader).lines();
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(std::io::Error::other("no pipes to the container")));
        };
        let first = status.next_line().await.map_err(failed)?;
        let Some(started) = first.and_then(|line| serde_json::from_str::<Started>(&line).ok()) else {
            // It could not build the container; it says why and ends.
            let mut reason = String::new();
            let _ = tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut reason).await;
            let _ = child.wait().await;
            return Err(failed(std::io::Error::other(reason.trim().to_owned())));
        };
        Ok((Self { child, pid: started.child_pid, status, code: None, group }, stdout, stderr))
    }

    /// Waits for the end. Safe to cancel and call again.
    pub async fn wait(&mut self) -> Exit {
        let ended = self.child.wait().await;
        while let Ok(Some(line)) = self.status.next_line().await {
            if let Ok(end) = serde_json::from_str::<Ended>(&line) {
                self.code = Some(end.exit_code);
            }
        }
        match (self.code, ended) {
            (Some(code), _) => Exit::Code(code),
            // Bubblewrap itself was killed: so was what it held.
            (None, Ok(status)) if std::os::unix::process::ExitStatusExt::signal(&status).is_some() => {
                Exit::Code(137)
            }
            (None, _) => Exit::NeverRan("the command could not be executed".to_owned()),
        }
    }

    /// Whether it ran out of the memory it may use.
    pub fn ran_out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.has_killed())
    }

    /// Sends a signal to the container's PID 1. False when it has ended already.
    pub fn signal(&self, signal: Signal) -> bool {
        self.child.id().is_some() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// The command for `program`, which first enters a control group if there is one. A group of the second version takes
/// whole processes, so the process that starts all others cannot step into it and out again.
fn enter(group: Option<&Path>, program: &Path) -> Command {
    let Some(group) = group else { return Command::new(program) };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(group).arg(program);
    command
}

/// Where bubblewrap is.
pub(crate) fn program() -> Result<PathBuf, Error> {
    find(BWRAP).ok_or(Error::Program { program: BWRAP, remedy: "apt-get install bubblewrap" })
}

/// Where `nsenter` is, with which probes and hooks get into a running container.
pub(crate) fn nsenter() -> Result<PathBuf, Error> {
    find("nsenter").ok_or(Error::Program { program: "nsenter", remedy: "apt-get install util-linux" })
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Checks that containers can be made here, saying what is missing.
pub(crate) fn check() -> Result<(), Error> {
    program()?;
    nsenter()?;
    if nix::unistd::geteuid().is_root() || Path::new("/proc/self/ns/user").exists() {
        Ok(())
    } else {
        Err(Error::Setup { what: "containers", reason: "this kernel has no user namespaces".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_ordered_and_secrets_stay_out_of_arguments() {
        let mount =
            |target: &str, read_only| Mount { source: "/host".into(), target: target.into(), read_only };
        let plan = Plan {
            image: Image::programs([("/build/operator".into(), "operator".to_owned())]),
            mounts: vec![mount("/a/b/c", false), mount("/a", true)],
            user: 26,
            group: 27,
            hostname: "pod".into(),
            working_dir: "/".into(),
            read_only_root: true,
            argv: vec!["/operator".into(), "run".into()],
            env: [("PASSWORD".to_owned(), "hidden".to_owned())].into(),
            memory: None,
            network: None,
        };
        let args: Vec<String> =
            arguments(&plan, 9).into_iter().map(|arg| arg.into_string().unwrap()).collect();
        let line = args.join(" ");
        assert!(line.contains("--uid 26 --gid 27"), "{line}");
        assert!(line.contains("--ro-bind /build/operator /operator"), "{line}");
        let (outer, inner) =
            (line.find("--ro-bind /host /a ").unwrap(), line.find("--bind /host /a/b/c").unwrap());
        assert!(outer < inner, "{line}");
        assert!(line.ends_with("--remount-ro / --chdir / -- /operator run"), "{line}");
        assert!(!line.contains("hidden"));
    }
}
