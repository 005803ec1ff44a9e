//! The archive through a change of the primary.

use crate::postgres::{Postgres, program, run};
use crate::site::{BUCKET, Site, restored};
use barman_cloud::{Compression, SegmentRange, SegmentSize, TimelineHistory, WalName};
use howdah_engine::verify::{VerifyChoice, VerifyProgress, VerifyRequest, verify_text};
use howdah_engine::{Archiver, ErrorKind, Group, Held, Member, Policy, RestoreRequest, wal};
use howdah_s3::{Action, Operation, Rule, RuleId};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SERVER: &str = "pair";

/// A primary with a backup and a replica that streams.
struct Pair {
    site: Site,
    old: Postgres,
    old_archiver: Archiver,
    new: Postgres,
    new_archiver: Archiver,
}

impl Pair {
    async fn new() -> Self {
        let site = Site::new().await;
        let mut old = Postgres::init(site.path(), "old", 1);
        let old_archiver = site.archive_from(&old, SERVER, Compression::Zstd, 3);
        old_archiver.lead("pg-1/a", 1);
        // What the replica has received stays there after the promotion unless the first checkpoint removes it.
        old.configure("wal_keep_size = 0\n");
        old.start();
        old.sql("CREATE TABLE t (n int, x text)");
        site.backup(&old, site.backup_request(&old, SERVER))
            .await
            .unwrap_or_else(|e| panic!("{}", e.report()));
        let data = site.path().join("new");
        old.user.make_dir(&data);
        run(old
            .user
            .command(program("pg_basebackup"))
            .arg("-h")
            .arg(&old.socket)
            .args(["-U", "postgres", "-c", "fast", "-R", "-D"])
            .arg(&data));
        let mut new = Postgres::adopt(site.path(), "new", &data);
        new.configure("hot_standby = on\n");
        let new_archiver = site.archive_from(&new, SERVER, Compression::Zstd, 3);
        new.start();
        new.wait("SELECT count(*) > 0 FROM pg_stat_wal_receiver WHERE status = 'streaming'");
        site.wait_archived(&old);
        Self { site, old, old_archiver, new, new_archiver }
    }

    /// The store takes nothing of the old timeline's segments any more.
    fn pause_archive(&self) -> RuleId {
        let rule = Rule::new(Action::access_denied()).operation(Operation::PutObject);
        self.site.s3.faults().add(rule.key("**/wals/**00000001*"))
    }

