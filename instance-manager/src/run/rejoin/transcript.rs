//! What `pg_rewind` said, and what follows from it: pure. Its words are the same in PostgreSQL 13 to 18.

/// Lines of a failure that are kept.
const KEPT: usize = 4;

/// What follows from a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The directory is the new primary's up to where its WAL takes over.
    Rewound {
        /// Position and timeline where the servers went different ways.
        diverged_at: Option<String>,
    },
    /// Nothing was changed, and nothing had to be.
    NothingToDo,
    /// Nothing was changed; it may work soon.
    Later(String),
    /// Nothing was changed: WAL is missing here, and the archive, which may have it, did not answer.
    ArchiveAway(String),
    /// Nothing was changed, and a person is needed.
    Person(String),
    /// It cannot be mended in this way: only a new copy helps.
    CopyAnew(String),
}

/// The lines of one run, as they pass by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    diverged_at: Option<String>,
    nothing_to_do: bool,
    /// From here on the directory is changed.
    touched: bool,
    archive_away: bool,
    errors: Vec<String>,
}

/// Failures of the connection to the source.
const SOURCE_AWAY: [&str; 12] = [
    "connection to server",
    "could not connect",
    "could not translate host name",
    "could not receive data from server",
    "could not send data to server",
    "server closed the connection",
    "no connection to the server",
    "SSL connection has been closed",
    "SSL SYSCALL error",
    "the database system is",
    "terminating connection",
    "must not be in recovery",
];

impl Transcript {
    /// Takes one line.
    pub fn take(&mut self, line: &str) {
        if let Some((_, at)) = line.split_once("servers diverged at WAL location ") {
            self.diverged_at = Some(at.trim().to_owned());
        }
        self.nothing_to_do |= line.contains("no rewind required");
        // The last line before the first change; it comes with --progress.
        self.touched |= line.contains("need to copy ") && line.contains(" MB");
        if line.contains("wal-restore ") {
            // "Not there" is an answer; no answer at all is none.
            self.archive_away |= line.contains("does not answer") || line.contains("the instance manager");
        }
        let level = ["error:", "fatal:", "FATAL:", "PANIC:"].into_iter().find_map(|level| {
            let at = line.find(level)?;
            Some(line[at + level.len()..].trim())
        });
        if let Some(error) = level.filter(|_| self.errors.len() < KEPT) {
            self.errors.push(error.to_owned());
        }
    }

    /// Whether a line is one of those that come once in a second while files are copied.
    #[must_use]
    pub fn is_progress(line: &str) -> bool {
        line.ends_with(" copied") && line.contains(" kB (")
    }

