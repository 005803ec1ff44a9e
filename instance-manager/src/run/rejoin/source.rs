//! The primary that this instance shall follow: whether it is ready for that, and where its history begins.
//!
//! It is asked by `psql`, which comes with the programs that are needed anyway and speaks TLS exactly as these do.

use std::time::Duration;

use barman_cloud::{Lsn, TimelineHistory};
use howdah_api::naming;
use tokio::process::Command;
use tokio::time::timeout;

use crate::bootstrap::join::conninfo_with_database;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::pg::children::Children;
use crate::pg::programs::Programs;
use crate::pg::relayed::without_libpq_settings;
use crate::run::shared::Shared;

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Separator of columns; in no value.
const SEPARATOR: char = '|';

/// Works on PostgreSQL 13 to 18, as the role of replicas.
const STATE: &str = "SELECT pg_is_in_recovery(), s.system_identifier, c.timeline_id, \
     CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_walfile_name(pg_current_wal_lsn()) END, \
     current_setting('server_version_num'), \
     CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_current_wal_lsn()::text END FROM pg_control_system() s, pg_control_checkpoint() c";

/// What the primary says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// System identifier.
    pub system_id: u64,
    /// Timeline that it writes; `None` while it is in recovery.
    pub timeline: Option<u32>,
    /// Timeline of its last checkpoint: what its control file says.
    pub checkpoint_timeline: u32,
    /// Major version.
    pub major: u32,
    /// Where it writes; `None` while it is in recovery.
    pub position: Option<Lsn>,
}

impl Source {
    /// Asks the server behind the service of the primary.
    ///
    /// # Errors
    /// Transient when it does not answer or is not ready, with what is waited for; permanent when it is of another major
    /// version.
    pub async fn ready(shared: &Shared) -> Result<Self> {
        let source = Self::look(&shared.programs, &shared.children, &shared.env).await?;
        source.judge(&naming::service_rw(&shared.env.cluster), shared.major)?;
        Ok(source)
    }

    /// Asks the server behind the service of the primary, whatever it is.
    ///
    /// # Errors
    /// Transient when it does not answer.
    pub async fn look(programs: &Programs, children: &Children, env: &Environment) -> Result<Self> {
        let host = naming::service_rw(&env.cluster);
        let answer = ask(programs, children, env, STATE).await.map_err(|error| {
            Error::transient(format!("waiting until the primary behind {host} answers")).because(error)
        })?;
        parse(&answer).ok_or_else(|| {
            Error::transient(format!("the primary behind {host} said {answer:?}, which is not understood"))
        })
    }

    /// Whether it can be followed. `pg_rewind` takes the timeline from the control file, and before PostgreSQL 16 from
    /// its checkpoint alone: before the first one of a new primary it would find nothing to do.
    fn judge(&self, host: &str, major: u32) -> Result<()> {
        let Some(timeline) = self.timeline else {
            return Err(Error::transient(format!(
                "waiting until the server behind {host} is the primary: it is still in recovery"
            )));
        };
        if self.major != major {
            return Err(Error::permanent(format!(
                "the primary behind {host} is PostgreSQL {}, the image of this instance holds PostgreSQL {major}: use the same image for all instances",
                self.major
            )));
        }
        if self.checkpoint_timeline < timeline {
            return Err(Error::transient(format!(
                "waiting until the primary behind {host} has written a checkpoint on its timeline {timeline}"
            )));
        }
        Ok(())
    }

    /// Whether data of the system `own` may become a replica's of it.
    ///
    /// # Errors
    /// When it is another database system.
    pub fn same_system(&self, host: &str, own: u64) -> Result<()> {
        if self.system_id == own {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the primary behind {host} is database system {}, the data directory here is of {own}: they are different databases, and this one stays untouched; see what it holds, then delete this instance's volumes so that it is made anew",
            self.system_id
        )))
    }

    /// Its history; `None` when it cannot be read.
    pub async fn history(&self, shared: &Shared) -> Option<TimelineHistory> {
        let timeline = self.timeline?;
        if timeline == 1 {
            return Some(TimelineHistory::root(1));
        }
        let query = format!(
            "SELECT encode(pg_read_binary_file('pg_wal/{timeline:08X}.history', 0, 1048576, true), 'hex')"
        );
        let read = async {
            let answer = ask(&shared.programs, &shared.children, &shared.env, &query).await?;
            let bytes = hex::decode(answer.trim())
                .map_err(|e| Error::transient("it was not sent as hexadecimal digits").because(e))?;
            Ok::<_, Error>(TimelineHistory::parse(timeline, &String::from_utf8_lossy(&bytes))?)
        };
        match read.await {
            Ok(history) => Some(history),
            Err(error) => {
                tracing::warn!(
                    "the primary's history of timeline {timeline} cannot be read: {}",
                    error.report()
                );
                None
            }
        }
    }
}

