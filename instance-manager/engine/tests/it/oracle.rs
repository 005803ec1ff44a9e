//! Real Barman as the judge: it reads what the engine wrote, and the engine reads what it wrote.

use crate::postgres::{Bridge, Postgres, User, run};
use crate::site::{BUCKET, Site, restored, verify};
use barman_cloud::{BackupType, Compression};
use howdah_engine::RestoreRequest;
use howdah_engine::backup::PartSize;
use rstest::rstest;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Barman tool, run as the test's own user: its Python may be out of PostgreSQL's user's reach.
fn barman(site: &Site, tool: &str) -> Command {
    let mut command = Command::new(program(tool));
    command.env("HOME", site.path()).env("TMPDIR", scratch(site)).env("PATH", path());
    for (name, value) in credentials() {
        command.env(name, value);
    }
    command.arg("--endpoint-url").arg(site.s3.endpoint());
    command
}

fn program(tool: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/oracle-venv/bin").join(tool);
    assert!(program.exists(), "{} is missing: run hack/install-barman", program.display());
    program.canonicalize().map(|_| program).expect("a path")
}

fn credentials() -> [(&'static str, &'static str); 3] {
    [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "us-east-1")]
}

fn path() -> String {
    format!(
        "{}:{}",
        crate::postgres::program("psql").parent().expect("bin").display(),
        std::env::var("PATH").unwrap_or_default()
    )
}

fn scratch(site: &Site) -> PathBuf {
    let dir = site.path().join("barman-tmp");
    User::get().make_dir(&dir);
    dir
}

fn url() -> String {
    format!("s3://{BUCKET}/some/path")
}

/// Makes a server replay through `barman-cloud-wal-restore`, as a user of Barman would.
fn recover_with_barman(site: &Site, postgres: &Postgres, server: &str) {
    let (tool, endpoint) = (program("barman-cloud-wal-restore"), site.s3.endpoint());
    let (data, spool, server) = (postgres.data.clone(), scratch(site).join("spool"), server.to_owned());
    let bridge = Bridge::new(site.path(), "barman.restore", move |line| {
        let (wal, dest) = line.split_once(' ').expect("two words");
        let mut command = Command::new(&tool);
        command.envs(credentials()).arg("--endpoint-url").arg(&endpoint).arg("--spool-dir").arg(&spool);
        let dest = data.join(dest);
        let output = command.arg(url()).arg(&server).arg(wal).arg(&dest).output().expect("starts");
        if output.status.success() {
            std::os::unix::fs::chown(&dest, Some(User::get().uid), Some(User::get().gid)).expect("an owner");
        }
        output.status.code().map_or(255, |code| code as u8)
    });
    postgres.configure(&format!("archive_mode = off\nrestore_command = '{}'\n", bridge.command("%f %p")));
    let signal = postgres.data.join("recovery.signal");
    std::fs::write(&signal, "").expect("a signal file");
    std::os::unix::fs::chown(&signal, Some(postgres.user.uid), Some(postgres.user.gid)).expect("an owner");
}

