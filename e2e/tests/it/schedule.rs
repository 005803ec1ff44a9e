//! ScheduledBackup.

use anyhow::{Result, ensure};
use howdah_e2e::manifests::object;
use howdah_e2e::wait;
use serde_json::json;

use crate::common::{Scene, condition, phase};

const CHILDREN: &str = "postgresql.k8s.enterprisedb.io/scheduled-backup";

/// S0.27, S0.28, S1.2, S2.21, S3.10: by the schedule, at once, not while suspended; the list of them; so many are
/// kept.
#[tokio::test(flavor = "multi_thread")]
async fn runs_at_its_times_and_at_once_when_asked() -> Result<()> {
    let scene = Scene::new("schedule").await?;
    scene.up("pg", json!({})).await?;
    let spec = json!({"schedule": "*/10 * * * * *", "cluster": {"name": "pg"}, "immediate": true, "backupOwnerReference": "self", "immediateCheckpoint": true, "successfulBackupsHistoryLimit": 2});
    scene.apply(&object("ScheduledBackup", "often", spec)).await?;
    let selector = format!("{CHILDREN}=often");
    wait::until("two completed children", wait::minutes(3), || async {
        let children = scene.kubectl.list("backups", &selector).await?;
        Ok((children.iter().filter(|b| phase(b) == "completed").count() >= 2).then_some(()))
    })
    .await?;
    let children = scene.kubectl.list("backups", &selector).await?;
    for child in &children {
        let name = child["metadata"]["name"].as_str().unwrap_or_default();
        let stamp = name.strip_prefix("often-").unwrap_or_default();
        ensure!(stamp.len() == 14 && stamp.bytes().all(|b| b.is_ascii_digit()), "name {name}");
        ensure!(child["metadata"]["ownerReferences"][0]["name"] == "often", "{:#}", child["metadata"]);
        let immediate =
            child["metadata"]["labels"]["postgresql.k8s.enterprisedb.io/immediate-backup"] == "true";
        ensure!(immediate || stamp.ends_with('0'), "{name} is not due at a tenth second");
    }
    // Suspended: nothing new; the history limit holds.
    scene
        .kubectl
        .run(&["patch", "scheduledbackup", "often", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#])
        .await?;
    wait::until("the history limit", wait::minutes(2), || async {
        let children = scene.kubectl.list("backups", &selector).await?;
        Ok((children.len() <= 2 && children.iter().all(|b| phase(b) == "completed")).then_some(()))
    })
    .await?;
    let table = scene.kubectl.run(&["get", "scheduledbackups"]).await?;
    for column in ["SCHEDULE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "AGE"] {
        ensure!(table.contains(column), "{table}");
    }
    // Its Backups go with it, their data stays.
    let ids: Vec<String> = scene
        .kubectl
        .list("backups", &selector)
        .await?
        .iter()
        .filter_map(|b| b["status"]["backupId"].as_str().map(str::to_owned))
        .collect();
    scene.kubectl.run(&["delete", "scheduledbackup", "often"]).await?;
    wait::until("no children", wait::minutes(2), || async {
        Ok(scene.kubectl.list("backups", &selector).await?.is_empty().then_some(()))
    })
    .await?;
    let keys = scene.ground.keys("").await?;
    for id in &ids {
        ensure!(
            keys.iter().any(|k| k.ends_with(&format!("/base/{id}/backup.info"))),
            "the data of {id} is gone"
        );
    }
    scene.ground.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_be_read_is_told_with_its_fault() -> Result<()> {
    let scene = Scene::new("badcron").await?;
    for (name, schedule, word) in [
        ("words", "every day", "every day"),
        ("range", "0 99 * * * *", "99"),
        ("never", "0 0 0 31 2 *", "never"),
        ("macro", "@fortnightly", "@fortnightly"),
    ] {
        scene
            .apply(&object("ScheduledBackup", name, json!({"schedule": schedule, "cluster": {"name": "pg"}})))
            .await?;
        let object = scene
            .kubectl
            .wait_for("scheduledbackup", name, "the fault", wait::minutes(1), |s| {
                s["status"]["error"].is_string()
            })
            .await?;
        let error = object["status"]["error"].as_str().unwrap_or_default();
        ensure!(error.contains(word), "{schedule}: {error}");
        ensure!(
            condition(&object, "Scheduled").is_some_and(|c| c["status"] == "False"),
            "{:#}",
            object["status"]
        );
    }
    let zone = object(
        "ScheduledBackup",
        "zone",
        json!({"schedule": "@daily", "timeZone": "Mars/Olympus", "cluster": {"name": "pg"}}),
    );
    scene.apply(&zone).await?;
    let object = scene
        .kubectl
        .wait_for("scheduledbackup", "zone", "the fault", wait::minutes(1), |s| {
            s["status"]["error"].is_string()
        })
        .await?;
    ensure!(object["status"]["error"].as_str().is_some_and(|e| e.contains("Mars/Olympus")));
    // Mended, it is scheduled without further help.
    scene
        .kubectl
        .run(&[
            "patch",
            "scheduledbackup",
            "zone",
            "--type=merge",
            "-p",
            r#"{"spec":{"timeZone":"Europe/Berlin"}}"#,
        ])
        .await?;
    scene
        .kubectl
        .wait_for("scheduledbackup", "zone", "next runs", wait::minutes(1), |s| {
            s["status"]["nextScheduleTimes"].as_array().is_some_and(|t| t.len() == 3)
                && s["status"]["error"].is_null()
        })
        .await?;
    scene.ground.stop().await
}
