//! The seed's own path with the seed's own manifests: Secret, Cluster on MinIO, Backup,
//! ScheduledBackup, full recovery into three instances.

use anyhow::{Result, ensure};
use howdah_e2e::sql::Session;
use howdah_e2e::{Ground, paths, wait};

use crate::common::{checksum, condition, phase, table};

async fn sample(kubectl: &howdah_e2e::Kubectl, file: &str) -> Result<()> {
    let path = paths::repository().join("config/samples").join(file);
    kubectl.run(&["apply", "-f", &path.display().to_string()]).await.map(drop)
}

/// S2.1, S2.5, S2.10, S2.12, S2.13, S2.15, S2.17, S2.18, S2.19, S2.22, S2.23, S2.25, S2.27, S2.28, S2.29, S2.30,
/// S2.31, S2.32: every step with what a user has: manifests, `kubectl` and SQL.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_secret_to_the_restored_cluster() -> Result<()> {
    let ground = Ground::start().await?;
    let kubectl = ground.namespace("seed").await?;
    kubectl
        .create_secret(
            "aws-creds",
            &[("ACCESS_KEY_ID", "upstream"), ("ACCESS_SECRET_KEY", "upstream-secret")],
        )
        .await?;
    kubectl
        .create_secret("minio-creds", &[("MINIO_ACCESS_KEY", "minio"), ("MINIO_SECRET_KEY", "minio-secret")])
        .await?;
    sample(&kubectl, "minio-service.yaml").await?;
    sample(&kubectl, "minio-deployment.yaml").await?;
    sample(&kubectl, "cluster-minio.yaml").await?;
    kubectl
        .wait_for("cluster", "pg-backup", "ready and archiving", wait::minutes(5), |c| {
            ["Ready", "ContinuousArchiving"]
                .iter()
                .all(|t| condition(c, t).is_some_and(|c| c["status"] == "True"))
        })
        .await?;

    let source = Session::superuser(&kubectl, &ground.images.postgres, "pg-backup");
    source.run(&table("before_backup", 20_000)).await?;
    // The sample asks for a spread checkpoint; with nothing left to write it is a short one.
    source.run("checkpoint").await?;
    sample(&kubectl, "backup-example.yaml").await?;
    sample(&kubectl, "scheduledbackup-example.yaml").await?;
    let backup = kubectl
        .wait_for("backup", "backup-example", "completed", wait::minutes(6), |b| {
            ["completed", "failed"].contains(&phase(b))
        })
        .await?;
    ensure!(phase(&backup) == "completed", "{:#}", backup["status"]);

    // `kubectl describe` shows each line that the seed shows.
    let described = kubectl.run(&["describe", "backup", "backup-example"]).await?;
    let id = backup["status"]["backupId"].as_str().unwrap_or_default();
    ensure!(id.len() == 15 && id.as_bytes()[8] == b'T', "backup id {id}");
    let squeezed: Vec<String> =
        described.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "Name: backup-example",
        "API Version: postgresql.k8s.enterprisedb.io/v1alpha1",
        "Kind: Backup",
        "Name: pg-backup",
        &format!("Backup Id: {id}"),
        "Destination Path: s3://backups/",
        "Endpoint URL: http://minio-gateway-service:9000",
        "Phase: completed",
        "Access Key Id:",
        "Key: MINIO_ACCESS_KEY",
        "Name: minio-creds",
        "Secret Access Key:",
        "Key: MINIO_SECRET_KEY",
        "Server Name: pg-backup",
    ] {
        ensure!(squeezed.iter().any(|l| l.eq_ignore_ascii_case(line)), "`{line}` is not in:\n{described}");
    }
    for word in ["s3Credentials:", "Started At:", "Stopped At:"] {
        ensure!(
            squeezed.iter().any(|l| l
                .to_lowercase()
                .replace(' ', "")
                .starts_with(&word.to_lowercase().replace(' ', ""))),
            "`{word}` is not in:\n{described}"
        );
    }
    ensure!(!described.contains("minio-secret"), "a secret's value is in the description:\n{described}");

    // Midnight, every day, and three runs ahead.
    let schedule = kubectl
        .wait_for("scheduledbackup", "backup-example", "next runs", wait::minutes(1), |s| {
            s["status"]["nextScheduleTimes"].as_array().is_some_and(|t| t.len() == 3)
        })
        .await?;
    for time in schedule["status"]["nextScheduleTimes"].as_array().into_iter().flatten() {
        ensure!(time.as_str().is_some_and(|t| t.contains("T00:00:00")), "{time} is not midnight");
    }

    // Rows written after the backup come from the archive.
    source.run(&table("after_backup", 5_000)).await?;
    source.run("select pg_switch_wal()").await?;
    let before = source.run(&checksum("before_backup")).await?;
    let after = source.run(&checksum("after_backup")).await?;
    let closed = source.run("select pg_walfile_name(pg_current_wal_lsn())").await?;
    source.run("create table marker (id int primary key); select pg_switch_wal()").await?;
    wait::until("the marker's segment in the archive", wait::minutes(2), || async {
        let last = source.run("select last_archived_wal from pg_stat_archiver").await?;
        Ok((last >= closed).then_some(()))
    })
    .await?;

    sample(&kubectl, "cluster-restore.yaml").await?;
    kubectl
        .wait_for("cluster", "cluster-restore", "three ready instances", wait::minutes(8), |c| {
            c["status"]["readyInstances"] == 3 && condition(c, "Ready").is_some_and(|c| c["status"] == "True")
        })
        .await?;
    // An init container of the first instance did it.
    let pod = kubectl.get("pod", "cluster-restore-1").await?.unwrap_or_default();
    let inits: Vec<&str> = pod["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .collect();
    ensure!(inits.contains(&"full-recovery"), "init containers of the first instance: {inits:?}");

    // The new cluster's own superuser password works, on the primary and on each replica.
    let restored = Session::superuser(&kubectl, &ground.images.postgres, "cluster-restore");
    ensure!(restored.run(&checksum("before_backup")).await? == before);
    ensure!(restored.run(&checksum("after_backup")).await? == after);
    let service = restored.at(&howdah_api::naming::service_ro("cluster-restore"));
    ensure!(service.run("select pg_is_in_recovery()").await? == "t");
    for serial in [2, 3] {
        let pod = kubectl.get("pod", &format!("cluster-restore-{serial}")).await?.unwrap_or_default();
        let replica = restored.at(pod["status"]["podIP"].as_str().unwrap_or_default());
        ensure!(
            replica.run_when_up(&checksum("after_backup"), wait::minutes(1)).await? == after,
            "replica {serial}"
        );
        ensure!(replica.run("select pg_is_in_recovery()").await? == "t", "replica {serial}");
    }
    ensure!(restored.run("show data_checksums").await? == "on");
    ground.stop().await
}

/// Every manifest of the samples is accepted by the API, and its kustomize neighbours render.
#[tokio::test(flavor = "multi_thread")]
async fn every_sample_is_accepted() -> Result<()> {
    let ground = Ground::start().await?;
    let kubectl = ground.namespace("samples").await?;
    let mut files: Vec<String> = std::fs::read_dir(paths::repository().join("config/samples"))?
        .filter_map(|e| e.ok().and_then(|e| e.file_name().into_string().ok()))
        .filter(|f| f.ends_with(".yaml"))
        .collect();
    files.sort();
    ensure!(files.len() >= 9, "samples: {files:?}");
    for file in &files {
        sample(&kubectl, file).await?;
    }
    // A cluster whose Secret is missing says so.
    let cluster = kubectl
        .wait_for("cluster", "pg-backup-s3", "the missing Secret is named", wait::minutes(2), |c| {
            condition(c, "BackupConfigured").is_some_and(|c| c["status"] == "False")
        })
        .await?;
    let message =
        condition(&cluster, "BackupConfigured").and_then(|c| c["message"].as_str()).unwrap_or_default();
    ensure!(message.contains("aws-creds"), "{message}");
    ground.stop().await
}
