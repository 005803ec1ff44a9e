//! The Backup controller: gives a Backup to an instance and watches that it is being worked on. It never
//! touches one that has ended, but for the finalizer of one whose data goes with it.

pub mod decide;
pub mod deletion;
pub mod fetch;
pub mod status;
pub mod validate;

#[cfg(test)]
mod decide_tests;

use std::time::Duration;

use howdah_api::Backup;
use kube::runtime::controller::Action;

use crate::context::Context;
use crate::error::Error;
use decide::Decision;

/// Time until the next look at a Backup that waits for its turn or for its cluster.
const WAITING: Duration = Duration::from_secs(5);
/// Time until the next look at a Backup that waits for a person.
const STUCK: Duration = Duration::from_secs(15);
/// Time until the next look at a Backup that is being taken.
const EXECUTING: Duration = Duration::from_secs(5);

/// Whether there may be anything to do about a Backup, by what a watch has brought. Most of them have ended long ago, and
/// nothing is asked for them.
#[must_use]
pub fn needs_a_look(backup: &Backup) -> bool {
    backup.metadata.deletion_timestamp.is_some()
        || fetch::needs_care(backup)
        || deletion::decide(backup, None) != deletion::Step::Nothing
}

/// One reconciliation of the Backup `name`.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, Error> {
    // Before an instance begins: nothing is stored that would not be looked after.
    let idle = match deletion::look(ctx, namespace, name).await? {
        Some(deletion::Step::Wait) => Action::requeue(WAITING),
        _ => Action::await_change(),
    };
    let Some(cluster) = fetch::cluster_of(ctx, namespace, name).await? else {
        return Ok(idle);
    };
    // One decision at a time for each cluster, made on what is written now: two Backups never start together.
    let _turn = ctx.dispatch.lock(&format!("{namespace}/{cluster}")).await;
    let Some(observed) = fetch::fetch(ctx, namespace, name).await? else {
        return Ok(Action::await_change());
    };
    let uid = observed.uid().to_owned();
    let decision = decide::decide(&observed);
    status::write(ctx, &observed, &decision).await?;
    match decision {
        Decision::Done | Decision::Fail { .. } => {
            ctx.heartbeats.forget(&uid);
            Ok(Action::await_change())
        }
        Decision::Wait { reason: "ClusterNotFound" | "BackupNotConfigured", .. } => {
            Ok(Action::requeue(STUCK))
        }
        Decision::Wait { .. } => Ok(Action::requeue(WAITING)),
        Decision::Start { .. } => Ok(Action::requeue(EXECUTING)),
        Decision::Watch { alive } => {
            if alive {
                ctx.heartbeats.alive(&uid, &observed.sign_of_life(), ctx.clock.elapsed());
            }
            Ok(Action::requeue(EXECUTING))
        }
    }
}
