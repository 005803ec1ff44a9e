//! Recovery from an external cluster with several repositories, and clones that leave their source alone.

use howdah_api::backup::{Backup, BackupPhase, BackupSpec};
use howdah_api::bootstrap::{Bootstrap, ExternalCluster, Recovery, RecoveryTarget};
use howdah_api::cluster::BackupConfiguration;
use howdah_api::common::{BackupType, LocalObjectReference, SecretKeySelector};
use howdah_api::object_store::UriStyle;
use howdah_api::repository::{Repository, RepositoryCredentials, S3Repository};

use crate::pod::{Pod, text};
use crate::recovery::{from_backup, source};
use crate::world::{BUCKET, World, until};

fn repository(world: &World, name: &str, path: &str) -> Repository {
    let key = |key: &str| Some(SecretKeySelector { name: "aws-creds".into(), key: key.into() });
    Repository {
        name: name.into(),
        s3: Some(S3Repository {
            bucket: BUCKET.into(),
            endpoint: Some(world.s3.endpoint()),
            uri_style: Some(UriStyle::Path),
            ..S3Repository::default()
        }),
        path: Some(path.into()),
        credentials: Some(RepositoryCredentials {
            access_key_id: key("ID"),
            secret_access_key: key("KEY"),
            ..RepositoryCredentials::default()
        }),
        ..Repository::default()
    }
}

fn from_origin(target: Option<RecoveryTarget>) -> Option<Bootstrap> {
    Some(Bootstrap {
        recovery: Some(Recovery {
            source: Some("origin".into()),
            recovery_target: target,
            database: Some("app".into()),
            ..Recovery::default()
        }),
        ..Bootstrap::default()
    })
}

fn origin(repositories: Vec<Repository>) -> ExternalCluster {
    ExternalCluster {
        name: "origin".into(),
        server_name: Some("pg".into()),
        repositories,
        ..ExternalCluster::default()
    }
}

async fn backed_up(world: &World, pod: &Pod, name: &str, repository: &str, type_: BackupType) -> String {
    let spec = BackupSpec {
        cluster: LocalObjectReference { name: "pg".into() },
        repository: Some(repository.into()),
        type_: Some(type_),
        ..BackupSpec::default()
    };
    world.assign_as(Backup::new(name, spec), "pg-1", &pod.status().unwrap().session_id).await;
    let status = world.backup_ended(name).await;
    assert_eq!(status.phase(), BackupPhase::Completed, "{status:?}");
    status.backup_id.unwrap()
}

