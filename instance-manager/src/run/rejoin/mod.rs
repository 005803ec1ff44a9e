//! How a former primary, or a replica that went another way, comes back as a replica (docs/rejoin.md).
//!
//! Nothing, `pg_rewind` or a new copy of the primary: whichever is the least that helps. As long as PGDATA cannot be
//! trusted a mark is beside it ([`marker::begin_return`]); what is found with the mark is filled anew, whatever it holds.

mod drain;
mod outcome;
mod rewind;
pub mod source;
mod transcript;

use std::time::Duration;

use barman_cloud::Lsn;
use howdah_api::naming;
use howdah_engine::{ControlData, ErrorKind};
use tokio::time::sleep;

pub use drain::Drained;
pub use outcome::{Before, How, Rejoined};
use source::{Source, fork};
use transcript::Verdict;

use super::role::{Facts, Running};
use super::shared::{Shared, cluster_port};
use super::{certificates, configure};
use crate::bootstrap::{join, marker, wal_dir};
use crate::environment::Paths;
use crate::error::{Error, Result};
use crate::pg::files::{STANDBY_SIGNAL, make_private, set_signal};
use crate::pg::stale;

/// Word in the mark while a copy is made, and in that of a finished directory.
const COPY: &str = "rejoin";
/// How often an archive that does not answer is asked, before the copy is made that does without it.
const ARCHIVE_TRIES: u32 = 5;
/// Pause between.
const ARCHIVE_PAUSE: Duration = Duration::from_secs(20);

/// Whether a data directory that shall be a replica's is not fit for that as it is: it was a primary's.
#[must_use]
pub fn needs_rejoin(facts: Facts) -> bool {
    !facts.standby && !facts.recovering
}

/// Whether an earlier return was interrupted: PGDATA cannot be trusted, must not be started, and is filled anew by
/// [`rejoin`]. To be asked before anything else is concluded from the volume; `howdah-bootstrap.done` may be missing.
///
/// # Errors
/// When the volume cannot be looked at.
pub fn unfinished(paths: &Paths) -> Result<bool> {
    marker::is_returning(paths)
}

/// What is wrong with the data directory of a replica that cannot be started: its control file is damaged or missing, so
/// that nothing is known of it. Whatever a replica has the primary has too, so it is copied anew; a former primary may have
/// what nobody else has, and is left as it is for a person.
#[must_use]
pub fn damaged_replica(paths: &Paths) -> Option<String> {
    if !paths.pgdata.join(STANDBY_SIGNAL).exists() {
        return None;
    }
    let error = ControlData::read(&paths.pgdata).err()?;
    let is_gone = !paths.pgdata.join("global/pg_control").exists();
    (is_gone || error.kind() == ErrorKind::Corrupt || error.kind() == ErrorKind::Invalid)
        .then(|| format!("the replica's data directory is damaged: {error}"))
}

/// Why an instance whose return is unfinished cannot be the primary that it shall be.
#[must_use]
pub fn cannot_lead(paths: &Paths) -> Error {
    Error::permanent(format!(
        "this instance shall be the primary, but its data directory {} is incomplete ({} is beside it): let another instance be the primary, or recover the cluster from a backup",
        paths.pgdata.display(),
        marker::REWIND_PARTIAL
    ))
}

/// What must be known of the directory before it is changed.
struct Own {
    control: ControlData,
    timeline: u32,
    was_primary: bool,
}

impl Own {
    fn read(paths: &Paths) -> Result<Self> {
        let control = ControlData::read(&paths.pgdata)?;
        Ok(Self {
            timeline: control.timeline.max(control.min_recovery_timeline),
            was_primary: !paths.pgdata.join(STANDBY_SIGNAL).exists(),
            control,
        })
    }

    fn before(&self, fork: Option<Lsn>) -> Before {
        let clean = self.control.cleanly_shut_down && !self.control.shut_down_in_recovery && self.was_primary;
        Before { timeline: self.timeline, fork, end: clean.then_some(self.control.checkpoint) }
    }
}

/// Whether a former primary ended within the history of the new one. A clean shutdown ends with the record of its
/// checkpoint, and a timeline is left between two records: one that is left behind the begin of that record is left
/// behind its end.
fn is_contained(before: &Before) -> bool {
    matches!((before.end, before.fork), (Some(end), Some(fork)) if end < fork)
}

