//! Random repositories of which the truth is known, also where their records do not tell it.

use super::*;
use crate::catalog::Fault;
use crate::retention::{FullRule, Period};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A timeline: where it left which other.
#[derive(Debug, Clone, Copy)]
pub struct Branch {
    pub parent: u32,
    pub begin: u64,
    pub end: u64,
}

/// A backup as it was made, and as its records tell.
#[derive(Debug, Clone)]
pub struct Made {
    pub shown: BackupFacts,
    pub ancestors: Vec<BackupId>,
    pub wal: OwnWal,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub policy: Policy,
    pub branches: Vec<Branch>,
    /// Timelines whose history is there, and whether it can be read.
    pub histories: BTreeMap<u32, bool>,
    pub made: Vec<Made>,
    /// Names in the archive and their sizes.
    pub objects: BTreeMap<String, u64>,
    pub in_use: BTreeSet<BackupId>,
    pub damaged: BTreeSet<BackupId>,
}

/// Decisions out of a list of numbers, so that proptest can make them simpler.
struct Dice {
    numbers: Vec<u16>,
    next: usize,
}

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        let number = self.numbers.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        u64::from(number) % sides.max(1)
    }

    /// True in so many of a hundred cases; never when nothing is left.
    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) >= 100 - percent
    }
}

pub fn scenarios() -> impl Strategy<Value = Scenario> {
    proptest::collection::vec(any::<u16>(), 0..700).prop_map(|numbers| build(Dice { numbers, next: 0 }))
}

fn build(mut dice: Dice) -> Scenario {
    let policy = policy(&mut dice);
    let mut branches: Vec<Branch> = Vec::new();
    let mut histories = BTreeMap::new();
    let mut made: Vec<Made> = Vec::new();
    let mut hours = 0;
    for timeline in 1..=1 + dice.roll(4) as u32 {
        let (parent, begin) = match timeline {
            1 => (0, 1),
            _ => {
                let parent = 1 + dice.roll(u64::from(timeline) - 1) as u32;
                let from = branches[parent as usize - 1];
                (parent, from.begin + dice.roll(from.end - from.begin + 1))
            }
        };
        let end = begin + 3 + dice.roll(40);
        branches.push(Branch { parent, begin, end });
        if timeline > 1 && !dice.chance(10) {
            histories.insert(timeline, !dice.chance(8));
        }
        // The first segment of a timeline begins with that of the one before.
        let mut at = begin + 1;
        while at < end && made.len() < 14 {
            hours += 1 + dice.roll(60);
            let backup = backup_at(&mut dice, timeline, at, hours as i64, &made);
            at = backup.wal.end.number(SIZE) + 1 + dice.roll(9);
            made.push(backup);
        }
    }
    let objects = objects(&mut dice, &branches, &made);
    let mut some = |percent| -> BTreeSet<BackupId> {
        made.iter().filter(|_| dice.chance(percent)).map(|made| made.shown.id.clone()).collect()
    };
    let (in_use, damaged) = (some(5), some(4));
    Scenario { policy, branches, histories, made, objects, in_use, damaged }
}

fn policy(dice: &mut Dice) -> Policy {
    let period = |dice: &mut Dice| -> Period {
        format!("{}{}", 1 + dice.roll(12), ["d", "w"][dice.roll(2) as usize]).parse().expect("valid")
    };
    let full = match dice.roll(3) {
        0 => Some(FullRule::Count(1 + dice.roll(4) as u32)),
        1 => Some(FullRule::Age(period(dice))),
        _ => None,
    };
    Policy {
        full,
        differential: dice.chance(40).then(|| 1 + dice.roll(3) as u32),
        recovery_window: dice.chance(40).then(|| period(dice)),
        daily: dice.roll(3) as u32,
        weekly: dice.roll(2) as u32,
        monthly: dice.roll(2) as u32,
        minimum_redundancy: dice.roll(4) as u32,
    }
}

