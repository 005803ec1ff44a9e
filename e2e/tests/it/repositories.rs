//! Several repositories: WAL in all of them, Backups in the one that is named, recovery from each.

use anyhow::{Result, ensure};
use howdah_e2e::wait;
use serde_json::{Value, json};

use crate::common::{Scene, backup_to, checksum, condition, error, phase, repository, table};

/// S0.11, S0.13, S1.3, S1.4, S1.6, S1.14, S1.26, S1.27: WAL reaches every repository, a one-off backup goes to the one
/// that is named, and a new cluster comes from each of them, also after the cluster that made the backups is gone.
#[tokio::test(flavor = "multi_thread")]
async fn every_repository_has_all_wal_and_restores() -> Result<()> {
    let scene = Scene::new("repos").await?;
    let [one, two] = ["repo1", "repo2"].map(|name| {
        let path = format!("/{}/{name}/", scene.kubectl.namespace);
        repository(&scene, name, &path)
    });
    scene.up("pg", json!({"backup": {"repositories": [one, two]}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 2000)).await?;
    for (name, repository) in [("b0", "default"), ("b1", "repo1"), ("b2", "repo2")] {
        scene.apply(&backup_to(name, "pg", repository)).await?;
        let done = scene.ended(name).await?;
        ensure!(phase(&done) == "completed", "{name}: {:#}", done["status"]);
        ensure!(done["status"]["repository"] == repository, "{:#}", done["status"]);
    }
    sql.run("insert into t select i, 'late' from generate_series(2001, 2100) i").await?;
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    let closed = sql.run("select last_archived_wal from pg_stat_archiver").await?;
    let places = [
        scene.kubectl.namespace.clone() + "-pg/",
        format!("{}/repo1/pg/", scene.kubectl.namespace),
        format!("{}/repo2/pg/", scene.kubectl.namespace),
    ];
    for place in &places {
        let keys = scene.ground.keys(place).await?;
        ensure!(keys.iter().any(|key| key.contains(&closed)), "{closed} is not in {place}: {keys:?}");
        let backups = keys.iter().filter(|key| key.ends_with("/backup.info")).count();
        ensure!(backups == 1, "{backups} backups in {place}: {keys:?}");
    }
    let cluster = scene
        .kubectl
        .wait_for("cluster", "pg", "a backup in each repository", wait::minutes(7), |cluster| {
            let all = cluster["status"]["repositories"].as_array().cloned().unwrap_or_default();
            all.len() == 3 && all.iter().all(|one| one["backups"] == 1 && one["archiving"] == true)
        })
        .await?;
    ensure!(cluster["status"]["repositories"][1]["name"] == "repo1", "{:#}", cluster["status"]);

    scene.kubectl.run(&["delete", "cluster", "pg"]).await?;
    for (cluster, from) in [("again1", "b1"), ("again2", "b2")] {
        scene.apply(&scene.restored(cluster, from, Value::Null)).await?;
        scene.healthy(cluster).await?;
        ensure!(scene.sql(cluster).run(&checksum("t")).await? == sum, "{cluster} is not what pg was");
    }
    scene.ground.stop().await
}

/// S0.6: a repository that cannot be written to holds up the acknowledgement, is named with the reason, and the others
/// have the file all the same; when it works, everything reaches it.
#[tokio::test(flavor = "multi_thread")]
async fn one_repository_that_fails_is_named_and_catches_up() -> Result<()> {
    let scene = Scene::new("reporot").await?;
    let path = format!("/{}/repo1", scene.kubectl.namespace);
    let mut bad = repository(&scene, "repo1", &path);
    bad["credentials"]["secretAccessKey"] = json!({"name": "wrong-creds", "key": "KEY"});
    scene.kubectl.create_secret("wrong-creds", &[("KEY", "not-the-key")]).await?;
    scene.apply(&scene.cluster("pg", json!({"backup": {"repositories": [bad]}}))).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "pg", "the failing repository", wait::minutes(5), |cluster| {
            condition(cluster, "ContinuousArchiving").is_some_and(|c| c["status"] == "False")
        })
        .await?;
    let said = condition(&cluster, "ContinuousArchiving").cloned().unwrap_or_default();
    ensure!(said["message"].as_str().is_some_and(|m| m.contains("repository repo1")), "{said:#}");
    ensure!(!said["message"].as_str().unwrap_or_default().contains("not-the-key"), "{said:#}");
    let default = format!("{}/", scene.server("pg"));
    wait::until("WAL in the repository that works", wait::minutes(2), || async {
        Ok(scene.ground.keys(&default).await?.iter().any(|key| key.contains("/wals/")).then_some(()))
    })
    .await?;

    let good = repository(&scene, "repo1", &path);
    scene.apply(&scene.cluster("pg", json!({"backup": {"repositories": [good]}}))).await?;
    let place = format!("{}/repo1/pg/wals/", scene.kubectl.namespace);
    let wal_of = |keys: Vec<String>| -> Vec<String> {
        let file = |key: &String| key.rsplit('/').next().map(|file| file[..24.min(file.len())].to_owned());
        keys.iter().filter(|key| key.contains("/wals/")).filter_map(file).collect()
    };
    wait::until("all WAL in the repository that failed", wait::minutes(4), || async {
        let (there, here) =
            (wal_of(scene.ground.keys(&default).await?), wal_of(scene.ground.keys(&place).await?));
        Ok((!here.is_empty() && there.iter().all(|file| here.contains(file))).then_some(()))
    })
    .await?;
    scene.apply(&backup_to("b1", "pg", "repo1")).await?;
    let done = scene.ended("b1").await?;
    ensure!(phase(&done) == "completed", "{:#}", done["status"]);
    scene.ground.stop().await
}

