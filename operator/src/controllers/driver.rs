//! What all controllers share around their five steps: guarding against unreadable objects, timing, counting,
//! and the answer to errors.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use tracing::Instrument;

use crate::context::Context;
use crate::error::{Class, Error, chain, delay};

/// One controller's reconciliation, by namespace and name.
pub type Reconcile = for<'a> fn(&'a Context, &'a str, &'a str) -> BoxFuture<'a, Result<Action, Error>>;

/// Runs `reconcile` for `object`, measured and logged.
pub async fn run<K>(
    controller: &'static str,
    object: Arc<DeserializeGuard<K>>,
    ctx: Arc<Context>,
    reconcile: Reconcile,
) -> Result<Action, Error>
where
    K: Resource<DynamicType = ()>,
{
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    if let Err(InvalidObject { error, .. }) = &object.0 {
        let what = format!("{} {namespace}/{name}", K::kind(&()));
        let failure = Error::Unreadable { object: what, message: error.clone() };
        let reference = object.object_ref(&());
        ctx.event(&reference, EventType::Warning, failure.kind(), failure.to_string()).await;
        return Err(failure);
    }
    let span = tracing::info_span!("reconcile", controller, namespace, name);
    let start = ctx.clock.elapsed();
    let result = reconcile(&ctx, &namespace, &name).instrument(span).await;
    ctx.metrics.reconciled(controller, ctx.clock.elapsed().saturating_sub(start));
    if result.is_ok() {
        ctx.attempts.succeeded(&key(controller, &namespace, &name));
    }
    result
}

fn key(controller: &str, namespace: &str, name: &str) -> String {
    format!("{controller}/{namespace}/{name}")
}

/// When to try again after `error`.
pub fn error_policy<K>(
    controller: &'static str,
    object: &DeserializeGuard<K>,
    error: &Error,
    ctx: &Context,
) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    ctx.metrics.failed(controller, error.kind());
    let class = error.class();
    let attempt = ctx.attempts.failed(&key(controller, &namespace, &name));
    if class == Class::Conflict {
        tracing::debug!(controller, namespace, name, "somebody wrote first, trying again");
    } else {
        tracing::warn!(
            controller,
            namespace,
            name,
            error = chain(error),
            kind = error.kind(),
            attempt,
            "failed"
        );
    }
    if matches!(error, Error::Unreadable { .. }) {
        return Action::await_change();
    }
    let wait = delay(class, attempt, rand::random::<f64>());
    Action::requeue(wait.max(Duration::from_millis(10)))
}
