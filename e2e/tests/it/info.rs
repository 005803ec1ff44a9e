//! What the instance manager tells of the repositories, asked as a user asks: with `kubectl exec` in a pod.

use anyhow::{Context, Result, ensure};
use howdah_e2e::kubectl::Output;
use howdah_e2e::wait;
use serde_json::{Value, json};

use crate::common::{Scene, backup_to, phase, repository, table};

impl Scene {
    /// Asks the manager of a pod.
    async fn ask(&self, pod: &str, words: &[&str]) -> Result<Output> {
        let argv = [&["/controller/instance-manager"], words].concat();
        let out = self.ground.exec(&self.kubectl, pod, "postgres", &argv, wait::minutes(4)).await?;
        ensure!(!out.stdout.contains(&self.ground.s3.secret_key), "a secret is shown: {}", out.stdout);
        Ok(out)
    }

    /// What a command told that ended with this exit code.
    async fn told(&self, pod: &str, words: &[&str], code: i32) -> Result<String> {
        let out = self.ask(pod, words).await?;
        ensure!(out.code == Some(code), "{words:?}: {:?}: {}{}", out.code, out.stderr, out.stdout);
        Ok(out.stdout)
    }

    async fn parsed(&self, pod: &str, words: &[&str]) -> Result<Value> {
        let text = self.told(pod, &[words, &["--output", "json"]].concat(), 0).await?;
        serde_json::from_str(&text).with_context(|| text)
    }
}