/// S0.17, S1.2, S1.26: retention by count in one repository deletes there what the policy does not keep, says why, prunes
/// the WAL that nobody needs any more, and leaves the other repository alone; what is kept restores.
#[tokio::test(flavor = "multi_thread")]
async fn retention_deletes_what_the_policy_does_not_keep() -> Result<()> {
    let scene = Scene::new("retain").await?;
    let mut one = repository(&scene, "repo1", &format!("/{}/repo1", scene.kubectl.namespace));
    one["retention"] = json!({"full": {"count": 1}, "dryRun": true});
    let two = repository(&scene, "repo2", &format!("/{}/repo2", scene.kubectl.namespace));
    let spec = |one: &Value| json!({"backup": {"repositories": [one, two]}});
    scene.up("pg", spec(&one)).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 500)).await?;
    let mut ids = Vec::new();
    for (name, repository) in [("b1", "repo1"), ("c1", "repo2"), ("b2", "repo1"), ("c2", "repo2")] {
        scene.apply(&backup_to(name, "pg", repository)).await?;
        let done = scene.ended(name).await?;
        ensure!(phase(&done) == "completed", "{name}: {:#}", done["status"]);
        ids.push(done["status"]["backupId"].as_str().unwrap_or_default().to_owned());
    }
    let sum = sql.run(&checksum("t")).await?;
    scene.archive_all("pg").await?;
    let of_repo1 = |cluster: &Value| cluster["status"]["repositories"][1]["retention"].clone();
    let planned = scene
        .kubectl
        .wait_for("cluster", "pg", "the plan", wait::minutes(3), |cluster| {
            of_repo1(cluster)["deletable"].as_array().is_some_and(|all| all.len() == 1)
        })
        .await?;
    let plan = of_repo1(&planned);
    ensure!(plan["deletable"][0]["id"] == ids[0] && plan["kept"][0]["id"] == ids[2], "{plan:#}");
    ensure!(plan["deletable"][0]["reason"].as_str().is_some_and(|why| !why.is_empty()), "{plan:#}");
    let place = |repository: &str| format!("{}/{repository}/pg/", scene.kubectl.namespace);
    let records = |keys: Vec<String>| keys.iter().filter(|key| key.ends_with("backup.info")).count();
    ensure!(records(scene.ground.keys(&place("repo1")).await?) == 2, "a dry run must delete nothing");

    one["retention"] = json!({"full": {"count": 1}});
    scene.apply(&scene.cluster("pg", spec(&one))).await?;
    let cleaned = scene
        .kubectl
        .wait_for("cluster", "pg", "the deletion", wait::minutes(3), |cluster| {
            of_repo1(cluster)["deleted"][0] == ids[0]
        })
        .await?;
    let keys = scene.ground.keys(&place("repo1")).await?;
    ensure!(!keys.iter().any(|key| key.contains(&ids[0])), "{:#} {keys:?}", of_repo1(&cleaned));
    ensure!(records(keys.clone()) == 1, "{keys:?}");
    ensure!(records(scene.ground.keys(&place("repo2")).await?) == 2, "repo2 has no policy");
    let wal = |keys: &[String]| keys.iter().filter(|key| key.contains("/wals/")).count();
    ensure!(wal(&keys) < wal(&scene.ground.keys(&place("repo2")).await?), "no WAL was pruned: {keys:?}");
    scene.apply(&scene.restored("again", "b2", Value::Null)).await?;
    scene.healthy("again").await?;
    ensure!(scene.sql("again").run(&checksum("t")).await? == sum);
    scene.ground.stop().await
}

