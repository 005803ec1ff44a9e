//! What the rules and the guards decide on one timeline.

use super::*;
use crate::catalog::Fault;
use crate::retention::{Calendar, DeleteReason, FullRule, Period, WalUntouched};
use rstest::rstest;

fn period(text: &str) -> Period {
    text.parse().expect("a length of time")
}

/// A full backup each day of the last `days`.
fn daily(days: i64) -> World {
    World::new((0..days).map(|day| backup(day, 900 - 10 * day as u64)).collect())
}

/// S0.17, S3.7: `repo1-retention-full: '7'` with type `count`, and `backupRetentionPolicy: 3`. The oldest goes when a
/// new one is there.
#[rstest]
#[case::seven(7)]
#[case::three(3)]
fn a_count_keeps_the_newest_and_the_oldest_goes_with_a_new_one(#[case] count: u32) {
    let mut world = daily(i64::from(count));
    let policy = Policy::full_count(count);
    let plan = world.plan(&policy);
    assert!(plan.deletable.is_empty(), "{plan}");
    world.backups.push(backup(count.into(), 5));
    let plan = world.plan(&policy);
    assert_eq!(deletable(&plan), [i64::from(count)]);
    assert_eq!(reasons(&plan, 0)[0], KeepReason::FullCount { place: 1, of: count });
    assert_eq!(cuts(&plan), [(1, 1, 900 - 10 * (u64::from(count) - 1) - 1)]);
    assert_eq!(plan.freed_bytes(), 100 + 10 * plan.wal.objects());
}

/// S1.2: a policy of retention, by time: every moment of the window stays reachable.
#[rstest]
#[case::three_days(Policy::window(period("3d")), &[0, 1, 2, 3])]
#[case::a_week(Policy::window(period("1w")), &[0, 1, 2, 3, 4, 5, 6, 7])]
#[case::by_age(Policy { full: Some(FullRule::Age(period("2d"))), ..Policy::default() }, &[0, 1, 2])]
#[case::days(Policy { daily: 2, ..Policy::default() }, &[0, 1])]
#[case::weeks(Policy { weekly: 2, ..Policy::default() }, &[0, 3])]
#[case::months(Policy { monthly: 1, ..Policy::default() }, &[0])]
#[case::the_last_stays_whatever_is_asked(Policy { daily: 1, minimum_redundancy: 0, ..Policy::default() }, &[0])]
#[case::redundancy(Policy { minimum_redundancy: 4, ..Policy::full_count(2) }, &[0, 1, 2, 3])]
#[case::rules_add_up(Policy { weekly: 2, recovery_window: Some(period("1d")), ..Policy::full_count(1) }, &[0, 1, 3])]
#[case::no_rule(Policy { minimum_redundancy: 1, ..Policy::default() }, &[0, 1, 2, 3, 4, 5, 6, 7, 8])]
fn rules(#[case] policy: Policy, #[case] expected: &[i64]) {
    // Each ended a minute before noon: that of the day on which a window begins is just outside, and begins it. The day
    // of the test is a Wednesday.
    let mut world = daily(9);
    for backup in &mut world.backups {
        backup.end = backup.begin.map(|begin| begin - TimeDelta::minutes(1));
    }
    assert_eq!(kept(&world.plan(&policy)), expected);
}

#[test]
fn the_backup_that_ended_before_the_window_begins_it() {
    let world = World::new(vec![backup(1, 90), backup(10, 50), backup(20, 10)]);
    let plan = world.plan(&Policy::window(period("5d")));
    assert_eq!(kept(&plan), [1, 10]);
    assert_eq!(reasons(&plan, 10), [KeepReason::WindowBegins(period("5d"))]);
    assert_eq!(cuts(&plan), [(1, 1, 49)]);
    let text = plan.to_string();
    assert!(text.contains("20261115-120000F: the recovery window of 5d begins with it"), "{text}");
    assert!(
        text.contains(
            "delete  20261105-120000F: ended before the recovery window of 5d (2026-11-20T12:00:00Z)"
        ),
        "{text}"
    );
}

/// The last good one stays, and one that has lost its WAL does not count as good.
#[test]
fn backups_that_cannot_be_restored_do_not_count() {
    let mut world = World::new(vec![backup(1, 90), backup(2, 70), backup(3, 50), backup(4, 30)]);
    world.wal = vec![(1, 1..=90)];
    world.damaged.insert(id(2));
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!(kept(&plan), [1, 2, 3]);
    let missing = Segment::from_number(1, 91, SIZE);
    assert_eq!(reasons(&plan, 1), [KeepReason::Faulty(Fault::LacksWal(missing))]);
    assert_eq!(reasons(&plan, 2), [KeepReason::Faulty(Fault::Damaged)]);
    assert!(reasons(&plan, 3).contains(&KeepReason::LastFull));
    assert_eq!(plan.needing_person().count(), 2);
    assert_eq!(plan.last_full(), Some(&id(3)));
}

