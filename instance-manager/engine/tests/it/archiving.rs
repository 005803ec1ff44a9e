//! The WAL archive by itself.

use crate::site::{BUCKET, Site};
use barman_cloud::Compression;
use howdah_engine::control::ControlData;
use howdah_engine::{Archiver, ArchiverConfig, ErrorKind, Restorer, RestorerConfig, WalFetch};
use howdah_s3::{Action, Operation, Rule};
use std::path::{Path, PathBuf};

#[tokio::test(flavor = "multi_thread")]
async fn the_control_file_says_what_pg_controldata_says() {
    let site = Site::new().await;
    let primary = site.primary_with("control", 1, Compression::None, 1);
    let control = ControlData::read(&primary.data).expect("reads");
    assert_eq!(
        control.system_id.to_string(),
        primary.sql("SELECT system_identifier FROM pg_control_system()")
    );
    assert_eq!(control.wal_segment_size.bytes(), 1 << 20);
    assert!(control.data_checksums && !control.cleanly_shut_down);
    assert_eq!(control.timeline, 1);
    assert_eq!(
        control.checkpoint.to_string(),
        primary.sql("SELECT checkpoint_lsn FROM pg_control_checkpoint()")
    );
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

/// A stopped cluster with 1 MiB segments, and made-up files in its queue.
struct Queue {
    site: Site,
    data: PathBuf,
}

impl Queue {
    async fn new() -> Self {
        let site = Site::new().await;
        let cluster = crate::postgres::Postgres::init(site.path(), "queue", 1);
        Self { data: cluster.data.clone(), site }
    }

    fn archiver(&self, parallel: usize) -> Archiver {
        Archiver::new(ArchiverConfig {
            pgdata: self.data.clone(),
            repository: self.site.repository("q"),
            compression: Compression::Zstd,
            compression_level: None,
            max_parallel: parallel,
            claimed_by: None,
        })
    }

    fn restorer(&self, allow_partial: bool) -> Restorer {
        Restorer::new(RestorerConfig {
            repository: self.site.repository("q"),
            pgdata: self.data.clone(),
            spool: self.site.path().join("spool"),
            max_parallel: 4,
            allow_partial,
        })
    }

    fn name(number: u32) -> String {
        format!("0000000100000000{number:08X}")
    }

    /// A segment that is ready, filled with one byte.
    fn ready(&self, number: u32, fill: u8) -> PathBuf {
        let name = Self::name(number);
        let path = Path::new("pg_wal").join(&name);
        std::fs::write(self.data.join(&path), vec![fill; 1 << 20]).expect("a segment");
        std::fs::write(self.data.join(format!("pg_wal/archive_status/{name}.ready")), "").expect("a mark");
        path
    }

    /// Archives as PostgreSQL does: what succeeded leaves the queue.
    async fn archive(&self, archiver: &Archiver, path: &Path) {
        archiver.archive(path).await.unwrap_or_else(|error| panic!("{}", error.report()));
        let name = path.file_name().expect("a name").to_string_lossy();
        let mark = |state: &str| self.data.join(format!("pg_wal/archive_status/{name}.{state}"));
        std::fs::rename(mark("ready"), mark("done")).expect("renames");
    }

    async fn stored(&self) -> usize {
        self.site.keys().await.iter().filter(|key| key.contains("/wals/")).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ready_behind_travels_along_and_its_failures_are_its_own() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(4);
    let paths: Vec<PathBuf> = (0x10..0x18).map(|number| queue.ready(number, number as u8)).collect();
    assert_eq!(archiver.stats().waiting, 8);
    // The one behind is refused; the requested one must not care.
    let second = format!("**/{}*", Queue::name(0x11));
    let rule = queue
        .site
        .s3
        .faults()
        .add(Rule::new(Action::access_denied()).operation(Operation::PutObject).key(&second));
    queue.archive(&archiver, &paths[0]).await;
    let error = archiver.archive(&paths[1]).await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::Store(barman_cloud::ErrorKind::Permission), "{}", error.report());
    let stats = archiver.stats();
    assert_eq!(stats.last_failed.as_ref().map(|failed| failed.0.clone()), Some(Queue::name(0x11)));
    assert!(stats.last_error.is_some_and(|error| error.contains("remedy")), "an error without a remedy");
    queue.site.s3.faults().remove(rule);
    for path in &paths[1..] {
        queue.archive(&archiver, path).await;
    }
    let stats = archiver.stats();
    assert_eq!((stats.archived_count, stats.failed_count, stats.last_error), (8, 1, None));
    assert_eq!(queue.stored().await, 8);
    // Each was sent once although most were asked for after they had been sent.
    let puts = queue
        .site
        .s3
        .requests()
        .iter()
        .filter(|request| {
            request.operation == Operation::PutObject && !request.fault && request.key.contains("/wals/")
        })
        .count();
    assert_eq!(puts, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_one_content_and_one_owner() {
    let queue = Queue::new().await;
    let path = queue.ready(0x20, 1);
    queue.archiver(1).archive(&path).await.expect("archives");
    queue.archiver(1).archive(&path).await.expect("the same again is no harm");
    queue.ready(0x20, 2);
    let error = queue.archiver(1).archive(&path).await.expect_err("other content");
    assert_eq!(error.kind(), ErrorKind::Store(barman_cloud::ErrorKind::AlreadyExists), "{}", error.report());
    assert!(error.report().contains(&Queue::name(0x20)), "{}", error.report());
    // A truncated segment never leaves the house.
    let short = queue.ready(0x21, 1);
    std::fs::write(queue.data.join(&short), vec![1; 4096]).expect("truncates");
    assert_eq!(queue.archiver(1).archive(&short).await.expect_err("short").kind(), ErrorKind::Invalid);
    for (name, content) in [
        ("00000002.history", "1\t0/3000000\tno reason\n"),
        ("000000010000000000000020.00000028.backup", "START WAL LOCATION: 0/2000028\n"),
    ] {
        std::fs::write(queue.data.join("pg_wal").join(name), content).expect("a file");
        queue
            .archiver(1)
            .archive(&Path::new("pg_wal").join(name))
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
    }
    assert_eq!(
        queue.archiver(1).archive(Path::new("pg_wal/xlogtemp.1")).await.expect_err("no WAL").exit_code(),
        3
    );

    let stranger = crate::postgres::Postgres::init(queue.site.path(), "stranger", 1);
    let archiver = Archiver::new(ArchiverConfig {
        pgdata: stranger.data.clone(),
        repository: queue.site.repository("q"),
        compression: Compression::None,
        compression_level: None,
        max_parallel: 1,
        claimed_by: None,
    });
    let error = archiver.archive(Path::new("pg_wal/000000010000000000000001")).await.expect_err("a stranger");
    assert_eq!(error.kind(), ErrorKind::Lineage, "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_an_error_and_no_wal_is_lost() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(2);
    let path = queue.ready(0x30, 7);
    archiver.claim().await.expect("claims");
    let rule = queue.site.s3.faults().add(Rule::new(Action::access_denied()));
    archiver.archive(&path).await.expect_err("the store refuses");
    queue.site.s3.faults().remove(rule);
    // The write is acknowledged and forgotten: only looking again tells.
    let rule =
        queue.site.s3.faults().add(Rule::new(Action::LoseWrite).operation(Operation::PutObject).times(1));
    let error = archiver.archive(&path).await.expect_err("lost");
    assert!(error.is_transient(), "{}", error.report());
    queue.site.s3.faults().remove(rule);
    archiver.archive(&path).await.expect("archives");
    assert_eq!(queue.stored().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_fetched_ahead_and_delivered_whole() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(8);
    for number in 0x40..0x50 {
        queue.archive(&archiver, &queue.ready(number, number as u8)).await;
    }
    let restorer = queue.restorer(false);
    let dest = Path::new("pg_wal/RECOVERYXLOG");
    for number in 0x40..0x50 {
        let fetched = restorer
            .restore(&Queue::name(number), dest)
            .await
            .unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(fetched, WalFetch::Restored);
        let content = std::fs::read(queue.data.join(dest)).expect("the segment");
        assert_eq!(
            (content.len(), content[0], content[content.len() - 1]),
            (1 << 20, number as u8, number as u8)
        );
    }
    assert_eq!(restorer.restore(&Queue::name(0x50), dest).await.expect("an answer"), WalFetch::NotThere);
    assert_eq!(restorer.restore("00000002.history", dest).await.expect("an answer"), WalFetch::NotThere);
    assert!(restorer.restore("../etc/passwd", dest).await.is_err());
    // Each object was read once, prefetched or not.
    let gets = queue
        .site
        .s3
        .requests()
        .iter()
        .filter(|request| request.operation == Operation::GetObject && request.key.contains("/wals/"))
        .count();
    assert_eq!(gets, 16);
    restorer.shutdown().await.expect("stops");
    let spools: Vec<_> = std::fs::read_dir(queue.site.path().join("spool")).expect("the base").collect();
    assert!(spools.is_empty(), "{spools:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_damaged_and_unreachable_segments() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(1);
    let partial = format!("{}.partial", Queue::name(0x60));
    std::fs::write(queue.data.join("pg_wal").join(&partial), vec![6; 1 << 20]).expect("a partial segment");
    archiver.archive(&Path::new("pg_wal").join(&partial)).await.expect("archives");
    let dest = Path::new("pg_wal/RECOVERYXLOG");
    let wanted = Queue::name(0x60);
    assert_eq!(queue.restorer(false).restore(&wanted, dest).await.expect("an answer"), WalFetch::NotThere);
    assert_eq!(queue.restorer(true).restore(&wanted, dest).await.expect("an answer"), WalFetch::Restored);

    archiver.archive(&queue.ready(0x61, 1)).await.expect("archives");
    let key =
        queue.site.keys().await.into_iter().find(|key| key.contains(&Queue::name(0x61))).expect("the object");
    let body = queue.site.s3.get(BUCKET, &key).await.expect("the object");
    queue.site.s3.put(BUCKET, &key, body[..body.len() - 5].to_vec()).await.expect("truncates");
    std::fs::remove_file(queue.data.join(dest)).expect("removes");
    let error = queue.restorer(true).restore(&Queue::name(0x61), dest).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    assert!(error.report().contains(&Queue::name(0x61)), "{}", error.report());
    assert!(!queue.data.join(dest).exists(), "nothing half written is left");
    queue.site.s3.put(BUCKET, &key, body).await.expect("puts back");

    // Out for longer than the store client's own retries: never "not there", and it goes on by itself.
    let rule = queue.site.s3.faults().add(Rule::new(Action::slow_down()));
    let restorer = queue.restorer(true);
    let name = Queue::name(0x61);
    let asking = tokio::spawn(async move { restorer.restore(&name, Path::new("pg_wal/RECOVERYXLOG")).await });
    while queue.site.s3.faults().hits(rule) < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!asking.is_finished());
    queue.site.s3.faults().remove(rule);
    assert_eq!(asking.await.expect("ends").expect("an answer"), WalFetch::Restored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_ahead_costs_one_write_and_shares_its_listings() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(4);
    archiver.claim().await.expect("claims");
    let paths: Vec<PathBuf> = (0x10..0x20).map(|number| queue.ready(number, number as u8)).collect();
    let before = queue.site.s3.requests().len();
    for path in &paths {
        queue.archive(&archiver, path).await;
    }
    let requests = queue.site.s3.requests();
    let count = |wanted| requests[before..].iter().filter(|request| request.operation == wanted).count();
    assert_eq!((count(Operation::PutObject), count(Operation::HeadObject)), (16, 0));
    // One tells that the names are free, and at most one follows each write.
    assert!(count(Operation::ListObjects) <= 17, "{} listings", count(Operation::ListObjects));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_travels_ahead_when_the_queue_is_short() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(8);
    let paths: Vec<PathBuf> = (0x10..0x12).map(|number| queue.ready(number, number as u8)).collect();
    queue.archive(&archiver, &paths[0]).await;
    assert_eq!(queue.stored().await, 1);
    queue.archive(&archiver, &paths[1]).await;
    assert_eq!(queue.stored().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_throttles_gets_fewer_files_ahead() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(8);
    archiver.claim().await.expect("claims");
    let paths: Vec<PathBuf> = (0x10..0x40).map(|number| queue.ready(number, number as u8)).collect();
    let faults = queue.site.s3.faults();
    // Each of the first nine is told to slow down once, and its retry succeeds.
    faults.add(Rule::new(Action::slow_down()).operation(Operation::PutObject).times(9));
    for path in &paths[..9] {
        queue.archive(&archiver, path).await;
    }
    // Whatever was ahead then has been asked for; far fewer than eight follow the next request.
    let before = queue.stored().await;
    queue.archive(&archiver, &paths[9]).await;
    assert!(queue.stored().await <= before + 5, "{before} before");
    for path in &paths[10..] {
        queue.archive(&archiver, path).await;
    }
    assert_eq!(queue.stored().await, paths.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_ahead_costs_one_read() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(8);
    for number in 0x40..0x60 {
        queue.archive(&archiver, &queue.ready(number, number as u8)).await;
    }
    let before = queue.site.s3.requests().len();
    let restorer = queue.restorer(false);
    let dest = Path::new("pg_wal/RECOVERYXLOG");
    for number in 0x40..0x60 {
        assert_eq!(
            restorer.restore(&Queue::name(number), dest).await.expect("an answer"),
            WalFetch::Restored
        );
    }
    let requests = queue.site.s3.requests();
    let count = |wanted| requests[before..].iter().filter(|request| request.operation == wanted).count();
    assert_eq!(count(Operation::GetObject), 32);
    // One listing told of all.
    assert_eq!(count(Operation::ListObjects), 1);
    // What was not there is asked for anew when it matters, and then what follows is fetched ahead again.
    assert_eq!(restorer.restore(&Queue::name(0x60), dest).await.expect("an answer"), WalFetch::NotThere);
    for number in 0x60..0x68 {
        queue.archive(&archiver, &queue.ready(number, number as u8)).await;
    }
    for number in 0x60..0x68 {
        assert_eq!(
            restorer.restore(&Queue::name(number), dest).await.expect("an answer"),
            WalFetch::Restored
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_elsewhere_does_not_queue_behind_what_is_fetched_ahead() {
    let queue = Queue::new().await;
    let archiver = queue.archiver(8);
    for number in 0x40..0x50 {
        queue.archive(&archiver, &queue.ready(number, number as u8)).await;
    }
    let restorer = queue.restorer(false);
    let dest = Path::new("pg_wal/RECOVERYXLOG");
    // Everything that is fetched ahead of the first segment stands still.
    let faults = queue.site.s3.faults();
    let rules: Vec<_> = (0x41..0x48)
        .map(|number| {
            let key = format!("**/{}*", Queue::name(number));
            let stall = Action::StallBody { after_bytes: 1, millis: 600_000 };
            faults.add(Rule::new(stall).operation(Operation::GetObject).key(&key))
        })
        .collect();
    assert_eq!(restorer.restore(&Queue::name(0x40), dest).await.expect("an answer"), WalFetch::Restored);
    while rules.iter().map(|rule| faults.hits(*rule)).sum::<u64>() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // Replay jumps; all three turns are taken by transfers that never end.
    for number in 0x4A..0x50 {
        assert_eq!(
            restorer.restore(&Queue::name(number), dest).await.expect("an answer"),
            WalFetch::Restored
        );
    }
    restorer.shutdown().await.expect("stops");
}
