//! What bad input gets: refused by the schema where that can be known, else told in status and events with the
//! object, the cause and the remedy; mended, it goes on without hand work.

use anyhow::{Result, ensure};
use howdah_e2e::manifests::{backup, merge, object};
use howdah_e2e::wait;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{Scene, checksum, condition, error, phase, table};

/// Refused at once, by `kubectl apply`, with words that tell what to write instead.
#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_with_a_remedy() -> Result<()> {
    let scene = Scene::new("schema").await?;
    let store = |patch: Value| {
        let mut cluster = scene.cluster("bad", json!({}));
        merge(&mut cluster["spec"]["backup"]["barmanObjectStore"], patch);
        cluster
    };
    let recover = |target: Value| scene.restored("bad", "some", target);
    let cases: Vec<(&str, Value, &str)> = vec![
        (
            "destination without a scheme",
            store(json!({"destinationPath": "backups/here"})),
            "s3://BUCKET_NAME",
        ),
        (
            "destination of another kind",
            store(json!({"destinationPath": "ftp://host/x"})),
            "s3://BUCKET_NAME",
        ),
        ("endpoint with a path", store(json!({"endpointURL": "http://host/with/path"})), "endpointURL"),
        ("one key of two", store(json!({"s3Credentials": {"secretAccessKey": null}})), "together"),
        (
            "keys and a role",
            store(json!({"s3Credentials": {"inheritFromIAMRole": true}})),
            "inheritFromIAMRole",
        ),
        ("codec of nobody", store(json!({"wal": {"compression": "rar"}})), "gzip"),
        ("codec not for base backups", store(json!({"data": {"compression": "xz"}})), "zstd"),
        ("encryption of nobody", store(json!({"wal": {"encryption": "rot13"}})), "AES256"),
        ("no parallelism", store(json!({"wal": {"maxParallel": 0}})), "maxParallel"),
        ("server name with a slash", store(json!({"serverName": "a/b"})), "serverName"),
        ("time", recover(json!({"targetTime": "yesterday"})), "RFC 3339"),
        ("LSN", recover(json!({"targetLSN": "16/XYZ"})), "targetLSN"),
        ("timeline", recover(json!({"targetTLI": "0"})), "targetTLI"),
        ("two targets", recover(json!({"targetName": "a", "targetLSN": "0/1"})), "only one of"),
        ("no instances", scene.cluster("bad", json!({"instances": 0})), "instances"),
        ("no size", scene.cluster("bad", json!({"storage": {"size": "big"}})), "5Gi"),
        (
            "two bootstraps",
            scene.cluster("bad", json!({"bootstrap": {"initdb": {}, "recovery": {"backup": {"name": "b"}}}})),
            "only one of",
        ),
        (
            "a managed parameter",
            scene.cluster("bad", json!({"postgresql": {"parameters": {"restore_command": "true"}}})),
            "managed by the operator",
        ),
        (
            "more synchronous replicas than replicas",
            scene.cluster("bad", json!({"instances": 2, "postgresql": {"synchronous": {"number": 2}}})),
            "postgresql.synchronous.number must be less than instances",
        ),
        (
            "more synchronous replicas at most than replicas",
            scene.cluster("bad", json!({"instances": 2, "maxSyncReplicas": 2})),
            "maxSyncReplicas must be less than instances",
        ),
        (
            "a minimum without a maximum",
            scene.cluster("bad", json!({"instances": 2, "minSyncReplicas": 1})),
            "give maxSyncReplicas as well",
        ),
        (
            "a replica cluster that began with nothing of its source",
            scene.cluster("bad", json!({"replica": {"enabled": true, "source": "origin"}})),
            "replica.source must be the external cluster",
        ),
        ("a name too long", scene.cluster(&"x".repeat(60), json!({})), "50 characters"),
    ];
    for (what, manifest, word) in &cases {
        let said = scene.kubectl.apply_refused(&manifest.to_string()).await?;
        ensure!(said.contains(word), "{what}: `{word}` is not in: {said}");
    }
    // A field that nobody knows is refused, not ignored.
    let mut unknown = scene.cluster("bad", json!({}));
    unknown["spec"]["backup"]["barmanObjectStore"]["walCompression"] = json!("gzip");
    let out =
        scene.kubectl.output(&["create", "-f", "-", "--validate=true"], Some(&unknown.to_string())).await?;
    ensure!(!out.ok && out.stderr.contains("walCompression"), "{}{}", out.stdout, out.stderr);
    scene.ground.stop().await
}

