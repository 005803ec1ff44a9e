//! The WAL archive by itself.

use crate::site::Site;
use howdah_engine::control::ControlData;

#[tokio::test(flavor = "multi_thread")]
async fn the_control_file_says_what_pg_controldata_says() {
    let site = Site::new().await;
    let primary = site.primary_with("control", 1, barman_cloud::Compression::None, 1);
    let control = ControlData::read(&primary.data).expect("reads");
    assert_eq!(control.system_id.to_string(), primary.sql("SELECT system_identifier FROM pg_control_system()"));
    assert_eq!(control.wal_segment_size.bytes(), 1 << 20);
    assert!(control.data_checksums && !control.cleanly_shut_down);
    assert_eq!(control.timeline, 1);
    assert_eq!(control.checkpoint.to_string(), primary.sql("SELECT checkpoint_lsn FROM pg_control_checkpoint()"));
    assert_eq!(control.redo.to_string(), primary.sql("SELECT redo_lsn FROM pg_control_checkpoint()"));
    let settings = primary.sql(
        "SELECT string_agg(setting, ',' ORDER BY name) FROM pg_settings WHERE name IN ('max_connections', \
         'max_locks_per_transaction', 'max_prepared_transactions', 'max_wal_senders', 'max_worker_processes')",
    );
    let own = &control.must_not_shrink;
    let found = [
        own.max_connections,
        own.max_locks_per_transaction,
        own.max_prepared_transactions,
        own.max_wal_senders,
        own.max_worker_processes,
    ];
    assert_eq!(found.map(|value| value.to_string()).join(","), settings);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_claims_at_once() {
    let site = Site::new().await;
    let (a, b) = (site.repository("x"), site.repository("x"));
    let now = chrono::Utc::now();
    let (a, b) = tokio::join!(a.claim("1", None, now), b.claim("1", None, now));
    for claim in [a, b] {
        if let Err(error) = claim {
            panic!("{} {:#?}", error.report(), site.s3.requests());
        }
    }
}