/// S0.2, S0.3, S0.4, S0.36, S1.34: a full, a differential and an incremental backup in one repository; each restores
/// to what was there when it was taken, with all that it builds on.
#[tokio::test(flavor = "multi_thread")]
async fn backups_of_every_type_restore() -> Result<()> {
    let scene = Scene::new("types").await?;
    let one = repository(&scene, "repo1", &format!("/{}/repo1", scene.kubectl.namespace));
    scene.up("pg", json!({"backup": {"repositories": [one]}})).await?;
    let sql = scene.sql("pg");
    sql.run(&table("t", 20000)).await?;
    let mut sums = Vec::new();
    let mut sizes = Vec::new();
    for (name, kind) in [("f", "full"), ("d", "differential"), ("i", "incremental")] {
        let mut manifest = backup_to(name, "pg", "repo1");
        manifest["spec"]["type"] = kind.into();
        scene.apply(&manifest).await?;
        let done = scene.ended(name).await?;
        ensure!(phase(&done) == "completed", "{name}: {:#}", done["status"]);
        ensure!(done["status"]["type"] == kind, "{:#}", done["status"]);
        sizes.push(done["status"]["sizeBytes"].as_i64().unwrap_or_default());
        let references = done["status"]["references"].as_array().map_or(0, Vec::len);
        ensure!(references == sums.len(), "{:#}", done["status"]);
        sums.push((name, sql.run(&checksum("t")).await?));
        sql.run(&format!("update t set body = '{name}' || body where id % 1000 = 7")).await?;
    }
    ensure!(sizes[1] < sizes[0] / 2 && sizes[2] < sizes[0] / 2, "{sizes:?}");
    scene.archive_all("pg").await?;
    for (name, sum) in sums {
        let cluster = format!("again-{name}");
        scene.apply(&scene.restored(&cluster, name, json!({"targetImmediate": true}))).await?;
        scene.healthy(&cluster).await?;
        ensure!(scene.sql(&cluster).run(&checksum("t")).await? == sum, "{cluster}");
    }
    scene.ground.stop().await
}

/// Bad input: an unknown repository, two at one place, a name that is taken, a changed path.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_with_the_reason() -> Result<()> {
    let scene = Scene::new("repobad").await?;
    let [one, two] = ["repo1", "repo2"].map(|name| repository(&scene, name, "/same"));
    scene.apply(&scene.cluster("pg", json!({"backup": {"repositories": [one, two]}}))).await?;
    let cluster = scene
        .kubectl
        .wait_for("cluster", "pg", "the collision", wait::minutes(3), |cluster| {
            condition(cluster, "BackupConfigured").is_some_and(|c| c["status"] == "False")
        })
        .await?;
    let said = condition(&cluster, "BackupConfigured").cloned().unwrap_or_default();
    ensure!(
        said["reason"] == "RepositoriesCollide"
            && said["message"]
                .as_str()
                .is_some_and(|m| m.contains("repo1 and repo2") && m.contains("another path")),
        "{said:#}"
    );
    scene.apply(&backup_to("nowhere", "pg", "repo9")).await?;
    let failed = scene.ended("nowhere").await?;
    ensure!(
        phase(&failed) == "failed"
            && error(&failed).contains("no repository repo9, only default, repo1, repo2"),
        "{:#}",
        failed["status"]
    );
    for (changed, words) in [
        (repository(&scene, "default", "/x"), "default is the name of the repository in barmanObjectStore"),
        (repository(&scene, "repo1", "/other"), "cannot be changed"),
        (repository(&scene, "repo1", "/../x"), "path is folder names"),
        (repository(&scene, "Repo_1", "/x"), "lower-case letters"),
    ] {
        let manifest = scene.cluster("pg", json!({"backup": {"repositories": [changed]}}));
        let refused = scene.kubectl.apply_refused(&manifest.to_string()).await?;
        ensure!(refused.contains(words), "{words} in {refused}");
    }
    scene.ground.stop().await
}