/// Makes a replica of this instance. PostgreSQL does not run; PGDATA was a primary's, or a replica's that went another
/// way, or is unfinished. Afterwards `standby.signal` is there, and the configuration is to be written as before every
/// start. The caller may drop this at any time: what was begun is then unfinished.
///
/// # Errors
/// Transient when the primary is not ready, with what is waited for, or went away: to be called again, unless this
/// instance shall be something else by then. Permanent when a person is needed. The directory is as it was, or marked.
pub async fn rejoin(shared: &Shared) -> Result<Rejoined> {
    let paths = &shared.env.paths;
    let (source, host) = ready(shared).await?;
    if unfinished(paths)? {
        let why = "an earlier return was interrupted, and what it left cannot be trusted";
        return copied(shared, why.to_owned(), None, Drained::default()).await;
    }
    make_private(&paths.pgdata)?;
    stale::clear(&paths.pgdata, &paths.run(), cluster_port()).await?;
    let own = Own::read(paths)?;
    source.same_system(&host, own.control.system_id)?;
    let history = source.history(shared).await;
    let before = own.before(fork(history.as_ref(), own.timeline));
    tracing::info!(
        timeline = own.timeline, primary_timeline = source.timeline,
        checkpoint = %own.control.checkpoint, clean = own.control.cleanly_shut_down,
        fork = before.fork.map(|fork| fork.to_string()), "coming back as a replica"
    );
    let secrets = shared.secrets();
    shared.wal.configure(&shared.stores(), shared.wal_policy(), &secrets);
    let drained = match own.was_primary {
        true => drain::drain(shared, own.timeline, history.as_ref(), own.control.wal_segment_size).await?,
        false => Drained::default(),
    };
    if source.timeline == Some(own.timeline) {
        // pg_rewind compares timelines only, and would find nothing to do.
        let why =
            format!("both servers wrote timeline {}, so that nothing tells their WAL apart", own.timeline);
        return copied(shared, why, Some(before), drained).await;
    }
    if own.was_primary && own.control.shut_down_in_recovery {
        // pg_rewind takes it for a standby's, whose WAL ends where its control file says: for a primary that says nothing.
        let why =
            "it was stopped while it recovered from a crash, so that nothing tells how far its WAL goes";
        return copied(shared, why.to_owned(), Some(before), drained).await;
    }
    if is_contained(&before) {
        set_signal(paths, Some(STANDBY_SIGNAL))?;
        return Ok(Rejoined { how: How::NothingToDo, before: Some(before), drained });
    }
    shared.wal.serve_standby(&shared.stores(), &secrets);
    configure::apply(shared, Running::Standby).await?;
    match rewound(shared, &own).await? {
        Verdict::CopyAnew(why) => copied(shared, why, Some(before), drained).await,
        Verdict::Rewound { diverged_at } => {
            Ok(Rejoined { how: How::Rewound { diverged_at }, before: Some(before), drained })
        }
        Verdict::NothingToDo => Ok(Rejoined { how: How::NothingToDo, before: Some(before), drained }),
        Verdict::Later(why) | Verdict::ArchiveAway(why) => Err(Error::transient(why)),
        Verdict::Person(why) => Err(Error::permanent(why)),
    }
}

/// Makes a replica of this instance by a new copy of the primary, whatever it holds: for one that waits for WAL which is
/// nowhere any more, or whose data is `damaged` ([`damaged_replica`]). PostgreSQL does not run.
///
/// # Errors
/// As [`rejoin`].
pub async fn join_anew(shared: &Shared, why: &str, damaged: bool) -> Result<Rejoined> {
    let paths = &shared.env.paths;
    let (source, host) = ready(shared).await?;
    if !unfinished(paths)? && !damaged {
        stale::clear(&paths.pgdata, &paths.run(), cluster_port()).await?;
        source.same_system(&host, Own::read(paths)?.control.system_id)?;
    }
    copied(shared, why.to_owned(), None, Drained::default()).await
}

