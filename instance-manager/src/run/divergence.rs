//! Whether a running replica can still follow, read from PostgreSQL's own log lines: pure.
//!
//! PostgreSQL itself never gives up: a replica that went another way than its primary, or whose WAL is nowhere any more,
//! complains every few seconds for ever. The same complaint, again and again and without any progress in between, is
//! the sign. One that passes by itself stops before that: a primary that is just being promoted, an archive that is late.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a complaint must have been seen.
const TIMES: u32 = 3;
/// For how long, from the first to the last.
const LASTING: Duration = Duration::from_secs(20);
/// After this time without it a complaint is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Names of files that the archive did not have, kept at most.
const ABSENT: usize = 32;

/// What is to be thought of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, so far.
    Fine,
    /// It went another way than its primary: [`super::rejoin::rejoin`] brings it back.
    Diverged(String),
    /// The primary no longer has the WAL that it needs; the archive may.
    Missing(String),
    /// The archive does not have it either: only a new copy helps ([`super::rejoin::join_anew`]).
    Gone(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Diverged,
    Missing,
}

/// What one log line says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Complaint(Kind, String),
    /// The server ends because of it: it will not be said again.
    Last(String),
    /// The archive does not have this file (`true`), or has it, or did not answer.
    Archive(String, bool),
}

#[derive(Clone, Debug)]
struct Complaint {
    kind: Kind,
    words: String,
    first: Instant,
    last: Instant,
    times: u32,
}

/// The complaints of a replica, as they pass by.
#[derive(Clone, Debug, Default)]
pub struct ReplicaLog {
    complaint: Option<Complaint>,
    replayed: u64,
    last_words: Option<String>,
    /// What the archive did not have, and when it said so last.
    absent: VecDeque<(String, Instant)>,
}

impl ReplicaLog {
    /// Takes one line of the server's log.
    pub fn take(&mut self, line: &str, now: Instant) {
        match said(line) {
            Some(Said::Complaint(kind, words)) => self.complain(kind, words, now),
            Some(Said::Last(words)) => self.last_words = Some(words),
            Some(Said::Archive(name, absent)) => {
                self.absent.retain(|(other, _)| *other != name);
                if absent {
                    self.absent.truncate(ABSENT - 1);
                    self.absent.push_front((name, now));
                }
            }
            None => {}
        }
    }

    fn complain(&mut self, kind: Kind, words: String, now: Instant) {
        let known = self.complaint.as_mut();
        match known.filter(|c| c.kind == kind && now.saturating_duration_since(c.last) < FORGOTTEN) {
            Some(complaint) => {
                complaint.times += 1;
                complaint.last = now;
                complaint.words = words;
            }
            None => self.complaint = Some(Complaint { kind, words, first: now, last: now, times: 1 }),
        }
    }

    /// Takes the position up to which the replica has replayed. When it moved on, what was complained of has passed. Lines
    /// cannot tell: a replica that can never follow begins to stream, too, before it finds out.
    pub fn replayed(&mut self, position: u64) {
        if position > self.replayed {
            self.replayed = position;
            self.complaint = None;
        }
    }

    /// What is to be thought of a server that runs.
    #[must_use]
    pub fn verdict(&self, now: Instant) -> Verdict {
        let Some(complaint) = &self.complaint else { return Verdict::Fine };
        let lasted = complaint.last.saturating_duration_since(complaint.first);
        let stale = now.saturating_duration_since(complaint.last) >= FORGOTTEN;
        if complaint.times < TIMES || lasted < LASTING || stale {
            return Verdict::Fine;
        }
        let words = complaint.words.clone();
        match complaint.kind {
            Kind::Diverged => Verdict::Diverged(words),
            // What it said before is no answer: the file may have come since.
            Kind::Missing
                if self.absent.iter().any(|(name, at)| *at >= complaint.first && words.contains(name)) =>
            {
                Verdict::Gone(words)
            }
            Kind::Missing => Verdict::Missing(words),
        }
    }

