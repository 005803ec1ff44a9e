//! What comes before a server is started: the role, the lease, and data that fits the role.

use std::sync::Arc;
use std::time::Duration;

use howdah_api::{Cluster, labels};
use howdah_engine::ControlData;
use kube::runtime::events::EventType;
use tokio::sync::watch::Receiver;
use tokio::time::sleep;

use super::divergence::Verdict;
use super::rejoin::{self, Rejoined};
use super::role::{Facts, Start, start};
use super::shared::{FormerPrimary, ServerState, Shared};
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::error::{Error, Result};
use crate::pg::files::{RECOVERY_SIGNAL, STANDBY_SIGNAL};

/// Pause between two attempts to take the lease or to rejoin.
const RETRY: Duration = Duration::from_secs(1);

/// Waits until the server may be started, and says as what. `astray` is what was found out about the replica that ran
/// last.
///
/// # Errors
/// When the data directory needs a person.
pub async fn choose(shared: &Arc<Shared>, astray: &Verdict) -> Result<Start> {
    let mut changes = shared.cluster.subscribe();
    loop {
        changes.mark_unchanged();
        let damaged = rejoin::damaged_replica(&shared.env.paths).map(Verdict::Gone);
        let astray = damaged.as_ref().unwrap_or(astray);
        let (chosen, facts) = wanted(shared, astray)?;
        let former = rejoin::needs_rejoin(facts).then(|| former_primary(shared)).flatten();
        let say = |message: &str| {
            shared.server.send_modify(|s| {
                *s = ServerState {
                    message: message.to_owned(),
                    fenced: chosen == Start::Fenced,
                    former_primary: former.clone(),
                    ..ServerState::default()
                };
            });
        };
        if !chosen.needs_lease() && shared.authority.holds() {
            // PostgreSQL does not run, and somebody else may be waiting for it.
            shared.authority.release().await;
        }
        let again = match chosen {
            Start::Wait => {
                say("waiting until the operator names the primary");
                None
            }
            Start::Fenced => {
                say("PostgreSQL is kept down: the instance is fenced");
                None
            }
            Start::Standby | Start::StandbyToPromote => return Ok(chosen),
            Start::Primary | Start::Recovery => match shared.authority.acquire(shared).await {
                Ok(()) => return Ok(chosen),
                Err(why) => {
                    say(&format!("not started as the primary yet: {why}"));
                    Some(RETRY)
                }
            },
            Start::Rejoin => {
                say("coming back as a replica");
                match come_back(shared, &mut changes, astray, damaged.is_some()).await {
                    Some(Ok(rejoined)) => {
                        tell(shared, &rejoined).await;
                        return Ok(Start::Standby);
                    }
                    Some(Err(error)) if error.is_permanent() => return Err(error),
                    Some(Err(error)) => {
                        say(&format!("coming back as a replica: {}", error.report()));
                        Some(RETRY)
                    }
                    None => continue,
                }
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return Err(Error::transient("the Cluster is no longer watched"));
            },
            () = sleep(again.unwrap_or(Duration::MAX)) => {}
        }
    }
}

/// What this instance shall be now.
fn wanted(shared: &Shared, astray: &Verdict) -> Result<(Start, Facts)> {
    let facts = facts(shared)?;
    let target = shared.target_primary();
    let chosen = start(&shared.env.pod, target.as_deref(), facts);
    let chosen = match (chosen, rejoin::unfinished(&shared.env.paths)?) {
        (Start::Standby, true) => Start::Rejoin,
        (Start::Primary | Start::StandbyToPromote, true) => {
            return Err(rejoin::cannot_lead(&shared.env.paths));
        }
        (Start::Standby, false) if matches!(astray, Verdict::Diverged(_) | Verdict::Gone(_)) => Start::Rejoin,
        (chosen, _) => chosen,
    };
    Ok((chosen, facts))
}

/// Makes a replica of this instance; `None` when it shall be something else before that is done. What was begun is then
/// unfinished, and begins anew.
async fn come_back(
    shared: &Shared,
    changes: &mut Receiver<Arc<Cluster>>,
    astray: &Verdict,
    damaged: bool,
) -> Option<Result<Rejoined>> {
    let work = async {
        match astray {
            Verdict::Gone(why) => rejoin::join_anew(shared, why, damaged).await,
            _ => rejoin::rejoin(shared).await,
        }
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            changed = changes.changed() => {
                let still = changed.is_ok() && matches!(wanted(shared, astray), Ok((Start::Rejoin, _)));
                if !still {
                    return None;
                }
            }
        }
    }
}

async fn tell(shared: &Shared, rejoined: &Rejoined) {
    let note = format!("{}: {}", shared.env.pod, rejoined.note());
    tracing::info!("{note}");
    let kind = if rejoined.lost_something() { EventType::Warning } else { EventType::Normal };
    let cluster = shared.cluster();
    shared.kube.event(&*cluster, kind, "Rejoined", &note).await;
}

fn former_primary(shared: &Shared) -> Option<FormerPrimary> {
    let control = ControlData::read(&shared.env.paths.pgdata).ok()?;
    Some(FormerPrimary { timeline: control.timeline, lsn: control.checkpoint.to_string() })
}

/// Whether the Cluster says that PostgreSQL shall not run here. A value that cannot be read fences nobody; the operator
/// says so.
#[must_use]
pub fn fenced(shared: &Shared) -> bool {
    let cluster = shared.cluster();
    let value = cluster.metadata.annotations.as_ref().and_then(|all| all.get(labels::FENCED));
    value.is_some_and(|value| labels::fences(value, &shared.env.pod).unwrap_or(false))
}

fn facts(shared: &Shared) -> Result<Facts> {
    let paths = &shared.env.paths;
    let standby = paths.pgdata.join(STANDBY_SIGNAL).exists();
    let file = RecoveryFile::read(paths)?;
    let follows = standby && file.as_ref().is_some_and(|file| file.following);
    let recovering = follows || paths.pgdata.join(RECOVERY_SIGNAL).exists();
    match (recovering, file) {
        // PostgreSQL removed its signal: the recovery is over, only the promotion's last step is missing.
        (false, Some(_)) => RecoveryFile::remove(paths)?,
        (true, None) => {
            return Err(Error::permanent(format!(
                "{} asks for a recovery, but {} does not say from where: delete this instance's volumes so that the recovery begins anew",
                paths.pgdata.join(RECOVERY_SIGNAL).display(),
                paths.recovery_file().display()
            )));
        }
        _ => {}
    }
    Ok(Facts { recovering, standby, fenced: fenced(shared) })
}
