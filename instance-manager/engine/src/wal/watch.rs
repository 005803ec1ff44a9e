//! Whether this server may still write into an archive: see `barman_cloud::lineage`.
//!
//! The archive is asked at the first file, then at most every [`TRUST`], and at once when something is there under the
//! name of a file with other content. A primary that was told its name ([`Watch::lead`]) announces its timeline before
//! its first file, and again when it writes a higher one. A server that was found to be overtaken is refused without
//! another request until it leads anew.

use super::ancestry::{begin_of, local_history};
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::lineage::{Announcement, Reception, Standing};
use barman_cloud::{Repository, SegmentSize, TimelineHistory, WalName};
use chrono::Utc;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long what was seen is believed.
const TRUST: Duration = Duration::from_secs(30);
/// Others that may announce something while this server does.
const TRIES: usize = 4;

/// The server and the archive that it writes into.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// Its data directory.
    pub pgdata: &'a Path,
    /// The archive.
    pub repository: &'a Repository,
    /// Its system identifier.
    pub system_id: u64,
    /// Its segment size.
    pub segment_size: SegmentSize,
    /// Who claims the archive.
    pub claimed_by: Option<&'a str>,
}

/// What is known of this server's standing in one archive.
#[derive(Debug, Default)]
pub struct Watch {
    state: Mutex<State>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Name and timeline of this server as a primary.
    leader: Option<(String, u32)>,
    /// The way to that timeline, once it was read.
    way: Option<TimelineHistory>,
    /// The timeline that it announced.
    announced: Option<u32>,
    seen: Option<Standing>,
    at: Option<Instant>,
    /// When somebody last asked ahead of an upload.
    tried: Option<Instant>,
    /// What it is told once it was found to be overtaken, and what to do.
    stale: Option<(String, String)>,
}

impl State {
    fn stale(&self) -> Option<Error> {
        let (message, remedy) = self.stale.as_ref()?;
        Some(Error::new(ErrorKind::Lineage, message).with_remedy(remedy))
    }

    fn condemn(&mut self, error: &barman_cloud::Error) -> Error {
        tracing::error!("{}", error.report());
        self.stale = Some((error.to_string(), error.remedy().to_owned()));
        Error::new(ErrorKind::Lineage, error.to_string()).with_remedy(error.remedy())
    }

    /// The timeline that has to be announced before a file is sent.
    fn wanted(&self, name: WalName) -> Option<u32> {
        let (_, timeline) = self.leader.as_ref()?;
        let of_segment = if let WalName::Segment(segment) = name { segment.timeline } else { 0 };
        Some(of_segment.max(*timeline))
    }