fn backup_at(dice: &mut Dice, timeline: u32, at: u64, hours: i64, before: &[Made]) -> Made {
    let last = at + dice.roll(3);
    let segment = |number| Segment::from_number(timeline, number, SIZE);
    let lsn = Lsn(last * SIZE.bytes() + 0x100);
    let wal = OwnWal { begin: segment(at), end: segment(last), lsn, size: SIZE };
    let complete = |made: &&Made| made.shown.is_complete();
    let full = before.iter().rev().filter(complete).find(|made| made.shown.kind == BackupType::Full);
    let newest = before.iter().rev().find(complete);
    let (kind, ancestors) = match (dice.roll(4), full, newest) {
        (2, Some(full), _) => (BackupType::Differential, vec![full.shown.id.clone()]),
        (3, _, Some(base)) => {
            let mut ancestors = base.ancestors.clone();
            ancestors.push(base.shown.id.clone());
            (BackupType::Incremental, ancestors)
        }
        _ => (BackupType::Full, Vec::new()),
    };
    let begin = days_ago(60) + TimeDelta::hours(hours);
    let mut shown = BackupFacts {
        id: BackupId::at(begin),
        kind,
        ancestors: ancestors.clone(),
        state: State::Complete,
        begin: Some(begin),
        end: Some(begin + TimeDelta::minutes(dice.roll(50) as i64)),
        wal: Some(wal),
        keep: dice.chance(15).then(|| if dice.chance(50) { Keep::Full } else { Keep::Standalone }),
        bytes: Some(1000),
    };
    match dice.roll(20) {
        19 => (shown.state, shown.keep) = (State::Unfinished(BackupStatus::Failed), None),
        18 => (shown.state, shown.keep) = (State::Unfinished(BackupStatus::Started), None),
        17 => (shown.state, shown.wal, shown.end) = (State::Unreadable("its record".into()), None, None),
        16 if kind != BackupType::Full => {
            shown.kind = BackupType::Incremental;
            (shown.state, shown.ancestors) = (State::Unreadable("its chain".into()), Vec::new());
        }
        _ => {}
    }
    if let State::Unfinished(_) = shown.state {
        shown.end = None;
        let end = wal.begin;
        shown.wal = Some(OwnWal { end, lsn: wal.begin.start(SIZE), ..wal });
    }
    Made { shown, ancestors, wal }
}

fn objects(dice: &mut Dice, branches: &[Branch], made: &[Made]) -> BTreeMap<String, u64> {
    let mut objects = BTreeMap::new();
    for (timeline, branch) in (1..).zip(branches) {
        for number in branch.begin..=branch.end {
            let name = Segment::from_number(timeline, number, SIZE);
            // Seldom missing, seldom there twice.
            match dice.roll(50) {
                49 => None,
                48 => objects.insert(format!("{name}.gz"), 7).and(objects.insert(name.to_string(), 16)),
                _ => objects.insert(name.to_string(), 16),
            };
        }
        objects.insert(format!("{}.partial", Segment::from_number(timeline, branch.end + 1, SIZE)), 5);
    }
    for made in made {
        objects.insert(format!("{}.00000028.backup", made.wal.begin), 1);
    }
    objects
}

impl Scenario {
    pub fn history(&self, timeline: u32) -> TimelineHistory {
        let mut lines = Vec::new();
        let mut at = timeline;
        while at > 1 {
            let branch = self.branches[at as usize - 1];
            lines.push(format!("{}\t{}\tx\n", branch.parent, self.switch(at)));
            at = branch.parent;
        }
        lines.reverse();
        TimelineHistory::parse(timeline, &lines.concat()).expect("a history")
    }

    /// Where a timeline left its parent.
    fn switch(&self, timeline: u32) -> Lsn {
        Lsn(self.branches[timeline as usize - 1].begin * SIZE.bytes() + 0x800)
    }

    pub fn histories(&self) -> Histories {
        self.histories
            .iter()
            .map(|(timeline, readable)| match readable {
                true => (*timeline, Ok(self.history(*timeline))),
                false => (*timeline, TimelineHistory::parse(*timeline, "damaged")),
            })
            .collect()
    }

    pub fn backups(&self) -> Vec<BackupFacts> {
        self.made.iter().map(|made| made.shown.clone()).collect()
    }