/// S2.2, S2.4: Barman 3.19 reads base backups in all codecs but zstd.
#[rstest]
#[case::none(Compression::None)]
#[case::gzip(Compression::Gzip)]
#[case::bzip2(Compression::Bzip2)]
#[case::snappy(Compression::Snappy)]
#[case::lz4(Compression::Lz4)]
#[tokio::test(flavor = "multi_thread")]
async fn barman_lists_shows_restores_and_deletes_what_we_wrote(#[case] codec: Compression) {
    let site = Site::new().await;
    let mut primary = Postgres::init(site.path(), "ours", 1);
    site.archive_from(&primary, "ours", codec, 2);
    primary.start();
    let space = site.path().join("space");
    primary.user.make_dir(&space);
    primary.sql(&format!("CREATE TABLESPACE ts LOCATION '{}'", space.display()));
    primary
        .sql("CREATE TABLE a TABLESPACE ts AS SELECT g, md5(g::text) AS x FROM generate_series(1, 60000) g");
    primary.sql("CREATE TABLE b AS SELECT g FROM generate_series(1, 60000) g");
    let (a, b) = (primary.digest("a"), primary.digest("b"));
    let mut request = site.backup_request(&primary, "ours");
    (request.compression, request.name) = (codec, Some("by-name".into()));
    request.part_size = PartSize { tar_bytes: Some(4 << 20), ..PartSize::default() };
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(result.parts.len() > 3, "{:?}", result.parts);
    let id = result.backup_id.to_string();

    let list = run(barman(&site, "barman-cloud-backup-list").arg(url()).arg("ours"));
    assert!(String::from_utf8_lossy(&list.stdout).contains(&id), "{list:?}");
    let show = run(barman(&site, "barman-cloud-backup-show")
        .args(["--format", "json"])
        .arg(url())
        .args(["ours", "by-name"]));
    let show: serde_json::Value = serde_json::from_slice(&show.stdout).expect("JSON");
    let shown = &show["cloud"];
    assert_eq!(shown["backup_id"], id.as_str(), "{show}");
    assert_eq!(shown["begin_wal"], result.begin_wal.to_string().as_str());
    assert_eq!(shown["systemid"], result.system_id.to_string().as_str());
    let wal = site.path().join("barman-tmp/wal");
    run(barman(&site, "barman-cloud-wal-restore")
        .arg(url())
        .arg("ours")
        .arg(result.begin_wal.to_string())
        .arg(&wal));
    assert_eq!(std::fs::metadata(&wal).expect("the segment").len(), 1 << 20);

    let data = site.path().join("restored");
    let moved = site.path().join("moved");
    primary.user.make_dir(&data);
    primary.user.make_dir(&moved);
    run(barman(&site, "barman-cloud-restore")
        .arg("--tablespace")
        .arg(format!("ts:{}", moved.display()))
        .arg(url())
        .arg("ours")
        .arg(&id)
        .arg(&data));
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    recover_with_barman(&site, &copy, "ours");
    copy.start_recovered();
    assert_eq!((copy.digest("a"), copy.digest("b")), (a, b));

    run(barman(&site, "barman-cloud-backup-delete").args(["-b", &id]).arg(url()).arg("ours"));
    let left: Vec<String> = site.keys().await.into_iter().filter(|key| key.contains("/base/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// S2.4: the other way round.
#[rstest]
#[case::none(None)]
#[case::gzip(Some("--gzip"))]
#[case::bzip2(Some("--bzip2"))]
#[case::snappy(Some("--snappy"))]
#[case::lz4(Some("--lz4"))]
#[tokio::test(flavor = "multi_thread")]
async fn we_restore_what_barman_wrote(#[case] option: Option<&str>) {
    let site = Site::new().await;
    let mut primary = Postgres::init(site.path(), "theirs", 1);
    site.archive_from(&primary, "theirs", Compression::Gzip, 2);
    primary.start();
    let space = site.path().join("space");
    primary.user.make_dir(&space);
    primary.sql(&format!("CREATE TABLESPACE ts LOCATION '{}'", space.display()));
    primary
        .sql("CREATE TABLE a TABLESPACE ts AS SELECT g, md5(g::text) AS x FROM generate_series(1, 60000) g");
    // Incompressible, so that there are several parts with every codec.
    primary.sql("CREATE TABLE b AS SELECT gen_random_uuid() AS u FROM generate_series(1, 800000) g");
    let (a, b) = (primary.digest("a"), primary.digest("b"));
    run(barman(&site, "barman-cloud-backup")
        .args(option)
        .args([
            "--immediate-checkpoint",
            "-J",
            "2",
            "-S",
            "10MB",
            "-U",
            "postgres",
            "-p",
            "5432",
            "--name",
            "theirs-one",
            "-h",
        ])
        .arg(&primary.socket)
        .arg(url())
        .arg("theirs"));
    let parts = site.keys().await.iter().filter(|key| key.contains("/base/") && key.contains("data")).count();
    assert!(parts > 1, "{:?}", site.keys().await);

    let data = site.path().join("restored");
    let mut request = RestoreRequest::new(site.repository("theirs"), &data);
    request.tablespaces.insert("ts".into(), site.path().join("moved"));
    let back = restored(request).await;
    assert_eq!(back.plan.backup_name.as_deref(), Some("theirs-one"));
    assert!(!back.verified, "Barman writes no manifest");
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    site.recover(&copy, "theirs", "");
    copy.start_recovered();
    assert_eq!((copy.digest("a"), copy.digest("b")), (a, b));

    // Both kinds live side by side: a backup of ours in the same place is newer than theirs.
    let ours = site.backup(&primary, site.backup_request(&primary, "theirs")).await;
    let ours = ours.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(ours.backup_id > back.plan.backup_id);
    let second = site.path().join("second");
    let mut request = RestoreRequest::new(site.repository("theirs"), &second);
    request.tablespaces.insert("ts".into(), site.path().join("moved-again"));
    assert_eq!(restored(request).await.plan.backup_id, ours.backup_id);
    verify(&Postgres::adopt(site.path(), "second", &second));
}

/// Differential and incremental backups lie where Barman does not look, and its tools work on beside them.
#[tokio::test(flavor = "multi_thread")]
async fn barman_sees_full_backups_only() {
    let site = Site::new().await;
    let primary = site.primary("mixed");
    let mut results = Vec::new();
    for kind in [BackupType::Full, BackupType::Incremental, BackupType::Differential] {
        primary.sql(&format!("CREATE TABLE t_{kind} AS SELECT 1 AS x"));
        let mut request = site.backup_request(&primary, "mixed");
        request.kind = kind;
        let result = site.backup(&primary, request).await;
        results.push(result.unwrap_or_else(|error| panic!("{}", error.report())));
    }
    let list =
        run(barman(&site, "barman-cloud-backup-list").args(["--format", "json"]).arg(url()).arg("mixed"));
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    let backups = list["backups_list"].as_array().expect("a list");
    let ids: Vec<&str> = backups.iter().filter_map(|backup| backup["backup_id"].as_str()).collect();
    assert_eq!(ids, [results[0].backup_id.as_str()], "{list}");
    let show = run(barman(&site, "barman-cloud-backup-show").arg(url()).args(["mixed", "last"]));
    assert!(String::from_utf8_lossy(&show.stdout).contains(results[0].backup_id.as_str()), "{show:?}");
}
