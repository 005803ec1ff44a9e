//! Backups of a living server, restored and started.

use crate::postgres::{Postgres, program, run};
use crate::site::Site;
use barman_cloud::Compression;
use howdah_engine::{Progress, RestoreRequest, restore};
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

async fn restored(request: RestoreRequest) -> howdah_engine::RestoreResult {
    restore::run(request, Arc::new(Progress::new()), CancellationToken::new())
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()))
}

fn verify(postgres: &Postgres, wal: Option<&Path>) {
    let mut command = postgres.user.command(program("pg_verifybackup"));
    match wal {
        Some(wal) => command.arg("-w").arg(wal),
        None => command.arg("-n"),
    };
    run(command.arg("-e").arg(&postgres.data));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_comes_back() {
    let site = Site::new().await;
    let primary = site.primary("idle");
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 10000) g");
    let before = primary.digest("t");
    let result = site.backup(&primary, site.backup_request(&primary, "idle")).await;
    let result = result.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(result.data_checksums && result.bad_pages.is_empty(), "{result:?}");
    assert_eq!(result.compression, Compression::None);

    let data = site.path().join("restored");
    let back = restored(RestoreRequest::new(site.repository("idle"), &data)).await;
    assert!(back.verified && back.files > 900, "{back:?}");
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy, None);
    site.recover(&copy, "idle", "");
    copy.start();
    assert_eq!(copy.digest("t"), before);
}