    /// The primary completes segments, the replica gets them, and nobody archives them.
    fn write(&self, rows: std::ops::Range<u32>) {
        for row in rows {
            self.old.sql(&format!("INSERT INTO t VALUES ({row}, repeat('x', 1000))"));
            self.old.sql("SELECT pg_switch_wal()");
        }
        // Within a segment that stays unfinished.
        self.old.sql("INSERT INTO t VALUES (1000, 'the last')");
        let end = self.old.sql("SELECT pg_current_wal_flush_lsn()");
        self.new.wait(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'"));
    }

    /// `kill -9` for all processes of the primary, and a promotion.
    fn fail_over(&mut self, before: impl FnOnce(&Path)) {
        kill_all(&self.old);
        before(&self.new.data);
        self.new.sql("SELECT pg_promote(true, 60)");
    }

    fn group(&self) -> Group {
        let member = Member::new("default", Ok(self.new_archiver.clone()));
        Group::new(vec![member], Policy::All, &self.new.data, &self.site.path().join("catch-up"))
    }

    fn history(&self) -> TimelineHistory {
        let path = self.new.data.join("pg_wal/00000002.history");
        TimelineHistory::parse(2, &std::fs::read_to_string(path).expect("a history")).expect("valid")
    }

    async fn stored(&self) -> Vec<String> {
        let keys = self.site.keys().await;
        let names = keys.iter().filter(|key| key.contains("/wals/")).filter_map(|key| key.rsplit('/').next());
        names.map(|name| name.trim_end_matches(".zst").to_owned()).collect()
    }

    /// Waits until the segment that was just closed is archived.
    async fn archived(&self, name: &str) {
        let deadline = Instant::now() + Duration::from_secs(150);
        while !self.stored().await.iter().any(|stored| stored == name) {
            assert!(Instant::now() < deadline, "{name} does not come:\n{}", self.new.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Closes a segment of the new primary.
    fn close(&self) -> String {
        self.new.sql("INSERT INTO t VALUES (2000, 'after')");
        self.new.sql("SELECT pg_walfile_name(pg_switch_wal())")
    }

    /// What a restore from the archive alone brings back.
    async fn restore(&self, name: &str) -> String {
        let data = self.site.path().join(name);
        restored(RestoreRequest::new(self.site.repository(SERVER), &data)).await;
        let mut copy = Postgres::adopt(self.site.path(), name, &data);
        let restorer = self.site.recover(&copy, SERVER, "");
        copy.start_recovered();
        let digest = copy.digest("t");
        restorer.shutdown().await.expect("the spool goes");
        digest
    }

    async fn verified(&self) {
        let request = VerifyRequest {
            repository: self.site.repository(SERVER),
            name: "default".to_owned(),
            choice: VerifyChoice::All,
            data: true,
            wal_only: false,
            jobs: 2,
        };
        let report = howdah_engine::verify::run(request, Arc::new(VerifyProgress::default())).await;
        let report = report.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(report.ok, "{}", verify_text(&report));
    }
}

/// Kills the server at once: its archive command must not live on either.
fn kill_all(server: &Postgres) {
    let pid = std::fs::read_to_string(server.data.join("postmaster.pid")).expect("it runs");
    let pid: u32 = pid.lines().next().and_then(|line| line.trim().parse().ok()).expect("a pid");
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids: Vec<String> =
        std::iter::once(pid.to_string()).chain(children.split_whitespace().map(str::to_owned)).collect();
    // A child may have ended meanwhile.
    let _ = std::process::Command::new("kill").arg("-9").args(&pids).output().expect("kill runs");
    let deadline = Instant::now() + Duration::from_secs(30);
    while pids.iter().any(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }) {
        assert!(Instant::now() < deadline, "it does not die");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::remove_file(server.data.join("postmaster.pid")).expect("removes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_primary_had_not_archived_is_archived_and_its_return_is_refused() {
    let mut pair = Pair::new().await;
    let paused = pair.pause_archive();
    pair.write(1..7);
    let mut held = Held::default();
    pair.fail_over(|data| held = wal::hold(data).expect("held"));
    assert!(held.len() >= 6, "{held:?}");
    // Whatever the first checkpoints remove, this stays.
    pair.new.sql("CHECKPOINT");
    pair.new.sql("CHECKPOINT");

    let history = pair.history();
    let fork = history.switch_point(1).expect("timeline 1 was left");
    let last = fork.0 / SegmentSize::MIN.bytes() - 1;
    let group = pair.group();
    group.lead("pg-2/b", 2);
    let refused = group.announce().await;
    assert!(refused.is_empty(), "{refused:?}");
    let lineage = pair.site.repository(SERVER).lineage().await.expect("read").expect("there");
    assert_eq!((lineage.timeline, lineage.primary.as_deref()), (Some(2), Some("pg-2/b")));
    assert_eq!(lineage.begin_lsn, Some(fork));

    let tail = group.tail(2, &mut held).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(tail.segments >= 6 && tail.silent.is_empty(), "{tail:?}");
    assert_eq!(tail.hole, None);
    assert!(held.is_empty(), "it is known of each whether it is archived: {held:?}");
    // Doing it again, as after a crash, changes nothing.
    let again = group.tail(2, &mut held).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!((again.segments, again.histories, again.hole), (0, 0, None));
    pair.site.s3.faults().remove(paused);
    pair.archived(&pair.close()).await;
    pair.site.wait_archived(&pair.new);

    // No gap on the way to timeline 2: the old segments up to where they were left, then the new ones.
    let repository = pair.site.repository(SERVER);
    let stored = pair.stored().await;
    let first = tail.oldest.expect("some were missing");
    let end = barman_cloud::Segment::from_number(1, last, SegmentSize::MIN);
    let range = SegmentRange::new(first, end, SegmentSize::MIN).expect("a range");
    assert_eq!(repository.missing_wal(range).await.expect("listed"), []);
    let window = repository.recovery_window().await.expect("read");
    assert_eq!((window.timeline, window.gaps.len()), (Some(2), 0), "{window:?}");
    pair.verified().await;
    // The unfinished one is there as such, and is kept.
    let partial = WalName::Partial(end.next(SegmentSize::MIN)).to_string();
    assert!(stored.contains(&partial), "{partial} is not among {stored:?}");

    // Everything that the replica had comes back, with the partial segment and without it.
    let expected = pair.new.digest("t");
    assert_eq!(pair.restore("with").await, expected);
    let keys = pair.site.keys().await;
    let key = keys.iter().find(|key| key.contains(&partial)).expect("the object");
    pair.site.s3.delete(BUCKET, key).await.expect("deletes");
    assert_eq!(pair.restore("without").await, expected);

    // It was a primary before, and PostgreSQL finds among its files one that the way to timeline 2 has left. It is let go,
    // and says nothing against the primary.
    let stray = end.next(SegmentSize::MIN).next(SegmentSize::MIN);
    let wal = pair.new.data.join("pg_wal");
    std::fs::copy(wal.join(pair.close()), wal.join(stray.to_string())).expect("copied");
    let stray = format!("pg_wal/{stray}");
    pair.new_archiver.archive(Path::new(&stray)).await.unwrap_or_else(|e| panic!("{}", e.report()));
    group.archive(Path::new(&stray)).await.expect("let go");
    assert!(pair.new_archiver.stale().is_none());
    assert!(!pair.stored().await.iter().any(|name| stray.ends_with(name)), "{stray} was archived");

    // The old primary comes back and knows nothing. It may hand in what lies before, and no more.
    pair.old_archiver.lead("pg-1/a", 1);
    pair.old.start();
    for row in 0..4 {
        pair.old.sql(&format!("INSERT INTO t VALUES ({}, 'nobody knows')", 3000 + row));
        pair.old.sql("SELECT pg_switch_wal()");
    }
    let deadline = Instant::now() + Duration::from_secs(150);
    let stale = loop {
        if let Some(stale) = pair.old_archiver.stale() {
            break stale;
        }
        assert!(Instant::now() < deadline, "it is not refused:\n{}", pair.old.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let words = format!(
        "the archive is on timeline 2, begun by pg-2 at {fork}; this server is still on timeline 1: it is a former \
         primary and must follow; nothing is archived"
    );
    assert_eq!((stale.kind(), stale.exit_code()), (ErrorKind::Lineage, 1));
    assert!(stale.to_string().contains(&words), "{stale}");
    let beyond: Vec<String> =
        pair.stored().await.into_iter().filter(|name| name.starts_with("00000001")).collect();
    let left = end.next(SegmentSize::MIN).to_string();
    assert!(beyond.iter().all(|name| name[..24] <= left[..]), "{beyond:?} behind {left}");
    // Not even the new primary's archiving has noticed anything.
    pair.archived(&pair.close()).await;
    assert!(pair.new_archiver.stale().is_none());
}

/// Without the marks the first checkpoint would take the WAL away; what nobody has is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_any_more_is_a_hole() {
    let mut pair = Pair::new().await;
    let paused = pair.pause_archive();
    pair.write(1..5);
    let mut held = Held::default();
    pair.fail_over(|data| held = wal::hold(data).expect("held"));
    let fork = pair.history().switch_point(1).expect("timeline 1 was left");
    let last = fork.0 / SegmentSize::MIN.bytes() - 1;
    let lost = barman_cloud::Segment::from_number(1, last - 1, SegmentSize::MIN);
    pair.new.stop();
    for file in [format!("{lost}"), format!("archive_status/{lost}.ready")] {
        std::fs::remove_file(pair.new.data.join("pg_wal").join(file)).expect("removes");
    }
    let group = pair.group();
    group.lead("pg-2", 2);
    // While the archive is away it is asked again, and nothing is given up.
    let away = pair.site.s3.faults().add(Rule::new(Action::access_denied()));
    let tail = group.tail(2, &mut held).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(tail.silent.len() == 1 && tail.hole.is_none() && !held.is_empty(), "{tail:?}");
    pair.site.s3.faults().remove(away);
    let tail = group.tail(2, &mut held).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let hole = tail.hole.expect("one is missing");
    assert_eq!((hole.first, hole.files), (lost, 1), "{tail:?}");
    pair.site.s3.faults().remove(paused);
}

/// An archive that knows the new primary keeps a former one out of those that do not.
#[tokio::test(flavor = "multi_thread")]
async fn one_archive_that_knows_protects_all() {
    let (knows, other) = (Site::new().await, Site::new().await);
    let cluster = Postgres::init(knows.path(), "cluster", 1);
    for policy in [Policy::All, Policy::Number(1)] {
        let member = |name: &str, site: &Site| {
            let config = howdah_engine::ArchiverConfig {
                pgdata: cluster.data.clone(),
                repository: site.repository("s"),
                compression: Compression::None,
                compression_level: None,
                max_parallel: 1,
                claimed_by: None,
            };
            Member::new(name, Ok(Archiver::new(config)))
        };
        let members = vec![member("repo1", &other), member("repo2", &knows)];
        let group = Group::new(members, policy, &cluster.data, &knows.path().join("catch-up"));
        group.lead("pg-1/a", 1);
        let ready = |number: u32| {
            let name = format!("0000000100000000{number:08X}");
            std::fs::write(cluster.data.join("pg_wal").join(&name), vec![number as u8; 1 << 20])
                .expect("a file");
            Path::new("pg_wal").join(name)
        };
        if policy == Policy::All {
            group.archive(&ready(0x20)).await.unwrap_or_else(|refused| panic!("{refused:?}"));
            let new = barman_cloud::lineage::Announcement {
                timeline: 2,
                begin_lsn: Some("0/2200000".parse().expect("an LSN")),
                primary: "pg-2/b".into(),
            };
            let id = knows.repository("s").lineage().await.expect("read").expect("there").system_identifier;
            knows
                .repository("s")
                .announce_timeline(&id, None, &new, chrono::Utc::now())
                .await
                .expect("announced");
            group.lead("pg-1/a", 1);
        }
        group.archive(&ready(0x21)).await.unwrap_or_else(|refused| panic!("it lies before: {refused:?}"));
        let refused = group.archive(&ready(0x22)).await.expect_err("it lies behind");
        assert_eq!((refused.len(), refused[0].0.as_str(), refused[0].1.code), (1, "repo2", 1), "{refused:?}");
        assert!(refused[0].1.error.contains("begun by pg-2 at 0/2200000"), "{refused:?}");
        let keys = other.keys().await;
        assert!(!keys.iter().any(|key| key.contains("000000010000000000000022")), "{keys:?}");
        let both = group.members().iter().filter_map(|member| member.archiver.as_ref().ok());
        assert!(both.into_iter().all(|archiver| archiver.stats().last_error.is_some()));
    }
}

/// Once claimed and announced, a segment costs what it cost before.
#[tokio::test(flavor = "multi_thread")]
async fn the_judgement_costs_no_request_for_each_segment() {
    let site = Site::new().await;
    let cluster = Postgres::init(site.path(), "cheap", 1);
    let archiver = site.archive_from(&cluster, "s", Compression::None, 1);
    archiver.lead("pg-1/a", 1);
    archiver.announce().await.unwrap_or_else(|error| panic!("{}", error.report()));
    site.s3.clear_requests();
    for number in 0x10..0x20u32 {
        let name = format!("0000000100000000{number:08X}");
        std::fs::write(cluster.data.join("pg_wal").join(&name), vec![1; 1 << 20]).expect("a file");
        archiver.archive(&Path::new("pg_wal").join(name)).await.unwrap_or_else(|e| panic!("{}", e.report()));
    }
    let requests = site.s3.requests();
    let other = requests.iter().filter(|r| r.key.contains("howdah/") || r.operation == Operation::GetObject);
    assert_eq!(other.count(), 0);
}

/// A name that is taken lets the primary ask at once whether it still is one.
#[tokio::test(flavor = "multi_thread")]
async fn other_content_under_a_name_makes_it_look() {
    use barman_cloud::archive::{ArchiveOptions, WalSource};
    let site = Site::new().await;
    let cluster = Postgres::init(site.path(), "clash", 1);
    let archiver = site.archive_from(&cluster, "s", Compression::None, 1);
    archiver.lead("pg-1/a", 1);
    archiver.announce().await.unwrap_or_else(|error| panic!("{}", error.report()));
    let (name, repository) = ("000000010000000000000021", site.repository("s"));
    let path = Path::new("pg_wal").join(name);
    std::fs::write(cluster.data.join(&path), vec![1; 1 << 20]).expect("a file");
    let foreign = WalSource::Bytes(vec![2; 1 << 20].into());
    let wal: WalName = name.parse().expect("a name");
    repository.archive_wal(wal, foreign, &ArchiveOptions::default()).await.expect("stored");
    // Nobody was promoted: the clash is what it is.
    let error = archiver.archive(&path).await.expect_err("other content");
    assert_eq!(error.kind(), ErrorKind::Store(barman_cloud::ErrorKind::AlreadyExists), "{}", error.report());
    let new = barman_cloud::lineage::Announcement {
        timeline: 2,
        begin_lsn: Some("0/2100000".parse().expect("an LSN")),
        primary: "pg-2/b".into(),
    };
    let id = repository.lineage().await.expect("read").expect("there").system_identifier;
    let now = chrono::Utc::now();
    repository.announce_timeline(&id, Some("a test"), &new, now).await.expect("announced");
    let error = archiver.archive(&path).await.expect_err("a former primary");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Lineage, 1), "{}", error.report());
    assert!(error.to_string().contains("begun by pg-2 at 0/2100000"), "{error}");
    // No request any more.
    site.s3.clear_requests();
    archiver.archive(&path).await.expect_err("still");
    assert!(site.s3.requests().is_empty());
}
