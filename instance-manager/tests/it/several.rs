//! Several repositories: WAL acknowledged by one of them, and base backups in those that are late or get no WAL.

use howdah_api::backup::{BackupPhase, BackupSpec};
use howdah_api::cluster::BackupConfiguration;
use howdah_api::cluster_status::RepositoryLag;
use howdah_api::common::{LocalObjectReference, SecretKeySelector};
use howdah_api::instance::RepositoryState;
use howdah_api::repository::{Repository, RepositoryCredentials, S3Repository};
use howdah_api::{Backup, ClusterSpec};
use howdah_s3::{Action, Operation, Rule};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::pod::Pod;
use crate::world::{BUCKET, World, found, until};

/// A second S3 server.
async fn other_server() -> howdah_s3::Server {
    howdah_s3::Server::builder()
        .memory()
        .credentials("key", "secret")
        .bucket(BUCKET)
        .listen("127.0.0.1:0")
        .start()
        .await
        .unwrap()
}

fn repository(server: &howdah_s3::Server, archive_wal: Option<bool>) -> Repository {
    let selector = |key: &str| Some(SecretKeySelector { name: "aws-creds".into(), key: key.into() });
    Repository {
        name: "repo2".into(),
        s3: Some(S3Repository {
            bucket: BUCKET.into(),
            endpoint: Some(server.endpoint()),
            ..S3Repository::default()
        }),
        path: Some("/second".into()),
        credentials: Some(RepositoryCredentials {
            access_key_id: selector("ID"),
            secret_access_key: selector("KEY"),
            ..RepositoryCredentials::default()
        }),
        archive_wal,
        ..Repository::default()
    }
}

/// `default` and `repo2`; one of them is enough.
fn spec(world: &World, second: Repository) -> ClusterSpec {
    let mut spec = world.spec(None, true);
    // What is archived is recycled at the next checkpoint.
    spec.postgresql.parameters.insert("wal_keep_size".into(), "0".into());
    spec.backup = Some(BackupConfiguration {
        repositories: vec![second],
        wal_acknowledgement: Some(IntOrString::Int(1)),
        ..spec.backup.unwrap()
    });
    spec
}

fn keys(server: &howdah_s3::Server) -> Vec<String> {
    server.objects(BUCKET).unwrap().into_iter().map(|o| o.key).collect()
}

fn holds(server: &howdah_s3::Server, segment: &str) -> bool {
    keys(server).iter().any(|key| key.contains("/wals/") && key.ends_with(segment))
}

fn second(pod: &Pod) -> Option<RepositoryState> {
    pod.status()?.repositories.into_iter().find(|state| state.name == "repo2")
}

fn lag(pod: &Pod) -> Option<RepositoryLag> {
    second(pod)?.lag
}

async fn switched(sql: &tokio_postgres::Client) -> String {
    sql.batch_execute("CREATE TABLE IF NOT EXISTS t (id int); INSERT INTO t VALUES (1)").await.unwrap();
    sql.query_one("SELECT pg_walfile_name(pg_switch_wal())", &[]).await.unwrap().get(0)
}