    /// What follows. `success`: it ended well; otherwise `how` is how it ended, and `killed` that a signal did it.
    #[must_use]
    pub fn verdict(self, success: bool, killed: bool, how: &str) -> Verdict {
        if success {
            return match self.nothing_to_do {
                true => Verdict::NothingToDo,
                false => Verdict::Rewound { diverged_at: self.diverged_at },
            };
        }
        let said = match self.errors.is_empty() {
            true => format!("pg_rewind failed ({how})"),
            false => format!("pg_rewind failed ({how}): {}", self.errors.join("; ")),
        };
        let says = |what: &str| self.errors.iter().any(|error| error.contains(what));
        if self.touched {
            return Verdict::CopyAnew(format!("{said}, after it had begun to change files"));
        }
        if says("No space left on device") {
            return Verdict::Person(format!("{said}; the volume is full: enlarge it"));
        }
        if says("different systems") {
            return Verdict::Person(format!(
                "{said}; delete this instance's volumes so that it is made anew"
            ));
        }
        if killed || SOURCE_AWAY.iter().any(|what| says(what)) {
            return Verdict::Later(said);
        }
        if self.archive_away {
            return Verdict::ArchiveAway(said);
        }
        Verdict::CopyAnew(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Transcript {
        let mut transcript = Transcript::default();
        lines.iter().for_each(|line| transcript.take(line));
        transcript
    }

    fn failed(lines: &[&str]) -> Verdict {
        heard(lines).verdict(false, false, "exit code 1")
    }

    const DIVERGED: &str = "pg_rewind: servers diverged at WAL location 0/3000180 on timeline 1";

    #[test]
    fn success() {
        let rewound = heard(&["pg_rewind: connected to server", DIVERGED, "pg_rewind: Done!"]);
        assert_eq!(
            rewound.verdict(true, false, ""),
            Verdict::Rewound { diverged_at: Some("0/3000180 on timeline 1".into()) }
        );
        let idle = heard(&[DIVERGED, "pg_rewind: no rewind required"]);
        assert_eq!(idle.verdict(true, false, ""), Verdict::NothingToDo);
    }

    #[rstest::rstest]
    #[case::missing_wal(&["pg_rewind: error: could not find previous WAL record at 0/2000100"])]
    #[case::missing_wal_13(&["pg_rewind: fatal: could not find previous WAL record at 0/2000100: could not read page"])]
    #[case::not_in_the_archive(&[
        "instance-manager: wal-restore 000000010000000000000002: 000000010000000000000002 is not in the archive",
        "pg_rewind: error: could not find previous WAL record at 0/2000100",
    ])]
    #[case::strangers(&["pg_rewind: error: could not find common ancestor of the source and target cluster's timelines"])]
    #[case::hints(&["pg_rewind: error: target server needs to use either data checksums or \"wal_log_hints = on\""])]
    #[case::crash_recovery(&[
        "2026-11-21 10:00:00 GMT [12] PANIC:  could not locate a valid checkpoint record",
        "pg_rewind: error: postgres single-user mode in target cluster failed",
    ])]
    fn what_only_a_copy_mends(#[case] lines: &[&str]) {
        let verdict = failed(lines);
        assert!(matches!(verdict, Verdict::CopyAnew(_)), "{verdict:?}");
    }

    #[rstest::rstest]
    #[case(&["pg_rewind: error: connection to server at \"pg-rw\" (10.0.0.1), port 5432 failed: Connection refused"])]
    #[case(&["pg_rewind: fatal: could not connect to server: Connection refused"])]
    #[case(&["pg_rewind: error: could not fetch file list: server closed the connection unexpectedly"])]
    #[case(&["pg_rewind: error: source server must not be in recovery mode"])]
    fn what_passes(#[case] lines: &[&str]) {
        let verdict = failed(lines);
        assert!(matches!(verdict, Verdict::Later(_)), "{verdict:?}");
    }

    #[test]
    fn a_killed_one_may_try_again_unless_it_had_begun() {
        let copying = "pg_rewind: need to copy 52 MB (total source directory size is 71 MB)";
        let verdict = |lines| heard(lines).verdict(false, true, "killed by SIGKILL");
        assert!(matches!(verdict(&[DIVERGED]), Verdict::Later(_)));
        let Verdict::CopyAnew(why) = verdict(&[DIVERGED, copying]) else { panic!("it had begun") };
        assert_eq!(why, "pg_rewind failed (killed by SIGKILL), after it had begun to change files");
        let away = "pg_rewind: error: server closed the connection unexpectedly";
        assert!(matches!(failed(&[copying, away]), Verdict::CopyAnew(_)));
    }

    #[test]
    fn an_archive_that_is_away_is_no_answer() {
        let missing = "pg_rewind: error: could not find previous WAL record at 0/2000100";
        for line in [
            "instance-manager: wal-restore 00000001000000000000000A: 00000001000000000000000A: the archive does not answer; streaming is tried",
            "instance-manager: wal-restore 00000001000000000000000A: the instance manager does not listen on /controller/run/manager.sock: x",
        ] {
            assert!(matches!(failed(&[line, missing]), Verdict::ArchiveAway(_)), "{line}");
        }
    }

    #[test]
    fn what_needs_a_person() {
        let full = "2026-11-21 10:00:00 GMT [12] FATAL:  could not write to file: No space left on device";
        let Verdict::Person(text) = failed(&[full]) else { panic!("the volume is full") };
        assert!(text.ends_with("enlarge it"), "{text}");
        let strangers = "pg_rewind: error: source and target clusters are from different systems";
        assert!(matches!(failed(&[strangers]), Verdict::Person(_)));
    }

    #[test]
    fn progress_is_told_from_the_rest() {
        assert!(Transcript::is_progress(" 5120/53248 kB (9%) copied"));
        assert!(!Transcript::is_progress("pg_rewind: reading WAL in target"));
    }
}