    pub fn survey(&self) -> WalSurvey {
        let mut survey = WalSurvey::new(SIZE, borders(&self.backups()).0);
        let histories = self.histories.keys().map(|timeline| (format!("{timeline:08X}.history"), 1));
        for (name, size) in self.objects.clone().into_iter().chain(histories) {
            let object = ObjectInfo { key: name, size, last_modified: now(), etag: None };
            survey.add(&WalObject::recognise(object).expect("WAL"));
        }
        survey
    }

    pub fn plan(&self) -> Plan {
        Plan::make(
            &self.policy,
            Facts {
                backups: &self.backups(),
                histories: &self.histories(),
                wal: &self.survey(),
                now: now(),
                in_use: &self.in_use,
                damaged: &self.damaged,
            },
        )
    }

    /// The segment of an archived file.
    pub fn segment(name: &str) -> Segment {
        name[..24].parse().expect("a segment")
    }

    /// Whether a complete object of a segment is there.
    fn holds(&self, segment: Segment) -> bool {
        let name = segment.to_string();
        self.objects.contains_key(&name) || self.objects.contains_key(&format!("{name}.gz"))
    }

    pub fn by_id(&self, id: &BackupId) -> Option<&Made> {
        self.made.iter().find(|made| made.shown.id == *id)
    }

    /// Whether a restore of it succeeds, as far as anybody can tell.
    pub fn sound(&self, made: &Made) -> bool {
        let files = |made: &Made| made.shown.is_complete() && !self.damaged.contains(&made.shown.id);
        let (begin, end) = (made.wal.begin.number(SIZE), made.wal.end.number(SIZE));
        let timeline = made.wal.begin.timeline;
        files(made)
            && made.ancestors.iter().all(|id| self.by_id(id).is_some_and(files))
            && (begin..=end).all(|number| self.holds(Segment::from_number(timeline, number, SIZE)))
    }

    /// Whether recovery of a backup to any later time reads a segment: by what happened, not by what histories say.
    pub fn leads_to(&self, made: &Made, segment: Segment) -> bool {
        let own = made.wal.begin.timeline;
        if segment.timeline == own {
            return segment.number(SIZE) >= made.wal.begin.number(SIZE);
        }
        let mut at = segment.timeline;
        while at > own {
            let parent = self.branches[at as usize - 1].parent;
            if parent == own {
                return self.switch(at) >= made.shown.wal.map_or(made.wal.lsn, |wal| wal.lsn);
            }
            at = parent;
        }
        false
    }

    pub fn within(made: &Made, segment: Segment) -> bool {
        (made.wal.begin..=made.wal.end).contains(&segment)
    }

    /// The repository after a plan was carried out.
    pub fn after(&self, plan: &Plan) -> Self {
        let mut after = self.clone();
        after.made.retain(|made| plan.deletable.iter().all(|backup| backup.id != made.shown.id));
        after.objects.retain(|name, _| {
            let at = Self::segment(name);
            plan.wal.cuts.iter().all(|cut| at < cut.first || cut.last < at)
        });
        after
    }
}

/// Kept for itself or for others that are, and nothing else: needs no WAL after its end.
pub fn alone(plan: &Plan, id: &BackupId) -> bool {
    let narrow = |reasons: &[KeepReason]| {
        reasons.iter().all(|reason| {
            matches!(reason, KeepReason::Pinned(Keep::Standalone) | KeepReason::NeededBy { .. })
        })
    };
    let of = |kept: &&crate::retention::Kept| kept.id == *id || kept.ancestors.contains(id);
    plan.kept.iter().filter(of).all(|kept| narrow(&kept.reasons))
}

/// A failed backup needs nothing.
pub fn needs_nothing(made: &Made, reasons: &[KeepReason]) -> bool {
    made.shown.state == State::Unfinished(BackupStatus::Failed) && !reasons.contains(&KeepReason::InUse)
}

#[test]
fn a_fault_has_words() {
    assert_eq!(Fault::Damaged.to_string(), "objects of it are lost or damaged");
}
