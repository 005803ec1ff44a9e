//! A child that this program did not start: the one that ran in this process before it did, and replaced itself
//! (`run::replace`). The standard library waits only for what it has started.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal as Number, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// Pause between two looks when no signal comes: one may have come before anybody listened.
const LOOK: Duration = Duration::from_secs(1);
/// What the status of a process that was killed holds when it left a core dump.
const CORE_DUMPED: i32 = 0x80;

/// The child. Dropped before its end, it is killed, as one that was started here is.
#[derive(Debug)]
pub struct Adopted {
    pid: Pid,
    died: Signal,
    ended: Option<ExitStatus>,
}

impl Adopted {
    /// `pid` must be a child of this process.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn new(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid, died: signal(SignalKind::child())?, ended: None })
    }

    /// Waits until it ends. May be given up and begun anew.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended {
                return Ok(status);
            }
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => self.ended = exit_status(status),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if self.ended.is_none() {
                tokio::select! {
                    _ = self.died.recv() => {}
                    () = sleep(LOOK) => {}
                }
            }
        }
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Its zombie is reaped as an orphan.
            let _ = kill(self.pid, Number::SIGKILL);
        }
    }
}

/// The end that a status tells of, when it tells of one.
fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    match status {
        WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw((code & 0xff) << 8)),
        WaitStatus::Signaled(_, signal, core) => {
            Some(ExitStatus::from_raw(signal as i32 | if core { CORE_DUMPED } else { 0 }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[allow(clippy::zombie_processes, reason = "it is waited for by its id: that is what is tested")]
    fn started(script: &str) -> Pid {
        #[expect(clippy::zombie_processes, reason = "what is tested waits for it, by its number")]
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        Pid::from_raw(i32::try_from(child.id()).unwrap())
    }

    #[tokio::test]
    async fn its_end_is_told_as_that_of_any_child() {
        let mut child = Adopted::new(started("exit 7")).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        assert_eq!(child.wait().await.unwrap().code(), Some(7), "as often as it is asked for");
        let mut child = Adopted::new(started("kill -TERM $$")).unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(15));
    }

    #[tokio::test]
    async fn one_that_nobody_waits_for_any_more_is_killed() {
        let pid = started("exec sleep 600");
        drop(Adopted::new(pid).unwrap());
        assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Signaled(_, Number::SIGKILL, _)));
    }
}
