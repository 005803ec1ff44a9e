//! The archives of one server: each WAL file goes to all of them, and PostgreSQL is told "archived" when as many as the
//! policy asks for have it.
//!
//! With [`Policy::All`] nothing is ever acknowledged that one of them lacks. With a number, an upload that is not done
//! by then goes on; a repository where one fails, or where too many are under way, is behind and is no longer asked for
//! new files. It gets what it lacks in order ([`catch_up`]). What makes this safe across crashes and failovers are the
//! words in the other repositories ([`notes`]), and the listings.
//!
//! A file that one archive refuses because this server is a former primary goes to none: it must not fill the others. They
//! are all asked about that, now and then, before the file is sent ([`Inner::overtaken`]).
//!
//! Uploads that outlive their acknowledgement read files that PostgreSQL may reuse: see [`WalSource::pinned`].
//!
//! [`WalSource::pinned`]: barman_cloud::archive::WalSource::pinned

mod catch_up;
mod debt;
mod dropped;
mod notes;
mod source;
mod tail;
mod verdict;

pub use debt::Lag;
pub use tail::{Hole, Tail};

use super::archiver::Archiver;
use crate::control::ControlData;
use crate::error::{Error, ErrorKind};
use barman_cloud::arrears::mark;
use barman_cloud::{Segment, WalName};
use chrono::Utc;
use debt::Debt;
use futures::future::{BoxFuture, Shared, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use notes::Notes;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use verdict::{Verdict, verdict};

/// Exit code for what has no code of its own.
const GENERAL: u8 = 4;

/// How many repositories must have a file before PostgreSQL may let it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Every one.
    #[default]
    All,
    /// So many; never more than there are.
    Number(usize),
}

impl Policy {
    /// The number for a group of `members`.
    pub fn needed(self, members: usize) -> usize {
        match self {
            Self::All => members,
            Self::Number(number) => number.clamp(1, members.max(1)).min(members),
        }
    }
}

/// Why a repository did not take a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Exit code of the command.
    pub code: u8,
    /// What was wrong, and the remedy.
    pub error: String,
}

/// The repositories that did not take a file, by name.
pub type Refused = Vec<(String, Refusal)>;

/// An upload that several may wait for.
type Flight = Shared<BoxFuture<'static, Result<(), Refusal>>>;

/// One repository of the group.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its archiver, or why there is none.
    pub archiver: Result<Archiver, String>,
    debt: Mutex<Debt>,
    flights: Mutex<HashMap<WalName, Flight>>,
    /// Rung when it comes to lack something.
    wake: Notify,
}

