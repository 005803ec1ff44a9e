//! Barman's own deletion, as a dry run, beside our plan: backups and WAL by key. Where the two differ on purpose, the
//! test says by exactly what.
//!
//! Barman judges by the clock of the host; backups here end half a day from every limit.

use crate::barman::World;
use barman_cloud::catalog::Keep;
use barman_cloud::retention::{FullRule, Plan, Policy};
use barman_cloud::{BackupId, BackupInfo, Compression, Lsn, Segment, SegmentSize};
use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;
use std::collections::BTreeSet;

const SIZE: SegmentSize = SegmentSize::DEFAULT;

/// A repository of full backups; the clock stands still for us.
struct Archive {
    world: World,
    now: DateTime<Utc>,
}

/// A backup on a timeline in a segment, made so many days and a half ago.
#[derive(Clone, Copy)]
struct Made {
    days: i64,
    timeline: u32,
    segment: u64,
}

const fn made(days: i64, segment: u64) -> Made {
    Made { days, timeline: 1, segment }
}

fn segment(timeline: u32, number: u64) -> Segment {
    Segment::from_number(timeline, number, SIZE)
}

/// Four backups; the archive crosses from one directory into the next between the third and the fourth.
const FOUR: [Made; 4] = [made(40, 0xE0), made(9, 0xF0), made(5, 0xF8), made(1, 0x108)];

impl Archive {
    async fn new(backups: &[Made]) -> Self {
        let archive = Self { world: World::new().await, now: Utc::now() };
        for backup in backups {
            archive.backup(*backup).await;
        }
        archive
    }

    /// [`FOUR`], with WAL from before the first to after the last.
    async fn four() -> Self {
        let archive = Self::new(&FOUR).await;
        archive.wal(1, 0xD8..=0x110).await;
        archive
    }

    fn id(&self, days: i64) -> BackupId {
        BackupId::at(self.now - TimeDelta::days(days) - TimeDelta::hours(12))
    }

    async fn backup(&self, made: Made) {
        let (id, layout) = (self.id(made.days), self.world.repo.layout());
        let begin = self.now - TimeDelta::days(made.days) - TimeDelta::hours(12);
        let at = segment(made.timeline, made.segment);
        let mut info =
            BackupInfo::started(made.timeline, Lsn(at.start(SIZE).0 + 0x28), SIZE, begin.fixed_offset());
        let end = Lsn((made.segment + 1) * SIZE.bytes() + 0x100);
        info.finish(made.timeline, end, SIZE, (begin + TimeDelta::seconds(9)).fixed_offset());
        info.version = Some(150_018);
        info.pgdata = Some("/srv/pg/data".into());
        for file in ["data.tar", "data_0001.tar"] {
            self.put(&format!("{}/{file}", layout.backup_dir(&id))).await;
        }
        self.world.repo.put_backup_info(&id, &info).await.expect("written");
        // The label that PostgreSQL archives with the WAL.
        self.put(&format!("{}/{at}.00000028.backup", layout.wal_hash_dir(at))).await;
    }

    async fn put(&self, key: &str) {
        self.world.repo.store().put(key, "content".into()).await.expect("written");
    }

    async fn wal(&self, timeline: u32, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers.clone() {
            let name = segment(timeline, number).into();
            self.put(&self.world.repo.layout().wal(name, Compression::Gzip)).await;
        }
        let last = segment(timeline, numbers.end() + 1);
        self.put(&format!("{}/{last}.partial", self.world.repo.layout().wal_hash_dir(last))).await;
    }

    /// Timeline 2, which left 1 in this segment.
    async fn history(&self, left: u64) {
        let text = format!("1\t{}\tno recovery target specified\n", Lsn(left * SIZE.bytes() + 0x800));
        let key = "srv/wals/00000002.history";
        self.world.repo.store().put(key, text.into()).await.expect("written");
    }

    async fn keep(&self, days: i64, keep: Keep) {
        self.world.repo.set_keep(&self.id(days), Some(keep)).await.expect("kept");
    }

    /// Keys that Barman would delete.
    async fn barman(&self, policy: &str, minimum: u32) -> BTreeSet<String> {
        let minimum = minimum.to_string();
        let options = ["--dry-run", "-m", &minimum, "-r", policy];
        let text = self.world.ok("barman-cloud-backup-delete", &options, &[]).await;
        let prefix = "some/path/srv/";
        let mut keys = BTreeSet::new();
        for line in text.lines() {
            let words = line.strip_prefix("Skipping deletion of ").expect("a dry run");
            let words = words.strip_suffix(" due to --dry-run option").expect("a dry run");
            if let Some(below) = words.strip_prefix("all objects under prefix ") {
                let below = below.strip_prefix(prefix).expect("ours");
                keys.extend(self.world.keys().into_iter().filter(|key| key.starts_with(below)));
            } else {
                let list = words.strip_prefix("objects [").and_then(|list| list.strip_suffix(']'));
                let names = list.expect("a list").split(", ").map(|name| name.trim_matches('\''));
                keys.extend(names.map(|name| name.strip_prefix(prefix).expect("ours").to_owned()));
            }
        }
        keys
    }