    fn is_fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < TRUST)
    }

    /// What is known to be true of a file without asking; `None` when one must ask.
    fn judged(&mut self, name: WalName, size: SegmentSize) -> Option<Result<()>> {
        if let Some(error) = self.stale() {
            return Some(Err(error));
        }
        let announced = self.wanted(name).is_none_or(|wanted| self.announced >= Some(wanted));
        if !announced || !self.is_fresh() { None } else { self.judge(name, size) }
    }

    /// By what was seen last, however old it is.
    fn judge(&mut self, name: WalName, size: SegmentSize) -> Option<Result<()>> {
        let seen = self.seen.as_ref()?;
        if self.has_left(name, size) {
            let what = format!("{name} is of a timeline that this primary has left before it");
            return Some(Err(Error::new(ErrorKind::Lineage, what)));
        }
        match seen.refusal(name, size) {
            Some(error) => Some(Err(self.condemn(&error))),
            None => Some(Ok(())),
        }
    }

    /// Whether a segment is of an earlier timeline of this primary, and lies behind the point where its own way left that.
    fn has_left(&self, name: WalName, size: SegmentSize) -> bool {
        let (WalName::Segment(segment), Some(way)) = (name, &self.way) else { return false };
        segment.timeline < way.timeline()
            && way.switch_point(segment.timeline).is_none_or(|left| left <= segment.start(size))
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This server is the primary: `name` is its instance, or `<instance>/<uid of its pod>`. What was found before is
    /// found out anew.
    pub fn lead(&self, name: &str, timeline: u32) {
        let mut state = self.state();
        state.leader = Some((name.to_owned(), timeline));
        state.way = None;
        (state.announced, state.at, state.tried, state.stale) = (None, None, None, None);
    }

    /// It is no primary any more, and announces nothing.
    pub fn follow(&self) {
        let mut state = self.state();
        (state.leader, state.announced, state.way) = (None, None, None);
    }

    /// Whether a segment is no longer of any use to this primary, which has been one before and has gone another way since:
    /// PostgreSQL finds such a file among its own and wants it archived, but no recovery of this primary's timeline reads
    /// it. That says nothing against the primary, and the file is neither sent nor kept.
    pub fn has_left(&self, name: WalName, size: SegmentSize) -> bool {
        self.state().has_left(name, size)
    }

    fn learn_way(&self, pgdata: &Path) {
        let mut state = self.state();
        let Some((_, timeline)) = state.leader.as_ref().filter(|_| state.way.is_none()) else { return };
        // A timeline whose history cannot be read leaves nothing behind.
        let way = local_history(pgdata, *timeline).ok().flatten();
        state.way = way;
    }

    /// Why nothing is taken from this server any more.
    pub fn stale(&self) -> Option<Error> {
        self.state().stale()
    }

    /// What was seen may be wrong.
    pub fn distrust(&self) {
        self.state().at = None;
    }

    /// Whether a file may travel ahead of its request.
    pub fn allows(&self, name: WalName, size: SegmentSize) -> bool {
        self.known(name, size).is_some_and(|known| known.is_ok())
    }

    /// What is known of a file without asking.
    pub fn known(&self, name: WalName, size: SegmentSize) -> Option<Result<()>> {
        self.state().judged(name, size)
    }

    /// Whether to ask ahead of an upload: when that costs no request, or was not done for a while.
    pub fn is_due(&self) -> bool {
        let mut state = self.state();
        if state.is_fresh() {
            return true;
        }
        let due = state.tried.is_none_or(|tried| tried.elapsed() >= TRUST);
        if due {
            state.tried = Some(Instant::now());
        }
        due
    }

    /// Sees to it that the file may be sent: what was seen is not old, and the timeline is announced.
    pub async fn permit(&self, writer: &Writer<'_>, name: WalName) -> Result<()> {
        self.learn_way(writer.pgdata);
        if let Some(known) = self.known(name, writer.segment_size) {
            return known;
        }
        let _alone = self.asking.lock().await;
        let mut raced = None;
        for _ in 0..TRIES {
            if let Some(known) = self.known(name, writer.segment_size) {
                return known;
            }
            self.look(writer).await?;
            match self.introduce(writer, name).await? {
                Introduced::Yes => {
                    let judged = self.state().judge(name, writer.segment_size);
                    return judged.unwrap_or(Ok(()));
                }
                Introduced::Raced(error) => {
                    self.distrust();
                    raced = Some(error);
                }
            }
        }
        Err(raced.map_or_else(
            || Error::new(ErrorKind::Lineage, "the archive changes all the time"),
            Error::foreign,
        ))
    }

    /// Announces the timeline of a primary now.
    ///
    /// # Errors
    /// [`ErrorKind::Lineage`] also when a later one is announced, so that only what lies before that is still taken.
    pub async fn announce(&self, writer: &Writer<'_>) -> Result<()> {
        let Some(timeline) = self.state().leader.as_ref().map(|(_, timeline)| *timeline) else {
            return Ok(());
        };
        self.permit(writer, WalName::History(timeline)).await?;
        let own = self.announcement(writer.pgdata, timeline);
        let former = match (&self.state().seen, own) {
            (Some(seen), Some(own)) => match seen.received(&own) {
                Reception::Former(error) => Some(error),
                _ => None,
            },
            _ => None,
        };
        former.map_or(Ok(()), |error| Err(Error::foreign(error)))
    }

    async fn look(&self, writer: &Writer<'_>) -> Result<()> {
        let known = {
            let state = self.state();
            if state.is_fresh() {
                return Ok(());
            }
            state.seen.clone()
        };
        let seen = writer.repository.standing(known.as_ref()).await?;
        let mut state = self.state();
        (state.seen, state.at) = (Some(seen), Some(Instant::now()));
        Ok(())
    }

    fn announcement(&self, pgdata: &Path, timeline: u32) -> Option<Announcement> {
        let primary = self.state().leader.as_ref()?.0.clone();
        // Where it began is for people and for the time until the history is archived.
        let history = local_history(pgdata, timeline).ok().flatten();
        Some(Announcement { timeline, begin_lsn: history.map(|history| begin_of(&history)), primary })
    }

    /// Announces the timeline when that has to be done.
    async fn introduce(&self, writer: &Writer<'_>, name: WalName) -> Result<Introduced> {
        let wanted = self.state().wanted(name);
        let own = wanted.and_then(|timeline| self.announcement(writer.pgdata, timeline));
        let Some(own) = own else { return Ok(Introduced::Yes) };
        let reception = {
            let state = self.state();
            let Some(seen) = state.seen.as_ref() else { return Ok(Introduced::Yes) };
            let received = seen.received(&own);
            // The instance in a later pod has said the same meanwhile: no reason to contradict.
            let repeated = state.announced == Some(own.timeline) && seen.timeline() == Some(own.timeline);
            if repeated && matches!(received, Reception::New) { Reception::Known } else { received }
        };
        match reception {
            Reception::Known => {}
            Reception::New => {
                let (id, by) = (writer.system_id.to_string(), writer.claimed_by);
                match writer.repository.announce_timeline(&id, by, &own, Utc::now()).await {
                    Ok(lineage) => {
                        if let Some(seen) = &mut self.state().seen {
                            seen.lineage = Some(lineage);
                        }
                    }
                    Err(error) if error.kind() == barman_cloud::ErrorKind::AlreadyExists => {
                        return Ok(Introduced::Raced(error));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            // It may still hand in what lies before; each file is judged.
            Reception::Former(_) => return Ok(Introduced::Yes),
            Reception::Conflict(error) => return Err(self.state().condemn(&error)),
        }
        self.state().announced = Some(own.timeline);
        Ok(Introduced::Yes)
    }
}

enum Introduced {
    Yes,
    /// Something else was written meanwhile.
    Raced(barman_cloud::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::{Destination, Store};

    struct Server {
        data: tempfile::TempDir,
        repository: Repository,
    }

    impl Server {
        fn new(repository: &Repository) -> Self {
            let data = tempfile::tempdir().expect("a directory");
            std::fs::create_dir(data.path().join("pg_wal")).expect("a directory");
            Self { data, repository: repository.clone() }
        }

        fn promoted(repository: &Repository, timeline: u32, history: &str) -> Self {
            let server = Self::new(repository);
            let name = WalName::History(timeline).to_string();
            std::fs::write(server.data.path().join("pg_wal").join(name), history).expect("a file");
            server
        }

        fn writer(&self) -> Writer<'_> {
            Writer {
                pgdata: self.data.path(),
                repository: &self.repository,
                system_id: 42,
                segment_size: SegmentSize::DEFAULT,
                claimed_by: Some("ns/pg"),
            }
        }
    }

    fn archive() -> Repository {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        Repository::new(store, "srv").expect("valid")
    }

    fn name(text: &str) -> WalName {
        text.parse().expect("a name")
    }

    async fn record(repository: &Repository) -> (Option<u32>, Option<String>) {
        let lineage = repository.lineage().await.expect("read").expect("there");
        (lineage.timeline, lineage.primary)
    }

    /// It was the primary of timeline 1 and is that of timeline 3 now; what it once wrote behind the point where timeline 1
    /// was left says nothing against it.
    #[tokio::test]
    async fn a_primary_that_was_one_before_is_not_condemned_for_what_it_has_left() {
        let archive = archive();
        let way = "1\t0/5000000\tx\n2\t0/9000060\tx\n";
        let (server, watch) = (Server::promoted(&archive, 3, way), Watch::default());
        watch.lead("pg-1/a", 3);
        watch.announce(&server.writer()).await.expect("announced");
        let size = SegmentSize::DEFAULT;
        for (text, left, taken) in [
            ("000000010000000000000004", false, true),
            ("000000010000000000000005", true, false),
            ("000000010000000000000006", true, false),
            ("000000020000000000000009", false, true),
            ("00000002000000000000000A", true, false),
            ("000000030000000000000009", false, true),
        ] {
            assert_eq!(watch.permit(&server.writer(), name(text)).await.is_ok(), taken, "{text}");
            assert_eq!(
                (watch.has_left(name(text), size), watch.allows(name(text), size)),
                (left, taken),
                "{text}"
            );
            assert!(watch.stale().is_none(), "{text}");
        }
        // Somebody else leads, and it does not know yet: what it is told is what a former primary is told.
        let other = Server::promoted(&archive, 4, &format!("{way}3\t0/B000000\tx\n"));
        let new = Watch::default();
        new.lead("pg-2/b", 4);
        new.announce(&other.writer()).await.expect("announced");
        watch.distrust();
        watch.permit(&server.writer(), name("00000003000000000000000B")).await.expect_err("overtaken");
        assert!(watch.stale().is_some());
    }

    #[tokio::test]
    async fn a_former_primary_hands_in_what_lies_before_and_no_more() {
        let archive = archive();
        let (first, second) = (Server::new(&archive), Server::promoted(&archive, 2, "1\t0/5000060\tx\n"));
        let (old, new) = (Watch::default(), Watch::default());
        old.lead("pg-1/a", 1);
        old.permit(&first.writer(), name("000000010000000000000003")).await.expect("the primary");
        assert_eq!(record(&archive).await, (Some(1), Some("pg-1/a".into())));
        new.lead("pg-2/b", 2);
        new.announce(&second.writer()).await.expect("announced");
        assert_eq!(record(&archive).await, (Some(2), Some("pg-2/b".into())));

        // What it saw is believed for a while.
        old.permit(&first.writer(), name("000000010000000000000006")).await.expect("not seen yet");
        old.distrust();
        old.permit(&first.writer(), name("000000010000000000000004")).await.expect("it lies before");
        assert!(old.stale().is_none());
        let error = old.permit(&first.writer(), name("000000010000000000000006")).await.expect_err("behind");
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Lineage, 1));
        let words = "the archive is on timeline 2, begun by pg-2 at 0/5000060; this server is still on timeline 1: it is \
                     a former primary and must follow; nothing is archived";
        assert!(error.to_string().contains(words), "{error}");
        // It is remembered, whatever is asked, and nothing travels ahead.
        let again = old.permit(&first.writer(), name("000000010000000000000004")).await.expect_err("stale");
        assert_eq!(again.to_string(), error.to_string());
        assert!(!old.allows(name("000000010000000000000007"), SegmentSize::DEFAULT));
        // Leading anew it is asked anew, and gets the same answer.
        old.lead("pg-1/a", 1);
        assert!(old.announce(&first.writer()).await.expect_err("former").to_string().contains(words));
        old.permit(&first.writer(), name("000000010000000000000004")).await.expect("it lies before");
        old.permit(&first.writer(), name("000000010000000000000006")).await.expect_err("behind");
        assert_eq!(record(&archive).await, (Some(2), Some("pg-2/b".into())));

        // The new one goes on, with what comes from the old timeline too.
        for wal in ["00000002.history", "000000010000000000000004", "000000020000000000000005"] {
            new.permit(&second.writer(), name(wal)).await.expect("the primary");
        }
    }

    #[tokio::test]
    async fn a_higher_timeline_is_announced_before_its_first_file() {
        let archive = archive();
        let server = Server::promoted(&archive, 3, "1\t0/5000060\tx\n2\t0/9000000\tx\n");
        let watch = Watch::default();
        watch.lead("pg-2/b", 2);
        watch.permit(&server.writer(), name("000000020000000000000008")).await.expect("the primary");
        watch.permit(&server.writer(), name("000000030000000000000009")).await.expect("promoted again");
        let lineage = archive.lineage().await.expect("read").expect("there");
        assert_eq!((lineage.timeline, lineage.begin_lsn), (Some(3), "0/9000000".parse().ok()));
    }

    #[tokio::test]
    async fn two_promoted_to_one_timeline_are_told_apart() {
        let archive = archive();
        let history = "1\t0/5000060\tx\n";
        let (one, two) = (Server::promoted(&archive, 2, history), Server::promoted(&archive, 2, history));
        let (first, second) = (Watch::default(), Watch::default());
        first.lead("pg-2/b", 2);
        second.lead("pg-3/c", 2);
        first.announce(&one.writer()).await.expect("the first");
        let error = second.announce(&two.writer()).await.expect_err("the second");
        assert!(error.to_string().contains("two servers have taken writes"), "{error}");
        // Its history would take the name of the other's.
        second.permit(&two.writer(), name("00000002.history")).await.expect_err("refused");
        first.permit(&one.writer(), name("00000002.history")).await.expect("taken");
    }

    #[tokio::test]
    async fn a_record_that_was_lost_or_lowered_is_written_again() {
        let archive = archive();
        let server = Server::promoted(&archive, 2, "1\t0/5000060\tx\n");
        let watch = Watch::default();
        watch.lead("pg-2/b", 2);
        watch.announce(&server.writer()).await.expect("announced");
        let key = archive.layout().lineage();
        archive.store().delete(&key).await.expect("deleted");
        watch.distrust();
        watch.permit(&server.writer(), name("000000020000000000000005")).await.expect("the primary");
        assert_eq!(record(&archive).await, (Some(2), Some("pg-2/b".into())));
        // The same instance in a later pod is not contradicted.
        let later = Watch::default();
        later.lead("pg-2/c", 2);
        later.announce(&server.writer()).await.expect("announced");
        watch.distrust();
        watch.permit(&server.writer(), name("000000020000000000000006")).await.expect("nobody's harm");
        assert_eq!(record(&archive).await, (Some(2), Some("pg-2/c".into())));
    }

    /// Who was not told its name announces nothing, and is judged all the same.
    #[tokio::test]
    async fn a_server_without_a_name_is_judged_too() {
        let archive = archive();
        let server = Server::new(&archive);
        let watch = Watch::default();
        watch.permit(&server.writer(), name("000000010000000000000006")).await.expect("nobody's archive");
        assert_eq!(archive.lineage().await.expect("read"), None);
        watch.announce(&server.writer()).await.expect("nothing to say");
        let options = barman_cloud::archive::ArchiveOptions::default();
        let text = barman_cloud::archive::WalSource::Bytes("1\t0/5000060\tx\n".into());
        archive.archive_wal(name("00000002.history"), text, &options).await.expect("stored");
        watch.distrust();
        let error = watch.permit(&server.writer(), name("000000010000000000000006")).await.expect_err("left");
        assert!(error.to_string().contains("on timeline 2, begun at 0/5000060; this server"), "{error}");
    }
}