impl Member {
    /// A repository of which nothing is known.
    pub fn new(name: impl Into<String>, archiver: Result<Archiver, String>) -> Self {
        Self {
            name: name.into(),
            archiver,
            debt: Mutex::default(),
            flights: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn debt<T>(&self, of: impl FnOnce(&mut Debt) -> T) -> T {
        of(&mut lock(&self.debt))
    }

    /// `<destination>/<server>`, unless it cannot be opened.
    fn place(&self) -> Option<String> {
        self.archiver.as_ref().ok().map(|archiver| archiver.repository().url())
    }
}

/// The group; it works on what its members lack from [`Group::start`] until it is dropped.
#[derive(Debug)]
pub struct Group {
    inner: Arc<Inner>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Inner {
    members: Vec<Member>,
    needed: usize,
    pgdata: PathBuf,
    /// Directory of files on their way from one repository to another.
    scratch: PathBuf,
    notes: Notes,
    /// The newest file that was acknowledged, and how many were since the words were moved on.
    newest: Mutex<(Option<Segment>, u64)>,
    control: OnceLock<ControlData>,
}

impl Group {
    /// The archives of the server in `pgdata`. `scratch` is a directory of the group's own, emptied by [`Group::start`].
    pub fn new(members: Vec<Member>, policy: Policy, pgdata: &Path, scratch: &Path) -> Self {
        Self {
            inner: Arc::new(Inner {
                needed: policy.needed(members.len()),
                notes: Notes::new(members.len()),
                members,
                pgdata: pgdata.to_owned(),
                scratch: scratch.to_owned(),
                newest: Mutex::default(),
                control: OnceLock::new(),
            }),
            tasks: Mutex::default(),
        }
    }

    /// Begins to look after repositories that are behind: on the primary, and nowhere else. Needs a runtime.
    pub fn start(&self) {
        let inner = &self.inner;
        let mut tasks = lock(&self.tasks);
        if inner.members.len() < 2 || !tasks.is_empty() {
            return;
        }
        // What a former process left there; best effort, it is in nobody's way.
        let _ = std::fs::remove_dir_all(&inner.scratch);
        if let Err(error) = std::fs::create_dir_all(&inner.scratch) {
            tracing::warn!(dir = %inner.scratch.display(), %error, "repositories that are behind cannot catch up");
        }
        tracing::debug!(
            repositories = inner.members.len(),
            needed = inner.needed,
            "looking after repositories"
        );
        for at in 0..inner.members.len() {
            if inner.members[at].archiver.is_ok() {
                tasks.spawn(catch_up::remember(inner.clone(), at));
                tasks.spawn(catch_up::look_after(inner.clone(), at));
            }
        }
    }

    /// Ends it.
    pub fn stop(&self) {
        lock(&self.tasks).abort_all();
        *lock(&self.tasks) = JoinSet::new();
    }

    /// The repositories.
    pub fn members(&self) -> &[Member] {
        &self.inner.members
    }

    /// Repositories that must have a file.
    pub fn needed(&self) -> usize {
        self.inner.needed
    }

    /// How far a repository is behind; `None` for one that is not in the group.
    pub fn lag(&self, name: &str) -> Option<Lag> {
        let member = self.inner.members.iter().find(|member| member.name == name)?;
        let segment = self.inner.control().map_or(0, |control| control.wal_segment_size.bytes());
        Some(member.debt(|debt| debt.lag(Utc::now(), segment)))
    }

    /// From where on other repositories still need the WAL of `name`; `None` when all have everything.
    pub fn wanted_from(&self, name: &str) -> Option<Segment> {
        let others = self.inner.members.iter().filter(|member| member.name != name);
        others.filter_map(|member| member.debt(|debt| debt.floor())).min()
    }

    /// Archives the file at `path` (`%p`). Returns when as many repositories as needed have it.
    ///
    /// # Errors
    /// Who did not take it. PostgreSQL keeps the file then and asks again.
    pub async fn archive(&self, path: &Path) -> Result<(), Refused> {
        let name = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(name) = name
            && let Some(refused) = self.inner.overtaken(name).await
        {
            return Err(refused);
        }
        match name {
            Some(name) if self.inner.needed < self.inner.members.len() => {
                self.inner.by_number(name, path).await
            }
            // What is no WAL the archivers refuse in their own words.
            _ => self.inner.everywhere(path).await,
        }
    }

    /// Archives the file at `path` and nothing that waits behind it. Returns when every repository has it, whatever the
    /// policy says: nobody keeps account of what one lacks.
    ///
    /// # Errors
    /// Who did not take it.
    pub async fn archive_alone(&self, path: &Path) -> Result<(), Refused> {
        let all = self.inner.members.iter().map(|member| async {
            let refused = match &member.archiver {
                Err(why) => Some(Refusal { code: GENERAL, error: why.clone() }),
                Ok(archiver) => archiver.archive_alone(path).await.err().map(|error| refusal(&error)),
            };
            refused.map(|refusal| (member.name.clone(), refusal))
        });
        let refused: Refused = join_all(all).await.into_iter().flatten().collect();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }
}

impl Inner {
    /// Who says that this server is a former primary. One that does not answer in time says nothing: its own upload fails
    /// then, or is refused, and what another took meanwhile is little.
    async fn overtaken(&self, name: WalName) -> Option<Refused> {
        if self.members.len() < 2 {
            // Its upload asks.
            return None;
        }
        let all = self.members.iter().map(|member| async {
            let error = member.archiver.as_ref().ok()?.overtaken(name).await?;
            Some((member.name.clone(), refusal(&error)))
        });
        let refused: Refused = join_all(all).await.into_iter().flatten().collect();
        let (_, first) = refused.first()?;
        for archiver in self.members.iter().filter_map(|member| member.archiver.as_ref().ok()) {
            archiver.failed(name.to_string(), first.error.clone());
        }
        Some(refused)
    }

    /// Whether a repository has found this server to be a former primary.
    fn is_stale(&self, at: usize) -> bool {
        self.members[at].archiver.as_ref().is_ok_and(|archiver| archiver.stale().is_some())
    }

    async fn everywhere(&self, path: &Path) -> Result<(), Refused> {
        let all = self.members.iter().map(|member| async {
            let refused = match &member.archiver {
                Err(why) => Some(Refusal { code: GENERAL, error: why.clone() }),
                Ok(archiver) => archiver.archive(path).await.err().map(|error| refusal(&error)),
            };
            refused.map(|refusal| (member.name.clone(), refusal))
        });
        let refused: Refused = join_all(all).await.into_iter().flatten().collect();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    async fn by_number(self: &Arc<Self>, name: WalName, path: &Path) -> Result<(), Refused> {
        let (asked, mut left): (Vec<usize>, Vec<usize>) =
            (0..self.members.len()).partition(|at| self.members[*at].debt(|debt| debt.punctual()));
        let ask = |at: usize| {
            let flight = self.flight(at, name, path);
            async move { (at, flight.await) }
        };
        let mut flights: FuturesUnordered<_> = asked.into_iter().map(&ask).collect();
        let (mut have, mut refused) = (Vec::new(), Refused::new());
        loop {
            match verdict(self.needed, have.len(), flights.len(), left.len()) {
                Verdict::Enough => {
                    self.note_missing(name, &mut have, &mut refused).await;
                    if have.len() >= self.needed {
                        self.acknowledged(name);
                        return Ok(());
                    }
                }
                Verdict::Wait => match flights.next().await {
                    Some((at, Ok(()))) => have.push(at),
                    Some((at, Err(refusal))) if self.is_stale(at) => {
                        return Err(vec![(self.members[at].name.clone(), refusal)]);
                    }
                    Some((at, Err(refusal))) => refused.push((self.members[at].name.clone(), refusal)),
                    None => return Err(refused),
                },
                Verdict::AskTheRest => flights.extend(left.drain(..).map(&ask)),
                Verdict::Refuse => return Err(refused),
            }
        }
    }

    /// Sees to it that those that have the file also know who has not; those that do not count for nothing.
    async fn note_missing(&self, name: WalName, have: &mut Vec<usize>, refused: &mut Refused) {
        let missing: Vec<usize> = (0..self.members.len()).filter(|at| !have.contains(at)).collect();
        for at in &missing {
            // The debt first: what moves the words on looks at it.
            self.members[*at].debt(|debt| debt.owe(name, Utc::now()));
            self.members[*at].wake.notify_one();
        }
        let covering = have
            .iter()
            .map(|at| async { (*at, self.notes.cover(*at, &self.members, &missing, mark(name)).await) });
        for (at, outcome) in join_all(covering).await {
            if let Err(error) = outcome {
                have.retain(|other| *other != at);
                let mut refusal = refusal(&error);
                refusal.error = format!("what others lack could not be noted: {}", refusal.error);
                refused.push((self.members[at].name.clone(), refusal));
            }
        }
    }

    fn acknowledged(&self, name: WalName) {
        let mut newest = lock(&self.newest);
        newest.0 = newest.0.max(Some(mark(name)));
        newest.1 += 1;
        if newest.1.is_multiple_of(catch_up::MOVE_ON) {
            for member in &self.members {
                member.wake.notify_one();
            }
        }
    }

    /// The upload of a file to a repository: the one that is under way, or a new one. It goes on when nobody waits.
    fn flight(self: &Arc<Self>, at: usize, name: WalName, path: &Path) -> Flight {
        let member = &self.members[at];
        let archiver = match &member.archiver {
            Ok(archiver) => archiver.clone(),
            Err(why) => {
                let refusal = Refusal { code: GENERAL, error: why.clone() };
                return async move { Err(refusal) }.boxed().shared();
            }
        };
        let mut flights = lock(&member.flights);
        if let Some(flight) = flights.get(&name) {
            return flight.clone();
        }
        member.debt(|debt| debt.begun(name));
        let (inner, path) = (self.clone(), path.to_owned());
        let task = tokio::spawn(async move {
            let outcome = archiver.archive(&path).await.map_err(|error| refusal(&error));
            let member = &inner.members[at];
            lock(&member.flights).remove(&name);
            member.debt(|debt| debt.ended(name, outcome.is_ok()));
            member.wake.notify_one();
            outcome
        });
        let flight = async move {
            task.await.unwrap_or_else(|error| {
                Err(Refusal { code: GENERAL, error: format!("the upload was stopped: {error}") })
            })
        };
        let flight = flight.boxed().shared();
        flights.insert(name, flight.clone());
        flight
    }

    /// What the server says about itself; `None` while it cannot be read.
    fn control(&self) -> Option<&ControlData> {
        if let Some(control) = self.control.get() {
            return Some(control);
        }
        let control = ControlData::read(&self.pgdata).ok()?;
        Some(self.control.get_or_init(|| control))
    }
}

fn refusal(error: &Error) -> Refusal {
    Refusal { code: error.exit_code(), error: error.report() }
}

fn no_server(pgdata: &Path) -> Error {
    Error::new(ErrorKind::Invalid, format!("the data directory {} cannot be read", pgdata.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_more_than_there_are() {
        assert_eq!(Policy::All.needed(3), 3);
        assert_eq!([0, 1, 2, 9].map(|number| Policy::Number(number).needed(2)), [1, 1, 2, 2]);
        assert_eq!(Policy::Number(2).needed(0), 0);
    }
}