    async fn plan(&self, policy: &Policy) -> Plan {
        let none = BTreeSet::new();
        self.world.repo.plan_retention(policy, self.now, &none, &none).await.expect("listed")
    }

    /// Keys that we would delete, and do.
    async fn howdah(&self, policy: &Policy) -> BTreeSet<String> {
        let plan = self.plan(policy).await;
        let before: BTreeSet<String> = self.world.keys().into_iter().collect();
        let applied = self.world.repo.apply_retention(&plan, BTreeSet::new).await;
        assert!(applied.is_whole(), "{applied:?}");
        let after: BTreeSet<String> = self.world.keys().into_iter().collect();
        before.difference(&after).cloned().collect()
    }

    fn wal_keys(&self, timeline: u32, numbers: std::ops::RangeInclusive<u64>) -> BTreeSet<String> {
        let names = numbers.map(|number| segment(timeline, number).to_string());
        let keys = self.world.keys();
        names
            .flat_map(|name| keys.iter().filter(move |key| key.contains(&name)).cloned().collect::<Vec<_>>())
            .collect()
    }
}

fn window(text: &str, minimum_redundancy: u32) -> Policy {
    Policy { minimum_redundancy, ..Policy::window(text.parse().expect("valid")) }
}

fn count(count: u32, minimum_redundancy: u32) -> Policy {
    Policy { minimum_redundancy, ..Policy::full_count(count) }
}

/// S0.17, S3.7, S1.2: by number and by window, with and without minimum redundancy.
#[rstest]
#[case::redundancy_1("REDUNDANCY 1", count(1, 0), 3)]
#[case::redundancy_2("REDUNDANCY 2", count(2, 0), 2)]
#[case::redundancy_3("REDUNDANCY 3", count(3, 0), 1)]
#[case::redundancy_4("REDUNDANCY 4", count(4, 0), 0)]
#[case::redundancy_below_the_minimum("REDUNDANCY 1", count(1, 3), 1)]
#[case::window_1("RECOVERY WINDOW OF 1 DAYS", window("1d", 0), 3)]
#[case::window_3("RECOVERY WINDOW OF 3 DAYS", window("3d", 0), 2)]
#[case::window_of_a_week("RECOVERY WINDOW OF 1 WEEKS", window("1w", 0), 1)]
#[case::window_of_a_month("RECOVERY WINDOW OF 1 MONTHS", window("1m", 0), 0)]
#[case::window_and_minimum("RECOVERY WINDOW OF 1 DAYS", window("1d", 3), 1)]
#[tokio::test]
async fn barman_deletes_the_same(#[case] barman: &str, #[case] policy: Policy, #[case] gone: usize) {
    let archive = Archive::four().await;
    let theirs = archive.barman(barman, policy.minimum_redundancy).await;
    assert_eq!(theirs.iter().filter(|key| key.ends_with("backup.info")).count(), gone, "{theirs:?}");
    if gone == 0 {
        // Barman looks at WAL only when it deletes a backup; we prune what lies before the first of them.
        assert_eq!((theirs, archive.howdah(&policy).await), (BTreeSet::new(), archive_before_first().await));
        return;
    }
    assert!(theirs.iter().any(|key| key.starts_with("wals/")));
    assert_eq!(theirs, archive.howdah(&policy).await);
}

async fn archive_before_first() -> BTreeSet<String> {
    Archive::four().await.wal_keys(1, 0xD8..=0xDF)
}

#[rstest]
#[case::full_among_the_newest(5, Keep::Full, count(2, 0), "REDUNDANCY 2")]
#[case::full_outside(9, Keep::Full, count(1, 0), "REDUNDANCY 1")]
#[case::standalone_among_the_newest(5, Keep::Standalone, count(2, 0), "REDUNDANCY 2")]
#[case::standalone_outside(9, Keep::Standalone, count(1, 0), "REDUNDANCY 1")]
#[case::standalone_oldest(40, Keep::Standalone, count(1, 0), "REDUNDANCY 1")]
#[case::full_in_a_window(9, Keep::Full, window("1d", 0), "RECOVERY WINDOW OF 1 DAYS")]
#[tokio::test]
async fn kept_backups_mean_the_same(
    #[case] days: i64,
    #[case] keep: Keep,
    #[case] policy: Policy,
    #[case] barman: &str,
) {
    let archive = Archive::four().await;
    archive.keep(days, keep).await;
    assert_eq!(archive.barman(barman, 0).await, archive.howdah(&policy).await);
}

