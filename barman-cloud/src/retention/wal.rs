//! Which WAL may go.
//!
//! Every backup that is kept needs its WAL from its begin on: on its own timeline to the end of the archive, and on
//! every timeline that grew out of it later. One that is kept on request as `standalone`, and for nothing else, needs
//! no more than what lies between its begin and its end. The rest may go, except where it is not known for certain
//! that nobody needs it.

use super::facts::Scene;
use super::reason::KeepReason;
use super::rules::Reasons;
use crate::backup_id::BackupId;
use crate::backup_info::BackupStatus;
use crate::catalog::{BackupFacts, Keep, OwnWal, State, Tally};
use crate::wal_name::Segment;
use std::collections::BTreeMap;
use std::fmt;

/// A stretch of the archive that may go: everything that belongs to the segments from `first` to `last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalCut {
    /// The first segment.
    pub first: Segment,
    /// The last segment, on the same timeline.
    pub last: Segment,
    /// Objects.
    pub objects: u64,
    /// Stored bytes.
    pub bytes: u64,
    /// No backup that is kept leads to this timeline; else it lies before all that do.
    pub unreachable: bool,
}

/// What stays of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalKept {
    /// The timeline.
    pub timeline: u32,
    /// From this segment on everything stays, for this reason; `None` when only `ranges` stay.
    pub from: Option<(Segment, WalNeed)>,
    /// What stays besides, each for one standalone backup: the first and the last segment.
    pub ranges: Vec<(Segment, Segment, BackupId)>,
}

/// Why WAL stays from a segment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalNeed {
    /// This backup needs it.
    Backup(BackupId),
    /// The history of the timeline is not known: what leads to it is not known either.
    UnknownHistory,
    /// It is the timeline of the server, and no backup leads to it yet.
    Current,
}

/// Why no WAL goes at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalUntouched {
    /// There is no backup to begin from.
    NoBackup,
    /// What this backup needs is not known, and no older one sets a limit.
    Unreadable(BackupId),
    /// Backups with segments of different sizes: their order is not certain.
    SegmentSizes,
}

impl fmt::Display for WalUntouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackup => f.write_str("there is no full backup that can be restored"),
            Self::Unreadable(id) => write!(f, "what WAL backup {id} needs is not known"),
            Self::SegmentSizes => f.write_str("backups have WAL segments of different sizes"),
        }
    }
}

/// What happens to WAL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalPlan {
    /// What may go, in order.
    pub cuts: Vec<WalCut>,
    /// What stays, by timeline.
    pub kept: Vec<WalKept>,
    /// Why nothing goes, when that is so.
    pub untouched: Option<WalUntouched>,
}

impl WalPlan {
    /// Objects that may go.
    pub fn objects(&self) -> u64 {
        self.cuts.iter().map(|cut| cut.objects).sum()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.cuts.iter().map(|cut| cut.bytes).sum()
    }
}

/// WAL from a backup on, or its own only; and what backups need that do not say where they are: anything since the
/// one before them.
struct Needs<'a> {
    open: Vec<(&'a BackupId, OwnWal)>,
    ranges: Vec<(&'a BackupId, OwnWal)>,
    unknown: Vec<(&'a BackupId, OwnWal)>,
}

/// Plans the pruning for the backups that are kept.
pub(super) fn plan(scene: &Scene<'_>, reasons: &Reasons) -> WalPlan {
    let nothing = |why| WalPlan { untouched: Some(why), ..WalPlan::default() };
    let size = scene.facts.wal.size();
    if scene.newest_first.iter().filter_map(|backup| backup.wal).any(|wal| wal.size != size) {
        return nothing(WalUntouched::SegmentSizes);
    }
    if scene.sound_full().next().is_none() {
        return nothing(WalUntouched::NoBackup);
    }
    let needs = match needs(scene, reasons) {
        Ok(needs) => needs,
        Err(id) => return nothing(WalUntouched::Unreadable(id)),
    };
    let mut plan = WalPlan::default();
    for timeline in scene.facts.wal.timelines() {
        let from = floor(scene, &needs, timeline);
        let ranges: Vec<_> = needs.ranges.iter().filter(|(_, wal)| on(wal, timeline)).collect();
        let goes = |tally: &Tally| {
            let below = from.as_ref().is_none_or(|(number, _)| tally.last < *number);
            below
                && ranges
                    .iter()
                    .all(|(_, wal)| tally.last < wal.begin.number(size) || tally.first > wal.end.number(size))
        };
        cut(scene, timeline, from.is_none(), goes, &mut plan.cuts);
        plan.kept.push(WalKept {
            timeline,
            from: from.map(|(number, need)| (scene.facts.wal.segment(timeline, number), need)),
            ranges: ranges
                .into_iter()
                .map(|(id, wal)| {
                    (wal.begin.on_timeline(timeline), wal.end.on_timeline(timeline), (*id).clone())
                })
                .collect(),
        });
    }
    plan
}

/// A backup that ended on a later timeline than it began has its WAL on either, and between.
fn on(wal: &OwnWal, timeline: u32) -> bool {
    (wal.begin.timeline..=wal.end.timeline).contains(&timeline)
}

/// What the kept backups need; fails with one of which that is not known.
fn needs<'a>(scene: &Scene<'a>, reasons: &Reasons) -> Result<Needs<'a>, BackupId> {
    let mut needs = Needs { open: Vec::new(), ranges: Vec::new(), unknown: Vec::new() };
    let mut dependents: BTreeMap<&BackupId, Vec<&BackupId>> = BTreeMap::new();
    for backup in &scene.newest_first {
        for ancestor in &backup.ancestors {
            dependents.entry(ancestor).or_default().push(&backup.id);
        }
    }
    for backup in &scene.newest_first {
        let Some(given) = reasons.get(&backup.id) else { continue };
        let failed = matches!(backup.state, State::Unfinished(BackupStatus::Failed));
        if failed && !given.contains(&KeepReason::InUse) {
            continue;
        }
        // What only standalone backups build on is needed for them alone.
        let above = dependents.get(&backup.id).into_iter().flatten();
        let alone =
            standalone(given) && above.filter_map(|id| reasons.get(*id)).all(|given| standalone(given));
        match backup.wal {
            Some(wal) if alone => needs.ranges.push((&backup.id, wal)),
            Some(wal) => needs.open.push((&backup.id, wal)),
            None => needs.unknown.push((&backup.id, limit(scene, backup)?)),
        }
    }
    Ok(needs)
}

