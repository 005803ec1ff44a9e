//! WAL in several repositories, acknowledged by some of them.

use crate::site::{BUCKET, Site};
use barman_cloud::archive::FetchOptions;
use barman_cloud::{Compression, SegmentRange, SegmentSize, WalName};
use howdah_engine::{Archiver, ArchiverConfig, Group, Lag, Member, Policy, Refused};
use howdah_s3::{Action, Operation, Rule, RuleId};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SEGMENT: usize = 1 << 20;

/// A stopped cluster with 1 MiB segments, made-up files in its queue, and an S3 server for each repository.
struct Place {
    sites: Vec<Site>,
    data: PathBuf,
}

impl Place {
    async fn new(repositories: usize) -> Self {
        let mut sites = Vec::new();
        for _ in 0..repositories {
            sites.push(Site::new().await);
        }
        let cluster = crate::postgres::Postgres::init(sites[0].path(), "several", 1);
        Self { data: cluster.data.clone(), sites }
    }

    /// The service of one process. Every repository has another codec.
    fn group(&self, policy: Policy) -> Group {
        let codecs = [Compression::Zstd, Compression::Gzip, Compression::None];
        let member = |(at, site): (usize, &Site)| {
            let config = ArchiverConfig {
                pgdata: self.data.clone(),
                repository: site.repository("s"),
                compression: codecs[at],
                compression_level: None,
                max_parallel: 2,
                claimed_by: None,
            };
            Member::new(format!("repo{}", at + 1), Ok(Archiver::new(config)))
        };
        let members = self.sites.iter().enumerate().map(member).collect();
        let group = Group::new(members, policy, &self.data, &self.sites[0].path().join("catch-up"));
        group.start();
        group
    }

    fn wal(&self, name: &str) -> PathBuf {
        self.data.join("pg_wal").join(name)
    }

    fn mark(&self, name: &str, state: &str) -> PathBuf {
        self.data.join(format!("pg_wal/archive_status/{name}.{state}"))
    }

    /// PostgreSQL completes a file.
    fn ready(&self, name: &str, content: &[u8]) {
        std::fs::write(self.wal(name), content).expect("a file");
        std::fs::write(self.mark(name, "ready"), "").expect("a mark");
    }

    /// PostgreSQL completes a segment and archives it.
    async fn segment(&self, group: &Group, number: u32) {
        self.ready(&name(number), &content(number));
        self.archived(group, &name(number)).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    }

    async fn archived(&self, group: &Group, name: &str) -> Result<(), Refused> {
        group.archive(&Path::new("pg_wal").join(name)).await?;
        std::fs::rename(self.mark(name, "ready"), self.mark(name, "done")).expect("renames");
        Ok(())
    }

    /// PostgreSQL uses the file for a later segment.
    fn recycle(&self, number: u32) {
        let later = self.wal(&name(number + 0x80));
        std::fs::rename(self.wal(&name(number)), &later).expect("renames");
        std::fs::write(later, vec![0xEE; SEGMENT]).expect("overwrites");
        std::fs::remove_file(self.mark(&name(number), "done")).expect("removes");
    }

    async fn stored(&self, at: usize) -> Vec<String> {
        let keys = self.sites[at].keys().await;
        let file = |key: &String| key.rsplit('/').next().map(str::to_owned);
        keys.iter().filter(|key| key.contains("/wals/")).filter_map(file).collect()
    }

