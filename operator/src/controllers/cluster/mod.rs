//! The Cluster controller: brings a cluster to what its specification asks for.

pub mod apply;
pub mod build;
pub mod decide;
pub mod events;
pub mod fetch;
pub mod observed;
pub mod phases;
pub mod quantity;
pub mod recovery_target;
pub mod status;
pub mod trouble;
pub mod validate;

#[cfg(test)]
mod build_tests;
#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod status_tests;

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
        return Ok(Action::await_change());
    };
    if observed.cluster.metadata.deletion_timestamp.is_some() {
        // Owner references take everything along.
        return Ok(Action::await_change());
    }
    let validated = validate::validate(&observed, &ctx.settings);
    let hash = build::pod::spec_hash(&observed.cluster, &validated);
    let plan = decide::decide(&validated, &observed, &hash);
    let now = ctx.clock.now();
    let status = status::fold(&validated, &observed, &plan, &hash, now);
    let outcome = carry_out(ctx, &validated, observed, &plan, &status).await;
    match outcome {
        Ok(()) => Ok(Action::requeue(if plan.at_rest { REST } else { BUSY })),
        Err(error) => Err(error),
    }
}

async fn carry_out(
    ctx: &Context,
    validated: &Validated,
    mut observed: Observed,
    plan: &Plan,
    status: &ClusterStatus,
) -> Result<(), Error> {
    let before = observed.status();
    // The status goes first: the target primary and a new serial must be known before anything bears them.
    observed.cluster = status::write(ctx, &observed.cluster, status).await?;
    events::publish(ctx, &observed.cluster, &before, status).await;
    ctx.metrics.cluster(&validated.namespace, &validated.name, status::gauges(&observed, status));
    let applied = apply_all(ctx, validated, &observed, plan).await;
    if let Err(error) = &applied
        && error.class() == Class::Permanent
    {
        let mut told = status.clone();
        told.phase = Some(phases::REJECTED.to_owned());
        told.phase_reason = Some(chain(error));
        status::write(ctx, &observed.cluster, &told).await?;
        events::publish(ctx, &observed.cluster, &before, &told).await;
    }
    applied
}

async fn apply_all(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    plan: &Plan,
) -> Result<(), Error> {
    let mut password = crate::password::generate;
    let secrets = build::secrets::secrets(
        validated,
        observed,
        plan.latest_serial.max(observed.cluster.spec.instances),
        ctx.clock.now(),
        &mut password,
    )?;
    apply::apply_base(ctx, validated, observed, secrets).await?;
    apply::apply_steps(ctx, validated, observed, plan).await
}
