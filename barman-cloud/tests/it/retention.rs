//! Retention against a server over HTTP that refuses, protects and goes away. Retention runs by itself, so what
//! the store refuses must be told and must not end it.

use crate::support::{BUCKET, repository, server};
use barman_cloud::catalog::Keep;
use barman_cloud::chain::Chain;
use barman_cloud::retention::{Applied, Plan, Policy, Refusal, Refused, WalHeld};
use barman_cloud::{BackupId, BackupInfo, BackupType, Compression, Lsn, Repository, Segment, SegmentSize};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use howdah_s3::{Action, Operation, Rule, Server};
use rstest::rstest;
use std::collections::BTreeSet;

const SIZE: SegmentSize = SegmentSize::DEFAULT;

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 25, 12, 0, 0).single().expect("a time")
}

fn id(days: i64) -> BackupId {
    BackupId::at(now() - TimeDelta::days(days))
}

fn segment(number: u64) -> Segment {
    Segment::from_number(1, number, SIZE)
}

async fn put(repository: &Repository, key: &str) {
    repository.store().put(key, "content".into()).await.expect("written");
}

/// A backup with two parts and a manifest; it began so many days ago in a segment and ended in the next.
async fn backup(full: &Repository, days: i64, number: u64, base: Option<i64>) {
    let place = if base.is_some() { full.increments() } else { full.clone() };
    let begin = (now() - TimeDelta::days(days)).fixed_offset();
    let mut info = BackupInfo::started(1, segment(number).start(SIZE), SIZE, begin);
    info.finish(1, Lsn((number + 1) * SIZE.bytes() + 0x100), SIZE, begin);
    for file in ["data.tar", "data_0001.tar"] {
        put(full, &format!("{}/{file}", place.layout().backup_dir(&id(days)))).await;
    }
    put(full, &place.layout().manifest(&id(days))).await;
    if let Some(base) = base {
        let (kind, found_by) = (BackupType::Incremental, "page-lsn".to_owned());
        let chain =
            Chain { kind, ancestors: vec![id(base)], since_lsn: segment(number).start(SIZE), found_by };
        place.put_chain(&id(days), &chain).await.expect("written");
    }
    place.put_backup_info(&id(days), &info).await.expect("written");
}

/// 9 with 8 on it, 5 and 1; segments 1 to 60.
async fn filled(server: &Server) -> Repository {
    let full = repository(server);
    backup(&full, 9, 10, None).await;
    backup(&full, 8, 15, Some(9)).await;
    backup(&full, 5, 30, None).await;
    backup(&full, 1, 50, None).await;
    for number in 1..=60 {
        put(&full, &full.layout().wal(segment(number).into(), Compression::None)).await;
    }
    let history = "1\t0/3C000800\tno recovery target specified\n";
    full.store().put("srv/wals/00000002.history", history.into()).await.expect("written");
    full
}

async fn plan(full: &Repository, count: u32) -> Plan {
    let none = BTreeSet::new();
    full.plan_retention(&Policy::full_count(count), now(), &none, &none).await.expect("listed")
}

async fn apply(full: &Repository, plan: &Plan) -> Applied {
    full.apply_retention(plan, BTreeSet::new).await
}

fn keys(server: &Server) -> Vec<String> {
    let objects = server.objects(BUCKET).expect("the bucket").into_iter();
    objects.map(|object| object.key.strip_prefix("some/path/srv/").expect("ours").to_owned()).collect()
}

fn keys_of(server: &Server, days: i64) -> Vec<String> {
    let mut keys = keys(server);
    keys.retain(|key| key.contains(id(days).as_str()));
    keys
}

fn segments(server: &Server) -> usize {
    keys(server).iter().filter(|key| key.starts_with("wals/0")).count() - 1
}

/// S0.17: of four backups two fulls stay; their chain, WAL and nothing else goes.
#[tokio::test]
async fn a_plan_is_carried_out_over_http() {
    let server = server().await;
    let full = filled(&server).await;
    let plan = plan(&full, 2).await;
    assert_eq!(plan.deletable.iter().map(|backup| backup.id.clone()).collect::<Vec<_>>(), [id(8), id(9)]);
    let before = keys(&server).len();
    server.clear_requests();
    let applied = apply(&full, &plan).await;
    assert!(applied.is_whole(), "{applied:?}");
    assert_eq!((applied.backups.clone(), applied.wal_objects), (vec![id(8), id(9)], 29));
    assert_eq!(applied.objects, 5 + 4);
    assert_eq!(keys(&server).len(), before - 9 - 29);
    let requests = server.requests();
    let place = |key: &str| requests.iter().rposition(|request| request.key.contains(key)).expect("asked");
    assert!(place(id(8).as_str()) < place("base/20261116"), "children first");
    let bulk = |r: &&howdah_s3::RequestRecord| r.operation == Operation::DeleteObjects;
    assert!(requests.iter().filter(bulk).count() >= 3, "many with one request");
    assert!(self::plan(&full, 2).await.is_empty());
}