/// Barman leaves failed backups for ever, and the WAL between standalone backups until it next deletes a backup.
#[tokio::test]
async fn what_barman_leaves_behind_goes_as_well() {
    let archive = Archive::four().await;
    let mut info = archive.world.repo.backup_info(&archive.id(9)).await.expect("there");
    info.fail("broken");
    archive.world.repo.put_backup_info(&archive.id(9), &info).await.expect("written");
    let theirs = archive.barman("REDUNDANCY 1", 0).await;
    let failed = format!("base/{}/", archive.id(9));
    let failed: BTreeSet<String> =
        archive.world.keys().into_iter().filter(|key| key.starts_with(&failed)).collect();
    assert_eq!(failed.len(), 3);
    let more: BTreeSet<String> = archive.howdah(&count(1, 0)).await.difference(&theirs).cloned().collect();
    assert_eq!(more, failed);

    let archive = Archive::new(&[made(40, 0x10), made(1, 0x20)]).await;
    archive.wal(1, 0x08..=0x28).await;
    archive.keep(40, Keep::Standalone).await;
    assert_eq!(archive.barman("REDUNDANCY 1", 0).await, BTreeSet::new());
    let mut expected = archive.wal_keys(1, 0x08..=0x0F);
    expected.extend(archive.wal_keys(1, 0x12..=0x1F));
    assert_eq!(archive.howdah(&count(1, 0)).await, expected);
}

/// Barman never deletes WAL of the timeline that the last deleted backup was on, though nothing leads there any more.
#[tokio::test]
async fn a_timeline_without_backups_goes_at_once() {
    let second = Made { days: 1, timeline: 2, segment: 0x50 };
    let archive = Archive::new(&[made(9, 0x10), made(5, 0x20), second]).await;
    archive.wal(1, 0x08..=0x30).await;
    archive.wal(2, 0x31..=0x60).await;
    archive.history(0x31).await;
    let theirs = archive.barman("REDUNDANCY 1", 0).await;
    let old = archive.wal_keys(1, 0x20..=0x31);
    let ours = archive.howdah(&count(1, 0)).await;
    assert!(theirs.is_subset(&ours));
    assert_eq!(ours.difference(&theirs).cloned().collect::<BTreeSet<_>>(), old);
}

/// Kept on purpose: after a recovery to a point in time Barman counts backups of the future that was given up and
/// deletes the only one that leads to where the server is; and one that lacks WAL counts for it as any other.
#[tokio::test]
async fn what_is_kept_though_barman_would_delete_it() {
    let archive = Archive::new(&[made(9, 0x10), made(5, 0x40)]).await;
    archive.wal(1, 0x08..=0x48).await;
    archive.wal(2, 0x20..=0x30).await;
    archive.history(0x20).await;
    let theirs = archive.barman("REDUNDANCY 1", 0).await;
    assert!(theirs.contains(&format!("base/{}/backup.info", archive.id(9))));
    let mut backup: BTreeSet<String> = ["backup.info", "data.tar", "data_0001.tar"]
        .map(|file| format!("base/{}/{file}", archive.id(9)))
        .into();
    backup.extend(archive.wal_keys(1, 0x10..=0x3F));
    let ours = archive.howdah(&count(1, 0)).await;
    assert!(ours.is_subset(&theirs));
    assert_eq!(theirs.difference(&ours).cloned().collect::<BTreeSet<_>>(), backup);

    let archive = Archive::new(&[made(9, 0x10), made(5, 0x40)]).await;
    archive.wal(1, 0x08..=0x40).await;
    let theirs = archive.barman("REDUNDANCY 1", 0).await;
    assert!(theirs.contains(&format!("base/{}/backup.info", archive.id(9))));
    // 0x41 is only a partial segment.
    let before_both = archive.wal_keys(1, 0x08..=0x0F);
    assert_eq!(archive.howdah(&count(1, 0)).await, before_both);
}

/// One backup that cannot be read: Barman deletes nothing at all, we nothing that it may need.
#[tokio::test]
async fn an_unreadable_backup_ends_barmans_deletion_and_holds_ours() {
    let archive = Archive::four().await;
    let key = archive.world.repo.layout().backup_info(&archive.id(5));
    archive.world.repo.store().put(&key, "status\n".into()).await.expect("written");
    let output =
        archive.world.run("barman-cloud-backup-delete", &["--dry-run", "-r", "REDUNDANCY 1"], &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let plan = archive.plan(&count(1, 0)).await;
    let gone: Vec<_> = plan.deletable.iter().map(|backup| backup.id.clone()).collect();
    assert_eq!(gone, [archive.id(40), archive.id(9)]);
    assert_eq!(plan.wal.cuts.last().map(|cut| cut.last), Some(segment(1, 0xEF)));
    assert_eq!(plan.needing_person().count(), 1);
}

/// pgBackRest's count by age is a window over full backups.
#[tokio::test]
async fn an_age_is_a_window_over_full_backups() {
    let archive = Archive::four().await;
    let age = Policy { full: "3d".parse().ok().map(FullRule::Age), ..Policy::default() };
    assert_eq!(archive.barman("RECOVERY WINDOW OF 3 DAYS", 0).await, archive.howdah(&age).await);
}
