//! One thread that starts every process.
//!
//! Two reasons. A sandbox dies with the *thread* that started it, so that thread must live as long as the node
//! and no longer: when the node goes, for whatever reason, its containers go. And a descriptor that a child is
//! to inherit is inheritable only while one process at a time is being started.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::memory::Group;

/// What a process is born with.
#[derive(Debug, Default)]
pub(crate) struct With {
    /// Inherited by the child under the number it has here.
    pub inherit: Option<OwnedFd>,
    /// The memory group it is born into.
    pub group: Option<Arc<Group>>,
}

struct Request {
    command: Command,
    with: With,
    reply: oneshot::Sender<std::io::Result<Child>>,
}

/// Starts processes on its own thread, which ends when this is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl Spawner {
    /// Starts the thread. Must be called on the runtime that will wait for the processes.
    pub fn new() -> Result<Self, Error> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                while let Ok(mut request) = inbox.recv() {
                    let result = start(&mut request);
                    // The asker may have given up; then the child is killed as it is dropped.
                    let _ = request.reply.send(result);
                }
            })
            .map_err(|source| Error::Start { what: "the spawner thread".to_owned(), source })?;
        Ok(Self { requests })
    }

    /// Starts `command`.
    pub async fn spawn(&self, what: &str, mut command: Command, with: With) -> Result<Child, Error> {
        command.kill_on_drop(true);
        let failed = |source| Error::Start { what: what.to_owned(), source };
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(Request { command, with, reply })
            .map_err(|_| failed(std::io::Error::other("the spawner has ended")))?;
        answer.await.map_err(|_| failed(std::io::Error::other("the spawner has ended")))?.map_err(failed)
    }
}

fn start(request: &mut Request) -> std::io::Result<Child> {
    let Request { command, with: With { inherit, group }, .. } = request;
    if let Some(inherit) = &inherit {
        fcntl(inherit.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let child = match group {
        Some(group) => group.inside(|| command.spawn()).and_then(|child| child),
        None => command.spawn(),
    };
    // What the child has got the next one must not get.
    *inherit = None;
    child
}
