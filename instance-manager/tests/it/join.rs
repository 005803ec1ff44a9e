//! A replica: join, streaming, promotion.

use serde_json::json;

use crate::pod::Pod;
use crate::world::{BUCKET, World, until};
use howdah_api::availability::ReplicaSource;
use howdah_api::instance::InstanceRole;
use howdah_s3::Operation;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_joins_streams_and_is_promoted() {
    let world = World::new().await;
    let mut spec = world.spec(None, true);
    spec.wal_storage =
        Some(howdah_api::cluster::StorageConfiguration { size: "1Gi".into(), storage_class: None });
    spec.postgresql.parameters.insert("max_connections".into(), "40".into());
    world.cluster("pg", spec).await;
    let mut primary = Pod::new(&world, "pg", 1);
    primary.bootstrapped("initdb");
    assert_eq!(
        std::fs::read_link(primary.pgdata().join("pg_wal")).unwrap(),
        primary.wal_mount().join("pg_wal")
    );
    primary.ready().await;
    let sql = primary.sql("postgres", "postgres").await.unwrap();
    sql.batch_execute("CREATE TABLE t AS SELECT 1 AS id").await.unwrap();

    let mut replica = Pod::new(&world, "pg", 2);
    primary.serve_as("pg-rw");
    replica.bootstrapped("join");
    replica.bootstrapped("join");
    replica.ready().await;
    until("the replica streams", || async { replica.status().is_some_and(|s| s.streaming) }).await;
    let status = replica.status().unwrap();
    assert_eq!((status.role, status.ready), (Some(InstanceRole::Replica), true));
    let name: String =
        sql.query_one("SELECT application_name FROM pg_stat_replication", &[]).await.unwrap().get(0);
    assert_eq!(name, "pg-2");

    sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    let follower = replica.sql("postgres", "postgres").await.unwrap();
    until("the row arrives", || async {
        follower.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0) == 2
    })
    .await;

    // The operator decides for the other instance.
    drop(sql);
    world.cluster_status("pg", json!({ "targetPrimary": "pg-2" })).await;
    until("the replica takes writes", || async {
        replica.status().is_some_and(|s| s.role == Some(InstanceRole::Primary) && s.timeline_id == Some(2))
    })
    .await;
    follower.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
    // Nothing is left over of the replica that would ask for a restart: who was promoted goes on.
    until("the configuration of a primary", || async {
        let setting = "SELECT current_setting('primary_conninfo') = ''";
        follower.query_one(setting, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    let pending = "SELECT coalesce(string_agg(name, ' '), '') FROM pg_settings WHERE pending_restart";
    assert_eq!(follower.query_one(pending, &[]).await.unwrap().get::<_, String>(0), "");
    until("the new timeline reaches the archive", || async {
        world.keys().contains(&"pg/wals/00000002.history".to_owned())
    })
    .await;
}

/// With `replicaSource: backup`: a replica comes from the newest backup and the archive, and from the primary, with a word
/// about it, while there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_made_from_the_newest_backup_and_the_archive() {
    let world = World::new().await;
    let mut spec = world.spec(None, true);
    spec.replica_source = ReplicaSource::Backup;
    spec.wal_storage =
        Some(howdah_api::cluster::StorageConfiguration { size: "1Gi".into(), storage_class: None });
    world.cluster("pg", spec).await;
    let primary = Pod::initialised(&world).await;
    let sql = primary.sql("postgres", "postgres").await.unwrap();
    sql.batch_execute("CREATE TABLE t AS SELECT 1 AS id").await.unwrap();
    let early = Pod::replica_of(&world, &primary).await;
    world.event("pg", |e| e.starts_with("JoiningFromPrimary: pg-2: ")).await;

    world.assign("base", "pg", "pg-1", &primary.status().unwrap().session_id).await;
    let id = world.backup_ended("base").await.backup_id.unwrap();
    // In the archive when the replica comes, and only on the primary.
    for rows in [100, 10] {
        sql.batch_execute(&format!("INSERT INTO t SELECT generate_series(1, {rows})")).await.unwrap();
        if rows == 100 {
            sql.batch_execute("SELECT pg_switch_wal()").await.unwrap();
        }
    }
    let mut late = Pod::new(&world, "pg", 3);
    primary.serve_as("pg-rw");
    late.bootstrapped("join");
    assert_eq!(std::fs::read_link(late.pgdata().join("pg_wal")).unwrap(), late.wal_mount().join("pg_wal"));
    // Made without a word of the primary: its own copies are labelled by pg_basebackup.
    let label = std::fs::read_to_string(late.pgdata().join("backup_label")).unwrap();
    assert!(!label.contains("pg_basebackup"), "{label}");
    late.ready().await;
    let wanted = format!("JoiningFromBackup: pg-3: restoring backup {id} from repository default ");
    world.event("pg", |e| e.starts_with(&wanted)).await;
    for replica in [&early, &late] {
        let follower = replica.sql("postgres", "postgres").await.unwrap();
        until("all rows arrive", || async {
            follower.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0) == 111
        })
        .await;
        until("it streams", || async { replica.status().is_some_and(|s| s.streaming) }).await;
    }
}

