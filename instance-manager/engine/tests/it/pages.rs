//! Page checksums: damaged pages are found on the way to the store.

use crate::postgres::program;
use crate::site::Site;
use howdah_engine::{BadPage, BadPagePolicy, BadPages, ErrorKind};
use std::os::unix::fs::FileExt;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_named() {
    let site = Site::new().await;
    let mut primary = site.primary("pages");
    primary.sql("CREATE TABLE t AS SELECT g, repeat('y', 100) FROM generate_series(1, 20000) g");
    let path = primary.sql("SELECT pg_relation_filepath('t')");
    // Written out and evicted, so that the damage on disk stays.
    primary.sql("CHECKPOINT");
    primary
        .user
        .command(program("pg_ctl"))
        .arg("-D")
        .arg(&primary.data)
        .args(["-w", "stop"])
        .output()
        .expect("stops");
    let file = std::fs::OpenOptions::new().write(true).open(primary.data.join(&path)).expect("the relation");
    for block in [3_u64, 17] {
        file.write_all_at(b"damage", block * 8192 + 4000).expect("writes");
    }
    primary.start();

    let result = site.backup(&primary, site.backup_request(&primary, "pages")).await;
    let result = result.unwrap_or_else(|error| panic!("{}", error.report()));
    let pages = [3, 17].map(|block| BadPage { file: path.clone(), block }).into();
    assert_eq!(result.bad_pages, BadPages { count: 2, pages });

    let mut strict = site.backup_request(&primary, "pages");
    strict.bad_pages = BadPagePolicy::Fail;
    let error = site.backup(&primary, strict).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::BadPages);
    let report = error.report();
    assert!(report.contains(&format!("(2 in all): {path} block 3, {path} block 17; remedy: ")), "{report}");
    let done = site.repository("pages").catalog().await.expect("a catalogue");
    assert_eq!(done.done().count(), 1, "the refused one must not say DONE");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checksums_nothing_is_verified() {
    let site = Site::new().await;
    let mut primary = site.primary("plain");
    primary
        .user
        .command(program("pg_ctl"))
        .arg("-D")
        .arg(&primary.data)
        .args(["-w", "stop"])
        .output()
        .expect("stops");
    crate::postgres::run(
        primary.user.command(program("pg_checksums")).arg("--disable").arg("-D").arg(&primary.data),
    );
    primary.start();
    let result = site.backup(&primary, site.backup_request(&primary, "plain")).await.expect("a backup");
    assert!(!result.data_checksums && result.bad_pages.is_empty());
}
