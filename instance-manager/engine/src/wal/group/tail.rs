//! After a promotion: what the former primary had completed and not archived.
//!
//! The archives are listed, and what one of them lacks of the way to the new timeline is made ready in `pg_wal`, so that
//! PostgreSQL itself hands it out: histories first, then the oldest segment. Marks are files, so a crash in the middle
//! loses nothing, and doing it again changes nothing. The last, unfinished segment of the old timeline PostgreSQL archives
//! by itself, as `.partial`.

use super::catch_up::own_names;
use super::{Group, Inner, Member};
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use crate::wal::ancestry::{begin_of, is_before, local_history};
use crate::wal::archiver::Archiver;
use crate::wal::hold::{Held, Mark, Marks, hold_some, no_history, on_the_way};
use barman_cloud::{Segment, SegmentSize, TimelineHistory, WalName};
use futures::future::join_all;
use std::collections::BTreeSet;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// Histories that a repository lacked and that are sent now.
    pub histories: u64,
    /// Segments likewise.
    pub segments: u64,
    /// The first of these segments.
    pub oldest: Option<Segment>,
    /// WAL that neither this server nor any repository has, when every repository answered.
    pub hole: Option<Hole>,
    /// Repositories that could not be listed: ask again.
    pub silent: Vec<(String, String)>,
}

/// WAL that is missing before the timeline begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The first segment.
    pub first: Segment,
    /// How many are missing; the last of them need not be the `files`-th from the first on.
    pub files: u64,
}

/// What one repository has of the way.
struct Shelf {
    names: BTreeSet<WalName>,
    /// Number of the newest segment before the first that `pg_wal` has.
    newest: Option<u64>,
}

/// The way as far as `pg_wal` has it.
struct Way<'a> {
    history: &'a TimelineHistory,
    size: SegmentSize,
    files: BTreeSet<WalName>,
    /// Number of the first segment in `pg_wal`, or of the one within which the timeline begins.
    first: u64,
    /// Number of the segment within which the timeline begins; it is archived under the timeline's own name.
    begin: u64,
}

impl<'a> Way<'a> {
    fn new(history: &'a TimelineHistory, size: SegmentSize, files: Vec<WalName>) -> Self {
        let begin = begin_of(history).0 / size.bytes();
        let numbers = files.iter().filter_map(|name| Some(name.segment()?.number(size)));
        let first = numbers.min().unwrap_or(begin);
        Self { history, size, files: files.into_iter().collect(), first, begin }
    }

    /// The names that the complete segment with this number can have, the newest first.
    fn names(&self, number: u64) -> impl Iterator<Item = Segment> + '_ {
        let at = Segment::from_number(1, number, self.size).start(self.size);
        let names = self.history.segments_at(at, self.size).into_iter();
        names.filter(move |segment| is_before(self.history, *segment, self.size))
    }

    fn is_in(&self, number: u64, names: &BTreeSet<WalName>) -> bool {
        self.names(number).any(|segment| names.contains(&WalName::Segment(segment)))
    }

    /// Number of the newest segment of the way among these, before the first in `pg_wal`.
    fn newest_before(&self, names: &BTreeSet<WalName>) -> Option<u64> {
        let numbers = names.iter().filter_map(|name| match name {
            WalName::Segment(segment) if is_before(self.history, *segment, self.size) => {
                Some(segment.number(self.size))
            }
            _ => None,
        });
        numbers.filter(|number| *number < self.first).max()
    }

    /// What is on none of these shelves and not in `pg_wal`.
    fn hole(&self, shelves: &[&Shelf]) -> Option<Hole> {
        let newest = shelves.iter().filter_map(|shelf| shelf.newest).max();
        // An archive without anything before began later.
        let before = newest.map_or(0..0, |newest| newest + 1..self.first);
        let there = |number: u64| {
            self.is_in(number, &self.files) || shelves.iter().any(|shelf| self.is_in(number, &shelf.names))
        };
        let among: Vec<u64> = (self.first..self.begin).filter(|number| !there(*number)).collect();
        let first = before.clone().next().or(among.first().copied())?;
        let files = before.end - before.start + among.len() as u64;
        Some(Hole { first: self.names(first).next()?, files })
    }
}