/// What a replica has the primary has too: one whose control file is damaged, or gone, is copied anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_damaged_control_file_is_copied_anew() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let primary = Pod::initialised(&world).await;
    let sql = primary.sql("postgres", "postgres").await.unwrap();
    sql.batch_execute("CREATE TABLE t (id int)").await.unwrap();
    let mut replica = Pod::replica_of(&world, &primary).await;
    let control = replica.pgdata().join("global/pg_control");
    for (id, damage) in [(1, true), (2, false)] {
        assert!(replica.stop().success());
        if damage {
            std::fs::write(&control, vec![0; 8192]).unwrap();
        } else {
            std::fs::remove_file(&control).unwrap();
        }
        sql.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.unwrap();
        replica.ready().await;
        let follower = replica.sql("postgres", "postgres").await.unwrap();
        until("the row arrives", || async {
            follower.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0) == id
        })
        .await;
        world.event("pg", |e| e.starts_with("Rejoined: pg-2") && e.contains("is damaged")).await;
    }
}

/// S0.5, S1.26: a replica that was away for longer than the primary keeps WAL gets it from the archive, of several
/// repositories from the first one, and streams again.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_fell_behind_heals_from_the_archive() {
    let world = World::new().await;
    let mut spec = world.spec(None, true);
    spec.postgresql.parameters.insert("wal_keep_size".into(), "0".into());
    let far = json!({
        "name": "far",
        "path": "/far",
        "s3": { "bucket": BUCKET, "endpoint": world.s3.endpoint() },
        "credentials": {
            "accessKeyId": { "name": "aws-creds", "key": "ID" },
            "secretAccessKey": { "name": "aws-creds", "key": "KEY" },
        },
    });
    spec.backup.as_mut().unwrap().repositories = vec![serde_json::from_value(far).unwrap()];
    world.cluster("pg", spec).await;
    let primary = Pod::initialised(&world).await;
    let sql = primary.sql("postgres", "postgres").await.unwrap();
    sql.batch_execute("CREATE TABLE t (id int)").await.unwrap();
    let mut replica = Pod::replica_of(&world, &primary).await;
    until("the replica streams", || async { replica.status().is_some_and(|s| s.streaming) }).await;
    assert!(replica.stop().success());

    let first: String =
        sql.query_one("SELECT pg_walfile_name(pg_current_wal_lsn())", &[]).await.unwrap().get(0);
    for id in 1..=3 {
        sql.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.unwrap();
        sql.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    }
    until("the primary no longer has the segment", || async {
        sql.batch_execute("CHECKPOINT").await.unwrap();
        !primary.pgdata().join("pg_wal").join(&first).exists()
    })
    .await;
    for place in ["pg/wals/", "far/pg/wals/"] {
        let there = |key: &String| key.starts_with(place) && key.ends_with(&first);
        assert!(world.keys().iter().any(there), "{first} is not in {place}: {:?}", world.keys());
    }

    world.s3.clear_requests();
    replica.ready().await;
    let follower = replica.sql("postgres", "postgres").await.unwrap();
    until("the rows arrive", || async {
        follower.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0) == 3
    })
    .await;
    until("the replica streams again", || async { replica.status().is_some_and(|s| s.streaming) }).await;
    let read = |place: &str| {
        let requests = world.s3.requests();
        requests.iter().any(|r| r.operation == Operation::GetObject && r.key.starts_with(place))
    };
    assert!(read("pg/wals/") && !read("far/pg/wals/"), "{:?}", world.s3.requests());
}
