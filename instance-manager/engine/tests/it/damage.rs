//! Repositories that lost or damaged something: the restore names the object and touches nothing it need not.

use crate::postgres::Postgres;
use crate::site::{BUCKET, Site, restored, try_restore};
use barman_cloud::Compression;
use howdah_engine::backup::PartSize;
use howdah_engine::{BackupChoice, BackupResult, ErrorKind, RestoreRequest};
use std::path::PathBuf;

struct Damaged {
    site: Site,
    result: BackupResult,
    data: PathBuf,
    _primary: Postgres,
}

async fn backup(compression: Compression) -> Damaged {
    let site = Site::new().await;
    let primary = site.primary("d");
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 100000) g");
    let mut request = site.backup_request(&primary, "d");
    request.compression = compression;
    request.part_size = PartSize { tar_bytes: Some(6 << 20), ..PartSize::default() };
    let result = site.backup(&primary, request).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let data = site.path().join("restored");
    Damaged { site, result, data, _primary: primary }
}

impl Damaged {
    fn request(&self) -> RestoreRequest {
        RestoreRequest::new(self.site.repository("d"), &self.data)
    }

    fn key(&self, file: &str) -> String {
        format!("some/path/d/base/{}/{file}", self.result.backup_id)
    }

    /// The one object whose key ends like this.
    async fn find(&self, end: &str) -> String {
        let found: Vec<String> =
            self.site.keys().await.into_iter().filter(|key| key.ends_with(end)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    async fn refused(&self, kind: ErrorKind, text: &str) {
        let error = try_restore(self.request()).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.report().contains(text), "no {text:?} in: {}", error.report());
    }

    /// Takes an object away for the time of a check.
    async fn without(&self, key: &str, kind: ErrorKind, text: &str) {
        let body = self.site.s3.get(BUCKET, key).await.expect("the object");
        self.site.s3.delete(BUCKET, key).await.expect("deletes");
        self.refused(kind, text).await;
        assert!(!self.data.exists(), "nothing may be written before everything was found");
        self.site.s3.put(BUCKET, key, body).await.expect("puts back");
    }

    /// Replaces an object for the time of a check.
    async fn changed(&self, key: &str, change: impl FnOnce(&mut Vec<u8>), kind: ErrorKind, text: &str) {
        let body = self.site.s3.get(BUCKET, key).await.expect("the object");
        let mut other = body.to_vec();
        change(&mut other);
        self.site.s3.put(BUCKET, key, other).await.expect("puts");
        self.refused(kind, text).await;
        self.site.s3.put(BUCKET, key, body).await.expect("puts back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_objects_are_named_before_anything_is_written() {
    let damaged = backup(Compression::Zstd).await;
    let parts = &damaged.result.parts;
    assert!(parts.len() >= 3, "{parts:?}");
    // The first, one in the middle, and the last, which no gap in the names gives away.
    for part in [&parts[0], &parts[1], &parts[parts.len() - 1]] {
        damaged.without(&damaged.key(&part.name), ErrorKind::Missing, &part.name).await;
    }
    let wal = damaged.result.begin_wal.to_string();
    damaged.without(&damaged.find(&wal).await, ErrorKind::Missing, &wal).await;
    damaged.without(&damaged.key("backup.info"), ErrorKind::Missing, "no completed backup").await;
    let mut request = damaged.request();
    request.choice = BackupChoice::Id("20200101T000000".parse().expect("an id"));
    let error = try_restore(request).await.expect_err("unknown");
    assert!(error.to_string().contains("20200101T000000"), "{}", error.report());
    // Everything is back: the same request succeeds without hand work.
    assert!(restored(damaged.request()).await.verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_objects_are_named() {
    for compression in [Compression::None, Compression::Lz4] {
        let damaged = backup(compression).await;
        let part = damaged.result.parts[1].name.clone();
        let key = damaged.key(&part);
        damaged.changed(&key, |body| body.truncate(body.len() / 2), ErrorKind::Corrupt, &part).await;
        assert!(!damaged.data.exists(), "the size gives it away");
        damaged
            .changed(
                &key,
                |body| {
                    let at = body.len() / 2;
                    body[at] ^= 0x40;
                },
                ErrorKind::Corrupt,
                &part,
            )
            .await;
        let manifest = format!("{}/backup_manifest", damaged.result.backup_id);
        let manifest_key = damaged.find(&manifest).await;
        damaged.changed(&manifest_key, |body| body[200] ^= 1, ErrorKind::Corrupt, &manifest).await;
        let info = damaged.key("backup.info");
        damaged.changed(&info, |body| body.truncate(100), ErrorKind::Missing, "no completed backup").await;
        let mut request = damaged.request();
        request.choice = BackupChoice::Id(damaged.result.backup_id.clone());
        let body = damaged.site.s3.get(BUCKET, &info).await.expect("the record");
        damaged.site.s3.put(BUCKET, &info, "begin_wal: what\n").await.expect("puts");
        let error = try_restore(request).await.expect_err("unreadable");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("backup.info"), "{}", error.report());
        damaged.site.s3.put(BUCKET, &info, body).await.expect("puts back");
        assert!(restored(damaged.request()).await.verified);
    }
}

/// Without the list of parts, as in what Barman writes, the missing end shows when the data has no label.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_last_part_is_noticed_without_lists_too() {
    let damaged = backup(Compression::Gzip).await;
    for file in ["parts.json", "backup_manifest"] {
        let key = damaged.find(&format!("{}/{file}", damaged.result.backup_id)).await;
        damaged.site.s3.delete(BUCKET, &key).await.expect("deletes");
    }
    let last = damaged.result.parts.last().expect("parts").name.clone();
    let key = damaged.key(&last);
    let body = damaged.site.s3.get(BUCKET, &key).await.expect("the part");
    damaged.site.s3.delete(BUCKET, &key).await.expect("deletes");
    damaged.refused(ErrorKind::Missing, "backup_label").await;
    damaged.site.s3.put(BUCKET, &key, body).await.expect("puts back");
    let back = restored(damaged.request()).await;
    assert!(!back.verified && back.files > 900);
}

/// A small file system of its own; unmounted when dropped.
struct Volume(PathBuf);

impl Volume {
    fn new(path: PathBuf, megabytes: u32) -> Self {
        std::fs::create_dir(&path).expect("a directory");
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o"]).arg(format!("size={megabytes}m")).arg("tmpfs").arg(&path);
        let output = command.output().expect("mount (apt-get install -y mount)");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "a tmpfs cannot be mounted (run the tests as root): {text}");
        Self(path)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The directory goes with the test's own either way.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_is_named_with_what_is_needed() {
    let damaged = backup(Compression::Zstd).await;
    let volume = Volume::new(damaged.site.path().join("volume"), 16);
    let data = volume.0.join("pgdata");
    let request = || RestoreRequest::new(damaged.site.repository("d"), &data);
    let error = try_restore(request()).await.expect_err("too small");
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{}", error.report());
    assert!(error.to_string().contains(&volume.0.display().to_string()), "{}", error.report());

    // Without manifest and size nobody can tell beforehand.
    for file in ["parts.json", "backup_manifest"] {
        let key = damaged.find(&format!("{}/{file}", damaged.result.backup_id)).await;
        damaged.site.s3.delete(BUCKET, &key).await.expect("deletes");
    }
    let info = damaged.key("backup.info");
    let text = damaged.site.s3.get(BUCKET, &info).await.expect("the record");
    let text = String::from_utf8(text.to_vec()).expect("a text");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("cluster_size")).collect();
    damaged.site.s3.put(BUCKET, &info, lines.join("\n")).await.expect("puts");
    let error = try_restore(request()).await.expect_err("too small");
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{}", error.report());
    assert!(error.to_string().contains("pgdata"), "{}", error.report());
    // A larger volume and the same call: what the first try left is no obstacle.
    let output =
        std::process::Command::new("mount").args(["-o", "remount,size=512m"]).arg(&volume.0).output();
    assert!(output.expect("mount").status.success());
    restored(request()).await;
}
