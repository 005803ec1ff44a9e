//! `demo`: the seed's manifests from the Secret to the restored cluster, with phases and progress as they happen,
//! then a report. `./hack/demo` is its front.

#![allow(clippy::print_stdout, reason = "the demo talks to a person at a terminal")]

mod report;
mod watch;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use howdah_e2e::sql::Session;
use howdah_e2e::{Ground, Kubectl, paths, wait};
use serde_json::Value;

use report::Report;

/// Backs up a cluster, restores it elsewhere, and compares every row.
#[derive(Parser)]
struct Cli {
    /// Rows of the table that is written before the backup.
    #[arg(long, default_value_t = 200_000)]
    rows: u32,
    /// Where the report is written.
    #[arg(long, default_value = "target/demo/report.json")]
    report: PathBuf,
}

const TABLES: [&str; 2] = ["before_backup", "after_backup"];

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let begun = Instant::now();
    say("starting the lab: Kubernetes API, node, S3 server, operator");
    let ground = Ground::start().await?;
    let outcome = run(&cli, &ground, begun).await;
    ground.stop().await?;
    let report = outcome?;
    report.write(&cli.report)?;
    report.print(&cli.report);
    ensure!(report.equal, "the checksums differ: the restored cluster is not what was backed up");
    Ok(())
}

async fn run(cli: &Cli, ground: &Ground, begun: Instant) -> Result<Report> {
    let mut report = Report::default();
    report.step("lab", begun);
    let kubectl = ground.namespace("demo").await?;

    let start = Instant::now();
    say("secrets, S3 service and cluster (config/samples)");
    kubectl
        .create_secret(
            "aws-creds",
            &[("ACCESS_KEY_ID", "upstream"), ("ACCESS_SECRET_KEY", "upstream-secret")],
        )
        .await?;
    kubectl
        .create_secret("minio-creds", &[("MINIO_ACCESS_KEY", "minio"), ("MINIO_SECRET_KEY", "minio-secret")])
        .await?;
    for file in ["minio-service.yaml", "minio-deployment.yaml", "cluster-minio.yaml"] {
        sample(&kubectl, file).await?;
    }
    watch::cluster(&kubectl, "pg-backup", |c| condition(c, "Ready") && condition(c, "ContinuousArchiving"))
        .await?;
    report.step("cluster", start);

    let source = Session::superuser(&kubectl, &ground.images.postgres, "pg-backup");
    say(&format!("writing {} rows before the backup", cli.rows));
    source.run(&table(TABLES[0], cli.rows)).await?;
    // The sample asks for a spread checkpoint; with nothing left to write it is a short one.
    source.run("checkpoint").await?;

    let start = Instant::now();
    sample(&kubectl, "backup-example.yaml").await?;
    let backup = watch::backup(&kubectl, "backup-example").await?;
    ensure!(backup["status"]["phase"] == "completed", "the backup failed: {}", backup["status"]["error"]);
    report.step("backup", start);
    report.backup = backup["status"].clone();
    sample(&kubectl, "scheduledbackup-example.yaml").await?;
    println!("{}", kubectl.run(&["describe", "backup", "backup-example"]).await?);

    say("writing rows after the backup; they reach the restored cluster through the WAL archive");
    source.run(&table(TABLES[1], cli.rows / 10)).await?;
    let mut expected = Vec::new();
    for name in TABLES {
        expected.push(source.run(&checksum(name)).await?);
    }
    let closed = source.run("select pg_walfile_name(pg_switch_wal())").await?;
    wait::until(&format!("{closed} in the archive"), wait::minutes(3), || async {
        let last = source.run("select coalesce(last_archived_wal, '') from pg_stat_archiver").await?;
        Ok((last.get(..24).unwrap_or_default() >= closed.as_str()).then_some(()))
    })
    .await?;

    let start = Instant::now();
    sample(&kubectl, "cluster-restore.yaml").await?;
    watch::cluster(&kubectl, "cluster-restore", |c| c["status"]["readyInstances"].as_i64() >= Some(1))
        .await?;
    let restored = Session::superuser(&kubectl, &ground.images.postgres, "cluster-restore");
    restored.run_when_up("select 1", wait::minutes(3)).await?;
    report.step("restore (first instance)", start);
    watch::cluster(&kubectl, "cluster-restore", |c| {
        condition(c, "Ready") && c["status"]["readyInstances"] == 3
    })
    .await?;
    report.step("restore (three instances)", start);

    say("comparing checksums of all rows");
    report.equal = true;
    for (name, expected) in TABLES.iter().zip(&expected) {
        let got = restored.run(&checksum(name)).await?;
        report.equal &= got == *expected;
        report.tables.push(report::Table {
            name: (*name).to_owned(),
            source: expected.clone(),
            restored: got,
        });
    }
    report.bucket = watch::bucket(&kubectl).await?;
    println!("{}", kubectl.run(&["get", "clusters,backups,scheduledbackups"]).await?);
    report.total_seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// A line of progress.
fn say(text: &str) {
    println!("==> {text}");
}

async fn sample(kubectl: &Kubectl, file: &str) -> Result<()> {
    let path = paths::repository().join("config/samples").join(file);
    let applied =
        kubectl.run(&["apply", "-f", &path.display().to_string()]).await.with_context(|| file.to_owned())?;
    print!("    {applied}");
    Ok(())
}

fn condition(object: &Value, type_: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == type_ && c["status"] == "True")
}

fn table(name: &str, rows: u32) -> String {
    format!(
        "create table {name} (id int primary key, body text); insert into {name} select i, md5(i::text) || repeat(md5((i * 7)::text), 6) from generate_series(1, {rows}) i"
    )
}

fn checksum(table: &str) -> String {
    format!("select count(*) || ' rows, md5 ' || md5(string_agg(t::text, ',' order by t.id)) from {table} t")
}