/// A place that is away and one that is damaged are passed over with their reasons; the chain in the third one is
/// restored, and what that lacks of WAL comes from the damaged one. A target that none can reach is refused with the
/// window of each.
#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_healthy_repository_is_taken_and_the_others_help_out() {
    let world = World::new().await;
    let [near, far] = ["near", "far"].map(|name| repository(&world, name, &format!("/{name}")));
    let mut spec = world.spec(None, false);
    spec.backup = Some(BackupConfiguration {
        repositories: vec![near.clone(), far.clone()],
        ..BackupConfiguration::default()
    });
    world.cluster("pg", spec).await;
    let mut pod = Pod::initialised(&world).await;
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    let sql = pod.sql("app", "app").await.unwrap();
    sql.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id").await.unwrap();
    backed_up(&world, &pod, "n", "near", BackupType::Full).await;
    backed_up(&world, &pod, "f", "far", BackupType::Full).await;
    sql.batch_execute("INSERT INTO t VALUES (101)").await.unwrap();
    let chain = backed_up(&world, &pod, "i", "far", BackupType::Incremental).await;
    sql.batch_execute("INSERT INTO t VALUES (102)").await.unwrap();
    let admin = pod.sql("postgres", "postgres").await.unwrap();
    let segment: String =
        admin.query_one("SELECT pg_walfile_name(pg_switch_wal())", &[]).await.unwrap().get(0);
    until("the row is archived everywhere", || async {
        world.keys().iter().filter(|k| k.ends_with(&segment)).count() == 2
    })
    .await;
    until("the windows are known", || async {
        let known = pod.status().map(|s| s.repositories).unwrap_or_default();
        known.len() == 2
            && known.iter().all(|r| {
                let window = r.recoverability.as_ref().and_then(|k| k.window.as_ref());
                window.is_some_and(|w| w.earliest.is_some() && w.latest.is_some() && w.gap_count == 0)
            })
            && known[1].recoverability.as_ref().is_some_and(|known| known.backups == 2)
    })
    .await;
    let metrics = pod.http(9187, "/metrics").await.unwrap().1;
    assert!(metrics.contains("howdah_repository_latest_timestamp_seconds{repository=\"far\"}"), "{metrics}");
    drop((sql, admin));
    assert!(pod.stop().success());

    // The near one loses a part of its backup, the far one the end of its WAL; one more is not there at all.
    for key in world.keys() {
        let part = key.starts_with("near/pg/base/") && key.contains("/data");
        let end = key.starts_with("far/pg/wals/") && key.rsplit('/').next().unwrap() >= segment.as_str();
        if part || end {
            world.s3.delete(BUCKET, &key).await.unwrap();
        }
    }
    let mut away = repository(&world, "away", "/away");
    away.s3.as_mut().unwrap().bucket = "no-such-bucket".into();
    let places = vec![away, near, far];

    let late =
        RecoveryTarget { target_time: Some("2100-01-01T00:00:00Z".into()), ..RecoveryTarget::default() };
    let mut spec = world.spec(from_origin(Some(late)), false);
    spec.external_clusters = vec![origin(places.clone())];
    world.cluster("late", spec).await;
    let refused = Pod::new(&world, "late", 1);
    let output = refused.bootstrap("full-recovery");
    let words = text(&output);
    assert!(!output.status.success() && !refused.pgdata().exists(), "{words}");
    for part in ["none of 3 repositories", "repository away", "repository near", "repository far", "2100"] {
        assert!(words.contains(part), "{part} is not in {words}");
    }
    assert!(words.contains("it can restore from"), "{words}");

    let mut spec = world.spec(from_origin(None), false);
    spec.external_clusters = vec![origin(places)];
    spec.backup = Some(BackupConfiguration {
        repositories: vec![repository(&world, "mine", "/mine")],
        ..BackupConfiguration::default()
    });
    world.cluster("new", spec).await;
    let mut new = Pod::new(&world, "new", 1);
    new.bootstrapped("full-recovery");
    for name in ["away", "near"] {
        let over =
            |e: &str| e.starts_with("RepositoryPassedOver") && e.contains(&format!("repository {name} "));
        world.event("new", over).await;
    }
    new.ready().await;
    until("passwords are set", || async { new.sql("app", "app").await.is_ok() }).await;
    let sql = new.sql("app", "app").await.unwrap();
    let count: i64 = sql.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 102, "WAL that the far one lacks comes from the near one");
    let restored = new.status().unwrap().restored.unwrap();
    assert_eq!((restored.repository.as_deref(), restored.backup_id), (Some("far"), Some(chain)));
    let over: Vec<&str> = restored.passed_over.iter().map(|p| p.repository.as_str()).collect();
    assert_eq!(over, ["away", "near"]);
    until("the clone archives to its own place", || async {
        world.keys().iter().any(|k| k.starts_with("mine/new/wals/0000000200000000/"))
    })
    .await;
    let foreign =
        |k: &String| (k.starts_with("near/") || k.starts_with("far/")) && k.contains("/wals/00000002");
    assert!(!world.keys().iter().any(foreign), "{:?}", world.keys());
}

/// The source's place under another spelling is found out by what is in it; the new timeline is above that of an
/// earlier clone in the own place.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_leaves_its_source_alone_and_takes_a_free_timeline() {
    let world = World::new().await;
    let _old = source(&world).await;
    let mut spec = world.spec(from_backup("base", None), true);
    let store = spec.backup.as_mut().unwrap().barman_object_store.as_mut().unwrap();
    store.server_name = Some("pg".into());
    store.endpoint_url = Some(world.s3.endpoint().replace("127.0.0.1", "localhost"));
    world.cluster("same", spec).await;
    let same = Pod::new(&world, "same", 1);
    let refused = same.bootstrap("full-recovery");
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
    assert!(text(&refused).contains("where it recovers from"), "{}", text(&refused));
    assert!(!same.pgdata().exists());

    // An earlier clone of the same name got as far as timeline 4; nothing but a segment is left of it.
    let segment = "new/wals/0000000400000000/000000040000000000000001";
    world.s3.put(BUCKET, segment, vec![0u8; 1024]).await.unwrap();
    world.cluster("new", world.spec(from_backup("base", None), true)).await;
    let mut new = Pod::new(&world, "new", 1);
    new.bootstrapped("full-recovery");
    new.ready().await;
    assert_eq!(new.status().unwrap().timeline_id, Some(5));
    until("it archives", || async { world.keys().iter().any(|k| k.starts_with("new/wals/00000005")) }).await;
    assert!(!new.pgdata().join("pg_wal/RECOVERYHISTORY").exists());
}
