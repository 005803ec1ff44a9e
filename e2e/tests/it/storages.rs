//! One cluster on every storage at once.

use std::sync::Arc;

use anyhow::{Result, ensure};
use chrono::{Duration, Timelike, Utc};
use howdah_e2e::{manifests, wait};
use howdah_emulators::{AZURE_ACCOUNT, AZURE_KEY, Emulator, GCS_KEY};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::common::{Scene, checksum, phase, table};

/// Bucket and container in the emulators.
const BUCKET: &str = "backups";
const TYPES: [&str; 3] = ["full", "differential", "incremental"];

fn s3(scene: &Scene, name: &str) -> Value {
    let key = |key: &str| json!({"name": scene.store.secret, "key": key});
    json!({
        "name": name,
        "s3": {"bucket": scene.store.bucket, "endpoint": scene.store.endpoint, "region": "us-east-1"},
        "credentials": {"accessKeyId": key("ACCESS_KEY_ID"), "secretAccessKey": key("ACCESS_SECRET_KEY")},
    })
}

fn on_gcs(gcs: &Emulator, name: &str) -> Value {
    json!({
        "name": name,
        "gcs": {"bucket": BUCKET, "endpoint": gcs.endpoint},
        "credentials": {"applicationCredentials": {"name": "cloud-creds", "key": "gcs.json"}},
    })
}

fn on_azure(azure: &Emulator, name: &str) -> Value {
    let key = |key: &str| json!({"name": "cloud-creds", "key": key});
    json!({
        "name": name,
        "azure": {"container": BUCKET, "endpoint": azure.endpoint},
        "credentials": {"storageAccount": key("account"), "storageKey": key("key")},
    })
}

/// A write load until it is told to stop. Whoever holds the lock sees no transaction in flight.
fn load(scene: &Scene, going: &Arc<Mutex<bool>>) -> tokio::task::JoinHandle<Result<u32>> {
    let (sql, going) = (scene.sql("pg"), Arc::clone(going));
    tokio::spawn(async move {
        let mut rounds = 0;
        loop {
            let going = going.lock().await;
            if !*going {
                return Ok(rounds);
            }
            rounds += 1;
            let more = format!(
                "insert into t select max(id) + n, repeat(md5(random()::text), 4) from t, generate_series(1, 50) n group by n; update t set body = '{rounds}' || body where id % 97 = {rounds} % 97"
            );
            sql.run(&more).await?;
        }
    })
}