impl Group {
    /// This server is the primary `name`: every archive hears of its timeline before the next file. Makes no request.
    pub fn lead(&self, name: &str, timeline: u32) {
        self.archivers().for_each(|archiver| archiver.lead(name, timeline));
    }

    /// It is no primary any more.
    pub fn follow(&self) {
        self.archivers().for_each(Archiver::follow);
    }

    fn archivers(&self) -> impl Iterator<Item = &Archiver> {
        self.members().iter().filter_map(|member| member.archiver.as_ref().ok())
    }

    /// Announces the timeline in every archive now. Returns those that did not take it, by name.
    pub async fn announce(&self) -> Vec<(String, Error)> {
        let all = self.members().iter().map(|member| async {
            let outcome = match &member.archiver {
                Ok(archiver) => archiver.announce().await,
                Err(why) => Err(Error::new(ErrorKind::Invalid, why)),
            };
            outcome.err().map(|error| (member.name.clone(), error))
        });
        join_all(all).await.into_iter().flatten().collect()
    }

    /// Has everything sent that an archive lacks of the way to `timeline`, the one that this server was promoted to.
    /// `held` is what [`crate::wal::hold`](fn@crate::wal::hold) gave before the promotion; what all archives have leaves it and waits no
    /// more. Call it again while [`Tail::silent`] is not empty.
    ///
    /// # Errors
    /// When the data directory cannot be read, or the history of the timeline is not there.
    pub async fn tail(&self, timeline: u32, held: &mut Held) -> Result<Tail> {
        let inner = &self.inner;
        if timeline < 2 || inner.members.is_empty() {
            return Ok(Tail::default());
        }
        let (pgdata, segment_size) =
            (inner.pgdata.clone(), ControlData::read(&inner.pgdata)?.wal_segment_size);
        let reading = tokio::task::spawn_blocking(move || {
            let history = local_history(&pgdata, timeline)?.ok_or_else(|| no_history(&pgdata, timeline))?;
            let control = ControlData::read(&pgdata)?;
            // Its first checkpoint is not done, which removes what seems to be archived.
            let held = if control.timeline < timeline {
                hold_some(&pgdata, |name| {
                    name.segment().is_some_and(|segment| is_before(&history, segment, segment_size))
                })?
            } else {
                Held::default()
            };
            let files = on_the_way(&pgdata, &history, &control)?;
            Ok::<_, Error>((history, files, held))
        });
        let (history, files, newly) = reading.await.map_err(|error| {
            Error::new(ErrorKind::Cancelled, "reading pg_wal was stopped").with_source(error)
        })??;
        held.extend(newly);
        let way = Way::new(&history, segment_size, files);
        let looked = join_all(inner.members.iter().map(|member| shelf(member, &way))).await;
        inner.decide(&way, looked, held)
    }
}

impl Inner {
    fn decide(&self, way: &Way<'_>, looked: Vec<Result<Shelf>>, held: &mut Held) -> Result<Tail> {
        let marks = Marks::of(&self.pgdata)?;
        let mut tail = Tail::default();
        let mut shelves = Vec::new();
        for (member, looked) in self.members.iter().zip(&looked) {
            match looked {
                Ok(shelf) => {
                    shelves.push(shelf);
                    self.suspect(member, way, shelf);
                }
                Err(error) => tail.silent.push((member.name.clone(), error.report())),
            }
        }
        for name in &way.files {
            if shelves.iter().any(|shelf| !shelf.names.contains(name)) {
                let ours = held.0.remove(name);
                // What waits by itself is on its way already.
                if (ours || marks.get(*name) != Mark::Ready) && marks.make_ready(*name)? {
                    match name {
                        WalName::Segment(segment) => {
                            tail.segments += 1;
                            tail.oldest = Some(tail.oldest.map_or(*segment, |oldest| oldest.min(*segment)));
                        }
                        _ => tail.histories += 1,
                    }
                }
            } else if tail.silent.is_empty() && held.0.remove(name) {
                marks.make_done(*name)?;
            }
        }
        if tail.silent.is_empty() {
            tail.hole = way.hole(&shelves);
            // Of the rest PostgreSQL has archived and removed some meanwhile.
            held.0.clear();
        }
        Ok(tail)
    }