/// S0.34, S0.35, S0.36, S0.37, S0.38, S0.39, S1.2, S1.34: repositories, backups of every type and their chains are told in any pod of the cluster;
/// damage is found and named with what it takes away, and what stays restorable; nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_told_and_damage_in_them_is_found() -> Result<()> {
    let scene = Scene::new("info").await?;
    let mut one = repository(&scene, "repo1", &format!("/{}/repo1", scene.kubectl.namespace));
    one["retention"] = json!({"full": {"count": 1}, "dryRun": true});
    scene.up("pg", json!({"instances": 2, "backup": {"repositories": [one]}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 5000)).await?;
    let mut labels = Vec::new();
    for (name, kind) in [("old", "full"), ("f", "full"), ("d", "differential"), ("i", "incremental")] {
        let mut manifest = backup_to(name, "pg", "repo1");
        manifest["spec"]["type"] = kind.into();
        scene.apply(&manifest).await?;
        let done = scene.ended(name).await?;
        ensure!(phase(&done) == "completed", "{name}: {:#}", done["status"]);
        labels.push(done["status"]["label"].as_str().unwrap_or_default().to_owned());
        sql.run("update t set body = 'x' || body where id % 1000 = 7").await?;
    }
    scene.archive_all("pg").await?;
    let [old, full, differential, incremental] = labels.as_slice() else { unreachable!("four backups") };

    let info = scene.told("pg-1", &["info"], 0).await?;
    for part in [
        "stanza: pg\n    status: mixed\n        default: error (no valid backups)\n        repo1: ok\n",
        "    cipher: none\n\n    db (current)\n        wal archive min/max (15): 0000000100000000000000",
        &format!("        full backup: {full}\n            timestamp start/stop: "),
        &format!("        diff backup: {differential}\n"),
        &format!("        incr backup: {incremental}\n"),
        &format!("            backup reference list: {full}, {differential}\n"),
        "            repo1: backup set size: ",
        "            wal start/stop: ",
        "            database size: ",
    ] {
        ensure!(info.contains(part), "no {part:?} in\n{info}");
    }
    let json = scene.parsed("pg-2", &["info", "--repo", "repo1"]).await?;
    let backups = json["repositories"][0]["backups"].as_array().cloned().unwrap_or_default();
    let seen: Vec<&str> = backups.iter().filter_map(|backup| backup["label"].as_str()).collect();
    ensure!(seen == labels, "{json:#}");
    ensure!(backups.iter().all(|backup| backup["restorable"] == true), "{json:#}");
    ensure!(backups[3]["references"] == json!([full, differential]), "{json:#}");

    let list = scene.told("pg-1", &["list"], 0).await?;
    ensure!(labels.iter().all(|label| list.contains(label.as_str())), "{list}");
    let show = scene.parsed("pg-1", &["show", incremental]).await?;
    ensure!(show[0]["chain"]["ancestors"].as_array().is_some_and(|all| all.len() == 2), "{show:#}");
    ensure!(show[0]["manifest"] == true, "{show:#}");

    let plan = scene.parsed("pg-1", &["expire", "--dry-run", "--repo", "repo1"]).await?;
    ensure!(plan[0]["deletable"][0]["label"] == json!(old) && plan[0]["confirmed"] == false, "{plan:#}");
    ensure!(plan[0]["deletableWal"][0]["first"].is_string(), "{plan:#}");
    ensure!(plan[0]["kept"].as_array().is_some_and(|kept| kept.len() == 3), "{plan:#}");

    let check = scene.parsed("pg-2", &["check"]).await?;
    ensure!(
        check["ok"] == true && check["repositories"].as_array().is_some_and(|all| all.len() == 2),
        "{check:#}"
    );

    let place = format!("{}/repo1/pg/", scene.kubectl.namespace);
    let before = scene.ground.keys(&place).await?;
    let whole = scene.told("pg-2", &["verify", "all", "--repo", "repo1"], 0).await?;
    ensure!(whole.contains(&format!("    restorable: {}\n", labels.join(", "))), "{whole}");

    // Damage in the middle of a chain takes away what builds on it, and nothing else.
    let id = backups[2]["id"].as_str().unwrap_or_default();
    let key = before
        .iter()
        .find(|key| key.contains(&format!("/{id}/data.tar")))
        .with_context(|| format!("no part of {id} among {before:?}"))?;
    let good = scene.ground.read_object(key).await?;
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    for byte in &mut bad[middle..] {
        *byte = byte.wrapping_add(97);
    }
    scene.ground.write_object(key, bad).await?;
    let damaged = scene.told("pg-1", &["verify", "all", "--repo", "repo1"], 1).await?;
    for part in [
        format!("    backup {differential}: damaged\n"),
        format!("error part-damaged: s3://{}/{key}: ", scene.store.bucket),
        format!("    backup {incremental}: damaged\n"),
        format!("error ancestor-damaged: {differential}: "),
        "remedy: ".to_owned(),
        format!("    restorable: {old}, {full}\n"),
    ] {
        ensure!(damaged.contains(&part), "no {part:?} in\n{damaged}");
    }
    scene.ground.write_object(key, good).await?;

    // A segment that is lost after the backups ends recovery, not the backups.
    let name = json["repositories"][0]["backups"][0]["walStop"].as_str().unwrap_or_default();
    let needed =
        before.iter().find(|key| key.contains("/wals/") && key.contains(name) && !key.contains(".backup"));
    let needed = needed.with_context(|| format!("no {name} among {before:?}"))?;
    let segment = scene.ground.read_object(needed).await?;
    scene.ground.delete_object(needed).await?;
    let gap = scene.told("pg-1", &["verify", "all", "--no-data", "--repo", "repo1"], 1).await?;
    ensure!(gap.contains(&format!("error wal-missing: {name}: ")), "{gap}");
    ensure!(gap.contains(&format!("not restorable without it: {old}")), "{gap}");
    ensure!(gap.contains(&format!("    restorable: {full}, {differential}, {incremental}\n")), "{gap}");
    scene.ground.write_object(needed, segment).await?;

    let out = scene.ask("pg-1", &["info", "--repo", "repo9"]).await?;
    ensure!(out.code == Some(3) && out.stderr.contains("default, repo1"), "{}", out.stderr);
    let mended = scene.told("pg-1", &["verify", "all", "--repo", "repo1"], 0).await?;
    ensure!(mended.contains("    status: ok\n"), "{mended}");
    let after = scene.ground.keys(&place).await?;
    ensure!(before.iter().all(|key| after.contains(key)), "nothing may be deleted: {after:?}");
    scene.ground.stop().await
}
