//! Backups read from a standby.

use crate::postgres::Postgres;
use crate::site::{Site, Switch, restored, verify};
use howdah_engine::{Progress, RestoreRequest};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_backed_up_while_its_primary_is_idle() {
    let site = Site::new().await;
    let primary = site.primary("pair");
    primary.sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g");
    let before = primary.digest("t");
    let data = site.path().join("standby");
    primary.user.make_dir(&data);
    crate::postgres::run(
        primary
            .user
            .command(crate::postgres::program("pg_basebackup"))
            .arg("-h")
            .arg(&primary.socket)
            .args(["-U", "postgres", "-c", "fast", "-R", "-D"])
            .arg(&data),
    );
    let mut standby = Postgres::adopt(site.path(), "standby", &data);
    standby.configure("hot_standby = on\n");
    standby.start();
    standby.wait("SELECT count(*) > 0 FROM pg_stat_wal_receiver WHERE status = 'streaming'");

    // The standby cannot close the primary's segment; the caller reaches over to it.
    let request = site.backup_request(&standby, "pair");
    let close = Arc::new(Switch::of(&primary));
    let result =
        howdah_engine::backup::run(request, close, Arc::new(Progress::new()), CancellationToken::new()).await;
    let result = result.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(result.end_lsn >= result.begin_lsn);

    let data = site.path().join("restored");
    restored(RestoreRequest::new(site.repository("pair"), &data)).await;
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
    site.recover(&copy, "pair", "");
    copy.start_recovered();
    assert_eq!(copy.digest("t"), before);
}
