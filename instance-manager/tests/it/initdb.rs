//! An empty cluster: bootstrap, run, stop, and every way to die.

use howdah_api::bootstrap::{Bootstrap, InitDb};

use crate::pod::{Pod, text};
use crate::world::{World, until};

fn initdb() -> Option<Bootstrap> {
    Some(Bootstrap {
        initdb: Some(InitDb {
            wal_segment_size: Some(1),
            post_init_sql: vec!["CREATE ROLE extra".into()],
            post_init_application_sql: vec!["CREATE TABLE made (id int)".into()],
            ..InitDb::default()
        }),
        ..Bootstrap::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_begins_takes_sessions_and_stops() {
    let world = World::new().await;
    world.cluster("pg", world.spec(initdb(), false)).await;
    let mut pod = Pod::new(&world, "pg", 1);
    pod.bootstrapped("initdb");
    // Run again, as on every start of the pod: nothing happens.
    let before = std::fs::metadata(pod.pgdata().join("PG_VERSION")).unwrap().modified().unwrap();
    pod.bootstrapped("initdb");
    assert_eq!(std::fs::metadata(pod.pgdata().join("PG_VERSION")).unwrap().modified().unwrap(), before);

    pod.ready().await;
    let app = pod.sql("app", "app").await.unwrap();
    app.batch_execute("INSERT INTO made SELECT 1").await.unwrap_err();
    let admin = pod.sql("postgres", "postgres").await.unwrap();
    let show =
        async |name: &str| -> String { admin.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get(0) };
    assert_eq!(show("data_checksums").await, "on");
    assert_eq!(show("wal_segment_size").await, "1MB");
    assert_eq!(show("archive_mode").await, "on");
    assert_eq!(show("archive_timeout").await, "5min");
    assert_eq!(show("listen_addresses").await, pod.ip);
    assert_eq!(show("ssl").await, "on");
    let environment = std::fs::read(format!("/proc/{}/environ", pod.postmaster().unwrap())).unwrap();
    assert!(
        !String::from_utf8_lossy(&environment).contains("MALLOC"),
        "PostgreSQL inherits the manager's limits"
    );
    let owner: String = admin
        .query_one("SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = 'app'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(owner, "app");
    let roles: i64 = admin
        .query_one(
            "SELECT count(*) FROM pg_roles WHERE rolname IN ('extra', 'streaming_replica', 'app')",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(roles, 3);
    assert!(pod.sql_with("postgres", "postgres", "wrong").await.is_err());

    let status = pod.status().unwrap();
    assert_eq!(
        (status.role, status.timeline_id),
        (Some(howdah_api::instance::InstanceRole::Primary), Some(1))
    );
    assert!(status.archiver.is_none(), "{status:?}");
    for path in ["/startupz", "/healthz", "/readyz"] {
        assert_eq!(pod.http(8001, path).await.unwrap().0, 200, "{path}");
    }
    let metrics = pod.http(9187, "/metrics").await.unwrap().1;
    assert!(metrics.contains("howdah_postgres_primary 1"), "{metrics}");
    assert!(!metrics.contains("archiver"), "{metrics}");

    // Idle, without a store.
    assert!(pod.memory() < 8 * 1024, "the manager needs more memory than it should");

    drop((app, admin));
    assert!(pod.stop().success());
    let control = howdah_engine::ControlData::read(&pod.pgdata()).unwrap();
    assert!(control.cleanly_shut_down && control.data_checksums);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_parameters_follow_their_objects() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let pod = Pod::initialised(&world).await;
    until("the password is set", || async { pod.sql("app", "app").await.is_ok() }).await;

    world.login("pg-app", "app", "another").await;
    let patch = kube::api::Patch::Merge(serde_json::json!({
        "spec": {
            "enableSuperuserAccess": false,
            "postgresql": { "parameters": { "work_mem": "7MB" }, "pg_hba": ["host app app 0.0.0.0/0 md5"] },
        }
    }));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
    until("the new password is set", || async { pod.sql_with("app", "app", "another").await.is_ok() }).await;
    until("the superuser has no password", || async { pod.sql("postgres", "postgres").await.is_err() }).await;
    until("the parameter is there", || async {
        let sql = pod.sql_with("app", "app", "another").await.unwrap();
        sql.query_one("SHOW work_mem", &[]).await.unwrap().get::<_, String>(0) == "7MB"
    })
    .await;
    let hba = std::fs::read_to_string(pod.pgdata().join("pg_hba.conf")).unwrap();
    assert!(hba.contains("host app app 0.0.0.0/0 md5\nhost all all all scram-sha-256\n"), "{hba}");

    // A line that PostgreSQL would not take changes nothing and is told; other settings go on.
    let patch = kube::api::Patch::Merge(serde_json::json!({
        "spec": { "postgresql": { "parameters": { "work_mem": "8MB" }, "pg_hba": ["host app app rejct"] } }
    }));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
    until("the refusal is told", || async {
        let events = world.events("pg").await;
        events.iter().any(|e| e.starts_with("InvalidConfiguration: pg-1: spec.postgresql.pg_hba[0] is not"))
    })
    .await;
    until("the parameter is there", || async {
        let sql = pod.sql_with("app", "app", "another").await.unwrap();
        sql.query_one("SHOW work_mem", &[]).await.unwrap().get::<_, String>(0) == "8MB"
    })
    .await;
    assert_eq!(std::fs::read_to_string(pod.pgdata().join("pg_hba.conf")).unwrap(), hba);
    let patch = kube::api::Patch::Merge(serde_json::json!({
        "spec": { "postgresql": { "parameters": { "work_mem": "7MB" }, "pg_hba": null } }
    }));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
    until("the first value is back", || async {
        let sql = pod.sql_with("app", "app", "another").await.unwrap();
        sql.query_one("SHOW work_mem", &[]).await.unwrap().get::<_, String>(0) == "7MB"
    })
    .await;

    // A value that PostgreSQL does not take changes nothing and is told.
    let patch = kube::api::Patch::Merge(serde_json::json!({
        "spec": { "postgresql": { "parameters": { "work_mem": "a lot" } } }
    }));
    world.clusters().patch("pg", &Default::default(), &patch).await.unwrap();
    let refused =
        |e: &str| e.starts_with("InvalidConfiguration: pg-1: ") && e.contains("\"work_mem\": \"a lot\"");
    world.event("pg", refused).await;
    let conf = std::fs::read_to_string(pod.pgdata().join("postgresql.conf")).unwrap();
    assert!(conf.contains("work_mem = '7MB'"), "{conf}");
    assert!(pod.status().unwrap().ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_everything_comes_back() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let mut pod = Pod::initialised(&world).await;
    let session = pod.status().unwrap().session_id;
    let sql = pod.sql("app", "app").await.unwrap();
    sql.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").await.unwrap();

    // PostgreSQL alone: the manager ends too, so that the container starts anew.
    pod.kill_postgres();
    assert_eq!(pod.wait().code(), Some(75));

    pod.ready().await;
    assert_ne!(pod.status().unwrap().session_id, session);

    // Everything at once; a foreign process has the old process id in the new namespace.
    pod.kill();
    let pid_file = pod.pgdata().join("postmaster.pid");
    let stale = std::fs::read_to_string(&pid_file).unwrap();
    let own = std::process::id().to_string();
    let rest = stale.split_once('\n').unwrap().1;
    std::fs::write(&pid_file, format!("{own}\n{rest}")).unwrap();
    pod.ready().await;
    let count: i64 =
        pod.sql("app", "app").await.unwrap().query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_directory_is_made_anew_and_foreign_data_is_left_alone() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let pod = Pod::new(&world, "pg", 1);
    let data = pod.root.join("data");
    std::fs::create_dir_all(pod.pgdata().join("base")).unwrap();
    std::fs::write(pod.pgdata().join("base/precious"), "x").unwrap();
    let own = |path: &std::path::Path| {
        std::os::unix::fs::chown(path, Some(world.user.uid), Some(world.user.gid)).unwrap();
    };
    for path in [data.clone(), pod.pgdata(), pod.pgdata().join("base")] {
        own(&path);
    }
    let refused = pod.bootstrap("initdb");
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
    assert!(text(&refused).contains("stays untouched"), "{}", text(&refused));
    assert!(pod.pgdata().join("base/precious").exists());
    world.event("pg", |e| e.contains("stays untouched")).await;

    // The same directory with the mark of an interrupted bootstrap.
    std::fs::write(data.join("howdah-bootstrap.partial"), "initdb\n").unwrap();
    own(&data.join("howdah-bootstrap.partial"));
    pod.bootstrapped("initdb");
    assert!(!pod.pgdata().join("base/precious").exists() && pod.pgdata().join("PG_VERSION").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    world.secrets().delete("pg-app", &Default::default()).await.unwrap();
    let pod = Pod::new(&world, "pg", 1);
    let refused = pod.bootstrap("initdb");
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused).contains("Secret pg-app does not exist"), "{}", text(&refused));
    assert!(!pod.pgdata().exists());
}
