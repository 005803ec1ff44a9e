//! Process 1 inherits every orphan of the pod and has to reap it, but must leave its own children to the
//! runtime that awaits them.
//!
//! Own children are registered while they are spawned, under a lock that the reaper takes too, so a child that
//! dies at once is never mistaken for an orphan.

use std::collections::HashSet;
use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// Own children. Clones share the same set.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<HashSet<i32>>>);

/// One own child; registered until it is awaited or dropped.
#[derive(Debug)]
pub struct OwnChild {
    child: Child,
    pid: i32,
    set: Children,
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
        let mut set = self.lock();
        let child = command.spawn()?;
        let pid = child.id().and_then(|p| i32::try_from(p).ok()).unwrap_or(0);
        set.insert(pid);
        drop(set);
        Ok(OwnChild { child, pid, set: self.clone() })
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

impl OwnChild {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// The child itself, for its pipes.
    pub fn inner(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
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
