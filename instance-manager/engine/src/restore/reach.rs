//! How far the archive leads without a gap.

use crate::error::Result;
use barman_cloud::archive::WalObject;
use barman_cloud::{Lsn, Repository, Segment, SegmentSize, TimelineHistory, WalName};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// The unbroken run of WAL from a backup's end along one history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The last segment of the run.
    pub last: Segment,
    /// When that was stored: nothing later can be in the run.
    pub stored: DateTime<Utc>,
    /// The first segment that is missing although later ones are there.
    pub gap: Option<Segment>,
}

/// Follows the archive from `from` (which is there) along the history until a segment is missing.
pub async fn follow(
    repository: &Repository,
    history: &TimelineHistory,
    from: Segment,
    size: SegmentSize,
) -> Result<Option<Reach>> {
    let dirs: BTreeSet<String> = repository.list_wal_dirs().await?.into_iter().collect();
    let mut known: BTreeMap<String, BTreeMap<Segment, DateTime<Utc>>> = BTreeMap::new();
    let mut reach: Option<Reach> = None;
    let mut number = from.number(size);
    loop {
        let names = names(history, from, number, size);
        let mut found = None;
        for name in &names {
            let dir = name.hash_dir();
            if !dirs.contains(&dir) {
                continue;
            }
            if !known.contains_key(&dir) {
                // Only the directories around the current position are of use.
                known.retain(|_, segments| {
                    segments.keys().next_back().is_none_or(|last| last.number(size) + 1 >= number)
                });
                let listed = complete(repository.list_wal_dir(*name).await?);
                known.insert(dir.clone(), listed);
            }
            found = known.get(&dir).and_then(|segments| segments.get(name)).map(|stored| (*name, *stored));
            if found.is_some() {
                break;
            }
        }
        match found {
            Some((last, stored)) => {
                let stored = reach.as_ref().map_or(stored, |reach| reach.stored.max(stored));
                reach = Some(Reach { last, stored, gap: None });
            }
            None => {
                if let Some(reach) = &mut reach {
                    reach.gap = names
                        .first()
                        .copied()
                        .filter(|missing| has_later(&dirs, &known, history, *missing, size));
                }
                return Ok(reach);
            }
        }
        number += 1;
    }
}

/// The names under which the segment can be, in the order in which PostgreSQL asks; none of a timeline before the
/// backup's own.
fn names(history: &TimelineHistory, from: Segment, number: u64, size: SegmentSize) -> Vec<Segment> {
    let lsn = Lsn(number * size.bytes());
    let mut names = history.segments_at(lsn, size);
    names.retain(|segment| segment.timeline >= from.timeline);
    names
}

fn complete(objects: Vec<WalObject>) -> BTreeMap<Segment, DateTime<Utc>> {
    objects
        .into_iter()
        .filter(|object| object.object.size > 0)
        .filter_map(|object| match object.name {
            WalName::Segment(segment) => Some((segment, object.object.last_modified)),
            _ => None,
        })
        .collect()
}

/// Whether the archive goes on after a missing segment: in the same directory, or in a later one.
fn has_later(
    dirs: &BTreeSet<String>,
    known: &BTreeMap<String, BTreeMap<Segment, DateTime<Utc>>>,
    history: &TimelineHistory,
    missing: Segment,
    size: SegmentSize,
) -> bool {
    let number = missing.number(size);
    let on_path = |timeline: u32| history.path().iter().any(|span| span.timeline == timeline);
    let here = known.values().flat_map(BTreeMap::keys);
    let mut here = here.filter(|segment| segment.timeline >= missing.timeline && on_path(segment.timeline));
    if here.any(|segment| segment.number(size) > number) {
        return true;
    }
    dirs.iter().any(|dir| {
        let parts = dir.get(..8).zip(dir.get(8..16));
        let parsed = parts.and_then(|(timeline, log)| {
            Some((u32::from_str_radix(timeline, 16).ok()?, u32::from_str_radix(log, 16).ok()?))
        });
        parsed.is_some_and(|(timeline, log)| {
            on_path(timeline) && timeline >= missing.timeline && log > missing.log
        })
    })
}
