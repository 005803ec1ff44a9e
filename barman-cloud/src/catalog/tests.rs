use super::*;
use crate::backup_info::{BackupInfo, BackupStatus, Tablespace};
use crate::layout::Archive;
use crate::lineage::Claim;
use crate::wal_name::{SegmentRange, SegmentSize};
use crate::{BackupId, Destination, ErrorKind, Lsn, Repository, Store, TimelineHistory};
use chrono::{DateTime, FixedOffset, TimeZone, Utc};
use rstest::rstest;

fn repository() -> Repository {
    let destination = Destination::parse("s3://bucket/p").expect("valid");
    Repository::new(Store::memory(&destination), "srv").expect("valid")
}

fn id(text: &str) -> BackupId {
    text.parse().expect("an id")
}

fn at(hour: u32) -> DateTime<FixedOffset> {
    Utc.with_ymd_and_hms(2026, 11, 21, hour, 0, 0).single().expect("a time").fixed_offset()
}

fn info(timeline: u32, end: u64, hour: u32) -> BackupInfo {
    let mut info = BackupInfo::started(timeline, Lsn(end - 0x100), SegmentSize::DEFAULT, at(hour));
    info.finish(timeline, Lsn(end), SegmentSize::DEFAULT, at(hour + 1));
    info.systemid = Some("42".into());
    info
}

const ONE: &str = "20261121T010000";
const TWO: &str = "20261121T020000";
const THREE: &str = "20261121T030000";

async fn put(repo: &Repository, key: &str, content: &str) {
    repo.store().put(key, content.to_owned().into()).await.expect("written");
}

async fn filled() -> Repository {
    let repo = repository();
    repo.put_backup_info(&id(ONE), &info(1, 0x400_0138, 1)).await.expect("written");
    repo.put_backup_info(&id(TWO), &info(1, 0x600_0138, 3)).await.expect("written");
    let mut failed = info(1, 0x800_0138, 5);
    failed.fail("broken");
    repo.put_backup_info(&id(THREE), &failed).await.expect("written");
    put(&repo, &format!("srv/base/{ONE}/data.tar.gz"), "x").await;
    put(&repo, &format!("srv/base/{TWO}/data.tar"), "x").await;
    repo
}

#[tokio::test]
async fn the_catalogue_shows_good_bad_and_orphans() {
    let repo = filled().await;
    put(&repo, "srv/base/20261121T040000/data.tar", "x").await;
    put(&repo, "srv/base/20261121T050000/backup.info", "status=NICE\n").await;
    put(&repo, "srv/base/not-an-id/backup.info", "status=DONE\n").await;
    let catalog = repo.catalog().await.expect("listed");
    let ids: Vec<&str> = catalog.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, [ONE, TWO, THREE, "20261121T050000"]);
    let bad = catalog.entries[3].info.as_ref().expect_err("unreadable");
    assert!(bad.report().contains("s3://bucket/p/srv/base/20261121T050000/backup.info"), "{}", bad.report());
    assert_eq!(catalog.orphans, [id("20261121T040000")]);
    assert_eq!(catalog.done().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [ONE, TWO]);
    assert!(catalog.contains(&id("20261121T040000")) && !catalog.contains(&id("20261121T060000")));
}

#[tokio::test]
async fn an_empty_place_is_an_empty_catalogue() {
    let catalog = repository().catalog().await.expect("listed");
    assert!(catalog.entries.is_empty() && catalog.orphans.is_empty());
    assert_eq!(first_recoverability_point(&catalog), None);
}

#[rstest]
#[case::latest(RecoveryTarget::Latest, None, Some(TWO))]
#[case::before_the_second_ended(RecoveryTarget::Time(at(3)), None, Some(ONE))]
#[case::as_the_first_ends(RecoveryTarget::Time(at(2)), None, Some(ONE))]
#[case::before_any(RecoveryTarget::Time(at(1)), None, None)]
#[case::lsn(RecoveryTarget::Lsn(Lsn(0x600_0137)), None, Some(ONE))]
#[case::lsn_at_the_end(RecoveryTarget::Lsn(Lsn(0x600_0138)), None, Some(TWO))]
#[case::second_is_past_the_switch(RecoveryTarget::Latest, Some("1\t0/5000000\tx"), Some(ONE))]
#[case::none_on_the_way(RecoveryTarget::Latest, Some("1\t0/1000000\tx"), None)]
#[tokio::test]
async fn selection(
    #[case] target: RecoveryTarget,
    #[case] history: Option<&str>,
    #[case] expected: Option<&str>,
) {
    let catalog = filled().await.catalog().await.expect("listed");
    let history = history.map(|text| TimelineHistory::parse(2, text).expect("valid"));
    let selected = select_backup(&catalog, target, history.as_ref()).map(|(id, _)| id.as_str());
    assert_eq!(selected, expected);
}