#[test]
fn without_a_good_full_backup_nothing_goes() {
    let mut world = World::new(vec![failed(1, 90), failed(2, 70)]);
    let plan = world.plan(&Policy::full_count(1));
    assert!(plan.is_empty() && plan.wal.untouched == Some(WalUntouched::NoBackup), "{plan}");
    world.backups = vec![backup(1, 1500), failed(2, 70)];
    let plan = world.plan(&Policy::full_count(1));
    assert!(plan.is_empty() && plan.wal.untouched == Some(WalUntouched::NoBackup), "{plan}");
}

#[test]
fn failures_go_when_they_are_old_and_a_pinned_backup_does_not_make_them_young() {
    let world = World::new(vec![
        failed(1, 95),
        backup(2, 90),
        failed(3, 80),
        backup(4, 70),
        failed(5, 60),
        pinned(9, 20, Keep::Full),
    ]);
    let plan = world.plan(&Policy::full_count(2));
    assert_eq!(deletable(&plan), [5]);
    assert_eq!(plan.deletable[0].reason, DeleteReason::Unfinished(BackupStatus::Failed));
    assert_eq!(reasons(&plan, 1), [KeepReason::RecentUnfinished(BackupStatus::Failed)]);
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!((kept(&plan), deletable(&plan)), (vec![1, 2, 9], vec![5, 4, 3]));
}

#[test]
fn unreadable_backups_wait_for_a_person_and_hold_the_wal_they_may_need() {
    let world = World::new(vec![backup(1, 90), unreadable(2), backup(3, 50), backup(4, 30), unreadable(9)]);
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!(deletable(&plan), [4, 3]);
    assert_eq!(plan.needing_person().map(|(id, _)| days_of(id)).collect::<Vec<_>>(), [9, 2]);
    assert_eq!(plan.wal.untouched, Some(WalUntouched::Unreadable(id(9))), "nothing is older than it");
    let world = World::new(world.backups[..4].to_vec());
    assert_eq!(cuts(&world.plan(&Policy::full_count(1))), [(1, 1, 49)]);
}

#[rstest]
#[case::with_all_wal(Keep::Full, &[(1, 1, 9)])]
#[case::for_itself(Keep::Standalone, &[(1, 1, 9), (1, 12, 89)])]
fn pinned_backups_stay_with_their_wal(#[case] keep: Keep, #[case] expected: &[(u32, u64, u64)]) {
    let world = World::new(vec![backup(1, 90), backup(3, 50), pinned(9, 10, keep)]);
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!((kept(&plan), deletable(&plan)), (vec![1, 9], vec![3]));
    assert_eq!(reasons(&plan, 9), [KeepReason::Pinned(keep)]);
    assert_eq!(cuts(&plan), expected);
    // A rule that keeps it as well needs all WAL after it.
    assert_eq!(cuts(&world.plan(&Policy::full_count(3))), [(1, 1, 9)]);
}

#[test]
fn what_is_in_use_stays_with_all_it_needs() {
    let mut world = World::new(vec![
        backup(1, 90),
        of_kind(BackupType::Incremental, 7, 40, &[9]),
        backup(9, 20),
        backup(11, 10),
    ]);
    world.in_use.insert(id(7));
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!((kept(&plan), deletable(&plan)), (vec![1, 7, 9], vec![11]));
    assert_eq!(reasons(&plan, 7), [KeepReason::InUse]);
    assert_eq!(reasons(&plan, 9), [KeepReason::NeededBy { newest: id(7), count: 1 }]);
    assert_eq!(cuts(&plan), [(1, 1, 19)]);
}

/// Two chains: 20 with a differential at 18 and incrementals at 19 and 17, and 10 with the same.
fn chains() -> World {
    use BackupType::{Differential, Incremental};
    let chain = |full: i64, segment: u64| {
        [
            backup(full, segment),
            of_kind(Incremental, full - 1, segment + 3, &[full]),
            of_kind(Differential, full - 2, segment + 6, &[full]),
            of_kind(Incremental, full - 3, segment + 9, &[full, full - 2]),
        ]
    };
    World::new(chain(20, 10).into_iter().chain(chain(10, 100)).collect())
}