/// The primary, once it can be followed, and the name that it is reached by.
async fn ready(shared: &Shared) -> Result<(Source, String)> {
    let env = &shared.env;
    certificates::write(&shared.secrets(), &shared.cluster(), &env.cluster, &env.paths.certificates())?;
    Ok((Source::ready(shared).await?, naming::service_rw(&shared.env.cluster)))
}

/// Runs `pg_rewind` below its mark. The mark stays when only a copy helps; otherwise the directory is as it was, or a
/// replica's.
async fn rewound(shared: &Shared, own: &Own) -> Result<Verdict> {
    let paths = &shared.env.paths;
    let as_it_was = (!own.was_primary).then_some(STANDBY_SIGNAL);
    for attempt in 1.. {
        marker::begin_return(paths, "pg_rewind")?;
        if !own.control.cleanly_shut_down {
            // A server in single-user mode, which replays what a crash left, refuses to be a replica.
            set_signal(paths, None)?;
        }
        let verdict = rewind::run(shared).await;
        let signal = match &verdict {
            Ok(Verdict::CopyAnew(_)) => return verdict,
            Ok(Verdict::ArchiveAway(why)) if attempt == ARCHIVE_TRIES => {
                return Ok(Verdict::CopyAnew(format!(
                    "{why}; the archive, which may have more, does not answer"
                )));
            }
            Ok(Verdict::Rewound { .. } | Verdict::NothingToDo) => Some(STANDBY_SIGNAL),
            Ok(Verdict::Later(_) | Verdict::ArchiveAway(_) | Verdict::Person(_)) | Err(_) => as_it_was,
        };
        set_signal(paths, signal)?;
        marker::end_return(paths)?;
        match verdict {
            Ok(Verdict::ArchiveAway(why)) => {
                tracing::warn!(attempt, "{why}; the archive does not answer, trying again");
                sleep(ARCHIVE_PAUSE).await;
            }
            verdict => return verdict,
        }
    }
    Err(Error::transient("pg_rewind was not run"))
}

/// Empties PGDATA and copies the primary into it. At every step of it the mark is there, so that the next start of this
/// instance begins it anew.
async fn copied(shared: &Shared, why: String, before: Option<Before>, drained: Drained) -> Result<Rejoined> {
    let paths = &shared.env.paths;
    tracing::warn!("the data directory is emptied and copied from the primary: {why}");
    marker::begin_return(paths, COPY)?;
    marker::unfinish(paths)?;
    stale::clear(&paths.pgdata, &paths.run(), cluster_port()).await?;
    let wal = wal_dir(paths, &shared.cluster().spec);
    marker::clean(paths, wal.as_deref())?;
    join::copy(&shared.programs, &shared.children, &shared.env, wal.as_deref()).await?;
    set_signal(paths, Some(STANDBY_SIGNAL))?;
    marker::finish(paths, COPY)?;
    marker::end_return(paths)?;
    Ok(Rejoined { how: How::Joined { why }, before, drained })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::a_former_primary(Facts { standby: false, recovering: false, ..Facts::default() }, true)]
    #[case::a_replica(Facts { standby: true, recovering: false, ..Facts::default() }, false)]
    #[case::a_recovery(Facts { standby: false, recovering: true, ..Facts::default() }, false)]
    fn who_needs_it(#[case] facts: Facts, #[case] needs: bool) {
        assert_eq!(needs_rejoin(facts), needs);
    }

    #[rstest::rstest]
    #[case::left_after_its_shutdown(Some(0x100), Some(0x178), true)]
    #[case::left_before_it(Some(0x100), Some(0x100), false)]
    #[case::crashed(None, Some(0x178), false)]
    #[case::history_not_known(Some(0x100), None, false)]
    fn when_nothing_is_to_be_done(#[case] end: Option<u64>, #[case] fork: Option<u64>, #[case] yes: bool) {
        assert_eq!(is_contained(&Before { timeline: 1, fork: fork.map(Lsn), end: end.map(Lsn) }), yes);
    }

    #[test]
    fn an_unfinished_instance_cannot_lead() {
        let paths = Paths { controller: "/c".into(), pgdata: "/d/pgdata".into(), wal_mount: "/w".into() };
        let error = cannot_lead(&paths);
        assert!(error.is_permanent() && error.to_string().contains("howdah-rewind.partial"), "{error}");
    }
}
