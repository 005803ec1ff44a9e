//! The lease of the primary as the operator sees it: read, timed by its own clock, emptied for a holder that has ended.

use std::time::Duration;

use howdah_api::{ClusterStatus, OPERATOR_MANAGER, naming};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::observed::{Observed, PrimaryLease};
use crate::context::Context;
use crate::error::Error;

/// Clocks do not run alike: a lease counts as ended this much later.
const MARGIN: Duration = Duration::from_secs(1);

/// Key of the lease among the heartbeats.
fn lease_key(namespace: &str, cluster: &str) -> String {
    format!("lease/{namespace}/{cluster}")
}

/// Key of the chosen primary among the heartbeats.
fn target_key(namespace: &str, cluster: &str) -> String {
    format!("target/{namespace}/{cluster}")
}

/// Drops what is remembered of a cluster that is gone.
pub fn forget(ctx: &Context, namespace: &str, cluster: &str) {
    ctx.heartbeats.forget(&lease_key(namespace, cluster));
    ctx.heartbeats.forget(&target_key(namespace, cluster));
}

/// Reads the lease of `cluster`.
pub async fn read(ctx: &Context, namespace: &str, cluster: &str) -> Result<Option<PrimaryLease>, Error> {
    let name = naming::primary_lease(cluster);
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), namespace);
    let found = api.get_opt(&name).await.map_err(Error::api("get", format!("Lease {name}")))?;
    let Some(lease) = found else {
        ctx.heartbeats.forget(&lease_key(namespace, cluster));
        return Ok(None);
    };
    let version = lease.metadata.resource_version.clone();
    let spec = lease.spec.unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let seen = format!("{holder} {}", spec.renew_time.map(|t| t.0.to_string()).unwrap_or_default());
    let unchanged = ctx.heartbeats.unchanged_for(&lease_key(namespace, cluster), &seen, ctx.clock.elapsed());
    Ok(Some(PrimaryLease {
        expired: unchanged > lasts(spec.lease_duration_seconds) + MARGIN,
        holder,
        unchanged,
        resource_version: version,
    }))
}

fn lasts(seconds: Option<i32>) -> Duration {
    let seconds = seconds.filter(|s| *s > 0).unwrap_or(naming::PRIMARY_LEASE_SECONDS);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// For how long the chosen primary, which is not the primary yet, has said the same.
pub fn target_unchanged(ctx: &Context, namespace: &str, cluster: &str, observed: &Observed) -> Duration {
    let key = target_key(namespace, cluster);
    let ClusterStatus { target_primary: Some(target), current_primary: Some(current), .. } =
        observed.status()
    else {
        return Duration::ZERO;
    };
    if target == current {
        ctx.heartbeats.forget(&key);
        return Duration::ZERO;
    }
    // Not its message: that may count seconds.
    let said = observed.reports.get(&target).and_then(|r| r.as_ref().ok()).map(|r| {
        let positions = (&r.received_lsn, &r.replayed_lsn, r.timeline_id);
        (&r.session_id, r.role, r.ready, r.recovering, r.server_running, r.holds_lease, positions)
    });
    ctx.heartbeats.unchanged_for(&key, &format!("{target} {said:?}"), ctx.clock.elapsed())
}

/// Empties the lease when it is still `holder`'s and was not renewed since it was read.
pub async fn release(ctx: &Context, namespace: &str, observed: &Observed, holder: &str) -> Result<(), Error> {
    let Some(lease) = observed.lease.as_ref().filter(|lease| lease.holder == holder) else { return Ok(()) };
    let name = naming::primary_lease(observed.cluster.metadata.name.as_deref().unwrap_or_default());
    let patch = json!({
        "metadata": {"resourceVersion": lease.resource_version}, "spec": {"holderIdentity": ""},
    });
    let params = PatchParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), namespace);
    match api.patch(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        // Somebody else took or renewed it: then it is not ours to empty.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(error) => Err(Error::api("release", format!("Lease {name}"))(error)),
    }
}
