//! What comes before a server is started: the role, the lease, and data that fits the role.

use std::time::Duration;

use howdah_api::labels;
use howdah_engine::ControlData;
use tokio::time::sleep;

use super::role::{Facts, Start, start};
use super::shared::{FormerPrimary, ServerState, Shared};
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::error::{Error, Result};
use crate::pg::files::{RECOVERY_SIGNAL, STANDBY_SIGNAL};
use std::sync::Arc;

/// Pause between two attempts to take the lease or to rejoin.
const RETRY: Duration = Duration::from_secs(1);

/// Waits until the server may be started, and says as what.
///
/// # Errors
/// When the data directory needs a person.
pub async fn choose(shared: &Arc<Shared>) -> Result<Start> {
    let mut changes = shared.cluster.subscribe();
    loop {
        changes.mark_unchanged();
        let facts = facts(shared)?;
        let target = shared.cluster().status.as_ref().and_then(|s| s.target_primary.clone());
        let chosen = start(&shared.env.pod, target.as_deref(), facts);
        let former = (!facts.standby && !facts.recovering).then(|| former_primary(shared)).flatten();
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
                say(&format!("a former primary: waiting for {}", target.as_deref().unwrap_or("the primary")));
                return Ok(chosen);
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
    let recovering = paths.pgdata.join(RECOVERY_SIGNAL).exists();
    match (recovering, RecoveryFile::read(paths)?) {
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
    Ok(Facts { recovering, standby: paths.pgdata.join(STANDBY_SIGNAL).exists(), fenced: fenced(shared) })
}
