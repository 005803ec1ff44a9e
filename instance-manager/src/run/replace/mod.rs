//! Replaces this program by another one while PostgreSQL runs on.
//!
//! The operator sends the program (`PUT /v1/manager`), [`install`] checks it and puts it in the place of this one, and the
//! supervisor gives its process to it by `execve`: the same process id, the same arguments and environment, and PostgreSQL
//! still its child. What the next program must know is handed over in memory ([`handover`]): nothing of it is on a disk, and
//! a container that starts anew finds nothing to believe.
//!
//! Whatever this program was busy with beside PostgreSQL ends as if it had been killed: PostgreSQL's commands ask again
//! (`wal_client`), a base backup goes on from its finished parts, and the lease of the primary is renewed by the next program
//! long before it ends.

pub mod handover;
pub mod install;
pub mod process;
pub mod signals;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use howdah_api::instance::ManagerProgram;
use nix::errno::Errno;
use nix::unistd::execve;
use sha2::{Digest, Sha256};

use self::handover::Handover;
use self::process::ProcessId;
use super::role::Running;
use crate::environment::{Environment, Paths};
use crate::error::{Error, IoContext, Result};
use crate::pg::children::{Children, OwnChild};
use crate::pg::files::remove_optional;

/// How long the answer to the operator has for leaving before this program does.
const FAREWELL: Duration = Duration::from_millis(250);
/// How long a program file may be busy: a child that is just being started holds it open for a moment.
const BUSY: Duration = Duration::from_secs(1);

/// Which program runs, and which one is to take its place.
pub struct Replacer {
    own: Option<String>,
    /// One program is received at a time.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Installed, and to take over.
    installed: Option<(ManagerProgram, Instant)>,
    /// Could not be started, and why.
    unfit: Option<(String, String)>,
}

impl Replacer {
    /// `own` is the SHA-256 of the program that runs, when it is known.
    #[must_use]
    pub fn new(own: Option<String>) -> Self {
        Self { own, turn: tokio::sync::Mutex::default(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SHA-256 of the program that runs, in hexadecimal; `None` when its file could not be read.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        self.own.as_deref()
    }

    /// The program that shall take over now.
    #[must_use]
    pub fn due(&self) -> Option<ManagerProgram> {
        let state = self.state();
        let (program, since) = state.installed.as_ref()?;
        (since.elapsed() >= FAREWELL).then(|| program.clone())
    }

    /// The program that was to take over could not: the one that runs gets its place in the file system back.
    pub fn give_up(&self, paths: &Paths, program: &ManagerProgram, why: &str) {
        if let Err(error) = install::restore(paths) {
            tracing::error!("the program of this manager is not in its place: {}", error.report());
        }
        let mut state = self.state();
        state.installed = None;
        state.unfit = Some((program.sha256.clone(), why.to_owned()));
    }
}

/// SHA-256 of the program that this process runs, whatever lies at its path by now.
#[must_use]
pub fn own_sha256() -> Option<String> {
    sha256(Path::new("/proc/self/exe"))
        .inspect_err(|error| tracing::warn!(%error, "this program cannot read itself and stays as it is"))
        .ok()
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0u8; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Gives this process to `program`, with the same arguments and environment. Returns only when that could not be done, with
/// why.
pub fn become_program(program: &Path, handover: &Handover, output: &[OwnedFd]) -> Error {
    match try_become(program, handover, output) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn try_become(program: &Path, handover: &Handover, output: &[OwnedFd]) -> Result<std::convert::Infallible> {
    let failed = |what: &'static str| move |e: io::Error| Error::transient(what).because(e);
    // All others close by themselves.
    let inherited = output
        .iter()
        .map(|fd| rustix::io::dup(fd).map_err(io::Error::from))
        .collect::<io::Result<Vec<OwnedFd>>>()
        .map_err(failed("the pipes of PostgreSQL cannot be handed over"))?;
    let handover =
        Handover { output: inherited.iter().map(AsRawFd::as_raw_fd).collect(), ..handover.clone() };
    let memory = handover.write().map_err(failed("nothing can be handed over to the next program"))?;
    let text = |bytes: &[u8]| {
        CString::new(bytes).map_err(|e| Error::permanent("an argument holds a zero byte").because(e))
    };
    let path = text(program.as_os_str().as_bytes())?;
    let arguments = std::iter::once(Ok(path.clone()))
        .chain(std::env::args_os().skip(1).map(|a| text(a.as_bytes())))
        .collect::<Result<Vec<_>>>()?;
    let variables = std::env::vars_os()
        .filter(|(name, _)| name != handover::VARIABLE)
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .chain([format!("{}={}", handover::VARIABLE, memory.as_raw_fd()).into_bytes()])
        .map(|pair| text(&pair))
        .collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    loop {
        match execve(&path, &arguments, &variables) {
            Ok(never) => return Ok(never),
            Err(Errno::ETXTBSY) if begun.elapsed() < BUSY => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(io::Error::from(error)).at("cannot start", program),
        }
    }
}

/// A server that the former program of this process has left.
pub struct Adopted {
    /// The postmaster.
    pub child: OwnChild,
    /// The pipes that it writes to.
    pub output: Vec<OwnedFd>,
    /// What it is.
    pub role: Running,
    /// The archive was seen to work.
    pub proved: bool,
    /// Version of the former program.
    pub former: String,
}

/// What the former program of this process has left, when this one has taken its place. To be called before anything reaps
/// children. What cannot be believed is left to the ordinary start, which ends a server that still runs.
#[must_use]
pub fn take_over(env: &Environment, children: &Children) -> Option<(Handover, Adopted)> {
    let handover = match Handover::receive()? {
        Ok(handover) => handover,
        Err(error) => {
            tracing::error!("PostgreSQL is started anew: {}", error.report());
            return None;
        }
    };
    let output = handover.take_output();
    let adopted = believed(&env.paths, &handover).and_then(|()| {
        let pid = handover.postmaster.pid;
        children.adopt(pid).map_err(|e| Error::transient("signals cannot be received").because(e))
    });
    if let Err(error) = remove_optional(&install::previous(&env.paths)) {
        tracing::warn!("{}", error.report());
    }
    match adopted {
        Ok(child) => {
            let adopted = Adopted {
                child,
                output,
                role: handover.role,
                proved: handover.proved,
                former: handover.former.clone(),
            };
            Some((handover, adopted))
        }
        Err(error) => {
            tracing::error!("PostgreSQL is started anew: {}", error.report());
            None
        }
    }
}

/// Whether the postmaster that is handed over is the one of this data directory, and a child of this process.
fn believed(paths: &Paths, handover: &Handover) -> Result<()> {
    let named = handover.postmaster;
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let (found, parent) = ProcessId::of(named.pid)?;
    if found != named || parent != own {
        return Err(Error::transient(format!(
            "process {} is not the server that the former instance manager has started",
            named.pid
        )));
    }
    let file = paths.pgdata.join("postmaster.pid");
    let text = std::fs::read_to_string(&file).at("cannot read", &file)?;
    if text.lines().next().and_then(|line| line.trim().parse().ok()) != Some(named.pid) {
        return Err(Error::transient(format!("{} does not name process {}", file.display(), named.pid)));
    }
    Ok(())
}