/// S0.32: they say why, in the status and in what `kubectl describe` shows.
#[tokio::test(flavor = "multi_thread")]
async fn backups_that_cannot_be_taken() -> Result<()> {
    let scene = Scene::new("nobackup").await?;
    let mut plain = scene.cluster("plain", json!({}));
    if let Some(spec) = plain["spec"].as_object_mut() {
        spec.remove("backup");
    }
    scene.apply(&plain).await?;
    scene.healthy("plain").await?;
    let failed = scene.back_up("b", "plain").await?;
    ensure!(
        phase(&failed) == "failed" && error(&failed).contains("barmanObjectStore"),
        "{:#}",
        failed["status"]
    );
    let described = scene.kubectl.run(&["describe", "backup", "b"]).await?;
    ensure!(described.contains("barmanObjectStore") && described.contains("Warning"), "{described}");

    // Recovery from it is refused, and from one that does not exist waits and says for what.
    scene.apply(&scene.restored("from-failed", "b", json!(null))).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "from-failed", "the refusal", wait::minutes(2), |c| {
            c["status"]["phaseReason"].as_str().is_some_and(|r| r.contains('b'))
        })
        .await?;
    ensure!(
        cluster["status"]["phaseReason"]
            .as_str()
            .is_some_and(|r| r.contains("failed") || r.contains("not completed")),
        "{:#}",
        cluster["status"]
    );
    scene.apply(&scene.restored("from-nothing", "no-such-backup", json!(null))).await?;
    scene
        .kubectl
        .wait_for("cluster", "from-nothing", "the refusal", wait::minutes(2), |c| {
            c["status"]["phaseReason"].as_str().is_some_and(|r| r.contains("no-such-backup"))
        })
        .await?;
    ensure!(
        scene.kubectl.get("pod", "from-nothing-1").await?.is_none(),
        "a pod was made for a recovery from nothing"
    );
    scene.ground.stop().await
}

/// S0.20: a store that cannot be used: the cluster works, archiving and backups say why, and both go on once it is
/// mended.
#[rstest]
#[case::secret_missing("nosecret")]
#[case::key_missing("nokey")]
#[case::wrong_key("wrongkey")]
#[case::bucket_missing("nobucket")]
#[case::endpoint_unreachable("noendpoint")]
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_used_is_told_and_mended(#[case] case: &str) -> Result<()> {
    let scene = Scene::new(case).await?;
    let mut cluster = scene.cluster("pg", json!({}));
    let section = &mut cluster["spec"]["backup"]["barmanObjectStore"];
    let good = section.clone();
    // What is wrong, and a word that the message must hold.
    let word = match case {
        "nosecret" => {
            section["s3Credentials"]["accessKeyId"]["name"] = json!("absent-creds");
            "absent-creds"
        }
        "nokey" => {
            section["s3Credentials"]["accessKeyId"]["key"] = json!("ABSENT_KEY");
            "ABSENT_KEY"
        }
        "wrongkey" => {
            scene
                .kubectl
                .create_secret(
                    "wrong-creds",
                    &[("ACCESS_KEY_ID", "nobody"), ("ACCESS_SECRET_KEY", "nothing-secret")],
                )
                .await?;
            section["s3Credentials"]["accessKeyId"]["name"] = json!("wrong-creds");
            section["s3Credentials"]["secretAccessKey"]["name"] = json!("wrong-creds");
            "key"
        }
        "nobucket" => {
            section["destinationPath"] = json!("s3://no-such-bucket/");
            "no-such-bucket"
        }
        _ => {
            section["endpointURL"] = json!("http://127.0.0.1:9");
            "http://127.0.0.1:9"
        }
    };
    scene.apply(&cluster).await?;
    // The database serves all the same.
    scene
        .kubectl
        .wait_for("cluster", "pg", "a ready instance", wait::minutes(4), |c| {
            c["status"]["readyInstances"] == 1
        })
        .await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 100)).await?;
    sql.run("select pg_switch_wal()").await?;
    let sum = sql.run(&checksum("t")).await?;
    let told = scene
        .kubectl
        .wait_for("cluster", "pg", "the fault", wait::minutes(3), |c| {
            ["ContinuousArchiving", "BackupConfigured"].iter().any(|t| {
                condition(c, t).is_some_and(|c| {
                    c["status"] == "False" && c["message"].as_str().is_some_and(|m| m.contains(word))
                })
            })
        })
        .await?;
    ensure!(!told["status"].to_string().contains("nothing-secret"), "a secret is in the status");
    // A backup waits or fails, and says why; it is never completed.
    scene.apply(&backup("early", "pg")).await?;
    let early = scene
        .kubectl
        .wait_for("backup", "early", "waiting with a reason, or failed", wait::minutes(3), |b| {
            phase(b) == "failed"
                || condition(b, "Scheduled").is_some_and(|c| {
                    c["status"] == "False" && c["message"].as_str().is_some_and(|m| !m.is_empty())
                })
        })
        .await?;
    ensure!(phase(&early) != "completed", "{:#}", early["status"]);
    // Mended.
    cluster["spec"]["backup"]["barmanObjectStore"] = good;
    scene.apply(&cluster).await?;
    scene
        .kubectl
        .wait_for("cluster", "pg", "archiving works", wait::minutes(4), |c| {
            condition(c, "ContinuousArchiving").is_some_and(|c| c["status"] == "True")
        })
        .await?;
    scene.completed_backup("late", "pg").await?;
    let early = scene.ended("early").await?;
    ensure!(["completed", "failed"].contains(&phase(&early)), "{:#}", early["status"]);
    scene.apply(&scene.restored("again", "late", json!(null))).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