/// Kept on request for itself or for what builds on it, and for nothing else.
fn standalone(given: &[KeepReason]) -> bool {
    given
        .iter()
        .all(|reason| matches!(reason, KeepReason::NeededBy { .. } | KeepReason::Pinned(Keep::Standalone)))
}

/// The WAL that a backup can need of which nothing is known but when it was made: that since the backup before it.
fn limit(scene: &Scene<'_>, unknown: &BackupFacts) -> Result<OwnWal, BackupId> {
    let older = scene.newest_first.iter().filter(|backup| backup.id < unknown.id && backup.is_complete());
    older.filter_map(|backup| backup.wal).next().ok_or_else(|| unknown.id.clone())
}

/// From which segment on the WAL of a timeline is needed; `None` when no backup leads to it.
fn floor(scene: &Scene<'_>, needs: &Needs<'_>, timeline: u32) -> Option<(u64, WalNeed)> {
    let size = scene.facts.wal.size();
    let mut floor: Option<(u64, WalNeed)> = None;
    let mut lower = |number: u64, need: WalNeed| {
        if floor.as_ref().is_none_or(|(known, _)| number < *known) {
            floor = Some((number, need));
        }
    };
    for (id, wal) in &needs.open {
        let backup = || WalNeed::Backup((*id).clone());
        if on(wal, timeline) {
            lower(wal.begin.number(size), backup());
        } else if timeline > wal.end.timeline {
            match scene.facts.histories.get(&timeline) {
                Some(Ok(history)) if history.contains(wal.end.timeline, wal.lsn) => {
                    let begin = history.path().last().map_or(0, |span| scene.facts.wal.number(span.begin));
                    lower(begin, backup());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => lower(0, WalNeed::UnknownHistory),
            }
        }
    }
    for (id, before) in &needs.unknown {
        // Timelines of a server only ascend.
        if on(before, timeline) {
            lower(before.begin.number(size), WalNeed::Backup((*id).clone()));
        } else if timeline > before.end.timeline {
            lower(0, WalNeed::Backup((*id).clone()));
        }
    }
    if floor.is_none() && timeline >= scene.timeline {
        floor = Some((0, WalNeed::Current));
    }
    floor
}

/// Collects what may go of a timeline; neighbours become one stretch.
fn cut(
    scene: &Scene<'_>,
    timeline: u32,
    unreachable: bool,
    goes: impl Fn(&Tally) -> bool,
    cuts: &mut Vec<WalCut>,
) {
    let mut joins = false;
    for tally in scene.facts.wal.tallies(timeline) {
        if !goes(tally) {
            joins = false;
            continue;
        }
        let last = scene.facts.wal.segment(timeline, tally.last);
        match cuts.last_mut() {
            Some(before) if joins => {
                before.last = last;
                before.objects += tally.objects;
                before.bytes += tally.bytes;
            }
            _ => cuts.push(WalCut {
                first: scene.facts.wal.segment(timeline, tally.first),
                last,
                objects: tally.objects,
                bytes: tally.bytes,
                unreachable,
            }),
        }
        joins = true;
    }
}