/// Stores that refuse requests for many objects are asked one by one.
#[rstest]
#[case::not_implemented(Action::error(501, "NotImplemented", "no"))]
#[case::wants_md5(Action::error(
    400,
    "InvalidRequest",
    "Missing required header for this request: Content-MD5"
))]
#[case::denied(Action::access_denied())]
#[tokio::test]
async fn a_refused_batch_is_done_one_by_one(#[case] refusal: Action) {
    let server = server().await;
    let full = filled(&server).await;
    let rule = server.faults().add(Rule::new(refusal).operation(Operation::DeleteObjects));
    let applied = apply(&full, &plan(&full, 1).await).await;
    assert!(applied.is_whole() && server.faults().hits(rule) > 0, "{applied:?}");
    assert_eq!((applied.backups, segments(&server)), (vec![id(8), id(9), id(5)], 11));
}

/// A batch of which the store deletes all but one object: that one is asked about by itself.
#[tokio::test]
async fn an_error_within_a_batch_is_one_objects_own() {
    let server = server().await;
    let full = filled(&server).await;
    let key = format!("some/path/srv/base/{}/data.tar", id(9));
    let body = format!(
        "<?xml version=\"1.0\"?><DeleteResult><Error><Key>{key}</Key><Code>InternalError</Code>\
         <Message>We encountered an internal error.</Message></Error></DeleteResult>"
    );
    // The store says that it deleted the other one, and does not: only the first is asked for again.
    let rule = Rule::new(Action::ReplaceBody { body }).operation(Operation::DeleteObjects).times(1);
    server.faults().add(rule);
    let keys = [format!("srv/base/{}/data.tar", id(9)), format!("srv/base/{}/data_0001.tar", id(9))];
    assert!(full.store().delete_each(&keys).await.expect("deleted").is_empty());
    let left = keys_of(&server, 9);
    assert!(!left.iter().any(|key| key.ends_with("/data.tar")), "{left:?}");
}

fn locked() -> Action {
    Action::error(403, "AccessDenied", "Access Denied because object protected by object lock.")
}

/// One object is protected, the others are not: the rest of the plan is carried out, and what is left is no backup.
#[tokio::test]
async fn a_locked_object_is_told_and_the_rest_goes() {
    let server = server().await;
    let full = filled(&server).await;
    let key = format!("*base/{}/data_0001.tar", id(9));
    server
        .faults()
        .add(Rule::new(Action::error(501, "NotImplemented", "no")).operation(Operation::DeleteObjects));
    server.faults().add(Rule::new(locked()).operation(Operation::DeleteObject).key(&key));
    let wal = "*wals/*000000010000000000000003";
    server.faults().add(Rule::new(Action::access_denied()).operation(Operation::DeleteObject).key(wal));
    let applied = apply(&full, &plan(&full, 1).await).await;
    assert_eq!((&applied.backups, applied.refused_objects), (&vec![id(8), id(5)], 2));
    assert!(
        matches!(
            &applied.refused[..],
            [
                Refused { backup: Some(_), key: Some(_), why: Refusal::Locked(_) },
                Refused { backup: None, key: Some(_), why: Refusal::Denied(_) },
            ]
        ),
        "{:?}",
        applied.refused
    );
    let told = applied.refused[0].to_string();
    assert!(told.contains("data_0001.tar of backup") && told.contains("longer than the lock"), "{told}");
    assert!(applied.stopped.is_none() && applied.wal_held.is_none() && !applied.is_whole());
    assert_eq!(segments(&server), 11 + 1);
    assert_eq!(full.inventory().await.expect("listed").restorable().count(), 1);
    server.faults().clear();
    let applied = apply(&full, &plan(&full, 1).await).await;
    assert!(applied.is_whole() && keys_of(&server, 9).is_empty(), "{applied:?}");
    assert_eq!(segments(&server), 11);
}

