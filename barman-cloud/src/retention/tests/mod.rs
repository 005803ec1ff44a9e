//! Builders of facts, and the tests of decisions.

#![allow(clippy::panic, reason = "helpers of tests, which clippy does not take for tests")]

mod applying;
mod cases;
mod model;
mod properties;
mod timelines;

use super::{Facts, KeepReason, Plan, Policy};
use crate::archive::WalObject;
use crate::backup_info::BackupStatus;
use crate::catalog::{BackupFacts, Histories, Keep, OwnWal, State, WalSurvey, borders};
use crate::store::ObjectInfo;
use crate::timeline::TimelineHistory;
use crate::wal_name::{Segment, SegmentSize};
use crate::{BackupId, BackupType, Lsn};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use std::collections::BTreeSet;

pub const SIZE: SegmentSize = SegmentSize::DEFAULT;

/// The day on which everything is judged.
pub fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 25, 12, 0, 0).single().expect("a time")
}

pub fn days_ago(days: i64) -> DateTime<Utc> {
    now() - TimeDelta::days(days)
}

pub fn id(days: i64) -> BackupId {
    BackupId::at(days_ago(days))
}

/// A complete backup that began so many days ago in this segment of timeline 1 and ended in the next.
pub fn backup(days: i64, segment: u64) -> BackupFacts {
    let at = |number| Segment::from_number(1, number, SIZE);
    BackupFacts {
        id: id(days),
        kind: BackupType::Full,
        ancestors: Vec::new(),
        state: State::Complete,
        begin: Some(days_ago(days)),
        end: Some(days_ago(days) + TimeDelta::minutes(10)),
        wal: Some(OwnWal {
            begin: at(segment),
            end: at(segment + 1),
            lsn: Lsn((segment + 1) * SIZE.bytes() + 0x100),
            size: SIZE,
        }),
        keep: None,
        bytes: Some(100),
    }
}

pub fn of_kind(kind: BackupType, days: i64, segment: u64, ancestors: &[i64]) -> BackupFacts {
    BackupFacts { kind, ancestors: ancestors.iter().map(|days| id(*days)).collect(), ..backup(days, segment) }
}

pub fn failed(days: i64, segment: u64) -> BackupFacts {
    BackupFacts { state: State::Unfinished(BackupStatus::Failed), end: None, ..backup(days, segment) }
}

pub fn pinned(days: i64, segment: u64, keep: Keep) -> BackupFacts {
    BackupFacts { keep: Some(keep), ..backup(days, segment) }
}

pub fn unreadable(days: i64) -> BackupFacts {
    BackupFacts {
        state: State::Unreadable("it is damaged".into()),
        end: None,
        wal: None,
        bytes: None,
        ..backup(days, 0)
    }
}

pub fn on_timeline(timeline: u32, mut backup: BackupFacts) -> BackupFacts {
    if let Some(wal) = &mut backup.wal {
        (wal.begin, wal.end) = (wal.begin.on_timeline(timeline), wal.end.on_timeline(timeline));
    }
    backup
}

pub fn history(timeline: u32, text: &str) -> (u32, crate::Result<TimelineHistory>) {
    (timeline, TimelineHistory::parse(timeline, text))
}

/// All that a plan is made from; the archive holds whole ranges of timelines.
pub struct World {
    pub backups: Vec<BackupFacts>,
    pub histories: Histories,
    pub wal: Vec<(u32, std::ops::RangeInclusive<u64>)>,
    pub in_use: BTreeSet<BackupId>,
    pub damaged: BTreeSet<BackupId>,
}

impl World {
    /// One timeline with all WAL.
    pub fn new(backups: Vec<BackupFacts>) -> Self {
        Self {
            backups,
            histories: Histories::new(),
            wal: vec![(1, 1..=1000)],
            in_use: BTreeSet::new(),
            damaged: BTreeSet::new(),
        }
    }

    pub fn survey(&self) -> WalSurvey {
        let mut survey = WalSurvey::new(SIZE, borders(&self.backups).0);
        for (timeline, range) in &self.wal {
            for number in range.clone() {
                let segment = Segment::from_number(*timeline, number, SIZE);
                let key = format!("srv/wals/{}/{segment}", segment.hash_dir());
                let object = ObjectInfo { key, size: 10, last_modified: now(), etag: None };
                survey.add(&WalObject::recognise(object).expect("WAL"));
            }
        }
        survey
    }

    pub fn plan(&self, policy: &Policy) -> Plan {
        Plan::make(
            policy,
            Facts {
                backups: &self.backups,
                histories: &self.histories,
                wal: &self.survey(),
                now: now(),
                in_use: &self.in_use,
                damaged: &self.damaged,
            },
        )
    }
}

/// Days ago of the backups that stay, newest first.
pub fn kept(plan: &Plan) -> Vec<i64> {
    let mut days: Vec<i64> = plan.kept.iter().map(|kept| days_of(&kept.id)).collect();
    days.sort_unstable();
    days
}

/// Days ago of those that may go, in their order.
pub fn deletable(plan: &Plan) -> Vec<i64> {
    plan.deletable.iter().map(|backup| days_of(&backup.id)).collect()
}

pub fn days_of(id: &BackupId) -> i64 {
    (now() - id.time().expect("a time").and_utc()).num_days()
}

pub fn reasons(plan: &Plan, days: i64) -> Vec<KeepReason> {
    let found = plan.kept.iter().find(|kept| kept.id == id(days));
    found.unwrap_or_else(|| panic!("{days} days ago is not kept:\n{plan}")).reasons.clone()
}

/// Numbers of the first and last segments that may go, by timeline.
pub fn cuts(plan: &Plan) -> Vec<(u32, u64, u64)> {
    let cuts = plan.wal.cuts.iter();
    cuts.map(|cut| (cut.first.timeline, cut.first.number(SIZE), cut.last.number(SIZE))).collect()
}
