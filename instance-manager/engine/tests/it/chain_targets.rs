//! Every kind of target, from an incremental backup.

use crate::chain::{SERVER, World};
use crate::postgres::Postgres;
use crate::site::restored;
use barman_cloud::{BackupType, Lsn};
use chrono::{DateTime, Utc};
use howdah_engine::{RecoveryTarget, RestoreRequest, TargetTimeline};

const CLOCK: &str = "SELECT pg_sleep(0.05)::text || \
     to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

/// Row 1 is in the incremental, 2 and 3 come after it; each target lies between these, and stops before or behind.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_target_is_reached_from_an_incremental_backup() {
    let mut world = World::new(15, "").await;
    world.primary.sql("CREATE TABLE t (n int)");
    world.take(BackupType::Full).await;
    world.primary.sql("INSERT INTO t VALUES (1)");
    let incremental = world.take(BackupType::Incremental).await.backup_id.clone();
    let sql = |text: &str| world.primary.sql(text);
    sql("SELECT pg_switch_wal()");
    let xid: u64 = sql("INSERT INTO t VALUES (2) RETURNING pg_current_xact_id()").parse().expect("a number");
    sql("SELECT pg_create_restore_point('two')");
    let lsn: Lsn = sql("SELECT pg_current_wal_lsn()").parse().expect("an LSN");
    let time: DateTime<Utc> = sql(CLOCK).parse().expect("a time");
    sql("SELECT pg_sleep(0.05)");
    sql("INSERT INTO t VALUES (3)");
    sql("SELECT pg_switch_wal()");
    world.site.wait_archived(&world.primary);

    let at = time.format("%Y-%m-%d %H:%M:%S%.6f+00");
    let before = "recovery_target_inclusive = off";
    let cases = [
        ("time", RecoveryTarget::Time(time), format!("recovery_target_time = '{at}'"), "1,2"),
        ("lsn", RecoveryTarget::Lsn(lsn), format!("recovery_target_lsn = '{lsn}'"), "1,2"),
        ("name", RecoveryTarget::Name("two".into()), "recovery_target_name = 'two'".into(), "1,2"),
        ("xid", RecoveryTarget::Xid(xid), format!("recovery_target_xid = '{xid}'"), "1,2"),
        ("xidbefore", RecoveryTarget::Xid(xid), format!("recovery_target_xid = '{xid}'\n{before}"), "1"),
        ("lsnbefore", RecoveryTarget::Lsn(lsn), format!("recovery_target_lsn = '{lsn}'\n{before}"), "1,2"),
        ("immediate", RecoveryTarget::Immediate, "recovery_target = 'immediate'".into(), "1"),
        ("current", RecoveryTarget::Latest, "recovery_target_timeline = 'current'".into(), "1,2,3"),
        ("latest", RecoveryTarget::Latest, String::new(), "1,2,3"),
    ];
    for (name, target, setting, rows) in cases {
        let data = world.site.path().join(name);
        let mut request = RestoreRequest::new(world.site.repository(SERVER), &data);
        request.target = target;
        if name == "current" {
            request.timeline = TargetTimeline::Current;
        }
        let plan = restored(request).await.plan;
        assert_eq!((&plan.backup_id, plan.ancestors.len()), (&incremental, 1), "{name}");
        let mut copy = Postgres::adopt(world.site.path(), name, &data);
        let restorer = world.site.recover(&copy, SERVER, &setting);
        copy.start_recovered();
        assert_eq!(copy.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), rows, "{name}");
        restorer.shutdown().await.expect("the spool goes");
        copy.stop();
    }
}
