//! The Cluster controller: brings a cluster to what its specification asks for.

pub mod annotations;
pub mod apply;
pub mod build;
pub mod certificates;
pub mod decide;
pub mod events;
pub mod fetch;
pub mod gap_backups;
pub mod kubectl;
pub mod lease;
pub mod manager_upgrade;
pub mod nodes;
pub mod observed;
pub mod ownership;
pub mod phases;
pub mod quantity;
pub mod recovery_target;
pub mod repo_host;
pub mod repositories;
pub mod resting;
pub mod status;
pub mod synchronous;
pub mod trouble;
pub mod validate;
pub mod wal_runway;

#[cfg(test)]
mod build_tests;
#[cfg(test)]
mod certificates_tests;
#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod events_tests;
#[cfg(test)]
mod failover_tests;
#[cfg(test)]
mod fencing_tests;
#[cfg(test)]
mod following_tests;
#[cfg(test)]
mod hibernation_tests;
#[cfg(test)]
mod manager_upgrade_tests;
#[cfg(test)]
mod phases_tests;
#[cfg(test)]
mod repo_host_tests;
#[cfg(test)]
mod rolling_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod status_tests;
#[cfg(test)]
mod synchronous_tests;
#[cfg(test)]
mod wal_runway_tests;

use std::time::Duration;

use howdah_api::ClusterStatus;
use kube::runtime::controller::Action;

use crate::context::Context;
use crate::error::{Class, Error, chain};
use decide::Plan;
use observed::Observed;
use resting::Known;
use validate::Validated;

/// Time until the next look while something changes.
const BUSY: Duration = Duration::from_secs(5);
/// Time until the next look at rest.
const REST: Duration = Duration::from_secs(15);

/// One reconciliation of the cluster `name`.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, Error> {
    let key = apply::cache_key(namespace, name);
    if let Some(known) = ctx.resting.get(&key) {
        // Until this look is over well, the next one is a fresh one.
        ctx.resting.wake(&key);
        if let Some(known) = stay_at_rest(ctx, namespace, name, known).await? {
            ctx.resting.settle(&key, known);
            return Ok(Action::requeue(REST));
        }
    }
    let Some(observed) = fetch::fetch(ctx, namespace, name).await? else {
        forget(ctx, namespace, name);
        return Ok(Action::await_change());
    };
    if observed.cluster.metadata.deletion_timestamp.is_some() {
        // Owner references take everything along.
        return Ok(Action::await_change());
    }
    let verdict = Verdict::on(ctx, &observed);
    let quiet = verdict.is_quiet(&observed).then(|| Known::new(&observed, name, ctx.clock.elapsed()));
    let Verdict { validated, plan, repositories, status } = verdict;
    let secrets_written = carry_out(ctx, &validated, observed, (&plan, &repositories), &status).await?;
    if let Some(known) = quiet.filter(|_| !secrets_written) {
        ctx.resting.settle(&key, known);
    }
    let at_rest = plan.at_rest && repositories.at_rest() && synchronous::at_rest(&status);
    let usual = if at_rest { REST } else { BUSY };
    let pause = plan.look_again.map_or(usual, |seconds| Duration::from_secs(seconds.into()));
    Ok(Action::requeue(pause))
}

/// Drops what is remembered of a cluster that is gone.
pub fn forget(ctx: &Context, namespace: &str, name: &str) {
    let key = apply::cache_key(namespace, name);
    ctx.metrics.forget_cluster(namespace, name);
    ctx.applied.forget(&key);
    ctx.resting.wake(&key);
    ctx.instances.forget(namespace, name);
    lease::forget(ctx, namespace, name);
}

/// What follows from an observation.
struct Verdict {
    validated: Validated,
    plan: Plan,
    repositories: repo_host::Plan,
    status: ClusterStatus,
}

impl Verdict {
    fn on(ctx: &Context, observed: &Observed) -> Self {
        let validated = validate::validate(observed, &ctx.settings);
        let hash = build::pod::spec_hash(&observed.cluster, &validated);
        let plan = decide::decide(&validated, observed, &hash);
        let repositories = repo_host::decide(&validated, observed);
        let now = ctx.clock.now();
        let mut status = status::fold(&validated, observed, &plan, &hash, now);
        repo_host::fold(&repositories, observed, now, &mut status);
        Self { validated, plan, repositories, status }
    }

    fn is_quiet(&self, observed: &Observed) -> bool {
        resting::is_quiet(&self.validated, observed, &self.plan, &self.repositories, &self.status)
    }
}