/// A second cluster that would write into the first one's archive is refused; the first goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_the_archive_is_refused() -> Result<()> {
    let scene = Scene::new("stranger").await?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"serverName": "shared"}}})).await?;
    scene.sql("pg").run(&table("t", 10)).await?;
    scene.archive_all("pg").await?;
    let keys = scene.ground.keys("shared/wals/").await?;
    scene
        .apply(&scene.cluster("other", json!({"backup": {"barmanObjectStore": {"serverName": "shared"}}})))
        .await?;
    scene
        .kubectl
        .wait_for("cluster", "other", "a ready instance", wait::minutes(4), |c| {
            c["status"]["readyInstances"] == 1
        })
        .await?;
    let other = scene.sql("other");
    other.run(&table("t", 10)).await?;
    other.run("select pg_switch_wal()").await?;
    scene
        .kubectl
        .wait_for("cluster", "other", "the refusal", wait::minutes(3), |c| {
            condition(c, "ContinuousArchiving").is_some_and(|c| {
                c["status"] == "False"
                    && c["message"].as_str().is_some_and(|m| m.contains("system identifier"))
            })
        })
        .await?;
    scene.archive_all("pg").await?;
    let after = scene.ground.keys("shared/wals/").await?;
    ensure!(keys.iter().all(|k| after.contains(k)), "{keys:?} {after:?}");
    ensure!(other.run("select count(*) from t").await? == "10");
    scene.ground.stop().await
}

/// A volume too small for what is restored: the message names the volume; a larger one succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_during_restore_is_told() -> Result<()> {
    let scene = Scene::new("disk").await?;
    let lab = scene.ground.lab()?;
    scene.up("pg", json!({"backup": {"barmanObjectStore": {"data": {"compression": "gzip"}}}})).await?;
    let sql = scene.sql("pg");
    sql.run("create table big (id int primary key, body text); insert into big select i, repeat('x', 1000) || i from generate_series(1, 60000) i").await?;
    sql.run("checkpoint").await?;
    let sum = sql.run(&checksum("big")).await?;
    scene.completed_backup("b", "pg").await?;
    let mut small = scene.restored("small", "b", json!(null));
    merge(
        &mut small["spec"],
        json!({"storage": {"size": "40Mi", "storageClass": lab.bounded_storage_class()}}),
    );
    scene.apply(&small).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "small", "the full disk", wait::minutes(4), |c| {
            c["status"]["phaseReason"]
                .as_str()
                .is_some_and(|r| r.contains("bytes free") || r.contains("No space left"))
        })
        .await?;
    ensure!(
        cluster["status"]["phaseReason"].as_str().is_some_and(|r| r.contains("/var/lib/postgresql/data")),
        "{:#}",
        cluster["status"]
    );
    merge(&mut small, json!({"metadata": {"name": "large"}, "spec": {"storage": {"size": "400Mi"}}}));
    scene.apply(&small).await?;
    scene.healthy("large").await?;
    ensure!(scene.sql("large").run(&checksum("big")).await? == sum);
    scene.ground.stop().await
}

/// A Backup made for a cluster and target that no one has.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_an_unknown_target_is_refused() -> Result<()> {
    let scene = Scene::new("target").await?;
    let said = scene
        .kubectl
        .apply_refused(
            &object("Backup", "b", json!({"cluster": {"name": "pg"}, "target": "anywhere"})).to_string(),
        )
        .await?;
    ensure!(said.contains("prefer-standby"), "{said}");
    let said = scene
        .kubectl
        .apply_refused(&object("Backup", "b", json!({"cluster": {"name": ""}})).to_string())
        .await?;
    ensure!(said.contains("name"), "{said}");
    scene.ground.stop().await
}
