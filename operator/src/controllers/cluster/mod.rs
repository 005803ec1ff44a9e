//! The Cluster controller: brings a cluster to what its specification asks for.

pub mod apply;
pub mod build;
pub mod certificates;
pub mod decide;
pub mod events;
pub mod fetch;
pub mod gap_backups;
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
mod failover_tests;
#[cfg(test)]
mod fencing_tests;
#[cfg(test)]
mod hibernation_tests;
#[cfg(test)]
mod manager_upgrade_tests;
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
use validate::Validated;

/// Time until the next look while something changes.
const BUSY: Duration = Duration::from_secs(5);
/// Time until the next look at rest.
const REST: Duration = Duration::from_secs(15);

/// One reconciliation of the cluster `name`.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, Error> {
    let Some(observed) = fetch::fetch(ctx, namespace, name).await? else {
        ctx.metrics.forget_cluster(namespace, name);
        ctx.applied.forget(&apply::cache_key(namespace, name));
        lease::forget(ctx, namespace, name);
        return Ok(Action::await_change());
    };
    if observed.cluster.metadata.deletion_timestamp.is_some() {
        // Owner references take everything along.
        return Ok(Action::await_change());
    }
    let validated = validate::validate(&observed, &ctx.settings);
    let hash = build::pod::spec_hash(&observed.cluster, &validated);
    let plan = decide::decide(&validated, &observed, &hash);
    let repositories = repo_host::decide(&validated, &observed);
    let now = ctx.clock.now();
    let mut status = status::fold(&validated, &observed, &plan, &hash, now);
    repo_host::fold(&repositories, &observed, now, &mut status);
    let outcome = carry_out(ctx, &validated, observed, (&plan, &repositories), &status).await;
    match outcome {
        Ok(()) => {
            let at_rest = plan.at_rest && repositories.at_rest() && synchronous::at_rest(&status);
            let usual = if at_rest { REST } else { BUSY };
            let pause = plan.look_again.map_or(usual, |seconds| Duration::from_secs(seconds.into()));
            Ok(Action::requeue(pause))
        }
        Err(error) => Err(error),
    }
}

async fn carry_out(
    ctx: &Context,
    validated: &Validated,
    mut observed: Observed,
    plans: (&Plan, &repo_host::Plan),
    status: &ClusterStatus,
) -> Result<(), Error> {
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
    if let Some(handover) = events::handover(&before, &first) {
        ctx.metrics.handed_over(&validated.namespace, &validated.name, handover);
    }
    ctx.metrics.cluster(&validated.namespace, &validated.name, status::gauges(&observed, status));
    if validated.predecessor {
        return Ok(());
    }
    let applied = apply_all(ctx, validated, &observed, plans).await;
    match &applied {
        Err(error) if error.class() == Class::Permanent => {
            let mut told = status.clone();
            told.phase = Some(phases::REJECTED.to_owned());
            told.phase_reason = Some(chain(error));
            tell(ctx, &mut observed, &first, &told).await?;
        }
        Ok(()) if rejected => tell(ctx, &mut observed, &first, status).await?,
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
) -> Result<(), Error> {
    let base = apply_base(ctx, validated, observed, plan).await;
    if base.is_err() && !observed.initialised() {
        return base;
    }
    // What belongs to the cluster as a whole was there before: an instance that is down does not wait for it.
    let steps = apply::apply_steps(ctx, validated, observed, plan).await;
    let hosted = repo_host::apply(ctx, validated, observed, repositories).await;
    let ordered = gap_backups::apply(ctx, validated, observed).await;
    base.and(steps).and(hosted).and(ordered)
}

async fn apply_base(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    plan: &Plan,
) -> Result<(), Error> {
    let mut password = crate::password::generate;
    let serials = plan.latest_serial.max(observed.cluster.spec.instances);
    let secrets = build::secrets::secrets(validated, observed, serials, ctx.clock.now(), &mut password)?;
    apply::apply_base(ctx, validated, observed, secrets).await
}