#[tokio::test]
async fn recovery_begins_where_the_oldest_backup_ended() {
    let catalog = filled().await.catalog().await.expect("listed");
    assert_eq!(first_recoverability_point(&catalog), Some(at(2)));
}

fn with_tablespace() -> BackupInfo {
    let mut info = info(1, 0x400_0138, 1);
    info.tablespaces = vec![Tablespace { name: "ts".into(), oid: 16384, location: "/ts".into() }];
    info
}

#[rstest]
#[case::complete(&["data.tar.gz", "data_0001.tar.gz", "16384.tar.gz"], None)]
#[case::mixed_codecs(&["data.tar", "16384.tar.lz4"], None)]
#[case::no_data(&["16384.tar.gz"], Some("no archive data.tar"))]
#[case::no_tablespace(&["data.tar.gz"], Some("no archive 16384.tar"))]
#[case::no_first(&["data_0001.tar.gz", "16384.tar.gz"], Some("lacks data.tar.gz"))]
#[case::gap(&["data.tar.gz", "data_0002.tar.gz", "16384.tar.gz"], Some("lacks data_0001.tar.gz"))]
#[case::twice(&["data.tar.gz", "data.tar", "16384.tar.gz"], Some("twice"))]
#[tokio::test]
async fn completeness(#[case] files: &[&str], #[case] problem: Option<&str>) {
    let repo = repository();
    for file in files {
        put(&repo, &format!("srv/base/{ONE}/{file}"), "12").await;
    }
    let objects = repo.backup_objects(&id(ONE)).await.expect("listed");
    assert_eq!(objects.stored_bytes(), 2 * files.len() as u64);
    match (objects.complete(&id(ONE), &with_tablespace()), problem) {
        (Ok(archives), None) => {
            assert_eq!(
                archives.keys().copied().collect::<Vec<_>>(),
                [Archive::Data, Archive::Tablespace(16384)]
            );
        }
        (Err(error), Some(problem)) => assert!(error.report().contains(problem), "{}", error.report()),
        (outcome, _) => panic!("{files:?}: {outcome:?}"),
    }
}

#[tokio::test]
async fn deleting_leaves_nothing_of_a_backup_and_all_of_the_rest() {
    let repo = filled().await;
    for key in ["data_0001.tar.gz", "16384.tar.gz", "stray"] {
        put(&repo, &format!("srv/base/{ONE}/{key}"), "x").await;
    }
    put(&repo, &repo.layout().manifest(&id(ONE)), "{}").await;
    put(&repo, &repo.layout().parts(&id(ONE)), "{}").await;
    put(&repo, "srv/wals/0000000100000000/000000010000000000000004", "x").await;
    repo.delete_backup(&id(ONE)).await.expect("deleted");
    let left: Vec<String> =
        repo.store().list("srv").await.expect("listed").into_iter().map(|o| o.key).collect();
    assert!(left.iter().all(|key| !key.contains(ONE)), "{left:?}");
    assert_eq!(left.len(), 4, "{left:?}");
    repo.delete_backup(&id(ONE)).await.expect("deleting again is harmless");
}

#[tokio::test]
async fn an_orphan_is_deleted_too() {
    let repo = repository();
    put(&repo, &format!("srv/base/{ONE}/data.tar"), "x").await;
    repo.delete_backup(&id(ONE)).await.expect("deleted");
    assert!(repo.store().list("srv").await.expect("listed").is_empty());
}

