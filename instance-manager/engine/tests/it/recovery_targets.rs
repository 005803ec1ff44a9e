//! Recovery to a time, a position, a name, a transaction, and to nowhere.

use crate::postgres::Postgres;
use crate::site::{Site, restored, try_restore};
use barman_cloud::Lsn;
use chrono::{DateTime, Duration, Utc};
use howdah_engine::{BackupChoice, ErrorKind, RecoveryTarget, RestoreRequest, TargetTimeline, restore};

/// A server with a backup, and rows 1, 2, 3 written one after the other behind it.
struct History {
    site: Site,
    primary: Postgres,
    /// After row 2, before row 3.
    time: DateTime<Utc>,
    lsn: Lsn,
    xid: u64,
}

async fn history() -> History {
    let site = Site::new().await;
    let primary = site.primary_with("h", 1, barman_cloud::Compression::Zstd, 4);
    primary.sql("CREATE TABLE t (n int)");
    site.backup(&primary, site.backup_request(&primary, "h"))
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    primary.sql("INSERT INTO t VALUES (1)");
    primary.sql("SELECT pg_switch_wal()");
    let xid =
        primary.sql("INSERT INTO t VALUES (2) RETURNING pg_current_xact_id()").parse().expect("a number");
    primary.sql("SELECT pg_create_restore_point('two')");
    let lsn = primary.sql("SELECT pg_current_wal_lsn()").parse().expect("an LSN");
    // The target lies between two commits by the server's clock, whatever its resolution.
    let time: DateTime<Utc> = primary.sql("SELECT pg_sleep(0.05)::text || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").parse().expect("a time");
    primary.sql("SELECT pg_sleep(0.05)");
    primary.sql("INSERT INTO t VALUES (3)");
    primary.sql("SELECT pg_switch_wal()");
    site.wait_archived(&primary);
    History { site, primary, time, lsn, xid }
}

/// S1.5, S3.11: a time, a position, a name, a transaction, none.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_target_is_reached() {
    let history = history().await;
    let site = &history.site;
    let time = history.time.format("%Y-%m-%d %H:%M:%S%.6f+00");
    let targets = [
        ("time", RecoveryTarget::Time(history.time), format!("recovery_target_time = '{time}'"), "1,2"),
        ("lsn", RecoveryTarget::Lsn(history.lsn), format!("recovery_target_lsn = '{}'", history.lsn), "1,2"),
        ("name", RecoveryTarget::Name("two".into()), "recovery_target_name = 'two'".into(), "1,2"),
        ("xid", RecoveryTarget::Xid(history.xid), format!("recovery_target_xid = '{}'", history.xid), "1,2"),
        ("immediate", RecoveryTarget::Immediate, "recovery_target = 'immediate'".into(), ""),
        ("latest", RecoveryTarget::Latest, String::new(), "1,2,3"),
    ];
    for (name, target, setting, rows) in targets {
        let data = site.path().join(name);
        let mut request = RestoreRequest::new(site.repository("h"), &data);
        request.target = target;
        let back = restored(request).await;
        assert_eq!(back.plan.target_timeline, 1);
        let mut copy = Postgres::adopt(site.path(), name, &data);
        let restorer = site.recover(&copy, "h", &setting);
        copy.start_recovered();
        assert_eq!(
            copy.sql("SELECT coalesce(string_agg(n::text, ',' ORDER BY n), '') FROM t"),
            rows,
            "{name}"
        );
        restorer.shutdown().await.expect("the spool goes");
        copy.stop();
    }
    drop(history.primary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_out_of_reach_is_refused_before_anything_is_fetched() {
    let history = history().await;
    let site = &history.site;
    let data = site.path().join("refused");
    let request = |target, timeline| {
        let mut request = RestoreRequest::new(site.repository("h"), &data);
        (request.target, request.timeline) = (target, timeline);
        request
    };
    let day = Duration::days(1);
    let cases = [
        (RecoveryTarget::Time(history.time - day), TargetTimeline::Latest, "before the end of backup"),
        (RecoveryTarget::Lsn(Lsn(1)), TargetTimeline::Latest, "before the end of backup"),
        (RecoveryTarget::Time(history.time + day), TargetTimeline::Latest, "lies beyond the archive"),
        (RecoveryTarget::Lsn(Lsn(1 << 40)), TargetTimeline::Latest, "lies beyond the archive"),
        (RecoveryTarget::Latest, TargetTimeline::Id(7), "no history of timeline 7"),
    ];
    for (target, timeline, text) in cases {
        let error = try_restore(request(target, timeline)).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.report());
        assert!(error.to_string().contains(text), "{}", error.report());
    }
    assert!(!data.exists());
    // A hole in the archive hides what lies behind it.
    let gone = site
        .keys()
        .await
        .into_iter()
        .rfind(|key| key.contains("/wals/") && key.contains("0000000000000"))
        .expect("a segment");
    let segments: Vec<String> = site
        .keys()
        .await
        .into_iter()
        .filter(|key| key.ends_with(".zst") && key.contains("/wals/") && !key.contains("backup"))
        .collect();
    let hole = &segments[segments.len() - 2];
    site.s3.delete(crate::site::BUCKET, hole).await.expect("deletes");
    let plan = restore::plan(&request(RecoveryTarget::Latest, TargetTimeline::Latest))
        .await
        .expect("the backup itself is whole");
    let gap = plan.wal_gap.expect("a gap").to_string();
    assert!(hole.contains(&gap), "{gap} is not in {hole} ({gone})");
    let end =
        RecoveryTarget::Lsn(history.primary.sql("SELECT pg_current_wal_lsn()").parse().expect("an LSN"));
    let error = try_restore(request(end, TargetTimeline::Latest)).await.expect_err("refused");
    assert!(error.to_string().contains(&gap), "{}", error.report());
}

/// S0.38: one archive over two timelines.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_copy_goes_on_in_the_same_archive_and_comes_back() {
    let history = history().await;
    let (site, mut primary) = (&history.site, history.primary);
    primary.stop();
    let data = site.path().join("second");
    restored(RestoreRequest::new(site.repository("h"), &data)).await;
    let mut second = Postgres::adopt(site.path(), "second", &data);
    site.recover(&second, "h", "recovery_target_name = 'two'");
    site.archive_from(&second, "h", barman_cloud::Compression::Gzip, 2);
    second.start_recovered();
    second.sql("INSERT INTO t VALUES (22)");
    second.sql("SELECT pg_switch_wal()");
    site.wait_archived(&second);

    // The first backup, along the new timeline.
    let third = site.path().join("third");
    let plan = restored(RestoreRequest::new(site.repository("h"), &third)).await.plan;
    assert_eq!((plan.backup_timeline, plan.target_timeline), (1, 2));
    let mut copy = Postgres::adopt(site.path(), "third", &third);
    site.recover(&copy, "h", &format!("recovery_target_timeline = {}", plan.target_timeline));
    copy.start_recovered();
    assert_eq!(copy.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2,22");
    copy.stop();

    // A backup of the new timeline, found by time among both.
    let result = site
        .backup(&second, site.backup_request(&second, "h"))
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(result.timeline, 2);
    let mut request = RestoreRequest::new(site.repository("h"), site.path().join("fourth"));
    assert_eq!(restore::plan(&request).await.expect("plans").backup_id, result.backup_id);
    request.timeline = TargetTimeline::Id(1);
    assert_eq!(restore::plan(&request).await.expect("plans").backup_timeline, 1);
    request.choice = BackupChoice::Id(result.backup_id);
    assert_eq!(restore::plan(&request).await.expect_err("passed by").kind(), ErrorKind::Unreachable);
}