/// Where `history` left `timeline`.
#[must_use]
pub fn fork(history: Option<&TimelineHistory>, timeline: u32) -> Option<Lsn> {
    history?.switch_point(timeline)
}

fn parse(answer: &str) -> Option<Source> {
    let fields: Vec<&str> = answer.trim().split(SEPARATOR).collect();
    let [recovering, system_id, checkpoint_timeline, file, version, position] = fields.as_slice() else {
        return None;
    };
    let timeline = match *recovering {
        "t" => None,
        "f" => Some(u32::from_str_radix(file.get(..8)?, 16).ok()?),
        _ => return None,
    };
    Some(Source {
        // SQL knows no unsigned numbers.
        system_id: system_id.parse::<i64>().ok()?.cast_unsigned(),
        timeline,
        checkpoint_timeline: checkpoint_timeline.parse().ok()?,
        major: version.parse::<u32>().ok()? / 10_000,
        position: position.parse().ok(),
    })
}

/// One value or row from the server behind the service of the primary, as the role of replicas.
///
/// # Errors
/// Transient when it does not answer, with what it said.
pub async fn ask(programs: &Programs, children: &Children, env: &Environment, query: &str) -> Result<String> {
    let mut command = Command::new(programs.program("psql")?);
    command
        .args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
        .arg(format!("--field-separator={SEPARATOR}"))
        .arg(format!("--dbname={}", conninfo_with_database(env)))
        .arg(format!("--command={query}"))
        .env("LC_ALL", "C")
        .kill_on_drop(true);
    without_libpq_settings(&mut command);
    let asked = timeout(ANSWER, children.output(&mut command)).await;
    let output = asked
        .map_err(|_| Error::transient(format!("it did not answer within {} s", ANSWER.as_secs())))?
        .map_err(|e| Error::permanent("cannot run psql").because(e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let words: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(Error::transient(words.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(answer: &str) -> Source {
        parse(answer).unwrap()
    }

    #[test]
    fn answers() {
        assert_eq!(
            source("f|7412345678901234567|2|000000020000000000000003|150018|0/3000148\n"),
            Source {
                system_id: 7_412_345_678_901_234_567,
                timeline: Some(2),
                checkpoint_timeline: 2,
                major: 15,
                position: Some(Lsn(0x0300_0148))
            }
        );
        assert_eq!(source("f|-1|11|0000000B0000000000000003|180001|0/1").system_id, u64::MAX);
        let replica = source("t|1|1||130022|");
        assert_eq!((replica.timeline, replica.position), (None, None));
        for odd in ["", "f|1|1|x|150018|0/1", "f|1|1|150018|0/1", "maybe|1|1||150018|"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }

    #[rstest::rstest]
    #[case::ready("f|1|2|000000020000000000000003|150018|0/1", None)]
    #[case::a_replica("t|1|1||150018|", Some("waiting until the server behind pg-rw is the primary"))]
    #[case::just_promoted(
        "f|1|1|000000020000000000000003|150018|0/1",
        Some("has written a checkpoint on its timeline 2")
    )]
    #[case::another_version("f|1|1|000000010000000000000003|160001|0/1", Some("PostgreSQL 16"))]
    fn what_is_waited_for(#[case] answer: &str, #[case] words: Option<&str>) {
        let judged = source(answer).judge("pg-rw", 15);
        match words {
            None => judged.unwrap(),
            Some(words) => {
                let error = judged.unwrap_err();
                assert!(error.to_string().contains(words), "{error}");
                assert_eq!(error.is_permanent(), words.starts_with("PostgreSQL"));
            }
        }
    }

    #[test]
    fn another_database_stays_untouched() {
        let source = source("f|7|1|000000010000000000000003|150018|0/1");
        source.same_system("pg-rw", 7).unwrap();
        let error = source.same_system("pg-rw", 8).unwrap_err();
        assert!(error.is_permanent() && error.to_string().contains("stays untouched"), "{error}");
    }

    #[test]
    fn forks() {
        let history = TimelineHistory::parse(3, "1\t0/3000180\tx\n2\t0/5000000\ty\n").unwrap();
        assert_eq!(fork(Some(&history), 1), Some(Lsn(0x0300_0180)));
        assert_eq!(fork(Some(&history), 3), None);
        assert_eq!(fork(None, 1), None);
    }
}