    async fn has(&self, at: usize, name: &str) -> bool {
        self.stored(at)
            .await
            .iter()
            .any(|file| file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }

    /// The segment as a recovery would get it.
    async fn fetched(&self, at: usize, number: u32) -> Vec<u8> {
        let dest = self.sites[0].path().join("fetched");
        let wal: WalName = name(number).parse().expect("a name");
        let repository = self.sites[at].repository("s");
        repository.fetch_wal(wal, &dest, &FetchOptions::default()).await.unwrap_or_else(|error| {
            panic!("{}", error.report());
        });
        std::fs::read(dest).expect("a file")
    }

    async fn notes(&self, at: usize) -> Vec<(String, String)> {
        let notes = self.sites[at].repository("s").arrears().await.expect("readable");
        notes.into_iter().map(|note| (note.repository, note.since.to_string())).collect()
    }

    fn refuse(&self, at: usize, key: &str) -> RuleId {
        self.sites[at].s3.faults().add(Rule::new(Action::access_denied()).key(key))
    }
}

fn name(number: u32) -> String {
    format!("0000000100000000{number:08X}")
}

fn content(number: u32) -> Vec<u8> {
    vec![number as u8; SEGMENT]
}

fn lag(group: &Group, name: &str) -> Lag {
    group.lag(name).expect("a member")
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn caught_up(group: &Group, name: &str) {
    until("it has caught up", || async { lag(group, name) == Lag::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_enough_and_the_other_gets_the_rest_from_pg_wal() {
    let place = Place::new(2).await;
    let group = place.group(Policy::Number(1));
    place.segment(&group, 1).await;
    until("both have it", || async { place.has(0, &name(1)).await && place.has(1, &name(1)).await }).await;
    caught_up(&group, "repo2").await;
    let size = SegmentSize::MIN;

    place.refuse(1, "**");
    for number in 2..5 {
        place.segment(&group, number).await;
    }
    let history = b"1\t0/700000\tno recovery target specified\n";
    place.ready("00000002.history", history);
    place.archived(&group, "00000002.history").await.expect("archived");
    until("it is known what is missing", || async { lag(&group, "repo2").files == 4 }).await;
    let behind = lag(&group, "repo2");
    assert_eq!((behind.late, behind.bytes), (true, 4 << 20));
    assert_eq!((behind.oldest, lag(&group, "repo1")), (Some(name(2)), Lag::default()));
    assert!(behind.since.is_some());
    // Whoever takes over learns it from the repository that has everything.
    let notes = place.notes(0).await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].0 == "repo2" && notes[0].1 <= name(2), "{notes:?}");
    let range = || SegmentRange::new(seg(1), seg(4), size).expect("a range");
    assert_eq!(place.sites[0].repository("s").missing_wal(range()).await.expect("listed"), []);

    place.sites[0].s3.clear_requests();
    place.sites[1].s3.faults().clear();
    caught_up(&group, "repo2").await;
    assert_eq!(place.sites[1].repository("s").missing_wal(range()).await.expect("listed"), []);
    assert!(place.has(1, "00000002.history").await);
    for number in 2..5 {
        assert_eq!(place.fetched(1, number).await, content(number));
    }
    let read = |key: &str| key.contains("/wals/00000001") && !key.ends_with('/');
    let from_the_other = place.sites[0]
        .s3
        .requests()
        .iter()
        .filter(|r| r.operation == Operation::GetObject && read(&r.key))
        .count();
    assert_eq!(from_the_other, 0, "pg_wal has everything");

    // New files go to both again.
    place.segment(&group, 5).await;
    let wanted = name(5);
    until("both have it", || place.has(1, &wanted)).await;
}

fn seg(number: u32) -> barman_cloud::Segment {
    name(number).parse().expect("a segment")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pg_wal_no_longer_has_comes_from_the_other_repository_after_a_restart() {
    let place = Place::new(2).await;
    let group = place.group(Policy::Number(1));
    place.refuse(1, "**");
    for number in 1..6 {
        place.segment(&group, number).await;
    }
    for number in 1..5 {
        place.recycle(number);
    }
    drop(group);
    // Another process, perhaps on another machine: it knows the stores alone, and one of them is still away.
    let group = place.group(Policy::All);
    until("the debt is known", || async { lag(&group, "repo2").files == 5 }).await;
    assert_eq!(lag(&group, "repo2").oldest, Some(name(1)));
    assert_eq!(group.wanted_from("repo1"), Some(seg(1)), "retention leaves it alone");
    assert_eq!(group.wanted_from("repo2"), None);
    place.sites[1].s3.faults().clear();
    caught_up(&group, "repo2").await;
    for number in 1..6 {
        assert_eq!(place.fetched(1, number).await, content(number));
    }
    let files = place.stored(1).await;
    assert!(files.iter().all(|file| file.ends_with(".gz")), "in the codec of the repository: {files:?}");
    until("nothing is noted any more", || async { place.notes(0).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_while_it_catches_up_is_followed_by_another() {
    let place = Place::new(2).await;
    let group = place.group(Policy::Number(1));
    let away = place.refuse(1, "**");
    for number in 1..8 {
        place.segment(&group, number).await;
        place.recycle(number);
    }
    // From the fourth on nothing is taken yet.
    let faults = place.sites[1].s3.faults();
    for number in 4..8 {
        let key = format!("**/{}*", name(number));
        faults.add(Rule::new(Action::internal_error()).operation(Operation::PutObject).key(&key));
    }
    faults.remove(away);
    let wanted = name(3);
    until("it has begun", || place.has(1, &wanted)).await;
    assert!(lag(&group, "repo2").late);
    drop(group);
    place.sites[1].s3.faults().clear();
    let group = place.group(Policy::Number(1));
    until("the rest arrives", || async { place.stored(1).await.len() == 7 }).await;
    caught_up(&group, "repo2").await;
    for number in 1..8 {
        assert_eq!(place.fetched(1, number).await, content(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_means_all() {
    let place = Place::new(2).await;
    let group = place.group(Policy::All);
    place.segment(&group, 1).await;
    assert!(place.has(0, &name(1)).await && place.has(1, &name(1)).await);
    place.refuse(1, "**");
    place.ready(&name(2), &content(2));
    let refused = place.archived(&group, &name(2)).await.expect_err("one does not have it");
    assert_eq!(refused.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["repo2"]);
    assert!(place.has(0, &name(2)).await && !place.has(1, &name(2)).await);
    assert_eq!((lag(&group, "repo2"), place.notes(0).await), (Lag::default(), Vec::new()));
    place.sites[1].s3.faults().clear();
    place.archived(&group, &name(2)).await.expect("both have it");
    assert!(place.has(1, &name(2)).await);
}

/// What one repository has of WAL that was let go of, the others get from it; what none has stays a gap, with its record.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_go_of_comes_from_the_repository_that_has_it() {
    let place = Place::new(2).await;
    let group = place.group(Policy::All);
    place.segment(&group, 1).await;
    place.refuse(1, "**");
    place.ready(&name(2), &content(2));
    place.archived(&group, &name(2)).await.expect_err("one does not have it");
    place.ready(&name(3), &content(3));
    let gone = howdah_engine::wal::let_go(&place.data, &[seg(2), seg(3)]).expect("renamed");
    assert_eq!(gone, [seg(2), seg(3)]);
    group.let_go(seg(2));
    for number in [2, 3] {
        place.recycle(number);
    }
    let dropped = barman_cloud::dropped::Dropped {
        first: seg(2),
        last: seg(3),
        segments: 2,
        since: chrono::DateTime::UNIX_EPOCH,
        until: chrono::DateTime::UNIX_EPOCH,
        by: "pg-1".into(),
        reason: "the volume was nearly full".into(),
    };
    group.tell_dropped("repo1", &dropped).await.expect("written");
    group.tell_dropped("repo2", &dropped).await.expect_err("it is away");
    assert_eq!(place.notes(0).await, [("repo2".to_owned(), name(2))]);
    drop(group);
    // Another process.
    let group = place.group(Policy::All);
    place.sites[1].s3.faults().clear();
    let wanted = name(2);
    until("the other has it too", || place.has(1, &wanted)).await;
    assert_eq!(place.fetched(1, 2).await, content(2));
    until("nothing is noted any more", || async { place.notes(0).await.is_empty() }).await;
    group.tell_dropped("repo2", &dropped).await.expect("written");
    assert_eq!(place.sites[1].repository("s").dropped().await.expect("read"), [dropped]);
    assert!(!place.has(0, &name(3)).await && !place.has(1, &name(3)).await);
    place.segment(&group, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_need_two_and_one_that_is_late_is_asked_when_it_must_be() {
    let place = Place::new(3).await;
    let group = place.group(Policy::Number(2));
    place.refuse(2, "**");
    place.segment(&group, 1).await;
    assert!(place.has(0, &name(1)).await && place.has(1, &name(1)).await);
    until("the third is late", || async { lag(&group, "repo3").late }).await;
    for at in 0..2 {
        assert_eq!(place.notes(at).await, [("repo3".to_owned(), name(1))]);
    }
    place.refuse(1, "**/wals/**");
    place.ready(&name(2), &content(2));
    let refused = place.archived(&group, &name(2)).await.expect_err("one is not enough");
    let mut names: Vec<_> = refused.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["repo2", "repo3"]);
    place.sites[2].s3.faults().clear();
    place.archived(&group, &name(2)).await.expect("the first and the third");
    caught_up(&group, "repo3").await;
    assert!(place.has(2, &name(1)).await && place.has(2, &name(2)).await);
    place.sites[1].s3.faults().clear();
    caught_up(&group, "repo2").await;
    assert!(place.has(1, &name(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_word_about_the_other_nothing_is_acknowledged() {
    let place = Place::new(2).await;
    let group = place.group(Policy::Number(1));
    place.refuse(0, "**/howdah/arrears/*");
    place.refuse(1, "**");
    place.ready(&name(1), &content(1));
    let refused = place.archived(&group, &name(1)).await.expect_err("it could not be noted");
    assert!(format!("{refused:?}").contains("what others lack could not be noted"), "{refused:?}");
    place.sites[0].s3.faults().clear();
    place.archived(&group, &name(1)).await.expect("it is noted now");
    assert_eq!(place.notes(0).await, [("repo2".to_owned(), name(1))]);
}

/// An outage as it is: no answer at all, for longer than WAL stays in `pg_wal`, and a store that throttles afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_holds_nothing_up_and_leaves_no_hole() {
    let place = Place::new(2).await;
    let group = place.group(Policy::Number(1));
    place.segment(&group, 1).await;
    let wanted = name(1);
    until("both have it", || place.has(1, &wanted)).await;
    place.sites[1].s3.faults().begin_outage().await;
    for number in 2..32 {
        place.segment(&group, number).await;
        if number > 4 {
            place.recycle(number - 3);
        }
    }
    until("it is late", || async { lag(&group, "repo2").late }).await;
    assert_eq!(lag(&group, "repo2").files, 30);
    let faults = place.sites[1].s3.faults();
    faults.add(Rule::new(Action::slow_down()).operation(Operation::PutObject).times(5));
    faults.add(Rule::new(Action::LoseWrite).operation(Operation::PutObject).skip(3).times(2));
    faults.end_outage().await;
    caught_up(&group, "repo2").await;
    for number in 1..32 {
        assert_eq!(place.fetched(1, number).await, content(number), "segment {number}");
    }
}

/// A later segment may be there before an earlier one; the earlier one stays a hole that everybody sees.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_stays_a_hole_until_it_can() {
    let place = Place::new(2).await;
    let group = place.group(Policy::Number(1));
    place.segment(&group, 1).await;
    let wanted = name(1);
    until("both have it", || place.has(1, &wanted)).await;
    place.refuse(1, "**");
    for number in 2..6 {
        place.segment(&group, number).await;
        place.recycle(number);
    }
    let source = place.sites[0].s3.faults();
    source.add(
        Rule::new(Action::CorruptBody { offset: 10 })
            .operation(Operation::GetObject)
            .key(&format!("**/{}*", name(3))),
    );
    place.sites[1].s3.faults().clear();
    let wanted = name(5);
    until("what comes behind is there", || place.has(1, &wanted)).await;
    let range = SegmentRange::new(seg(1), seg(5), SegmentSize::MIN).expect("a range");
    let missing = place.sites[1].repository("s").missing_wal(range).await.expect("listed");
    assert_eq!(missing, [seg(3)]);
    let survey = place.sites[1].repository("s").survey_wal(SegmentSize::MIN, Default::default()).await;
    assert_eq!(survey.expect("listed").first_missing(seg(1), seg(5)), Some(seg(3)));
    let behind = lag(&group, "repo2");
    assert!(behind.late && behind.files >= 1, "{behind:?}");
    source.clear();
    caught_up(&group, "repo2").await;
    assert_eq!(place.fetched(1, 3).await, content(3));
    let key = format!("some/path/s/wals/0000000100000000/{}.zst", name(3));
    assert!(place.sites[0].s3.get(BUCKET, &key).await.is_ok());
}