/// Looks at a cluster at which there was nothing to do; `None` when there may be something now, and nothing was done about
/// it.
async fn stay_at_rest(
    ctx: &Context,
    namespace: &str,
    name: &str,
    known: Known,
) -> Result<Option<Known>, Error> {
    if ctx.applied.is_touched(&apply::cache_key(namespace, name)) {
        return Ok(None);
    }
    let Some(mut observed) = fetch::stored(ctx, namespace, name, &known).await? else { return Ok(None) };
    if observed.cluster.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let verdict = Verdict::on(ctx, &observed);
    if !verdict.is_quiet(&observed) {
        return Ok(None);
    }
    let Verdict { validated, plan, status, .. } = verdict;
    let elapsed = ctx.clock.elapsed();
    let old = known.is_old(elapsed);
    if old && !apply_base(ctx, &validated, &observed, &plan, Secrets::Keep).await? {
        return Ok(None);
    }
    ctx.metrics.cluster(namespace, name, status::gauges(&observed, &status));
    let mut known = if old { Known::new(&observed, name, elapsed).told_as(&known) } else { known };
    if known.tells(elapsed) {
        // With the version that the watch brought: if that is behind, the cluster is read afresh.
        observed.cluster = status::write(ctx, &observed.cluster, &status).await?;
        known = known.told(elapsed);
    }
    Ok(Some(known))
}

/// Whether Secrets that are missing or have to be renewed are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    /// They are.
    Write,
    /// Nothing is done at all when there is one.
    Keep,
}

/// Returns whether Secrets were written.
async fn carry_out(
    ctx: &Context,
    validated: &Validated,
    mut observed: Observed,
    plans: (&Plan, &repo_host::Plan),
    status: &ClusterStatus,
) -> Result<bool, Error> {
    let before = observed.status();
    // The status goes first: the target primary and a new serial must be known before anything bears them. A
    // rejection stays visible until it is known to be over.
    let rejected = before.phase.as_deref() == Some(phases::REJECTED);
    let mut first = status.clone();
    if rejected {
        first.phase.clone_from(&before.phase);
        first.phase_reason.clone_from(&before.phase_reason);
    }
    tell(ctx, &mut observed, &before, &first).await?;
    events::send(ctx, &observed.cluster, events::remarks(validated, &before)).await;
    events::send(ctx, &observed.cluster, events::waits(plans.0, &before, &first).into_iter().collect()).await;
    if let Some(handover) = events::handover(&before, &first) {
        ctx.metrics.handed_over(&validated.namespace, &validated.name, handover);
    }
    ctx.metrics.cluster(&validated.namespace, &validated.name, status::gauges(&observed, status));
    if validated.predecessor {
        return Ok(false);
    }
    let applied = apply_all(ctx, validated, &observed, plans).await;
    match &applied {
        Err(error) if error.class() == Class::Permanent => {
            let mut told = status.clone();
            told.phase = Some(phases::REJECTED.to_owned());
            told.phase_reason = Some(phases::told(phases::REJECTED, &chain(error)));
            tell(ctx, &mut observed, &first, &told).await?;
        }
        Ok(_) if rejected => tell(ctx, &mut observed, &first, status).await?,
        _ => {}
    }
    applied
}

/// Writes `after` and publishes what it changes.
async fn tell(
    ctx: &Context,
    observed: &mut Observed,
    before: &ClusterStatus,
    after: &ClusterStatus,
) -> Result<(), Error> {
    observed.cluster = status::write(ctx, &observed.cluster, after).await?;
    events::publish(ctx, &observed.cluster, before, after).await;
    Ok(())
}

async fn apply_all(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    (plan, repositories): (&Plan, &repo_host::Plan),
) -> Result<bool, Error> {
    let base = apply_base(ctx, validated, observed, plan, Secrets::Write).await.map(|kept| !kept);
    if base.is_err() && !observed.initialised() {
        return base;
    }
    // What belongs to the cluster as a whole was there before: an instance that is down does not wait for it.
    let steps = apply::apply_steps(ctx, validated, observed, plan).await;
    let hosted = repo_host::apply(ctx, validated, observed, repositories).await;
    let ordered = gap_backups::apply(ctx, validated, observed).await;
    let written = base?;
    steps.and(hosted).and(ordered).map(|()| written)
}

/// What belongs to the cluster as a whole. Returns whether all Secrets were as they shall be.
async fn apply_base(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    plan: &Plan,
    what: Secrets,
) -> Result<bool, Error> {
    let mut password = crate::password::generate;
    let serials = plan.latest_serial.max(observed.cluster.spec.instances);
    let secrets = build::secrets::secrets(validated, observed, serials, ctx.clock.now(), &mut password)?;
    let kept = secrets.is_empty();
    if kept || what == Secrets::Write {
        apply::apply_base(ctx, validated, observed, secrets).await?;
    }
    Ok(kept)
}
