//! Clusters: bring-up, replicas, volumes that outlive pods, secrets, settings.

use anyhow::{Result, ensure};
use howdah_e2e::wait;
use serde_json::json;

use crate::common::{Scene, checksum, condition, table};

/// Three instances stream; services and secrets are there; a deleted primary pod comes back on its volume.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_stream_and_a_deleted_primary_pod_comes_back() -> Result<()> {
    let scene = Scene::new("replicas").await?;
    let cluster = scene.up("pg", json!({"instances": 3})).await?;
    ensure!(
        cluster["status"]["currentPrimary"] == "pg-1" && cluster["status"]["readyInstances"] == 3,
        "{:#}",
        cluster["status"]
    );
    let sql = scene.sql("pg");
    sql.run(&table("t", 5000)).await?;
    let sum = sql.run(&checksum("t")).await?;
    wait::until("two streaming replicas", wait::minutes(2), || async {
        Ok((sql.run("select count(*) from pg_stat_replication where state = 'streaming'").await? == "2")
            .then_some(()))
    })
    .await?;
    let replicas = sql.at("pg-ro");
    wait::until("the rows on a replica", wait::minutes(1), || async {
        Ok((replicas.run(&checksum("t")).await? == sum).then_some(()))
    })
    .await?;
    ensure!(replicas.run("select pg_is_in_recovery()").await? == "t");
    ensure!(sql.at("pg-r").run("select 1").await? == "1");

    let uid = |pod: &serde_json::Value| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let old = uid(&scene.kubectl.get("pod", "pg-1").await?.unwrap_or_default());
    scene.kubectl.run(&["delete", "pod", "pg-1"]).await?;
    scene
        .kubectl
        .wait_for("pod", "pg-1", "another pod of that name", wait::minutes(3), |p| uid(p) != old)
        .await?;
    ensure!(sql.run_when_up(&checksum("t"), wait::minutes(3)).await? == sum);
    ensure!(sql.run("select pg_is_in_recovery()").await? == "f");
    scene.healthy("pg").await?;
    scene.ground.stop().await
}

/// The application user works; the superuser's password follows its Secret; access can be taken away.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_follow_their_secrets() -> Result<()> {
    let scene = Scene::new("passwords").await?;
    scene.up("pg", json!({"bootstrap": {"initdb": {"database": "shop", "owner": "clerk"}}})).await?;
    let mut app = scene.sql("pg").database("shop");
    app.secret = "pg-app".into();
    ensure!(app.run("select current_user, current_database()").await? == "clerk|shop");
    app.run(&table("t", 10)).await?;
    let secret = scene.kubectl.get("secret", "pg-app").await?.unwrap_or_default();
    for key in ["username", "password", "dbname", "host", "port", "uri", "pgpass"] {
        ensure!(secret["data"][key].as_str().is_some_and(|v| !v.is_empty()), "{key} is not in pg-app");
    }
    let superuser = scene.sql("pg").database("shop");
    ensure!(superuser.run("select usesuper from pg_user where usename = current_user").await? == "t");
    scene
        .kubectl
        .run(&[
            "patch",
            "secret",
            "pg-superuser",
            "-p",
            r#"{"stringData":{"password":"another one, with ' and \\ in it"}}"#,
        ])
        .await?;
    superuser.run_when_up("select 1", wait::minutes(2)).await?;
    scene.change("pg", json!({"enableSuperuserAccess": false})).await?;
    wait::until("no password on postgres", wait::minutes(2), || async {
        let probe = app.run("select 1").await?;
        let refused = superuser.run("select 1").await.is_err();
        Ok((probe == "1" && refused).then_some(()))
    })
    .await?;
    scene.ground.stop().await
}

/// Parameters and pg_hba lines are taken up without a new pod; a bad parameter does not bring the server down.
#[tokio::test(flavor = "multi_thread")]
async fn settings_are_taken_up() -> Result<()> {
    let scene = Scene::new("settings").await?;
    scene.up("pg", json!({})).await?;
    let sql = scene.sql("pg");
    let started = sql.run("select pg_postmaster_start_time()").await?;
    let pg_hba = ["host app app 192.0.2.0/24 scram-sha-256"];
    scene.change("pg", json!({"postgresql": {"parameters": {"work_mem": "7MB"}, "pg_hba": pg_hba}})).await?;
    wait::until("work_mem", wait::minutes(2), || async {
        Ok((sql.run("show work_mem").await? == "7MB").then_some(()))
    })
    .await?;
    ensure!(sql.run("select count(*) from pg_hba_file_rules where address = '192.0.2.0'").await? == "1");
    ensure!(sql.run("select pg_postmaster_start_time()").await? == started, "PostgreSQL was restarted");
    let refused = scene
        .kubectl
        .output(
            &[
                "patch",
                "cluster",
                "pg",
                "--type=merge",
                "-p",
                r#"{"spec":{"postgresql":{"parameters":{"archive_command":"true"}}}}"#,
            ],
            None,
        )
        .await?;
    ensure!(!refused.ok && refused.stderr.contains("managed by the operator"), "{}", refused.stderr);
    scene.ground.stop().await
}

/// WAL on a volume of its own.
#[tokio::test(flavor = "multi_thread")]
async fn wal_on_its_own_volume() -> Result<()> {
    let scene = Scene::new("walvolume").await?;
    scene.up("pg", json!({"walStorage": {"size": "1Gi"}})).await?;
    ensure!(scene.kubectl.get("pvc", "pg-1-wal").await?.is_some(), "no claim pg-1-wal");
    let sql = scene.sql("pg");
    sql.run(&table("t", 1000)).await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.completed_backup("b", "pg").await?;
    // Restored onto a separate WAL volume as well.
    let mut restored = scene.restored("again", "b", json!(null));
    restored["spec"]["walStorage"] = json!({"size": "1Gi"});
    scene.apply(&restored).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

/// More instances, then fewer; the status follows.
#[tokio::test(flavor = "multi_thread")]
async fn scaling_out_and_in() -> Result<()> {
    let scene = Scene::new("scale").await?;
    scene.up("pg", json!({})).await?;
    scene.change("pg", json!({"instances": 2})).await?;
    scene
        .kubectl
        .wait_for("cluster", "pg", "two ready instances", wait::minutes(4), |c| {
            c["status"]["readyInstances"] == 2
        })
        .await?;
    scene.change("pg", json!({"instances": 1})).await?;
    wait::until("pg-2 gone", wait::minutes(3), || async {
        Ok(scene.kubectl.get("pod", "pg-2").await?.is_none().then_some(()))
    })
    .await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "pg", "one instance", wait::minutes(2), |c| {
            c["status"]["instances"] == 1 && c["status"]["readyInstances"] == 1
        })
        .await?;
    ensure!(cluster["status"]["currentPrimary"] == "pg-1", "{:#}", cluster["status"]);
    ensure!(condition(&cluster, "Ready").is_some_and(|c| c["status"] == "True"));
    scene.ground.stop().await
}
