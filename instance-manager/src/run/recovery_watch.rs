//! What went wrong in an archive recovery, read from PostgreSQL's own log lines: pure.

/// The lines of a recovery that tell why it ended, as they pass by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryLog {
    last_commit: Option<String>,
    fatal: Option<String>,
    missing: Option<String>,
}

impl RecoveryLog {
    /// Takes one line.
    pub fn take(&mut self, line: &str) {
        if let Some(at) = line.find("last completed transaction was at log time ") {
            let from = at + "last completed transaction was at log time ".len();
            self.last_commit = Some(line[from..].trim().to_owned());
        }
        for level in ["FATAL:", "PANIC:"] {
            if let Some(at) = line.find(level) {
                let text = line[at + level.len()..].trim();
                // What follows the first one is its consequence, and connections refused at the end are noise.
                if self.fatal.is_none() && !text.starts_with("the database system is") {
                    self.fatal = Some(text.to_owned());
                }
            }
        }
        if let Some(at) = line.find("wal-restore ")
            && line.contains("instance-manager:")
            && !line.contains("is not in the archive")
        {
            self.missing = Some(line[at..].trim().to_owned());
        }
    }

    /// The reason in words, with the remedy; `target` is what was asked for.
    #[must_use]
    pub fn reason(&self, target: &str) -> String {
        let reach = match &self.last_commit {
            Some(time) => format!("the last transaction in the archive is of {time}"),
            None => "the archive holds no transaction after the backup".to_owned(),
        };
        match (&self.fatal, &self.missing) {
            (_, Some(missing)) => format!(
                "recovery stopped because a WAL file could not be fetched: {missing}; restart this pod when that is mended"
            ),
            (Some(fatal), _)
                if fatal.contains("recovery ended before configured recovery target was reached") =>
            {
                format!(
                    "the recovery target ({target}) lies behind the end of the archive: {reach}; make a new Cluster with an earlier target, or with none to recover everything"
                )
            }
            (Some(fatal), _)
                if fatal.contains("requested recovery stop point is before consistent recovery point") =>
            {
                format!(
                    "the recovery target ({target}) lies before the end of the backup: make a new Cluster from an earlier backup or with a later target"
                )
            }
            (Some(fatal), _) => format!("PostgreSQL stopped the recovery: {fatal} ({reach})"),
            (None, None) => "PostgreSQL ended during the recovery: see the log of the container".to_owned(),
        }
    }

    /// Whether PostgreSQL gave a reason that another start cannot change.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.fatal.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(lines: &[&str]) -> String {
        let mut log = RecoveryLog::default();
        for line in lines {
            log.take(line);
        }
        log.reason("targetTime 2030-01-01")
    }

    #[test]
    fn the_latest_moment_is_named_when_the_target_lies_behind_it() {
        let text = reason(&[
            "2026-11-21 10:00:00 UTC [9] LOG:  last completed transaction was at log time 2026-11-21 09:59:58.1+00",
            "2026-11-21 10:00:00 UTC [9] FATAL:  recovery ended before configured recovery target was reached",
            "2026-11-21 10:00:00 UTC [9] FATAL:  the database system is shutting down",
        ]);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_file_that_cannot_be_fetched_is_named() {
        let text = reason(&[
            "instance-manager: wal-restore 00000002.history: 00000002.history is not in the archive",
            "instance-manager: wal-restore 000000010000000000000007: it is damaged",
            "x FATAL:  could not restore file \"000000010000000000000007\" from archive: command not executable",
        ]);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn other_ends() {
        insta::assert_snapshot!(
            [
                reason(&["x FATAL:  requested recovery stop point is before consistent recovery point"]),
                reason(&["x FATAL:  requested timeline 9 is not a child of this server's history"]),
                reason(&[]),
            ]
            .join("\n")
        );
    }
}
