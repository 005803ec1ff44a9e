//! What the recovery window says of archives with gaps, branches and broken backups. It is computed for each repository
//! from what is in it.

use super::*;
use crate::backup_info::BackupInfo;
use crate::dropped::Dropped;
use crate::wal_name::{Segment, SegmentSize};
use crate::{BackupId, Compression, Destination, Lsn, Repository, Store};
use chrono::{DateTime, TimeZone, Utc};
use std::ops::RangeInclusive;

const SIZE: SegmentSize = SegmentSize::DEFAULT;

fn at(hour: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 21, hour, 0, 0).single().expect("a time")
}

fn id(hour: u32) -> BackupId {
    BackupId::at(at(hour))
}

struct World {
    full: Repository,
}

impl World {
    fn new() -> Self {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        Self { full: Repository::new(store, "srv").expect("valid") }
    }

    /// A backup that began at an hour in a segment and ended in the next.
    async fn backup(&self, hour: u32, timeline: u32, segment: u64) {
        let begin = Lsn(segment * SIZE.bytes() + 0x28);
        let mut info = BackupInfo::started(timeline, begin, SIZE, at(hour).fixed_offset());
        let end = Lsn((segment + 1) * SIZE.bytes() + 0x100);
        info.finish(timeline, end, SIZE, at(hour).fixed_offset());
        self.full.put_backup_info(&id(hour), &info).await.expect("written");
    }

    async fn wal(&self, timeline: u32, range: RangeInclusive<u64>) {
        for number in range {
            let segment = Segment::from_number(timeline, number, SIZE);
            let key = self.full.layout().wal(segment.into(), Compression::None);
            self.full.store().put(&key, "x".into()).await.expect("written");
        }
    }

    async fn history(&self, timeline: u32, text: &'static str) {
        let key = format!("srv/wals/{timeline:08X}.history");
        self.full.store().put(&key, text.into()).await.expect("written");
    }

    async fn window(&self) -> RecoveryWindow {
        self.full.recovery_window().await.expect("listed")
    }
}

#[tokio::test]
async fn an_empty_repository_has_no_window() {
    let world = World::new();
    assert_eq!(world.window().await, RecoveryWindow::default());
    world.wal(1, 1..=3).await;
    assert_eq!(world.window().await.strays[0].why, StrayReason::NoBackup);
}

#[tokio::test]
async fn it_reaches_from_the_oldest_backup_to_the_end_of_the_wal() {
    let world = World::new();
    world.backup(1, 1, 0xFE).await;
    world.backup(2, 1, 0x104).await;
    world.wal(1, 0xFE..=0x110).await;
    let window = world.window().await;
    let earliest = window.earliest.expect("a backup");
    assert_eq!(
        (earliest.backup, earliest.time, earliest.lsn.to_string()),
        (id(1), at(1), "0/FF000100".into())
    );
    let latest = window.latest.expect("WAL");
    assert_eq!(
        (latest.segment.to_string().as_str(), latest.lsn.to_string().as_str()),
        ("000000010000000100000010", "1/11000000")
    );
    assert!(window.gaps.is_empty() && window.strays.is_empty() && window.broken.is_empty());
    assert_eq!((window.last_backup, window.restorable), (Some(at(2)), vec![id(1), id(2)]));
}

#[tokio::test]
async fn gaps_say_from_when_to_when() {
    let world = World::new();
    for (hour, segment) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
        world.backup(hour, 1, segment).await;
    }
    world.wal(1, 10..=14).await;
    world.wal(1, 18..=33).await;
    world.wal(1, 40..=40).await;
    world.wal(1, 45..=50).await;
    let window = world.window().await;
    let number = |segment: Segment| segment.number(SIZE);
    let gaps: Vec<_> = window
        .gaps
        .iter()
        .map(|gap| (number(gap.after), number(gap.missing), gap.resumes.map(number), gap.until.clone()))
        .collect();
    assert_eq!(gaps, [(14, 15, Some(18), Some((id(2), at(2)))), (33, 34, Some(40), None),]);
    let missing = Segment::from_number(1, 41, SIZE);
    assert_eq!(window.broken, [(id(4), Fault::LacksWal(missing))]);
    assert_eq!(window.latest.map(|latest| number(latest.segment)), Some(33));
}