/// What the table holds at a moment when nothing is written, and that moment.
async fn mark(scene: &Scene, going: &Arc<Mutex<bool>>) -> Result<(String, String)> {
    let _still = going.lock().await;
    let sql = scene.sql("pg");
    let sum = sql.run(&checksum("t")).await?;
    let time = sql
        .run("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        .await?;
    Ok((sum, time))
}

/// S0.7, S0.26, S1.3, S1.4, S1.5, S1.6, S1.10, S1.14, S1.27, S1.34: WAL in all repositories, a full, a differential and an incremental backup in each by
/// schedule and by hand under a write load, and recovery from each to one exact moment.
#[tokio::test(flavor = "multi_thread")]
async fn four_storages_under_load_restore_to_one_moment() -> Result<()> {
    let scene = Scene::new("four").await?;
    let (gcs, azure) = (Emulator::gcs(BUCKET)?, Emulator::azure(BUCKET).await?);
    let keys = [("gcs.json", GCS_KEY), ("account", AZURE_ACCOUNT), ("key", AZURE_KEY)];
    scene.kubectl.create_secret("cloud-creds", &keys).await?;
    let volume = json!({"name": "disk", "volume": {"volumeClaimSpec": {"resources": {"requests": {"storage": "1Gi"}}}}});
    let mut all = vec![s3(&scene, "s3"), on_gcs(&gcs, "google"), on_azure(&azure, "azure"), volume];
    let names = ["s3", "google", "azure", "disk"];
    let pg = |all: &[Value]| {
        let spec = json!({"backup": {"target": "primary", "repositories": all}});
        manifests::cluster("pg", &scene.ground.images.postgres, None, spec)
    };
    for one in &mut all {
        // A checkpoint that takes its time would last minutes under this load.
        one["data"] = json!({"immediateCheckpoint": true, "compression": "lz4"});
    }
    scene.apply(&pg(&all)).await?;
    scene.healthy("pg").await?;
    scene.sql("pg").run(&table("t", 5000)).await?;
    let going = Arc::new(Mutex::new(true));
    let loading = load(&scene, &going);

    // Three moments of a minute that has not begun.
    let at = Utc::now() + Duration::seconds(60);
    let cron = |second: u32| format!("{second} {} {} {} * *", at.minute(), at.hour(), at.format("%-d"));
    for one in &mut all {
        one["schedules"] = json!({"full": cron(0), "differential": cron(20), "incremental": cron(40)});
    }
    scene.apply(&pg(&all)).await?;
    wait::until("a scheduled backup of each type in each repository", wait::minutes(9), || async {
        let backups = scene.kubectl.list("backup", "").await?;
        let done: Vec<&Value> = backups.iter().filter(|b| phase(b) == "completed").collect();
        let failed = backups.iter().find(|b| phase(b) == "failed");
        ensure!(failed.is_none(), "{:#}", failed.unwrap_or(&Value::Null)["status"]);
        let there = |name: &str, kind: &str| {
            done.iter().any(|b| b["status"]["repository"] == name && b["status"]["type"] == kind)
        };
        Ok(names.iter().all(|name| TYPES.iter().all(|kind| there(name, kind))).then_some(()))
    })
    .await?;

    for kind in TYPES {
        for name in names {
            let mut manifest = manifests::backup(&format!("{name}-{kind}"), "pg");
            manifest["spec"]["repository"] = name.into();
            manifest["spec"]["type"] = kind.into();
            scene.apply(&manifest).await?;
        }
    }
    for kind in TYPES {
        for name in names {
            let done = scene.ended(&format!("{name}-{kind}")).await?;
            ensure!(phase(&done) == "completed", "{name} {kind}: {:#}", done["status"]);
            ensure!(done["status"]["type"] == kind, "{name} {kind}: {:#}", done["status"]);
        }
    }
    let (sum, time) = mark(&scene, &going).await?;
    scene.sql("pg").run("insert into t values (-1, 'after the moment')").await?;
    *going.lock().await = false;
    ensure!(loading.await?? > 3, "there was hardly any load");
    scene.archive_all("pg").await?;

    for name in names {
        let target = json!({"targetTime": time});
        scene.apply(&scene.restored(&format!("from-{name}"), &format!("{name}-incremental"), target)).await?;
    }
    for name in names {
        let cluster = format!("from-{name}");
        scene.healthy(&cluster).await?;
        ensure!(
            scene.sql(&cluster).run(&checksum("t")).await? == sum,
            "{cluster} is not what pg was at {time}"
        );
    }
    let cluster = scene.kubectl.get("cluster", "pg").await?.unwrap_or_default();
    for one in cluster["status"]["repositories"].as_array().into_iter().flatten() {
        ensure!(one["probe"]["works"] == true, "{one:#}");
        ensure!(one["archiving"] == true, "{one:#}");
    }
    scene.ground.stop().await
}

/// S0.24, S0.25, S1.29, S1.30, S1.31: a repository that is encrypted holds nothing that can be read, on the lab's S3 and on another storage;
/// its passphrase is changed while it is used; it restores with the new one alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_repository_keeps_its_secrets_and_restores() -> Result<()> {
    const PATTERN: &str = "the quick brown fox of howdah";
    let scene = Scene::new("crypt").await?;
    let phrase = |key: &str| json!({"name": "phrases", "key": key});
    scene
        .kubectl
        .create_secret("phrases", &[("one", "first-passphrase"), ("two", "second-passphrase")])
        .await?;
    let mut all = [s3(&scene, "gcm"), s3(&scene, "cbc")];
    for (one, cipher) in all.iter_mut().zip(["aes-256-gcm", "aes-256-cbc"]) {
        one["encryption"] = json!({"cipher": cipher, "passphrase": phrase("one")});
    }
    let pg = |all: &[Value]| {
        let spec = json!({"backup": {"target": "primary", "repositories": all}});
        manifests::cluster("pg", &scene.ground.images.postgres, None, spec)
    };
    scene.apply(&pg(&all)).await?;
    scene.healthy("pg").await?;
    let sql = scene.sql("pg");
    let fill = format!(
        "create table t (id int primary key, body text); insert into t select i, '{PATTERN}' from generate_series(1, 3000) i"
    );
    sql.run(&fill).await?;
    for (name, repository, kind) in [
        ("g1", "gcm", "full"),
        ("c1", "cbc", "full"),
        ("g2", "gcm", "incremental"),
        ("c2", "cbc", "differential"),
    ] {
        let mut manifest = manifests::backup(name, "pg");
        manifest["spec"]["repository"] = repository.into();
        manifest["spec"]["type"] = kind.into();
        scene.apply(&manifest).await?;
        let done = scene.ended(name).await?;
        ensure!(phase(&done) == "completed", "{name}: {:#}", done["status"]);
    }
    for one in &mut all {
        one["encryption"]["passphrase"] = phrase("two");
        one["encryption"]["formerPassphrases"] = json!([phrase("one")]);
    }
    let keys = |cluster: &Value| -> Vec<String> {
        let all = cluster["status"]["repositories"].as_array().into_iter().flatten();
        all.filter_map(|one| one["encryption"]["keyID"].as_str().map(str::to_owned)).collect()
    };
    let before = keys(&scene.kubectl.get("cluster", "pg").await?.unwrap_or_default());
    scene.apply(&pg(&all)).await?;
    scene
        .kubectl
        .wait_for("cluster", "pg", "other keys", wait::minutes(3), |cluster| {
            let now = keys(cluster);
            now.len() == 2 && now.iter().all(|key| !before.contains(key))
        })
        .await?;
    for one in &mut all {
        one["encryption"].as_object_mut().expect("an object").remove("formerPassphrases");
    }
    scene.apply(&pg(&all)).await?;
    sql.run("insert into t select i, 'later' from generate_series(5001, 5100) i").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;

    let place = format!("{}/pg/", scene.kubectl.namespace);
    let objects = scene.ground.keys(&place).await?;
    ensure!(
        objects.iter().any(|key| key.contains("/base/")) && objects.iter().any(|key| key.contains("/wals/"))
    );
    for key in objects.iter().filter(|key| !key.contains("/howdah/keys/") && !key.contains("/howdah/probe")) {
        let body = scene.ground.s3.read(key).await?;
        ensure!(body.starts_with(b"HOWDAHEN"), "{key} is not encrypted");
        let found = body.windows(PATTERN.len()).any(|window| window == PATTERN.as_bytes());
        ensure!(!found, "{key} holds what is in the table");
    }
    let said = scene.kubectl.get("cluster", "pg").await?.unwrap_or_default().to_string();
    ensure!(!said.contains("first-passphrase") && !said.contains("second-passphrase"));

    for (cluster, backup) in [("again-g", "g2"), ("again-c", "c2")] {
        // The Backup names the first passphrase; the repository is opened with what the Secret has now.
        let backup_status = scene.kubectl.get("backup", backup).await?.unwrap_or_default();
        ensure!(backup_status["status"]["clientEncryption"]["passphrase"]["key"] == "one");
        scene.apply(&scene.restored(cluster, backup, Value::Null)).await?;
    }
    // A key that is not there any more is asked for by its id.
    let waiting = scene
        .kubectl
        .wait_for("cluster", "again-g", "the missing key", wait::minutes(4), |cluster| {
            cluster["status"]["phaseReason"].as_str().is_some_and(|why| why.contains("key with id"))
        })
        .await?;
    ensure!(!waiting.to_string().contains("first-passphrase"));
    scene.kubectl.run(&["delete", "secret", "phrases"]).await?;
    scene
        .kubectl
        .create_secret("phrases", &[("one", "second-passphrase"), ("two", "second-passphrase")])
        .await?;
    for cluster in ["again-g", "again-c"] {
        scene.healthy(cluster).await?;
        ensure!(scene.sql(cluster).run(&checksum("t")).await? == sum, "{cluster} is not what pg was");
    }
    scene.ground.stop().await
}