/// A backup of which nothing can be deleted stays what it is, with what it builds on and its WAL.
#[tokio::test]
async fn a_backup_that_is_locked_as_a_whole_stays_good() {
    let server = server().await;
    let full = filled(&server).await;
    server.faults().add(Rule::new(Action::access_denied()).operation(Operation::DeleteObjects));
    let key = format!("*incremental/{}/*", id(8));
    server.faults().add(Rule::new(locked()).operation(Operation::DeleteObject).key(&key));
    let record = full.increments().layout().backup_info(&id(8));
    let before = full.store().get(&record, 1 << 20).await.expect("there");
    let applied = apply(&full, &plan(&full, 1).await).await;
    assert_eq!((&applied.backups, applied.refused_objects), (&vec![id(5)], 2));
    assert_eq!(applied.refused.last().map(|refused| &refused.why), Some(&Refusal::Dependent(id(8))));
    assert_eq!(applied.wal_held, Some(WalHeld::BackupStays(id(8))));
    assert_eq!(full.store().get(&record, 1 << 20).await.expect("there"), before);
    assert_eq!((keys_of(&server, 8).len(), segments(&server)), (5, 60));
    assert_eq!(full.inventory().await.expect("listed").restorable().count(), 3);
}

/// Credentials that may not delete at all: nothing changes, and the store is not asked about everything.
#[tokio::test]
async fn credentials_that_may_not_delete_change_nothing() {
    let server = server().await;
    let full = filled(&server).await;
    for number in 61..=400 {
        put(&full, &full.layout().wal(segment(number).into(), Compression::None)).await;
    }
    backup(&full, 0, 390, None).await;
    // Only WAL to prune: what needs it is gone.
    for days in [8, 9, 5, 1] {
        let place = if days == 8 { full.increments() } else { full.clone() };
        place.delete_backup(&id(days)).await.expect("deleted");
    }
    for operation in [Operation::DeleteObjects, Operation::DeleteObject] {
        server.faults().add(Rule::new(Action::access_denied()).operation(operation));
    }
    let plan = plan(&full, 1).await;
    assert_eq!((plan.deletable.len(), plan.wal.objects()), (0, 389));
    let applied = apply(&full, &plan).await;
    assert_eq!((applied.wal_objects, applied.wal_held), (0, Some(WalHeld::Refused)));
    assert_eq!((applied.refused.len(), segments(&server)), (100, 400));
    // The second directory was not asked about.
    assert_eq!(applied.refused_objects, 255);
}

/// Killed at any request: nothing that says it is complete has lost anything, and the next run finishes the work.
#[tokio::test]
async fn a_run_that_is_cut_short_anywhere_leaves_only_whole_backups() {
    let mut reached = 0;
    for requests in 0.. {
        let server = server().await;
        let full = filled(&server).await;
        full.set_keep(&id(1), Some(Keep::Full)).await.expect("kept");
        let plan = plan(&full, 1).await;
        let rule = server.faults().add(Rule::new(Action::Reset { after_bytes: 0 }).skip(requests));
        let applied = apply(&full, &plan).await;
        let cut = server.faults().hits(rule) > 0;
        server.faults().clear();
        let inventory = full.inventory().await.expect("listed");
        for (member, info) in inventory.restorable() {
            let place = if member.kind == BackupType::Full { full.clone() } else { full.increments() };
            let objects = place.backup_objects(&member.id).await.expect("listed");
            assert_eq!(objects.parts.len(), 2, "{} after {requests} requests", member.id);
            let (begin, end) = info.needed_wal().expect("known");
            let range = barman_cloud::SegmentRange::new(begin, end, SIZE).expect("a range");
            full.require_wal(range).await.expect("its WAL");
        }
        let stray = inventory.members.iter().find(|member| {
            member.done().is_some() && inventory.restorable().all(|(other, _)| other.id != member.id)
        });
        assert!(stray.is_none(), "{stray:?} after {requests} requests");
        assert!(inventory.restorable().any(|(member, _)| member.id == id(1)));
        assert_eq!(applied.stopped.is_some(), cut, "{applied:?}");
        let again = apply(&full, &self::plan(&full, 1).await).await;
        assert!(again.is_whole(), "{again:?}");
        let left = [9, 8, 5].map(|days| keys_of(&server, days).len());
        assert_eq!((left, segments(&server)), ([0, 0, 0], 11), "after {requests} requests");
        if !cut {
            reached = requests;
            break;
        }
    }
    assert!(reached > 20, "{reached} requests");
}
