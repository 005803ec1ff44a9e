//! Process 1 inherits every orphan of the pod and has to reap it, but must leave its own children to the
//! runtime that awaits them.
//!
//! Own children are registered while they are spawned, under a lock that the reaper takes too, so a child that
//! dies at once is never mistaken for an orphan.

use std::collections::HashSet;
use std::io;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::adopted::Adopted;

/// Own children. A process has one table of children, so every value is a handle to the same set.
#[derive(Clone, Debug)]
pub struct Children(Arc<Mutex<HashSet<i32>>>);

static OWN: OnceLock<Arc<Mutex<HashSet<i32>>>> = OnceLock::new();

impl Default for Children {
    fn default() -> Self {
        Self(OWN.get_or_init(Arc::default).clone())
    }
}

/// One own child; registered until it is awaited or dropped.
#[derive(Debug)]
pub struct OwnChild {
    process: Process,
    pid: i32,
    set: Children,
}

#[derive(Debug)]
enum Process {
    /// By this program.
    Started(Child),
    /// By the program that ran in this process before.
    Adopted(Adopted),
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a program as an own child.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<OwnChild> {
        for name in crate::memory::own_variables() {
            command.env_remove(name);
        }
        let mut set = self.lock();
        let child = command.spawn()?;
        let pid = child.id().and_then(|p| i32::try_from(p).ok()).unwrap_or(0);
        set.insert(pid);
        drop(set);
        Ok(OwnChild { process: Process::Started(child), pid, set: self.clone() })
    }

    /// Takes on a child that the program which ran in this process before has started. Dropped before its end, it is
    /// killed.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn adopt(&self, pid: i32) -> io::Result<OwnChild> {
        self.lock().insert(pid);
        let adopted = Adopted::new(Pid::from_raw(pid)).inspect_err(|_| {
            self.lock().remove(&pid);
        })?;
        Ok(OwnChild { process: Process::Adopted(adopted), pid, set: self.clone() })
    }

    /// Runs a program to its end and keeps what it wrote. Every program must be run through here: one that is
    /// not registered would be reaped as an orphan, and its status lost.
    ///
    /// # Errors
    /// When it cannot be started or awaited.
    pub async fn output(&self, command: &mut Command) -> io::Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut own = self.spawn(command)?;
        let (mut out, mut err) = own.take_output();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (read_out, read_err) =
            tokio::join!(read_all(out.as_mut(), &mut stdout), read_all(err.as_mut(), &mut stderr));
        let status = own.wait().await?;
        read_out?;
        read_err?;
        Ok(Output { status, stdout, stderr })
    }

    /// Reaps every dead child that is not an own one; returns their ids.
    pub fn reap_orphans(&self) -> Vec<i32> {
        let mut reaped = Vec::new();
        loop {
            let set = self.lock();
            // Looks without taking the status, so an own child stays for its waiter.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let pid = match waitid(Id::All, flags) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
                _ => return reaped,
            };
            if set.contains(&pid.as_raw()) {
                // Its waiter takes it soon; what lies behind it is reaped at the next signal or tick.
                return reaped;
            }
            if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
                return reaped;
            }
            reaped.push(pid.as_raw());
        }
    }
}

async fn read_all(from: Option<&mut (impl AsyncRead + Unpin)>, to: &mut Vec<u8>) -> io::Result<()> {
    if let Some(from) = from {
        from.read_to_end(to).await?;
    }
    Ok(())
}

impl OwnChild {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// What it writes to, as far as that is piped and was not taken before. Those of a child that was adopted are handed
    /// over apart from it.
    pub fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        match &mut self.process {
            Process::Started(child) => (child.stdout.take(), child.stderr.take()),
            Process::Adopted(_) => (None, None),
        }
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = match &mut self.process {
            Process::Started(child) => child.wait().await,
            Process::Adopted(adopted) => adopted.wait().await,
        };
        self.set.lock().remove(&self.pid);
        status
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        self.set.lock().remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_survives_a_busy_reaper() {
        let children = Children::default();
        let reaper = children.clone();
        let reaping = tokio::task::spawn_blocking(move || {
            for _ in 0..20_000 {
                reaper.reap_orphans();
            }
        });
        for _ in 0..20 {
            let output = children
                .output(Command::new("/bin/sh").args(["-c", "echo out; echo err >&2; exit 3"]))
                .await
                .unwrap();
            assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"out\n".as_slice()));
            assert_eq!(output.stderr, b"err\n");
        }
        reaping.await.unwrap();
    }

    #[tokio::test]
    async fn own_children_keep_their_status() {
        let children = Children::default();
        let mut own = children.spawn(Command::new("/bin/sh").args(["-c", "exit 7"])).unwrap();
        // Once dead and not yet awaited, it is seen and left alone.
        let zombie = format!("/proc/{}/stat", own.pid());
        while !std::fs::read_to_string(&zombie).is_ok_and(|s| s.contains(") Z ")) {
            std::thread::yield_now();
        }
        assert_eq!(children.reap_orphans(), Vec::<i32>::new());
        assert_eq!(own.wait().await.unwrap().code(), Some(7));
    }
}
