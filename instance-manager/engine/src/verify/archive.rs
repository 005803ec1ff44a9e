//! The WAL archive from the oldest backup on: every segment read, every gap named.

use super::finding::{Code, Finding, Findings};
use super::objects::Looking;
use super::report::{VerifiedArchive, Way};
use super::segment::Archive;
use super::way::{Course, Stretch, push};
use crate::error::{Error, Result};
use barman_cloud::archive::WalObject;
use barman_cloud::dropped::Dropped;
use barman_cloud::{Repository, Segment, TimelineHistory, WalName};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};

/// Gaps that are looked at again before they are called gaps: segments may arrive out of order, but not by more.
const RECENT: u64 = 64;

/// What was found, and the labels of the backups that lack WAL.
pub struct Walked {
    pub report: VerifiedArchive,
    pub broken: BTreeSet<String>,
    /// Backups of whose WAL something could not be read now.
    pub unknown: BTreeSet<String>,
}

/// Reads the histories of an archive; those that cannot be read are findings.
pub async fn histories(
    repository: &Repository,
    findings: &mut Findings,
) -> Result<BTreeMap<u32, TimelineHistory>> {
    let mut histories = BTreeMap::new();
    for (timeline, object) in repository.histories().await? {
        match repository.read_history(timeline).await {
            Ok(Some(history)) => {
                histories.insert(timeline, history);
            }
            Ok(None) => {}
            Err(error) if error.kind() == barman_cloud::ErrorKind::Corrupt => {
                let url = repository.store().url_of(&object.object.key);
                let problem = barman_cloud::error::report(&error, None);
                findings.add(Finding::new(Code::HistoryDamaged, url, problem));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(histories)
}

/// Walks along all courses.
///
/// # Errors
/// Only when it was cancelled, or the archive cannot be listed.
pub async fn walk(
    looking: &Looking,
    archive: &Archive<'_>,
    courses: &[Course],
    mut findings: Findings,
) -> Result<Walked> {
    let mut walked =
        Walked { report: VerifiedArchive::default(), broken: BTreeSet::new(), unknown: BTreeSet::new() };
    let dirs: Vec<Segment> = {
        let dirs = archive.repository.list_wal_dirs().await?;
        dirs.iter().filter_map(|dir| format!("{dir}00000000").parse().ok()).collect()
    };
    strays(archive, &dirs, &mut findings);
    let dropped = archive.repository.dropped().await?;
    for course in courses {
        let mut walk =
            Walk { looking, archive, course, dirs: &dirs, dropped: &dropped, known: BTreeMap::new() };
        walk.run(&mut walked, &mut findings).await?;
    }
    (walked.report.findings, walked.report.more_findings) = findings.into_parts();
    Ok(walked)
}

/// Timelines that no recovery can enter: all but the first need a history file.
fn strays(archive: &Archive<'_>, dirs: &[Segment], findings: &mut Findings) {
    let timelines: BTreeSet<u32> = dirs.iter().map(|dir| dir.timeline).collect();
    for timeline in timelines.iter().skip(1).filter(|timeline| !archive.histories.contains_key(timeline)) {
        let name = format!("{timeline:08X}.history");
        let problem = format!("timeline {timeline} has segments and no history file that can be read");
        findings.add(Finding::new(Code::HistoryMissing, name, problem));
    }
}

struct Walk<'a> {
    looking: &'a Looking,
    archive: &'a Archive<'a>,
    course: &'a Course,
    /// First segment of each directory of the archive.
    dirs: &'a [Segment],
    /// Gaps that were made on purpose.
    dropped: &'a [Dropped],
    /// Objects of the directories around the current position.
    known: BTreeMap<Segment, BTreeMap<Segment, Vec<WalObject>>>,
}

impl Walk<'_> {
    async fn run(&mut self, walked: &mut Walked, findings: &mut Findings) -> Result<()> {
        let course = self.course;
        self.looking.progress.begin(format!("WAL up to timeline {}", course.history.timeline()));
        let first = course.from.number(course.size);
        let needed = course.backups.iter().map(|need| need.numbers.1).max().unwrap_or(first);
        let end = self.end().await?;
        // What a backup needs is looked for even where the archive ends before.
        let last = end.unwrap_or(first).max(needed);
        let mut gaps: Vec<Stretch> = Vec::new();
        let mut number = first;
        while number <= last {
            let stop = self.batch_end(number, last);
            let mut batch = Vec::new();
            for number in number..=stop {
                match self.find(number).await? {
                    Some(found) => batch.push(found),
                    None => push(&mut gaps, number),
                }
            }
            self.read(batch, walked, findings).await?;
            number = stop + 1;
        }
        let gaps = self.still_there(gaps).await?;
        for gap in &gaps {
            self.tell(*gap, last, walked, findings);
        }
        walked.report.ways.push(Way {
            timeline: course.history.timeline(),
            first: course.from.to_string(),
            last: end.map_or_else(|| "none".to_owned(), |end| course.name(end)),
            gaps: gaps.iter().map(|gap| self.stretch(*gap)).collect(),
        });
        Ok(())
    }

    /// Numbers up to the end of a directory are looked at together.
    fn batch_end(&self, number: u64, last: u64) -> u64 {
        let per_log = self.course.size.segments_per_log();
        ((number / per_log + 1) * per_log - 1).min(last)
    }

    /// The last segment on the way that is there.
    async fn end(&mut self) -> Result<Option<u64>> {
        let (course, dirs) = (self.course, self.dirs);
        for timeline in course.timelines() {
            for dir in dirs.iter().rev().filter(|dir| dir.timeline == timeline) {
                let listed = self.list(*dir).await?;
                let mut on_the_way =
                    listed.keys().rev().map(|segment| (segment, segment.number(course.size)));
                if let Some((_, number)) = on_the_way.find(|(segment, number)| {
                    *number >= course.from.number(course.size) && course.names(*number).contains(segment)
                }) {
                    return Ok(Some(number));
                }
            }
        }
        Ok(None)
    }

    async fn list(&mut self, dir: Segment) -> Result<&BTreeMap<Segment, Vec<WalObject>>> {
        if !self.known.contains_key(&dir) {
            let mut listed: BTreeMap<Segment, Vec<WalObject>> = BTreeMap::new();
            for object in self.archive.repository.list_wal_dir(dir).await? {
                if let WalName::Segment(segment) = object.name
                    && object.object.size > 0
                {
                    listed.entry(segment).or_default().push(object);
                }
            }
            // The way leads through one directory of each timeline at a time.
            self.known.retain(|known, _| known.timeline != dir.timeline);
            self.known.insert(dir, listed);
        }
        Ok(self.known.entry(dir).or_default())
    }

    /// The objects under the name that PostgreSQL would find first.
    async fn find(&mut self, number: u64) -> Result<Option<(Segment, Vec<WalObject>)>> {
        for name in self.course.names(number) {
            let dir = Segment { seg: 0, ..name };
            if self.dirs.contains(&dir)
                && let Some(objects) = self.list(dir).await?.get(&name)
            {
                return Ok(Some((name, objects.clone())));
            }
        }
        Ok(None)
    }

    async fn read(
        &self,
        batch: Vec<(Segment, Vec<WalObject>)>,
        walked: &mut Walked,
        findings: &mut Findings,
    ) -> Result<()> {
        let course = self.course;
        // Made beforehand: a closure that borrows keeps callers from being spawned.
        let reads: Vec<_> = batch
            .into_iter()
            .map(|(segment, objects)| self.archive.read(course.size, segment, objects))
            .collect();
        let mut reading = futures::stream::iter(reads).buffered(self.looking.jobs.max(1));
        while let Some(read) = reading.next().await {
            if self.looking.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            self.looking.progress.add_segment();
            walked.report.segments += 1;
            walked.report.bytes += read.bytes;
            let number = read.segment.number(course.size);
            let needed = course.needed_by(Stretch { first: number, last: number });
            let silent = read.findings.iter().all(|finding| finding.code == Code::NotRead);
            if !read.usable {
                let list = if silent { &mut walked.unknown } else { &mut walked.broken };
                list.extend(needed.iter().cloned());
            }
            for mut finding in read.findings {
                if !read.usable {
                    finding.affects.clone_from(&needed);
                }
                findings.add(finding);
            }
        }
        Ok(())
    }

    /// Gaps at the end may only be segments that had not arrived when their directory was listed.
    async fn still_there(&mut self, gaps: Vec<Stretch>) -> Result<Vec<Stretch>> {
        self.known.clear();
        let mut still = Vec::new();
        for gap in gaps {
            if gap.count() > RECENT {
                still.push(gap);
                continue;
            }
            for number in gap.first..=gap.last {
                if self.find(number).await?.is_none() {
                    push(&mut still, number);
                }
            }
        }
        Ok(still)
    }

    fn stretch(&self, gap: Stretch) -> String {
        match gap.count() {
            1 => self.course.name(gap.first),
            _ => format!("{}..{}", self.course.name(gap.first), self.course.name(gap.last)),
        }
    }

    /// Who let WAL of the gap go, and why, when somebody did.
    fn on_purpose(&self, gap: Stretch) -> String {
        let size = self.course.size;
        let touches = |dropped: &&Dropped| {
            let common = gap.first.max(dropped.first.number(size));
            common <= gap.last.min(dropped.last.number(size))
                && self.course.names(common).iter().any(|name| name.timeline == dropped.first.timeline)
        };
        self.dropped.iter().find(touches).map_or_else(String::new, |dropped| {
            format!(
                "; {} let {} to {} go on purpose at {}: {}",
                dropped.by,
                dropped.first,
                dropped.last,
                dropped.until.format("%Y-%m-%d %H:%M:%S UTC"),
                dropped.reason
            )
        })
    }

    fn tell(&self, gap: Stretch, last: u64, walked: &mut Walked, findings: &mut Findings) {
        let (course, affected) = (self.course, self.course.needed_by(gap));
        let count = match gap.count() {
            1 => "1 segment is".to_owned(),
            count => format!("{count} segments are"),
        };
        let after = if gap.last < last { ", though the archive goes on after it" } else { "" };
        let (code, problem) = match affected.is_empty() {
            false => (Code::WalMissing, format!("{count} missing that backups need{after}")),
            true => {
                let end = gap.first.checked_sub(1).map_or_else(String::new, |number| course.name(number));
                (
                    Code::WalGap,
                    format!("{count} missing{after}: recovery from earlier backups ends with {end}"),
                )
            }
        };
        walked.broken.extend(affected.iter().cloned());
        let problem = format!("{problem}{}", self.on_purpose(gap));
        let mut finding = Finding::new(code, self.stretch(gap), problem);
        finding.affects = affected;
        findings.add(finding);
    }
}
