//! Backups and restores that end early, and what they leave.

use crate::postgres::Postgres;
use crate::site::{BUCKET, Site, Switch, restored, try_restore, verify};
use barman_cloud::backup_info::BackupStatus;
use howdah_engine::backup::{PartSize, sweep_orphans};
use howdah_engine::{ErrorKind, Phase, Progress, RestoreRequest};
use howdah_s3::{Action, Operation, Rule};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A server with some 40 MB in several parts.
async fn site() -> (Site, Postgres) {
    let site = Site::new().await;
    let primary = site.primary("cut");
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 200000) g");
    (site, primary)
}

fn request(site: &Site, primary: &Postgres) -> howdah_engine::BackupRequest {
    let mut request = site.backup_request(primary, "cut");
    request.part_size = PartSize { tar_bytes: Some(8 << 20), ..PartSize::default() };
    request
}

async fn assert_nothing_left(site: &Site) {
    let keys = site.keys().await;
    let parts: Vec<&String> =
        keys.iter().filter(|key| key.contains(".tar") || key.contains("manifest")).collect();
    assert!(parts.is_empty(), "{parts:?}");
    let uploads = site.s3.uploads(BUCKET).expect("uploads");
    assert!(uploads.is_empty(), "{uploads:?}");
    let catalog = site.repository("cut").catalog().await.expect("a catalogue");
    assert!(
        catalog
            .entries
            .iter()
            .all(|entry| entry.info.as_ref().expect("readable").status == BackupStatus::Failed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_leaves_nothing_but_its_mark() {
    let (site, primary) = site().await;
    let cancel = CancellationToken::new();
    // Uploads hang, so the backup is in the middle of copying when it is cancelled.
    let rule = site
        .s3
        .faults()
        .add(Rule::new(Action::Stall { millis: 60_000 }).operation(Operation::UploadPart).skip(1));
    let token = cancel.clone();
    let progress = Progress::with_callback(move |phase| {
        if matches!(phase, Phase::Copying(_)) {
            token.cancel();
        }
    });
    let close = Arc::new(Switch::of(&primary));
    let run = howdah_engine::backup::run(request(&site, &primary), close, Arc::new(progress), cancel);
    let error = run.await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", error.report());
    site.s3.faults().remove(rule);
    assert_nothing_left(&site).await;
    // The server's process ends a moment after its connection.
    primary.wait("SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'howdah-backup'");
    let result = site.backup(&primary, request(&site, &primary)).await.expect("the next one");
    assert!(result.parts.len() > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_backup_left_is_swept() {
    let (site, primary) = site().await;
    let copying = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&copying);
    let progress = Progress::with_callback(move |phase| {
        if matches!(phase, Phase::WaitingForWal { .. }) {
            notify.notify_one();
        }
    });
    let close = Arc::new(Switch::of(&primary));
    let run = howdah_engine::backup::run(
        request(&site, &primary),
        close,
        Arc::new(progress),
        CancellationToken::new(),
    );
    // Dropped when all parts are stored: no code of the backup runs any more, as if the process had been killed.
    site.s3.faults().add(Rule::new(Action::Stall { millis: 60_000 }).key("**/wals/**"));
    tokio::select! {
        outcome = run => panic!("the archive hangs, and yet: {outcome:?}"),
        () = copying.notified() => {}
    }
    site.s3.faults().clear();
    let repository = site.repository("cut");
    let catalog = repository.catalog().await.expect("a catalogue");
    assert_eq!(catalog.entries[0].info.as_ref().expect("readable").status, BackupStatus::Started);
    let id = catalog.entries[0].id.clone();
    let error = try_restore(RestoreRequest::new(site.repository("cut"), site.path().join("no")))
        .await
        .expect_err("none");
    assert_eq!(error.kind(), ErrorKind::Missing, "{}", error.report());

    let past = chrono::Utc::now() - chrono::Duration::hours(1);
    assert!(sweep_orphans(&repository, None, past).await.expect("sweeps").backups.is_empty(), "too young");
    let future = chrono::Utc::now() + chrono::Duration::seconds(5);
    assert!(
        sweep_orphans(&repository, Some(&id), future).await.expect("sweeps").backups.is_empty(),
        "running"
    );
    let sweep = sweep_orphans(&repository, None, future).await.expect("sweeps");
    assert_eq!(sweep.backups, [id]);
    assert!(sweep.bytes > 8 << 20, "{sweep:?}");
    assert_nothing_left(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_to_postgresql_fails_the_backup() {
    let (site, primary) = site().await;
    let psql = primary.psql().get_program().to_owned();
    let (user, socket) = (primary.user, primary.socket.clone());
    let progress = Progress::with_callback(move |phase| {
        if matches!(phase, Phase::Copying(_)) {
            let mut command = user.command(&psql);
            command.arg("-h").arg(&socket).args(["-U", "postgres", "-d", "postgres", "-c",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'howdah-backup'"]);
            assert!(command.output().expect("psql").status.success());
        }
    });
    let close = Arc::new(Switch::of(&primary));
    let run = howdah_engine::backup::run(
        request(&site, &primary),
        close,
        Arc::new(progress),
        CancellationToken::new(),
    );
    let error = run.await.expect_err("the session is gone");
    assert_eq!(error.kind(), ErrorKind::Postgres, "{}", error.report());
    assert_nothing_left(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_archive_fails_the_backup_with_its_reason() {
    let (site, primary) = site().await;
    primary.sql("ALTER SYSTEM SET archive_command = 'false'");
    primary.sql("SELECT pg_reload_conf()");
    let mut request = request(&site, &primary);
    request.wal_timeout = Some(std::time::Duration::from_millis(300));
    let error = site.backup(&primary, request).await.expect_err("no WAL arrives");
    assert_eq!(error.kind(), ErrorKind::WalNotArchived, "{}", error.report());
    assert!(error.to_string().contains("WAL segment 0000000100000000"), "{}", error.report());
    assert_nothing_left(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_goes_on_and_a_finished_one_is_known() {
    let (site, primary) = site().await;
    site.backup(&primary, request(&site, &primary)).await.expect("a backup");
    let data = site.path().join("restored");
    // Somebody else's data is not touched.
    std::fs::create_dir_all(&data).expect("a directory");
    std::fs::write(data.join("precious"), "x").expect("a file");
    let wanted = || RestoreRequest::new(site.repository("cut"), &data);
    let error = try_restore(wanted()).await.expect_err("not empty");
    assert!(error.to_string().contains("is not empty"), "{}", error.report());
    std::fs::remove_file(data.join("precious")).expect("removes");

    let rule = site.s3.faults().add(
        Rule::new(Action::Stall { millis: 60_000 }).operation(Operation::GetObject).key("**/data_0002.tar"),
    );
    let cancel = CancellationToken::new();
    let progress = Arc::new(Progress::new());
    let run = howdah_engine::restore::run(wanted(), Arc::clone(&progress), cancel.clone());
    let stop = async {
        while !data.join("PG_VERSION").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(run, stop);
    assert_eq!(outcome.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert!(data.join("PG_VERSION").exists(), "half a restore");
    std::fs::write(data.join("leftover"), "x").expect("a file");
    site.s3.faults().remove(rule);

    let done = restored(wanted()).await;
    assert!(done.verified && !done.already_done && done.kept_files > 0, "{done:?}");
    assert!(!data.join("leftover").exists());
    assert!(restored(wanted()).await.already_done);
    let mut copy = Postgres::adopt(site.path(), "restored", &data);
    verify(&copy);
    site.recover(&copy, "cut", "");
    copy.start_recovered();
    let error = try_restore(wanted()).await.expect_err("in use");
    assert!(error.to_string().contains("is not empty"), "{}", error.report());
    assert_eq!(copy.digest("t"), primary.digest("t"));
}
