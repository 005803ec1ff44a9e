//! What a program leaves to the one that takes its place in the same process: a file that exists in memory only, whose
//! number is in the environment.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use howdah_api::Cluster;
use k8s_openapi::api::coordination::v1::Lease;
use nix::libc;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::process::{ProcessId, uptime};
use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;
use crate::run::role::Running;

/// Environment variable with the number of the file descriptor. Children do not get it.
pub const VARIABLE: &str = "HOWDAH_HANDOVER";
/// Version of what is handed over. A program that does not know it is not given the process.
pub const FORMAT: u32 = 1;
/// Resolution of the machine's uptime, rounded up.
const TICK: Duration = Duration::from_millis(20);

/// What the next program cannot find out, or not in time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handover {
    /// [`FORMAT`].
    pub format: u32,
    /// The process that both programs run in.
    pub process: ProcessId,
    /// PostgreSQL.
    pub postmaster: ProcessId,
    /// What it is.
    pub role: Running,
    /// Major version of PostgreSQL's programs.
    pub major: u32,
    /// Whether they can do TLS.
    pub tls: bool,
    /// The archive was seen to work with these settings.
    pub proved: bool,
    /// File descriptors of the pipes that PostgreSQL writes to.
    pub output: Vec<i32>,
    /// The lease of the primary, when it is held.
    pub lease: Option<HeldLease>,
    /// Until when this instance has promised not to take the lease: time since the start of the machine.
    pub promised_until: Option<Duration>,
    /// The Cluster as last seen: the API may be away.
    pub cluster: Cluster,
    /// The Secrets as last seen.
    pub secrets: SecretValues,
    /// Version of the program that makes room.
    pub former: String,
}

/// The lease of the primary, and how long it is held already.
#[derive(Clone, Serialize, Deserialize)]
pub struct HeldLease {
    /// As it was written last.
    pub lease: Lease,
    /// From when on it is in force: time since the start of the machine.
    pub since: Duration,
}

/// A moment of this program's clock, for the next one.
///
/// # Errors
/// Without `/proc`.
pub fn to_uptime(moment: Instant) -> Result<Duration> {
    let now = uptime()?;
    let later = moment.saturating_duration_since(Instant::now());
    Ok(if later.is_zero() { now.saturating_sub(moment.elapsed()) } else { now + later })
}

/// A moment in the past of the former program's clock, for this one: rather a little too early than too late.
///
/// # Errors
/// Without `/proc`.
pub fn past(since: Duration) -> Result<Instant> {
    let age = uptime()?.saturating_sub(since) + TICK;
    Instant::now()
        .checked_sub(age)
        .ok_or_else(|| Error::transient("the clock of this machine is not understood"))
}

/// A moment that the former program has set: rather a little too late than too early.
///
/// # Errors
/// Without `/proc`.
pub fn future(until: Duration) -> Result<Instant> {
    Ok(Instant::now() + until.saturating_sub(uptime()?) + TICK)
}

impl Handover {
    /// Writes it where the next program finds it. The file stays open through `execve`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn write(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("howdah-handover", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(rustix::io::dup(&file)?)
    }

    /// What was left for this program; `None` when it was started as any other.
    ///
    /// # Errors
    /// When what was left is not understood or is not for this process.
    #[must_use]
    pub fn receive() -> Option<Result<Self>> {
        let number: i32 = std::env::var(VARIABLE).ok()?.parse().ok()?;
        Some(Self::read(number))
    }

    fn read(number: i32) -> Result<Self> {
        let unusable = "what the former instance manager has handed over cannot be used";
        let text = std::fs::read(by_number(number)).map_err(|e| Error::transient(unusable).because(e))?;
        let handover = Self::understand(&text, ProcessId::own()?)?;
        // Only now is it known to be what it seems to be.
        close(number);
        Ok(handover)
    }

    fn understand(text: &[u8], own: ProcessId) -> Result<Self> {
        let unusable = "what the former instance manager has handed over cannot be used";
        let handover: Self =
            serde_json::from_slice(text).map_err(|e| Error::transient(unusable).because(e))?;
        if handover.format != FORMAT {
            return Err(Error::transient(format!("{unusable}: it is of format {}", handover.format)));
        }
        if handover.process != own {
            return Err(Error::transient(format!("{unusable}: it is meant for another process")));
        }
        Ok(handover)
    }

    /// The pipes that PostgreSQL writes to; no child of this program inherits them.
    #[must_use]
    pub fn take_output(&self) -> Vec<OwnedFd> {
        let open = |number: &i32| {
            let mut options = OpenOptions::new();
            let pipe = options.read(true).custom_flags(libc::O_NONBLOCK).open(by_number(*number));
            close(*number);
            pipe.inspect_err(|error| tracing::warn!(%error, "a part of PostgreSQL's log is lost"))
                .ok()
                .map(OwnedFd::from)
        };
        self.output.iter().filter_map(open).collect()
    }
}

/// An open file, opened once more.
fn by_number(number: i32) -> String {
    format!("/proc/self/fd/{number}")
}

fn close(number: i32) {
    if let Err(error) = nix::unistd::close(number) {
        tracing::warn!(%error, number, "an inherited file cannot be closed");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    fn handover(process: ProcessId) -> Handover {
        Handover {
            format: FORMAT,
            process,
            postmaster: ProcessId { pid: 7, began: 8 },
            role: Running::Primary,
            major: 15,
            tls: true,
            proved: true,
            output: vec![],
            lease: Some(HeldLease { lease: Lease::default(), since: Duration::from_millis(1500) }),
            promised_until: None,
            cluster: Cluster::new("pg", howdah_api::ClusterSpec::default()),
            secrets: SecretValues::default(),
            former: "1".into(),
        }
    }

    #[test]
    fn it_is_read_by_this_process_alone_and_once() {
        let own = ProcessId::own().unwrap();
        let file = handover(own).write().unwrap();
        let number = file.into_raw_fd();
        let read = Handover::read(number).unwrap();
        assert_eq!((read.postmaster, read.role), (ProcessId { pid: 7, began: 8 }, Running::Primary));
        assert_eq!(read.lease.unwrap().since, Duration::from_millis(1500));
        assert!(Handover::read(number).is_err(), "it is closed");

        let text = serde_json::to_vec(&handover(ProcessId { began: own.began + 1, ..own })).unwrap();
        let error = Handover::understand(&text, own).err().unwrap().report();
        assert!(error.contains("another process"), "{error}");
        let text = serde_json::to_vec(&Handover { format: 2, ..handover(own) }).unwrap();
        let error = Handover::understand(&text, own).err().unwrap().report();
        assert!(error.contains("format 2"), "{error}");
    }

    #[test]
    fn pipes_go_on() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"written before").unwrap();
        let mut handover = handover(ProcessId::own().unwrap());
        handover.output = vec![OwnedFd::from(reader).into_raw_fd()];
        let taken = handover.take_output();
        writer.write_all(b", and after").unwrap();
        drop(writer);
        let mut text = String::new();
        io::Read::read_to_string(&mut File::from(taken.into_iter().next().unwrap()), &mut text).unwrap();
        assert_eq!(text, "written before, and after");
    }

    #[test]
    fn moments_are_the_same_or_on_the_safe_side() {
        let moment = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let read = past(to_uptime(moment).unwrap()).unwrap();
        assert!(read <= moment && moment - read < Duration::from_secs(1));
        let moment = Instant::now() + Duration::from_secs(9);
        let read = future(to_uptime(moment).unwrap()).unwrap();
        assert!(read + TICK >= moment && read < moment + Duration::from_secs(1));
    }
}