    /// What is to be thought of a replica whose server has ended by itself.
    #[must_use]
    pub fn at_end(&self) -> Verdict {
        self.last_words.clone().map_or(Verdict::Fine, Verdict::Diverged)
    }
}

/// From `marker` to the end of the line.
fn from<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    line.find(marker).map(|at| line[at..].trim())
}

fn said(line: &str) -> Option<Said> {
    // A client of this server may complain in the same words; its lines name a user.
    if line.contains("[user=") {
        return None;
    }
    if line.contains("wal-restore ") {
        let (_, after) = line.split_once("wal-restore ")?;
        let (name, answer) = after.split_once(": ")?;
        let absent = answer.contains("is not in the archive") || answer.contains("no archive is configured");
        return Some(Said::Archive(name.trim().to_owned(), absent));
    }
    let complaint = |kind, words: &str| Some(Said::Complaint(kind, words.to_owned()));
    if let Some(words) = from(line, "requested WAL segment ")
        && words.contains("has already been removed")
    {
        return complaint(Kind::Missing, words);
    }
    if let Some(words) = from(line, "requested starting point ")
        && (words.contains("is ahead of the WAL flush position of this server")
            || words.contains("is not in this server's history"))
    {
        return complaint(Kind::Diverged, words);
    }
    if let Some(words) = from(line, "new timeline ")
        && (words.contains("forked off current database system timeline")
            || words.contains("is not a child of database system timeline"))
    {
        return complaint(Kind::Diverged, words);
    }
    let last = [
        ("requested timeline ", "is not a child of this server's history"),
        ("requested timeline ", "does not contain minimum recovery point"),
        ("could not locate required checkpoint record", ""),
        ("could not locate a valid checkpoint record", ""),
        // A page that the WAL changes is not there: the data directory is not what was copied.
        ("WAL contains references to invalid pages", ""),
    ];
    last.into_iter().find_map(|(begin, rest)| {
        let words = from(line, begin).filter(|words| words.contains(rest))?;
        Some(Said::Last(words.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: &str = "2026-11-21 10:00:00 UTC [9] FATAL:  could not receive data from WAL stream: ERROR:  requested starting point 0/5000000 is ahead of the WAL flush position of this server 0/4000148";
    const FORKED: &str = "2026-11-21 10:00:00 UTC [9] LOG:  new timeline 2 forked off current database system timeline 1 before current recovery point 0/4000148";
    const REMOVED: &str = "2026-11-21 10:00:00 UTC [9] FATAL:  could not receive data from WAL stream: ERROR:  requested WAL segment 000000010000000000000003 has already been removed";
    const HISTORY: &str = "2026-11-21 10:00:00 UTC [9] FATAL:  could not start WAL streaming: ERROR:  requested starting point 0/5000000 on timeline 1 is not in this server's history";
    const STREAMING: &str =
        "2026-11-21 10:00:00 UTC [9] LOG:  started streaming WAL from primary at 0/3000000 on timeline 1";

    fn seconds(since: Instant, count: u64) -> Instant {
        since + Duration::from_secs(count)
    }

    /// Lines every five seconds; the verdict after the last one.
    fn after(lines: &[&str], times: u64) -> Verdict {
        let (mut log, begin) = (ReplicaLog::default(), Instant::now());
        for time in 0..times {
            lines.iter().for_each(|line| log.take(line, seconds(begin, 5 * time)));
        }
        log.verdict(seconds(begin, 5 * times))
    }

    #[rstest::rstest]
    #[case(AHEAD, "requested starting point 0/5000000 is ahead")]
    #[case(FORKED, "new timeline 2 forked off")]
    #[case(HISTORY, "requested starting point 0/5000000 on timeline 1")]
    fn the_same_again_and_again_is_divergence(#[case] line: &str, #[case] words: &str) {
        assert_eq!(after(&[line], 4), Verdict::Fine, "not long enough");
        let Verdict::Diverged(said) = after(&[STREAMING, line], 5) else { panic!("{line}") };
        assert!(said.starts_with(words), "{said}");
    }

    #[test]
    fn many_complaints_at_once_say_nothing_yet() {
        let (mut log, now) = (ReplicaLog::default(), Instant::now());
        (0..9).for_each(|_| log.take(AHEAD, now));
        assert_eq!(log.verdict(now), Verdict::Fine);
    }

    #[rstest::rstest]
    #[case(
        "2026-11-21 10:00:00 UTC [9] FATAL:  highest timeline 1 of the primary is behind recovery timeline 2"
    )]
    #[case("2026-11-21 10:00:00 UTC [9] FATAL:  could not connect to the primary server: refused")]
    #[case(
        "2026-11-21 10:00:00 UTC [9] [user=app,db=app,app=psql] ERROR:  requested WAL segment 000000010000000000000003 has already been removed"
    )]
    fn what_passes_or_is_somebody_elses(#[case] line: &str) {
        assert_eq!(after(&[line], 20), Verdict::Fine);
    }

    #[test]
    fn progress_clears_it() {
        let (mut log, begin) = (ReplicaLog::default(), Instant::now());
        log.replayed(100);
        for time in 0..9 {
            log.take(REMOVED, seconds(begin, 5 * time));
            log.replayed(100 + time / 2);
        }
        assert_eq!(log.verdict(seconds(begin, 45)), Verdict::Fine);
        for time in 9..18 {
            log.take(REMOVED, seconds(begin, 5 * time));
            log.replayed(104);
        }
        assert!(matches!(log.verdict(seconds(begin, 90)), Verdict::Missing(_)));
    }

    #[test]
    fn what_was_not_said_for_a_minute_is_over() {
        let (mut log, begin) = (ReplicaLog::default(), Instant::now());
        (0..5).for_each(|time| log.take(AHEAD, seconds(begin, 5 * time)));
        assert!(matches!(log.verdict(seconds(begin, 79)), Verdict::Diverged(_)));
        assert_eq!(log.verdict(seconds(begin, 80)), Verdict::Fine);
        log.take(AHEAD, seconds(begin, 90));
        assert_eq!(log.verdict(seconds(begin, 90)), Verdict::Fine, "it begins anew");
    }

    #[test]
    fn wal_that_the_primary_removed() {
        assert!(matches!(after(&[REMOVED], 5), Verdict::Missing(_)));
        let other = "instance-manager: wal-restore 00000002.history: 00000002.history is not in the archive";
        assert!(matches!(after(&[other, REMOVED], 5), Verdict::Missing(_)));
        for answer in ["000000010000000000000003 is not in the archive", "no archive is configured"] {
            let line = format!("instance-manager: wal-restore 000000010000000000000003: {answer}");
            assert!(matches!(after(&[&line, REMOVED], 5), Verdict::Gone(_)), "{answer}");
        }
        let (mut log, begin) = (ReplicaLog::default(), Instant::now());
        let absent = "instance-manager: wal-restore 000000010000000000000003: it is not in the archive";
        log.take(absent, begin);
        (1..9).for_each(|time| log.take(REMOVED, seconds(begin, 5 * time)));
        assert!(matches!(log.verdict(seconds(begin, 45)), Verdict::Missing(_)), "an old answer");
        let away = "instance-manager: wal-restore 000000010000000000000003: the archive does not answer";
        assert!(matches!(after(&[away, REMOVED], 5), Verdict::Missing(_)));
    }

    #[test]
    fn what_ends_the_server_is_said_once() {
        let mut log = ReplicaLog::default();
        assert_eq!(log.at_end(), Verdict::Fine);
        let line = "2026-11-21 10:00:00 UTC [9] FATAL:  requested timeline 3 is not a child of this server's history";
        log.take(line, Instant::now());
        assert_eq!(
            log.at_end(),
            Verdict::Diverged("requested timeline 3 is not a child of this server's history".into())
        );
        assert_eq!(log.verdict(Instant::now()), Verdict::Fine);
    }
}
