//! Timelines: what Barman's rule keeps of them, and where it is not enough or too much.

use super::*;
use crate::retention::WalNeed;

/// A history line: this timeline was left inside of a segment.
fn left(timeline: u32, segment: u64) -> String {
    format!("{timeline}\t{}\tno recovery target specified\n", Lsn(segment * SIZE.bytes() + 0x800))
}

/// Timeline 2 left 1 in segment 50.
fn promoted(backups: Vec<BackupFacts>) -> World {
    let mut world = World::new(backups);
    world.histories.extend([history(2, &left(1, 50))]);
    world.wal = vec![(1, 1..=50), (2, 50..=200)];
    world
}

#[test]
fn the_whole_way_from_a_kept_backup_stays() {
    let world = promoted(vec![on_timeline(2, backup(1, 80)), backup(5, 40)]);
    let plan = world.plan(&Policy::full_count(2));
    assert_eq!(cuts(&plan), [(1, 1, 39)]);
    let from: Vec<_> = plan.wal.kept.iter().filter_map(|kept| kept.from.clone()).collect();
    let at = |timeline, number| Segment::from_number(timeline, number, SIZE);
    assert_eq!(from, [(at(1, 40), WalNeed::Backup(id(5))), (at(2, 50), WalNeed::Backup(id(5)))]);
}

/// Barman leaves a timeline alone as long as the backup that is being deleted is on it, and so often for ever.
#[test]
fn an_old_timeline_goes_with_its_last_backup() {
    let world = promoted(vec![on_timeline(2, backup(1, 80)), backup(5, 40)]);
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!(deletable(&plan), [5]);
    assert_eq!(cuts(&plan), [(1, 1, 50), (2, 50, 79)]);
    assert!(plan.wal.cuts[0].unreachable && !plan.wal.cuts[1].unreachable);
}

/// After a recovery to a point in time the newest backups are of a future that was given up. Barman counts them and
/// deletes the only one that leads to where the server is.
#[test]
fn the_backup_that_leads_to_the_server_stays_though_newer_ones_count() {
    let mut world = promoted(vec![backup(5, 70), backup(6, 60), backup(9, 30), backup(11, 20)]);
    world.wal[0] = (1, 1..=90);
    let plan = world.plan(&Policy::full_count(2));
    assert_eq!((kept(&plan), deletable(&plan)), (vec![5, 6, 9], vec![11]));
    assert_eq!(reasons(&plan, 9), [KeepReason::LeadsToTimeline(2)]);
    assert_eq!(cuts(&plan), [(1, 1, 29)]);
    // The same for a window: its oldest moment must lie on the way of the server.
    world.backups.push(on_timeline(2, backup(1, 80)));
    let plan = world.plan(&Policy::window("3d".parse().expect("valid")));
    assert_eq!((kept(&plan), deletable(&plan)), (vec![1, 5, 9], vec![11, 6]));
}

#[test]
fn what_cannot_be_reached_goes_and_what_is_not_known_stays() {
    let mut world = World::new(vec![on_timeline(4, backup(1, 95)), backup(3, 10)]);
    world.histories.extend([history(2, &left(1, 20)), history(4, &left(1, 90))]);
    world.wal = vec![(1, 1..=90), (2, 20..=40), (3, 30..=35), (4, 90..=200), (5, 100..=101)];
    let plan = world.plan(&Policy::full_count(1));
    // 3 has no history, but is older than 4: nothing on 4 leads there. 5 may have grown out of 4.
    assert_eq!(cuts(&plan), [(1, 1, 90), (2, 20, 40), (3, 30, 35), (4, 90, 94)]);
    assert_eq!(plan.wal.kept[4].from.as_ref().map(|(_, need)| need), Some(&WalNeed::UnknownHistory));
    let plan = world.plan(&Policy::full_count(2));
    assert_eq!(
        cuts(&plan),
        [(1, 1, 9)],
        "all of them may lead on from the older one, but for what lies before it"
    );
    world.histories.extend([history(3, "damaged")]);
    assert_eq!(cuts(&world.plan(&Policy::full_count(2))), [(1, 1, 9)]);
}

#[test]
fn the_timeline_of_the_server_stays_before_its_first_backup() {
    let mut world = World::new(vec![backup(1, 60)]);
    world.histories.extend([history(2, &left(1, 20)), history(3, &left(1, 10))]);
    world.wal = vec![(1, 1..=90), (2, 20..=40), (3, 10..=15)];
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!(cuts(&plan), [(1, 1, 59), (2, 20, 40)]);
    assert_eq!(plan.wal.kept[2].from, Some((Segment::from_number(3, 0, SIZE), WalNeed::Current)));
}

/// A backup from a replica may end on another timeline than it began on.
#[test]
fn a_backup_across_a_switch_holds_both_timelines() {
    let mut across = backup(1, 49);
    if let Some(wal) = &mut across.wal {
        (wal.end, wal.lsn) = (Segment::from_number(2, 51, SIZE), Lsn(51 * SIZE.bytes() + 0x100));
    }
    let world = promoted(vec![across.clone(), backup(5, 20)]);
    assert_eq!(cuts(&world.plan(&Policy::full_count(1))), [(1, 1, 48)]);
    across.keep = Some(Keep::Standalone);
    let world = promoted(vec![on_timeline(2, backup(0, 80)), across]);
    assert_eq!(cuts(&world.plan(&Policy::full_count(1))), [(1, 1, 48), (2, 52, 79)]);
}