#[rstest]
#[case::whole_chains_go_children_first(Policy::full_count(1), &[7, 8, 9, 10], &[17, 18, 19, 20])]
#[case::all(Policy::full_count(2), &[7, 8, 9, 10, 17, 18, 19, 20], &[])]
#[case::differentials_by_count(Policy { differential: Some(1), ..Policy::full_count(2) }, &[7, 8, 9, 10, 19, 20], &[17, 18])]
#[case::months_keep_the_full_backup_alone(Policy { weekly: 3, ..Policy::default() }, &[7, 8, 9, 10, 20], &[17, 18, 19])]
#[case::a_window_judges_each(Policy::window("9d".parse().expect("valid")), &[7, 8, 9, 10], &[17, 18, 19, 20])]
#[case::a_window_that_begins_with_an_incremental(Policy::window("16d".parse().expect("valid")), &[7, 8, 9, 10, 17, 18, 20], &[19])]
#[case::without_a_rule(Policy { differential: Some(1), ..Policy::default() }, &[7, 8, 9, 10, 19, 20], &[17, 18])]
fn chains_stay_and_go_as_wholes(#[case] policy: Policy, #[case] stay: &[i64], #[case] go: &[i64]) {
    let plan = chains().plan(&policy);
    assert_eq!((kept(&plan), deletable(&plan)), (stay.to_vec(), go.to_vec()), "{plan}");
}

#[test]
fn a_chain_says_why_it_goes() {
    let plan = chains().plan(&Policy { differential: Some(1), ..Policy::full_count(2) });
    assert_eq!(plan.deletable[0].reason, DeleteReason::BaseGoes(id(18)));
    assert_eq!(plan.deletable[1].reason.to_string(), "not one of the 1 newest");
    assert!(
        plan.to_string().contains("20261105-120000F_20261107-120000D: not one of the 1 newest (100 bytes)"),
        "{plan}"
    );
    assert_eq!(chains().plan(&Policy::full_count(1)).deletable[2].reason, DeleteReason::BaseGoes(id(20)));
}

#[test]
fn a_pinned_incremental_holds_its_chain() {
    let mut world = chains();
    let pin = world.backups.iter_mut().find(|backup| backup.id == id(17)).expect("there");
    pin.keep = Some(Keep::Standalone);
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!((kept(&plan), deletable(&plan)), (vec![7, 8, 9, 10, 17, 18, 20], vec![19]));
    // Only what each of them needs to become consistent.
    assert_eq!(cuts(&plan), [(1, 1, 9), (1, 12, 15), (1, 18, 18), (1, 21, 99)]);
}

#[test]
fn a_chain_whose_record_is_lost_holds_what_it_may_build_on() {
    let mut world = chains();
    let lost = world.backups.iter_mut().find(|backup| backup.id == id(17)).expect("there");
    (lost.state, lost.ancestors) = (State::Unreadable("chain.json is gone".into()), Vec::new());
    let plan = world.plan(&Policy::full_count(1));
    assert!(plan.deletable.is_empty(), "{plan}");
    assert!(reasons(&plan, 20).contains(&KeepReason::MayBeNeededBy(id(17))));
    // What a deletion left behind when it was killed is no riddle.
    let left = world.backups.iter_mut().find(|backup| backup.id == id(17)).expect("there");
    left.state = State::Unfinished(BackupStatus::Failed);
    assert_eq!(deletable(&world.plan(&Policy::full_count(1))), [18, 19, 20, 17]);
}

#[test]
fn a_damaged_chain_names_what_is_left_of_it() {
    let mut world = chains();
    world.damaged.insert(id(8));
    let plan = world.plan(&Policy::full_count(1));
    assert_eq!(reasons(&plan, 7), [KeepReason::Faulty(Fault::LacksBase(id(8)))]);
    assert!(reasons(&plan, 9).contains(&KeepReason::WithFull(id(10))));
}

#[test]
fn the_newest_of_a_week_is_named() {
    let plan = daily(9).plan(&Policy { weekly: 2, ..Policy::default() });
    assert_eq!(reasons(&plan, 3), [KeepReason::NewestOf(Calendar::Week, "2026-W47".into())]);
    assert!(plan.to_string().contains("the newest full backup of week 2026-W47"), "{plan}");
}

#[test]
fn segments_of_two_sizes_are_left_alone() {
    let mut odd = backup(5, 20);
    if let Some(wal) = &mut odd.wal {
        wal.size = SegmentSize::MIN;
    }
    let plan = World::new(vec![backup(1, 90), odd]).plan(&Policy::full_count(1));
    assert!(plan.wal.cuts.is_empty() && plan.wal.untouched == Some(WalUntouched::SegmentSizes), "{plan}");
}
