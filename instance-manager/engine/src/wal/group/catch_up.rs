//! A repository that is behind gets what it lacks, in order.
//!
//! What that is the listings tell: everything from the noted segment on that another repository has and it has not. So
//! it does not matter which process noted the debt, or on which machine. Files are put in one directory of the archive
//! after the other, and the words about it move on with them.

use super::debt::Debt;
use super::source::{self, Wanted};
use super::{Inner, Member, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::wal::archiver::Archiver;
use crate::wal::queue::Place;
use barman_cloud::archive::WalObject;
use barman_cloud::arrears::mark;
use barman_cloud::{Segment, WalName};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Acknowledged files after which the words about repositories that lack nothing are moved on: so many at most are
/// looked at again after a restart.
pub const MOVE_ON: u64 = 64;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of files that are on their way at the same time.
const SCRATCH: u64 = 128 << 20;

/// Reads what was noted before this process, as soon as the repository answers.
pub async fn remember(inner: Arc<Inner>, at: usize) {
    let mut pause = FIRST_PAUSE;
    loop {
        match inner.notes.read(at, &inner.members).await {
            Ok(words) => {
                for (name, since) in words {
                    let about = inner.members.iter().find(|member| member.name == name);
                    if let Some(member) = about {
                        tracing::info!(repository = name, %since, "WAL from here on is compared with the others");
                        member.debt(|debt| debt.suspect(since));
                        member.wake.notify_one();
                    }
                }
                return;
            }
            Err(error) => {
                let name = &inner.members[at].name;
                tracing::debug!(repository = name, error = %error.report(), "no notes could be read yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Looks after one repository for ever.
pub async fn look_after(inner: Arc<Inner>, at: usize) {
    let member = &inner.members[at];
    let Ok(archiver) = &member.archiver else { return };
    let mut pause = FIRST_PAUSE;
    let mut moved = 0;
    loop {
        let Some(since) = member.debt(|debt| debt.floor().filter(|_| debt.behind())) else {
            pause = FIRST_PAUSE;
            let (newest, count) = *lock(&inner.newest);
            if count >= moved + MOVE_ON {
                moved = count;
                inner.notes.move_on(at, &inner.members, newest).await;
            }
            member.wake.notified().await;
            continue;
        };
        match pass(&inner, at, archiver, since).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => {
                // A mere suspicion that could not be looked into is nobody's failure.
                if let Some(oldest) = oldest(member) {
                    archiver.failed(oldest, error.report());
                }
                tracing::warn!(repository = member.name, "it does not catch up yet: {}", error.report());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn oldest(member: &Member) -> Option<String> {
    member.debt(|debt| debt.lag(Utc::now(), 0).oldest)
}

/// What the others have, by hash directory and as far as they can be listed.
struct Others {
    dirs: BTreeMap<Segment, Vec<usize>>,
    histories: Vec<(usize, WalObject)>,
    /// Whether every acknowledged file is in one of those that answered.
    complete: bool,
}

/// Compares and fills once, from the noted segment to the end.
async fn pass(inner: &Inner, at: usize, archiver: &Archiver, since: Segment) -> Result<()> {
    let member = &inner.members[at];
    let additions = member.debt(Debt::compare);
    let reach = async {
        archiver.owned().await?;
        Ok::<_, Error>(archiver.repository().wal_top().await?)
    };
    let (own_dirs, own_histories) = match reach.await {
        Ok(top) => top,
        Err(error) => {
            if !member.debt(|debt| debt.certain()) {
                // As much as may be missing, until it can be seen.
                let others = others(inner, at, since).await;
                let (mut files, mut first) = (0, None);
                for (dir, holders) in &others.dirs {
                    for wanted in lacking(inner, holders, *dir, since, &BTreeSet::new()).await?.0 {
                        files += 1;
                        first = first.or_else(|| missing(&wanted));
                    }
                }
                member.debt(|debt| debt.counted(files, first));
                member.debt(Debt::unreachable);
            }
            return Err(error);
        }
    };
    let others = others(inner, at, since).await;
    let own_dirs: BTreeSet<Segment> = own_dirs.into_iter().collect();
    if !member.debt(|debt| debt.certain()) {
        let (mut files, mut first) = (0, None);
        for (dir, holders) in &others.dirs {
            let own = own_names(archiver, &own_dirs, *dir).await?;
            for wanted in lacking(inner, holders, *dir, since, &own).await?.0 {
                files += 1;
                first = first.or_else(|| missing(&wanted));
            }
        }
        member.debt(|debt| debt.counted(files, first));
    }

    let mut work = Work { inner, at, archiver, filled: 0, holes: None };
    let known: BTreeSet<WalName> = own_histories.iter().map(|object| object.name).collect();
    work.fill(sorted(others.histories, &known)).await?;
    let mut complete = others.complete;
    for (dir, holders) in &others.dirs {
        let own = own_names(archiver, &own_dirs, *dir).await?;
        let (lacking, whole) = lacking(inner, holders, *dir, since, &own).await?;
        complete &= whole;
        work.fill(lacking).await?;
        if complete && work.holes.is_none() {
            let next = next_dir(*dir);
            member.debt(|debt| debt.advanced(next));
            inner.notes.move_on(at, &inner.members, Some(next)).await;
        }
    }
    if let Some(error) = work.holes {
        return Err(error);
    }
    if !complete {
        return Err(Error::new(
            ErrorKind::Missing,
            "another repository cannot be read, so it is not known whether this one has everything",
        )
        .with_remedy("mend the other repository"));
    }
    let filled = work.filled;
    if member.debt(|debt| debt.settle(additions)) {
        if filled > 0 {
            tracing::info!(repository = member.name, files = filled, "it has caught up");
        }
        let all = inner.needed == inner.members.len();
        let newest = lock(&inner.newest).0;
        if all || newest.is_some() {
            inner.notes.move_on(at, &inner.members, newest.filter(|_| !all)).await;
        }
    }
    Ok(())
}

/// The first segment of the directory behind this one.
fn next_dir(dir: Segment) -> Segment {
    match dir.log.checked_add(1) {
        Some(log) => Segment { log, seg: 0, ..dir },
        None => Segment { timeline: dir.timeline.saturating_add(1), log: 0, seg: 0 },
    }
}

async fn others(inner: &Inner, at: usize, since: Segment) -> Others {
    let mut found = Others { dirs: BTreeMap::new(), histories: Vec::new(), complete: true };
    let from = Segment { seg: 0, ..since };
    let others = inner.members.iter().enumerate().filter(|(other, _)| *other != at);
    let tops = others.map(|(other, member)| async move {
        let Ok(archiver) = &member.archiver else { return (other, None) };
        match archiver.repository().wal_top().await {
            Ok(top) => (other, Some(top)),
            Err(error) => {
                tracing::debug!(repository = member.name, error = %error.report(), "cannot be listed");
                (other, None)
            }
        }
    });
    let mut silent = 0;
    for (other, top) in join_all(tops).await {
        let Some((dirs, histories)) = top else {
            silent += 1;
            continue;
        };
        for dir in dirs.into_iter().filter(|dir| *dir >= from) {
            found.dirs.entry(dir).or_default().push(other);
        }
        found.histories.extend(histories.into_iter().map(|object| (other, object)));
    }
    // A file is in as many as were needed; with fewer silent ones, one that answers has it. Under "all" the number was
    // another one when the debt arose.
    found.complete = silent == 0 || (inner.needed < inner.members.len() && silent < inner.needed);
    found
}

pub(super) async fn own_names(
    archiver: &Archiver,
    dirs: &BTreeSet<Segment>,
    dir: Segment,
) -> Result<BTreeSet<WalName>> {
    if !dirs.contains(&dir) {
        return Ok(BTreeSet::new());
    }
    let objects = archiver.repository().list_wal_dir(dir).await?;
    // An empty object holds no file, whatever its name.
    Ok(objects.into_iter().filter(|object| object.object.size > 0).map(|object| object.name).collect())
}

/// What the others have of a directory and this one has not, in order; and whether all of them could be listed.
async fn lacking(
    inner: &Inner,
    holders: &[usize],
    dir: Segment,
    since: Segment,
    own: &BTreeSet<WalName>,
) -> Result<(Vec<Wanted>, bool)> {
    let (mut objects, mut failed) = (Vec::new(), None);
    for at in holders {
        let Ok(archiver) = &inner.members[*at].archiver else { continue };
        match archiver.repository().list_wal_dir(dir).await {
            Ok(found) => objects.extend(found.into_iter().map(|object| (*at, object))),
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = &failed
        && objects.is_empty()
    {
        tracing::debug!(error = %error.report(), "a directory of the others cannot be listed");
    }
    objects.retain(|(_, object)| mark(object.name) >= since);
    Ok((sorted(objects, own), failed.is_none()))
}

/// The files among `objects` that are not in `own`, as PostgreSQL would hand them out.
fn sorted(objects: Vec<(usize, WalObject)>, own: &BTreeSet<WalName>) -> Vec<Wanted> {
    let mut by_place: BTreeMap<Place, Wanted> = BTreeMap::new();
    for (at, object) in objects {
        if object.object.size > 0 && !own.contains(&object.name) {
            let name = object.name;
            let wanted = by_place.entry(Place::of(name)).or_insert(Wanted { name, found: Vec::new() });
            wanted.found.push((at, object));
        }
    }
    by_place.into_values().collect()
}

fn missing(wanted: &Wanted) -> Option<(WalName, DateTime<Utc>)> {
    let stored = wanted.found.iter().map(|(_, object)| object.object.last_modified).min()?;
    Some((wanted.name, stored))
}

/// One pass over a repository.
struct Work<'a> {
    inner: &'a Inner,
    at: usize,
    archiver: &'a Archiver,
    filled: u64,
    /// Why a file could not be had, when that is so; what comes behind is filled all the same.
    holes: Option<Error>,
}

impl Work<'_> {
    async fn fill(&mut self, wanted: Vec<Wanted>) -> Result<()> {
        let member = &self.inner.members[self.at];
        let segment = self.inner.control().map_or(SCRATCH, |control| control.wal_segment_size.bytes());
        let fit = usize::try_from(SCRATCH / segment).unwrap_or(1);
        for some in wanted.chunks(self.archiver.max_parallel().min(fit).max(1)) {
            if let Some(first) = some.first().and_then(missing) {
                member.debt(|debt| debt.next(first));
            }
            for outcome in join_all(some.iter().map(|wanted| self.one(wanted))).await {
                match outcome? {
                    Filled::Yes => {
                        self.filled += 1;
                        member.debt(Debt::filled);
                    }
                    Filled::Nowhere(name) => {
                        tracing::warn!(
                            repository = member.name,
                            %name,
                            "no repository and not pg_wal have it any more; recovery from this one cannot go past it"
                        );
                        member.debt(Debt::filled);
                    }
                    Filled::No(error) => drop(self.holes.get_or_insert(error)),
                }
            }
        }
        Ok(())
    }

    /// Puts one file in. An error means that the repository does not take it.
    async fn one(&self, wanted: &Wanted) -> Result<Filled> {
        let member = &self.inner.members[self.at];
        let copy = match source::copy(self.inner, member, wanted).await {
            Ok(Some(copy)) => copy,
            Ok(None) => return Ok(Filled::Nowhere(wanted.name)),
            Err(error) => return Ok(Filled::No(error)),
        };
        self.archiver.archive_copy(wanted.name, copy.path()).await?;
        Ok(Filled::Yes)
    }
}

enum Filled {
    Yes,
    /// It cannot be had at present.
    No(Error),
    /// It cannot be had any more.
    Nowhere(WalName),
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::store::ObjectInfo;

    fn object(name: &str, size: u64) -> WalObject {
        let key = format!("srv/wals/{name}");
        let info = ObjectInfo { key, size, last_modified: DateTime::UNIX_EPOCH, etag: None };
        WalObject::recognise(info).expect("WAL")
    }

    #[test]
    fn what_is_lacking_comes_in_the_order_of_postgresql_with_all_who_have_it() {
        let objects = vec![
            (0, object("000000020000000000000005.zst", 5)),
            (0, object("000000020000000000000004.partial", 5)),
            (0, object("000000020000000000000006", 0)),
            (1, object("000000020000000000000005", 5)),
            (1, object("000000020000000000000003", 5)),
            (1, object("00000003.history", 5)),
        ];
        let own = BTreeSet::from(["000000020000000000000003".parse().expect("a name")]);
        let wanted = sorted(objects, &own);
        let names: Vec<String> = wanted.iter().map(|wanted| wanted.name.to_string()).collect();
        let expected = ["00000003.history", "000000020000000000000004.partial", "000000020000000000000005"];
        assert_eq!(names, expected);
        assert_eq!(wanted[2].found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn the_directory_behind_the_last_one_is_on_the_next_timeline() {
        let dir = |text: &str| text.parse::<Segment>().expect("a segment");
        assert_eq!(next_dir(dir("00000001000000FF00000000")), dir("000000010000010000000000"));
        assert_eq!(next_dir(dir("00000001FFFFFFFF00000000")), dir("000000020000000000000000"));
    }
}