#[tokio::test]
async fn kept_backups_are_not_deleted() {
    let repo = filled().await;
    repo.set_keep(&id(ONE), Some(Keep::Standalone)).await.expect("kept");
    assert_eq!(repo.keep(&id(ONE)).await.expect("read"), Some(Keep::Standalone));
    let error = repo.delete_backup(&id(ONE)).await.expect_err("kept");
    assert!(error.report().contains("standalone"), "{}", error.report());
    assert_eq!(repo.backup_info(&id(ONE)).await.expect("untouched").status, BackupStatus::Done);
    repo.set_keep(&id(ONE), None).await.expect("released");
    assert_eq!(repo.keep(&id(ONE)).await.expect("read"), None);
    repo.delete_backup(&id(ONE)).await.expect("deleted");
    let error = repo.set_keep(&id(THREE), Some(Keep::Full)).await.expect_err("failed backup");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[rstest]
#[case("standalone", Keep::Standalone)]
#[case("standalone\n", Keep::Full)]
#[case("full", Keep::Full)]
#[case("", Keep::Full)]
#[tokio::test]
async fn foreign_annotations_keep_everything(#[case] body: &str, #[case] keep: Keep) {
    let repo = repository();
    put(&repo, &repo.layout().keep(&id(ONE)), body).await;
    assert_eq!(repo.keep(&id(ONE)).await.expect("read"), Some(keep));
}

#[tokio::test]
async fn missing_wal_is_named() {
    let repo = repository();
    let size = SegmentSize::new(1 << 30).expect("valid");
    // Four segments a directory, so the range crosses directories.
    for wal in [
        "0000000100000000/000000010000000000000002.gz",
        "0000000100000000/000000010000000000000003",
        "0000000100000001/000000010000000100000001.zst",
        "0000000100000001/000000010000000100000000.partial",
    ] {
        put(&repo, &format!("srv/wals/{wal}"), "x").await;
    }
    put(&repo, "srv/wals/0000000100000001/000000010000000100000002", "").await;
    let range = |begin: &str, end: &str| {
        SegmentRange::new(begin.parse().expect("valid"), end.parse().expect("valid"), size).expect("a range")
    };
    let all = range("000000010000000000000002", "000000010000000100000002");
    let missing: Vec<String> =
        repo.missing_wal(all.clone()).await.expect("listed").iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["000000010000000100000000", "000000010000000100000002"]);
    let error = repo.require_wal(all).await.expect_err("missing");
    assert!(error.report().contains("000000010000000100000000 and 1 more"), "{}", error.report());
    repo.require_wal(range("000000010000000000000002", "000000010000000000000003")).await.expect("all there");
}

#[tokio::test]
async fn histories_are_found_by_timeline() {
    let repo = repository();
    put(&repo, "srv/wals/00000002.history.gz", "x").await;
    put(&repo, "srv/wals/0000000A.history", "x").await;
    put(&repo, "srv/wals/note.txt", "x").await;
    let found: Vec<u32> = repo.histories().await.expect("listed").into_keys().collect();
    assert_eq!(found, [2, 10]);
}

#[tokio::test]
async fn an_archive_belongs_to_its_first_server() {
    let repo = repository();
    let now = Utc.with_ymd_and_hms(2026, 11, 21, 1, 0, 0).single().expect("a time");
    assert_eq!(repo.lineage().await.expect("read"), None);
    assert_eq!(repo.claim("42", Some("ns/a"), now).await.expect("free"), Claim::New);
    assert_eq!(repo.claim("42", None, now).await.expect("ours"), Claim::Ours);
    assert_eq!(repo.claim("42", Some("ns/a"), now).await.expect("ours"), Claim::Ours);
    let copy = repo.claim("42", Some("ns/copy"), now).await.expect_err("a copy");
    assert!(copy.report().contains("belongs to ns/a") && copy.report().contains("path or serverName"));
    let error = repo.claim("43", None, now).await.expect_err("foreign");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.report().contains("42") && error.report().contains("43"), "{}", error.report());
    assert_eq!(repo.lineage().await.expect("read").expect("there").claimed_by.as_deref(), Some("ns/a"));
}

#[tokio::test]
async fn barmans_archive_is_judged_by_its_backups() {
    let repo = filled().await;
    let now = Utc.with_ymd_and_hms(2026, 11, 21, 1, 0, 0).single().expect("a time");
    assert!(repo.claim("43", None, now).await.is_err());
    assert_eq!(repo.lineage().await.expect("read"), None);
    assert_eq!(repo.claim("42", None, now).await.expect("the same server"), Claim::New);
}

#[tokio::test]
async fn a_damaged_lineage_is_an_error() {
    let repo = repository();
    put(&repo, &repo.layout().lineage(), "{\"systemIden").await;
    let error = repo.lineage().await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.report().contains("howdah/lineage.json"), "{}", error.report());
}
