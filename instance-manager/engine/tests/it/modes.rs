//! Modes of restored files, whatever the mask of the process.

use crate::postgres::Postgres;
use crate::site::{Site, restored, verify};
use howdah_engine::RestoreRequest;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("metadata").mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_its_group_may_read_stays_so() {
    let site = Site::new().await;
    let mut primary = Postgres::init_version(site.path(), "shared", 15, &["-g"]);
    site.archive_from(&primary, "shared", barman_cloud::Compression::None, 1);
    primary.start();
    primary.sql("CREATE TABLE t AS SELECT 1 AS x");
    site.backup(&primary, site.backup_request(&primary, "shared")).await.expect("a backup");
    let data = site.path().join("restored");
    // Nextest gives every test a process of its own; elsewhere the mask harms nobody who sets modes.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    restored(RestoreRequest::new(site.repository("shared"), &data)).await;
    rustix::process::umask(before);
    for (path, expected) in [
        ("", 0o750),
        ("PG_VERSION", 0o640),
        ("base", 0o750),
        ("global/pg_control", 0o640),
        ("backup_label", 0o600),
    ] {
        assert_eq!(mode(&data.join(path)), expected, "{path:?}");
    }
    let owner = std::fs::metadata(data.join("PG_VERSION")).expect("metadata");
    assert_eq!((owner.uid(), owner.gid()), (primary.user.uid, primary.user.gid));
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
    site.recover(&copy, "shared", "");
    copy.start_recovered();
    assert_eq!(copy.sql("SHOW data_directory_mode"), "0750");
    assert_eq!(copy.sql("SELECT x FROM t"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_cluster_stays_private() {
    let site = Site::new().await;
    let primary = site.primary("private");
    site.backup(&primary, site.backup_request(&primary, "private")).await.expect("a backup");
    let data = site.path().join("restored");
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    restored(RestoreRequest::new(site.repository("private"), &data)).await;
    rustix::process::umask(before);
    for (path, expected) in [("", 0o700), ("PG_VERSION", 0o600), ("base", 0o700), ("pg_wal", 0o700)] {
        assert_eq!(mode(&data.join(path)), expected, "{path:?}");
    }
    for path in ["backup_manifest", "pg_wal/archive_status", "global/pg_control"] {
        assert_eq!(mode(&data.join(path)) & 0o077, 0, "{path:?}");
    }
}