    /// What `pg_wal` does not have and this repository lacks, another one may have.
    fn suspect(&self, member: &Member, way: &Way<'_>, shelf: &Shelf) {
        if self.members.len() > 1
            && let Some(hole) = way.hole(&[shelf])
        {
            member.debt(|debt| debt.suspect(hole.first));
            member.wake.notify_one();
        }
    }
}

async fn shelf(member: &Member, way: &Way<'_>) -> Result<Shelf> {
    let archiver = member.archiver.as_ref().map_err(|why| Error::new(ErrorKind::Invalid, why.as_str()))?;
    archiver.owned().await?;
    let (dirs, histories) = archiver.repository().wal_top().await?;
    let dirs: BTreeSet<Segment> = dirs.into_iter().collect();
    let mut names: BTreeSet<WalName> =
        histories.into_iter().filter(|object| object.object.size > 0).map(|object| object.name).collect();
    let of = |segment: Segment| Segment { seg: 0, ..segment };
    let wanted: BTreeSet<Segment> =
        (way.first..way.begin).flat_map(|number| way.names(number)).map(of).collect();
    for dir in &wanted {
        names.extend(own_names(archiver, &dirs, *dir).await?);
    }
    let mut newest = None;
    for dir in dirs.iter().rev() {
        newest = way.newest_before(&own_names(archiver, &dirs, *dir).await?);
        if newest.is_some() {
            break;
        }
    }
    Ok(Shelf { names, newest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> TimelineHistory {
        TimelineHistory::parse(3, "1\t0/5000060\tx\n2\t0/9000000\tx\n").expect("valid")
    }

    fn names(texts: &[&str]) -> Vec<WalName> {
        texts.iter().map(|text| text.parse().expect("a name")).collect()
    }

    fn shelf(way: &Way<'_>, texts: &[&str]) -> Shelf {
        let names: BTreeSet<WalName> = names(texts).into_iter().collect();
        Shelf { newest: way.newest_before(&names), names }
    }

    /// What is missing, with these files in `pg_wal` and these in the archive.
    fn hole(local: &[&str], archived: &[&str]) -> Option<(String, u64)> {
        let history = history();
        let way = Way::new(&history, SegmentSize::DEFAULT, names(local));
        let shelf = shelf(&way, archived);
        way.hole(&[&shelf]).map(|hole| (hole.first.to_string(), hole.files))
    }

    #[test]
    fn what_nobody_has_is_a_hole() {
        let two = ["000000020000000000000007", "000000020000000000000008"];
        let all = ["000000010000000000000003", "000000010000000000000004", "000000020000000000000005"];
        assert_eq!(hole(&two, &[&all[..], &["000000020000000000000006"]].concat()), None);
        let missing = hole(&two, &all);
        assert_eq!(missing, Some(("000000020000000000000006".into(), 1)));
        // From one timeline to the next: 4 of the first, 5 and 6 of the second.
        let missing = hole(&two, &all[..1]);
        assert_eq!(missing, Some(("000000010000000000000004".into(), 3)));
        // In the middle of pg_wal, and nothing in it at all.
        let missing = hole(&[all[2], two[1]], &all[..2]);
        assert_eq!(missing, Some(("000000020000000000000006".into(), 2)));
        let missing = hole(&[], &all);
        assert_eq!(missing, Some(("000000020000000000000006".into(), 3)));
    }

    #[test]
    fn an_archive_that_began_later_lacks_nothing() {
        assert_eq!(hole(&["000000020000000000000008"], &[]), None);
        assert_eq!(hole(&[], &["00000003000000000000000A", "000000010000000000000009"]), None);
    }

    #[test]
    fn one_repository_helps_another() {
        let history = history();
        let way = Way::new(&history, SegmentSize::DEFAULT, names(&["000000020000000000000008"]));
        let behind = shelf(&way, &["000000010000000000000004"]);
        let ahead = shelf(&way, &["000000020000000000000007"]);
        assert_eq!(way.hole(&[&behind, &ahead]), None);
        let hole = way.hole(&[&behind]).expect("it lacks some");
        assert_eq!((hole.first.to_string().as_str(), hole.files), ("000000020000000000000005", 3));
    }
}