/// Gaps that somebody made on purpose are told from those that nobody meant.
#[tokio::test]
async fn a_gap_that_was_made_on_purpose_says_so() {
    let world = World::new();
    for (hour, segment) in [(1, 10), (2, 20), (3, 30)] {
        world.backup(hour, 1, segment).await;
    }
    world.wal(1, 10..=14).await;
    world.wal(1, 18..=24).await;
    world.wal(1, 30..=32).await;
    let dropped = |timeline, first, last| Dropped {
        first: Segment::from_number(timeline, first, SIZE),
        last: Segment::from_number(timeline, last, SIZE),
        segments: last - first + 1,
        since: at(1),
        until: at(2),
        by: "pg-1".into(),
        reason: "the volume was nearly full".into(),
    };
    let made = dropped(1, 16, 18);
    // A former primary's, on a way that nobody follows, and one of which everything arrived.
    for record in [&made, &dropped(2, 25, 29), &dropped(1, 20, 22)] {
        world.full.put_dropped(record).await.expect("written");
    }
    let told =
        |window: RecoveryWindow| -> Vec<_> { window.gaps.into_iter().map(|gap| gap.dropped).collect() };
    assert_eq!(told(world.window().await), [Some(made.clone()), None]);
    let open = dropped(1, 33, 40);
    world.full.put_dropped(&open).await.expect("written");
    world.wal(1, 41..=42).await;
    assert_eq!(told(world.window().await), [Some(made), None, Some(open)]);
}

/// S0.38: the window of an archive that crosses timelines.
#[tokio::test]
async fn it_follows_the_newest_backup_over_the_switch_and_names_wrong_timelines() {
    let world = World::new();
    world.backup(1, 1, 10).await;
    world.backup(2, 2, 60).await;
    world.wal(1, 10..=55).await;
    world.wal(2, 50..=70).await;
    world.history(2, "1\t0/32000800\tx\n").await;
    world.wal(3, 61..=61).await;
    world.wal(4, 20..=22).await;
    world.history(4, "1\t0/14000800\tx\n").await;
    world.history(5, "damaged").await;
    let window = world.window().await;
    assert_eq!(window.timeline, Some(2));
    assert_eq!(window.earliest.map(|earliest| earliest.backup), Some(id(1)));
    assert_eq!(window.latest.map(|latest| latest.segment.number(SIZE)), Some(70));
    assert!(window.gaps.is_empty(), "{:?}", window.gaps);
    let strays: Vec<u32> = window.strays.iter().map(|stray| stray.timeline).collect();
    assert_eq!(strays, [3, 4, 5]);
    assert_eq!(window.strays[0].why, StrayReason::NoHistory);
    assert_eq!(window.strays[1].why, StrayReason::LeftBefore { parent: 1, at: Lsn(0x1400_0800) });
    assert!(window.strays.iter().all(|stray| stray.why.is_alarming()));
    let text = window.strays[1].to_string();
    assert!(
        text.contains("timeline 4 left timeline 1 at 0/14000800") && text.contains("take a backup"),
        "{text}"
    );
}

#[tokio::test]
async fn a_branch_that_was_given_up_alarms_nobody() {
    let world = World::new();
    world.backup(1, 1, 10).await;
    world.wal(1, 10..=20).await;
    world.wal(2, 15..=30).await;
    world.history(2, "1\t0/F000800\tx\n").await;
    world.wal(3, 13..=18).await;
    world.history(3, "1\t0/D000800\tx\n").await;
    let window = world.window().await;
    assert_eq!((window.timeline, window.latest.map(|l| l.segment.number(SIZE))), (Some(3), Some(18)));
    assert_eq!(window.strays[0].why, StrayReason::GivenUp);
    assert!(window.strays.len() == 1 && !window.strays[0].why.is_alarming());
}
