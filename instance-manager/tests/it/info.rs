//! `info`, `list`, `show`, `verify`, `expire` and `check` by the program that users get, in a pod with a real server.

use std::process::{Output, Stdio};

use howdah_api::backup::BackupSpec;
use howdah_api::common::{BackupType, LocalObjectReference};
use howdah_s3::{Action, Operation, Rule};
use serde_json::{Value, json};

use crate::pod::{Pod, text};
use crate::world::{BUCKET, World, until};

/// An archiving primary.
async fn archiving(world: &World) -> Pod {
    world.cluster("pg", world.spec(None, true)).await;
    let pod = Pod::initialised(world).await;
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    pod
}

/// Takes a backup and returns its id.
async fn backed_up(world: &World, pod: &Pod) -> String {
    world.assign("first", "pg", "pg-1", &pod.status().unwrap().session_id).await;
    world.backup_ended("first").await.backup_id.unwrap()
}

fn out(output: &Output) -> String {
    assert!(!text(output).contains("secret"), "a secret is shown: {}", text(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn succeeded(pod: &Pod, args: &[&str]) -> String {
    let output = pod.call(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    out(&output)
}

fn parsed(pod: &Pod, args: &[&str]) -> Value {
    serde_json::from_str(&succeeded(pod, args)).unwrap()
}

/// S0.34, S0.35, S0.36, S0.37, S0.39, S1.34: a person or a program asks in any pod.
#[tokio::test(flavor = "multi_thread")]
async fn everything_about_a_backup_is_told() {
    let world = World::new().await;
    let pod = archiving(&world).await;
    let before = succeeded(&pod, &["info"]);
    assert!(before.contains("    status: error (no valid backups)\n"), "{before}");
    let id = backed_up(&world, &pod).await;
    let label = format!("{}F", id.replace('T', "-"));

    let info = succeeded(&pod, &["info"]);
    assert!(info.starts_with("stanza: pg\n    status: ok\n    cipher: none\n\n    db (current)\n"), "{info}");
    for part in [
        "        wal archive min/max (15): 000000010000000000000001/",
        &format!("        full backup: {label}\n            timestamp start/stop: "),
        "            default: backup set size: ",
    ] {
        assert!(info.contains(part), "no {part:?} in\n{info}");
    }
    let json = parsed(&pod, &["info", "--output", "json", "--repository", "default"]);
    assert_eq!(json["stanza"], "pg");
    let backup = &json["repositories"][0]["backups"][0];
    assert_eq!(
        (&backup["id"], &backup["type"], &backup["restorable"]),
        (&json!(id), &json!("full"), &json!(true))
    );
    let theirs = parsed(&pod, &["info", "--output", "pgbackrest-json"]);
    assert_eq!(theirs[0]["backup"][0]["label"], json!(label));

    let list = succeeded(&pod, &["list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains(&id) && list.contains(&label) && list.contains("done"), "{list}");
    let show = succeeded(&pod, &["show", &label]);
    assert!(show.contains("    data.tar") && show.contains("    status=DONE"), "{show}");
    assert_eq!(parsed(&pod, &["show", "latest", "--output", "json"])[0]["manifest"], json!(true));

    let verified = succeeded(&pod, &["verify"]);
    assert!(verified.contains(&format!("    restorable: {label}\n")), "{verified}");
    let verified = parsed(&pod, &["verify", "all", "--output", "json"]);
    assert_eq!((&verified[0]["ok"], &verified[0]["repository"]), (&json!(true), &json!("default")));
    succeeded(&pod, &["verify", "--wal-only"]);

    let checked = parsed(&pod, &["check", "--output", "json"]);
    let checks = checked["repositories"][0]["checks"].as_array().unwrap();
    let seen: Vec<(&Value, &Value)> =
        checks.iter().map(|check| (&check["name"], &check["outcome"])).collect();
    let names = ["reach", "write", "clock", "lineage", "archive"].map(Value::from);
    let passed = Value::from("passed");
    assert_eq!(seen, names.iter().map(|name| (name, &passed)).collect::<Vec<_>>());
    assert!(!world.keys().iter().any(|key| key.contains("/howdah/check/")), "{:?}", world.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_by_exit_code_and_remedy() {
    let world = World::new().await;
    let pod = archiving(&world).await;
    let id = backed_up(&world, &pod).await;
    let stays = succeeded(&pod, &["expire", "--dry-run"]);
    assert!(stays.contains("    policy: none, everything stays\n"), "{stays}");
    let cases: [(&[&str], i32, &str); 8] = [
        (&["show", "20200101T000000"], 1, "instance-manager list"),
        (&["verify", "20200101T000000"], 1, "20200101T000000"),
        (&["info", "--repository", "repo9"], 3, "there are: default"),
        (&["list", "--output", "xml"], 3, "possible values"),
        (&["verify", "--wal-only", "--no-data"], 3, "cannot be used with"),
        (&["check", "--timeout", "0"], 3, "--timeout"),
        (&["expire"], 3, "--dry-run"),
        (&["info", "--config", "/nonexistent.json"], 3, "/nonexistent.json"),
    ];
    for (args, code, word) in cases {
        let output = pod.call(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
        assert!(text(&output).contains(word), "{args:?}: {}", text(&output));
    }
    let part = world.keys().into_iter().find(|key| key.starts_with(&format!("pg/base/{id}/data"))).unwrap();
    world.s3.delete(BUCKET, &part).await.unwrap();
    let output = pod.call(&["verify", "--no-data"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = out(&output);
    assert!(told.contains(&format!("error part-missing: s3://{BUCKET}/{part}")), "{told}");
    assert!(told.contains("remedy: ") && told.contains("restorable: none"), "{told}");

    // Another database's place, and a store that takes no WAL: both are named with what to do.
    let foreign = r#"{"systemIdentifier":"1","claimedAt":"2026-11-21T10:00:00Z"}"#;
    world.s3.put(BUCKET, "pg/howdah/lineage.json", foreign).await.unwrap();
    let output = pod.call(&["check", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(out(&output).contains("lineage  error: it is of the system 1"), "{}", text(&output));
    world.s3.faults().add(Rule::new(Action::access_denied()));
    let output = pod.call(&["info"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(out(&output).contains("status: error (other)"), "{}", text(&output));
}

/// A client that goes away takes its work with it, and WAL travels while it lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a_verification_is_nobody_elses_burden() {
    let world = World::new().await;
    let pod = archiving(&world).await;
    backed_up(&world, &pod).await;
    let stall = Action::Stall { millis: 3_600_000 };
    let rule = Rule::new(stall).operation(Operation::GetObject).key("pg/base/*/data*");
    let rule = world.s3.faults().add(rule);
    let mut client = pod.client(&["verify"]).stdout(Stdio::null()).spawn().unwrap();
    until("the verification reads", || async { world.s3.faults().hits(rule) > 0 }).await;

    let second = pod.call(&["verify"]);
    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    assert!(text(&second).contains("another verification is running"), "{}", text(&second));
    // Both go through the same socket.
    succeeded(&pod, &["check"]);
    let sql = pod.sql("postgres", "postgres").await.unwrap();
    let row = sql.query_one("SELECT failed_count FROM pg_stat_archiver", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);

    client.kill().unwrap();
    client.wait().unwrap();
    until("the work ends with its client", || async {
        world.s3.faults().remove(rule);
        pod.call(&["verify"]).status.success()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_or_a_manager_the_commands_say_so() {
    let world = World::new().await;
    world.cluster("pg", world.spec(None, false)).await;
    let mut pod = Pod::new(&world, "pg", 1);
    pod.bootstrapped("initdb");
    let output = pod.call(&["info"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("does not listen"), "{}", text(&output));
    pod.ready().await;
    assert!(succeeded(&pod, &["info"]).contains("status: error (no repository configured)"));
    let output = pod.call(&["verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("spec.backup.barmanObjectStore"), "{}", text(&output));
}

/// S0.34: a replica tells the same, and has its primary close the segment for a check.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_tells_the_same() {
    let world = World::new().await;
    let primary = archiving(&world).await;
    backed_up(&world, &primary).await;
    let replica = Pod::replica_of(&world, &primary).await;
    let status = json!({
        "currentPrimary": "pg-1",
        "instancesStatus": [{ "name": "pg-1", "ready": true, "podIP": primary.ip }],
    });
    world.cluster_status("pg", status).await;
    until("the replica knows its primary", || async { replica.call(&["check"]).status.success() }).await;
    assert_eq!(succeeded(&replica, &["list"]), succeeded(&primary, &["list"]));
}

/// A repository of the Cluster in the world's bucket, in the words of its manifest.
fn repository(world: &World, retention: Value) -> Value {
    let key = |key: &str| json!({ "name": "aws-creds", "key": key });
    json!({
        "name": "repo1",
        "path": "/one",
        "s3": { "bucket": BUCKET, "endpoint": world.s3.endpoint(), "uriStyle": "path" },
        "credentials": { "accessKeyId": key("ID"), "secretAccessKey": key("KEY") },
        "retention": retention,
    })
}

/// Takes a backup to `repo1` and returns its label.
async fn backed_up_as(world: &World, pod: &Pod, name: &str, kind: BackupType) -> String {
    let spec = BackupSpec {
        cluster: LocalObjectReference { name: "pg".into() },
        repository: Some("repo1".to_owned()),
        type_: Some(kind),
        ..BackupSpec::default()
    };
    world.assign_as(howdah_api::Backup::new(name, spec), "pg-1", &pod.status().unwrap().session_id).await;
    let status = world.backup_ended(name).await;
    status.label.unwrap_or_else(|| panic!("{name}: {:?}", status.error))
}

/// S0.3, S0.35, S0.36, S1.2: several repositories, a chain in one of them, what damage in it takes away, and retention, which
/// is told first and then carried out; and the same from a file, where there is no manager.
#[tokio::test(flavor = "multi_thread")]
async fn chains_and_retention_of_several_repositories() {
    let world = World::new().await;
    let backup = json!({
        "barmanObjectStore": world.store(),
        "repositories": [repository(&world, json!({ "full": { "count": 1 }, "dryRun": true }))],
    });
    let mut spec = world.spec(None, false);
    spec.backup = Some(serde_json::from_value(backup.clone()).unwrap());
    world.cluster("pg", spec).await;
    let pod = Pod::initialised(&world).await;
    until("WAL is archived", || async { pod.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed) })
        .await;
    let old = backed_up_as(&world, &pod, "old", BackupType::Full).await;
    let full = backed_up_as(&world, &pod, "full", BackupType::Full).await;
    let incremental = backed_up_as(&world, &pod, "incremental", BackupType::Incremental).await;

    let info = succeeded(&pod, &["info"]);
    for part in [
        "    status: mixed\n        default: error (no valid backups)\n        repo1: ok\n",
        &format!("        incr backup: {incremental}\n"),
        &format!("            backup reference list: {full}\n"),
        "            repo1: backup set size: ",
    ] {
        assert!(info.contains(part), "no {part:?} in\n{info}");
    }
    let list = succeeded(&pod, &["list", "--repo", "repo1"]);
    let verified = succeeded(&pod, &["verify", "all", "--repo", "repo1"]);
    assert!(verified.contains(&format!("    restorable: {old}, {full}, {incremental}\n")), "{verified}");

    let id = full.trim_end_matches('F').replace('-', "T");
    let part =
        world.keys().into_iter().find(|key| key.starts_with(&format!("one/pg/base/{id}/data"))).unwrap();
    let body = world.s3.get(BUCKET, &part).await.unwrap();
    world.s3.put(BUCKET, &part, body[..body.len() / 2].to_vec()).await.unwrap();
    let output = pod.call(&["verify", "all", "--repo", "repo1"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = out(&output);
    for part in [
        format!("error part-damaged: s3://{BUCKET}/{part}: "),
        format!("    backup {incremental}: damaged\n"),
        format!("error ancestor-damaged: {full}: "),
        format!("    restorable: {old}\n"),
    ] {
        assert!(told.contains(&part), "no {part:?} in\n{told}");
    }
    world.s3.put(BUCKET, &part, body).await.unwrap();

    let plan = parsed(&pod, &["expire", "--dry-run", "--repo", "repo1", "--output", "json"]);
    assert_eq!((&plan[0]["deletable"][0]["label"], &plan[0]["confirmed"]), (&json!(old), &json!(false)));
    assert!(plan[0]["deletableWal"][0]["objects"].as_u64().is_some_and(|count| count > 0), "{plan:#}");
    let reasons = &plan[0]["kept"][0]["reasons"];
    assert!(reasons.as_array().is_some_and(|reasons| !reasons.is_empty()), "{plan:#}");
    assert_eq!(succeeded(&pod, &["list", "--repo", "repo1"]), list, "a dry run deletes nothing");

    // The same without a manager.
    let secrets = world.dir.path().join("secrets/aws-creds");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("ID"), "key").unwrap();
    std::fs::write(secrets.join("KEY"), "secret").unwrap();
    let file = world.dir.path().join("repositories.json");
    let described =
        json!({ "cluster": "pg", "namespace": "default", "backup": backup, "secrets": "secrets" });
    std::fs::write(&file, described.to_string()).unwrap();
    let config = file.to_str().unwrap();
    assert_eq!(succeeded(&pod, &["list", "--repo", "repo1", "--config", config]), list);
    // Of the empty repository a file tells less: there is no PostgreSQL beside it.
    let one = succeeded(&pod, &["info", "--repo", "repo1"]);
    assert_eq!(succeeded(&pod, &["info", "--repo", "repo1", "--config", config]), one);
    succeeded(&pod, &["verify", "all", "--repo", "repo1", "--config", config]);
    let checked = parsed(&pod, &["check", "--config", config, "--output", "json"]);
    assert_eq!(checked["repositories"][1]["checks"][4]["outcome"], json!("skipped"), "{checked:#}");
    let output = pod.call(&["expire", "--confirm", "--config", config]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));

    let gone = succeeded(&pod, &["expire", "--confirm", "--repo", "repo1"]);
    assert!(gone.contains(&format!("    deleted {old}: ")), "{gone}");
    let old = old.trim_end_matches('F').replace('-', "T");
    assert!(!world.keys().iter().any(|key| key.contains(&old)), "{:?}", world.keys());
    let verified = succeeded(&pod, &["verify", "all", "--repo", "repo1"]);
    assert!(verified.contains(&format!("    restorable: {full}, {incremental}\n")), "{verified}");
}