async fn assign_to(world: &World, name: &str, repository: &str, session: &str) {
    let spec = BackupSpec {
        cluster: LocalObjectReference { name: "pg".into() },
        repository: Some(repository.into()),
        ..BackupSpec::default()
    };
    world.backups().create(&PostParams::default(), &Backup::new(name, spec)).await.unwrap();
    let status = json!({ "status": {
        "phase": "started", "instanceID": { "podName": "pg-1", "sessionID": session },
    }});
    world.backups().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_one_holds_nothing_up_and_it_catches_up_after_a_crash() {
    let world = World::new().await;
    let other = other_server().await;
    world.cluster("pg", spec(&world, repository(&other, None))).await;
    let mut pod = Pod::initialised(&world).await;
    until("WAL is in both", || async {
        let first = |keys: Vec<String>| keys.iter().any(|k| k.contains("/wals/0000000100000000/"));
        first(world.keys()) && first(keys(&other))
    })
    .await;
    other.faults().add(Rule::new(Action::access_denied()));
    let sql = pod.sql("postgres", "postgres").await.unwrap();
    let mut segments = Vec::new();
    for _ in 0..4 {
        segments.push(switched(&sql).await);
    }
    until("one is enough", || async { segments.iter().all(|segment| holds(&world.s3, segment)) }).await;
    until("nothing waits", || async {
        pod.status().and_then(|s| s.archiver).is_some_and(|a| a.working && a.waiting == 0)
    })
    .await;
    let behind = found("the lag is told", || async { lag(&pod).filter(|l| l.late && l.files >= 4) }).await;
    assert!(behind.oldest_wal <= Some(segments[0].clone()) && behind.since.is_some(), "{behind:?}");
    let state = second(&pod).unwrap();
    assert!(!state.archiver.working && state.archiver.last_error.is_some(), "{state:?}");
    let metrics = pod.http(9187, "/metrics").await.unwrap().1;
    assert!(metrics.contains("howdah_repository_late{repository=\"repo2\"} 1"), "{metrics}");
    assert!(metrics.contains("howdah_repository_lag_files{repository=\"default\"} 0"), "{metrics}");

    // PostgreSQL lets the files go, and the process dies.
    let there = |segment: &String| pod.pgdata().join("pg_wal").join(segment).exists();
    until("PostgreSQL recycles them", || async {
        sql.batch_execute("CHECKPOINT").await.unwrap();
        !segments.iter().any(there)
    })
    .await;
    drop(sql);
    pod.kill();
    pod.ready().await;
    found("the next process knows", || async { lag(&pod).filter(|l| l.late && l.files >= 4) }).await;
    assert!(segments.iter().all(|segment| !holds(&other, segment)));
    other.faults().clear();
    until("it catches up", || async { segments.iter().all(|segment| holds(&other, segment)) }).await;
    until("nothing is missing any more", || async {
        second(&pod).is_some_and(|state| state.lag.is_none() && state.archiver.working)
    })
    .await;
    let events = world.events("pg").await;
    assert!(!events.iter().any(|event| event.contains("secret")), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_a_late_repository_waits_for_its_wal_there() {
    let world = World::new().await;
    let other = other_server().await;
    world.cluster("pg", spec(&world, repository(&other, None))).await;
    let pod = Pod::initialised(&world).await;
    until("the second works", || async { second(&pod).is_some_and(|s| s.archiver.confirmed) }).await;
    let rule = Rule::new(Action::access_denied()).operation(Operation::PutObject).key("second/pg/wals/**");
    other.faults().add(rule);
    assign_to(&world, "base", "repo2", &pod.status().unwrap().session_id).await;
    let end = found("everything else is done", || async {
        world.backups().get("base").await.unwrap().status.and_then(|s| s.end_wal)
    })
    .await;
    until("its last segment is in the first", || async { holds(&world.s3, &end) }).await;
    let status = world.backups().get("base").await.unwrap().status.unwrap();
    assert_eq!(status.phase(), BackupPhase::Finalizing, "{status:?}");
    other.faults().clear();
    let status = world.backup_ended("base").await;
    assert_eq!((status.phase(), status.repository.as_deref()), (BackupPhase::Completed, Some("repo2")));
    assert!(holds(&other, &end), "{:?}", keys(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_wal_gets_that_of_its_backups_and_restores_to_their_end() {
    let world = World::new().await;
    let other = other_server().await;
    world.cluster("pg", spec(&world, repository(&other, Some(false)))).await;
    let mut pod = Pod::initialised(&world).await;
    let app = pod.sql("app", "app").await.unwrap();
    app.batch_execute("CREATE TABLE rows AS SELECT generate_series(1, 100) AS id").await.unwrap();
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    assign_to(&world, "base", "repo2", &pod.status().unwrap().session_id).await;
    let status = world.backup_ended("base").await;
    assert_eq!(status.phase(), BackupPhase::Completed, "{status:?}");
    let end = status.end_wal.unwrap();
    assert!(holds(&other, &end) && holds(&world.s3, &end));
    app.batch_execute("INSERT INTO rows VALUES (101)").await.unwrap();
    let sql = pod.sql("postgres", "postgres").await.unwrap();
    let later = switched(&sql).await;
    until("the next segment is archived", || async { holds(&world.s3, &later) }).await;
    assert!(!holds(&other, &later));
    let state = second(&pod).unwrap();
    assert!(state.archiver.working && state.lag.is_none(), "{state:?}");

    assert!(pod.stop().success());
    world.cluster("new", world.spec(crate::recovery::from_backup("base", None), false)).await;
    let mut pod = Pod::new(&world, "new", 1);
    pod.bootstrapped("full-recovery");
    pod.ready().await;
    until("passwords are set", || async { pod.sql("app", "app").await.is_ok() }).await;
    let app = pod.sql("app", "app").await.unwrap();
    let count: i64 = app.query_one("SELECT count(*) FROM rows", &[]).await.unwrap().get(0);
    assert_eq!(count, 100);
}
