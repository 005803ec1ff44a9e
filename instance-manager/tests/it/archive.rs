//! The WAL archive through PostgreSQL, the WAL command and the socket.

use std::time::Instant;

use crate::pod::{Pod, text};
use crate::world::{BUCKET, World, found, until};

/// S2.23, S3.16: without anything done by hand, and then as the user checks it.
#[tokio::test(flavor = "multi_thread")]
async fn wal_reaches_the_store_by_itself() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, true)).await;
    let pod = Pod::initialised(&world).await;
    // Nobody wrote anything: the manager proves the archive by itself.
    until("the first segment is in the store", || async {
        world.keys().iter().any(|k| k.starts_with("pg/wals/0000000100000000/"))
    })
    .await;
    let status = found("the archiver has confirmed", || async {
        pod.status().and_then(|s| s.archiver).filter(|a| a.confirmed)
    })
    .await;
    assert!(status.working && status.failed_count == 0 && status.archived_count >= 1, "{status:?}");
    assert!(world.keys().contains(&"pg/howdah/lineage.json".to_owned()), "{:?}", world.keys());
    let metrics = pod.http(9187, "/metrics").await.unwrap().1;
    assert!(metrics.contains("howdah_archiver_archived_total"), "{metrics}");

    // The recipe of the handbook: switch, then look.
    let sql = pod.sql("postgres", "postgres").await.unwrap();
    sql.batch_execute("CREATE TABLE t (); SELECT pg_switch_wal()").await.unwrap();
    until("PostgreSQL's own statistics agree", || async {
        let row =
            sql.query_one("SELECT archived_count, failed_count FROM pg_stat_archiver", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(1), 0);
        row.get::<_, i64>(0) >= 2
    })
    .await;

    // Idle, after everything was used once.
    assert!(pod.memory() < 10 * 1024, "the manager needs more memory than it should");

    // The command by hand: fast, idempotent, and refusing what is not there.
    let done = sql
        .query_one("SELECT last_archived_wal FROM pg_stat_archiver", &[])
        .await
        .unwrap()
        .get::<_, String>(0);
    let path = format!("pg_wal/{done}");
    let began = Instant::now();
    let again = pod.call(&["wal-archive", &path]);
    assert!(again.status.success(), "{}", text(&again));
    eprintln!("one call of wal-archive, with its process: {:?}", began.elapsed());
    let missing = pod.call(&["wal-archive", "pg_wal/0000000100000000000000FF"]);
    assert!(!missing.status.success());
    assert!(text(&missing).contains("0000000100000000000000FF"), "{}", text(&missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_of_another_database_is_refused() {
    let world = World::new().await;
    world
        .s3
        .put(
            BUCKET,
            "pg/howdah/lineage.json",
            r#"{"systemIdentifier":"1","claimedAt":"2026-11-21T10:00:00Z"}"#,
        )
        .await
        .unwrap();
    world.s3.put(BUCKET, "pg/wals/0000000100000000/000000010000000000000001", vec![0u8; 1024]).await.unwrap();
    world.cluster("pg", world.spec(None, true)).await;
    let pod = Pod::initialised(&world).await;
    let archiver = found("the refusal is told", || async {
        pod.status().and_then(|s| s.archiver).filter(|a| a.last_error.is_some())
    })
    .await;
    assert!(!archiver.working && !archiver.confirmed, "{archiver:?}");
    let error = archiver.last_error.unwrap();
    assert!(error.contains("lineage.json") || error.contains("system"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_later_and_wrong_keys_that_are_mended() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let pod = Pod::initialised(&world).await;
    let wrong = [("ID", "key"), ("KEY", "wrong")];
    let data = |pairs: [(&str, &str); 2]| {
        pairs.map(|(k, v)| (k.to_owned(), k8s_openapi::ByteString(v.into()))).into()
    };
    world.secret("aws-creds", data(wrong)).await;
    let patch = kube::api::Patch::Merge(serde_json::json!({
        "spec": { "backup": { "barmanObjectStore": world.store() } }
    }));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
    let archiver = found("the store refuses the keys", || async {
        pod.status().and_then(|s| s.archiver).filter(|a| !a.working)
    })
    .await;
    let error = archiver.last_error.unwrap();
    assert!(!error.contains("wrong"), "a secret is shown: {error}");
    world.secret("aws-creds", data([("ID", "key"), ("KEY", "secret")])).await;
    until("archiving works with the right keys", || async {
        pod.status().and_then(|s| s.archiver).is_some_and(|a| a.working && a.confirmed)
    })
    .await;
}

/// S3.12: a segment leaves when it is full, when it is switched, and when `archive_timeout` has passed.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_leaves_when_it_is_full_switched_or_old() {
    let world = World::new().await;
    let mut spec = world.spec(None, true);
    spec.postgresql.parameters.insert("archive_timeout".into(), "0".into());
    world.cluster("pg", spec).await;
    let pod = Pod::initialised(&world).await;
    until("the archive is proven", || async {
        pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed)
    })
    .await;
    let sql = pod.sql("postgres", "postgres").await.unwrap();
    let current = || async {
        let row = sql.query_one("SELECT pg_walfile_name(pg_current_wal_insert_lsn())", &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    let leaves = |segment: String, why: &'static str| {
        let world = &world;
        async move {
            until(&format!("{segment}, {why}, is in the store"), || async {
                world.keys().iter().any(|key| key.ends_with(&segment))
            })
            .await;
        }
    };
    sql.batch_execute("CREATE TABLE t (id int, body text)").await.unwrap();

    let full = current().await;
    sql.batch_execute("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
        .await
        .unwrap();
    leaves(full, "full").await;

    sql.batch_execute("INSERT INTO t VALUES (0, '')").await.unwrap();
    let switched = current().await;
    sql.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    leaves(switched, "switched").await;

    let patch = kube::api::Patch::Merge(serde_json::json!({
        "spec": { "postgresql": { "parameters": { "archive_timeout": "1s" } } }
    }));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
    sql.batch_execute("INSERT INTO t VALUES (-1, '')").await.unwrap();
    let old = current().await;
    leaves(old, "old").await;
}
