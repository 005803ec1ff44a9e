//! Carries out a plan: the only step that writes anything but the status.

use howdah_api::{Cluster, OPERATOR_MANAGER, ScheduledBackup, labels, naming};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::build::secrets::Write;
use super::decide::{Fill, Plan, Step};
use super::manager_upgrade::Attempt;
use super::observed::Observed;
use super::ownership::require_ours;
use super::validate::Validated;
use super::{build, fetch, lease};
use crate::context::Context;
use crate::error::Error;
use crate::instance_client::InstanceError;

/// Key of this cluster in the caches of the context.
#[must_use]
pub fn cache_key(namespace: &str, cluster: &str) -> String {
    format!("{namespace}/{cluster}")
}

/// Applies what every cluster has: Secrets, service account, role, services.
pub async fn apply_base(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    secrets: Vec<Write>,
) -> Result<(), Error> {
    let cluster = &observed.cluster;
    ctx.applied.begin(&cache_key(&validated.namespace, &validated.name));
    for write in secrets {
        write_secret(ctx, cluster, write).await?;
    }
    ensure(ctx, validated, &build::rbac::service_account(cluster)).await?;
    ensure(ctx, validated, &build::rbac::role(cluster, validated)).await?;
    ensure(ctx, validated, &build::rbac::role_binding(cluster)).await?;
    for service in build::services::services(cluster) {
        ensure(ctx, validated, &service).await?;
    }
    for (name, budget) in build::budgets::budgets(cluster) {
        match budget {
            Some(budget) => ensure(ctx, validated, &budget).await?,
            None => ensure_absent::<PodDisruptionBudget>(ctx, validated, cluster, &name).await?,
        }
    }
    if !validated.volume_repositories.is_empty() {
        ensure(ctx, validated, &build::repo_host::service(cluster)).await?;
    }
    apply_schedules(ctx, validated, cluster).await
}

/// Makes the ScheduledBackups of the repositories, and deletes those that are no longer asked for. The Backups that they
/// made stay.
async fn apply_schedules(ctx: &Context, validated: &Validated, cluster: &Cluster) -> Result<(), Error> {
    let wanted = build::schedules::schedules(cluster);
    for schedule in &wanted {
        ensure(ctx, validated, schedule).await?;
    }
    for present in schedules(ctx, validated).await? {
        let name = present.name.unwrap_or_default();
        let ours = present.owner_references.iter().flatten().any(|o| Some(&o.uid) == cluster.uid().as_ref());
        if ours && !wanted.iter().any(|schedule| schedule.name_any() == name) {
            delete::<ScheduledBackup>(ctx, &validated.namespace, &name, present.uid).await?;
            tracing::info!(schedule = name, "ScheduledBackup deleted: no longer in the repositories");
        }
    }
    Ok(())
}

/// The ScheduledBackups with the label of the cluster.
async fn schedules(ctx: &Context, validated: &Validated) -> Result<Vec<ObjectMeta>, Error> {
    if let Some(seen) = ctx.seen.schedules.of(&validated.namespace, &validated.name) {
        return Ok(seen.iter().map(|schedule| schedule.meta().clone()).collect());
    }
    let api: Api<ScheduledBackup> = Api::namespaced(ctx.client.clone(), &validated.namespace);
    let what = format!("ScheduledBackups of Cluster {}", validated.name);
    let params = ListParams::default().labels(&format!("{}={}", labels::CLUSTER, validated.name));
    let found = api.list_metadata(&params).await.map_err(Error::api("list", what))?;
    Ok(found.items.into_iter().map(|schedule| schedule.metadata).collect())
}

async fn write_secret(ctx: &Context, cluster: &Cluster, write: Write) -> Result<(), Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
    let name = write.secret.name_any();
    let what = format!("Secret {name}");
    if write.keep_existing {
        match api
            .create(
                &PostParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() },
                &write.secret,
            )
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
            Err(error) => return Err(Error::api("create", what)(error)),
        }
    } else {
        let params = PatchParams::apply(OPERATOR_MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&write.secret)).await.map_err(Error::api("apply", what))?;
    }
    tracing::info!(secret = name, reason = write.reason, "Secret written");
    Ok(())
}

/// Server-side apply, unless the same was applied a moment ago and nobody touched anything since.
async fn ensure<K>(ctx: &Context, validated: &Validated, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let name = object.name_any();
    let what = format!("{} {name}", K::kind(&()));
    let json = serde_json::to_vec(object).map_err(|source| Error::Encode { object: what.clone(), source })?;
    let fingerprint = hex::encode(Sha256::digest(&json));
    let owner = cache_key(&validated.namespace, &validated.name);
    if ctx.applied.is_fresh(&owner, &what, &fingerprint, ctx.clock.elapsed()) {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &validated.namespace);
    let uid = object.meta().owner_references.iter().flatten().next().map(|o| o.uid.clone());
    if let Some(present) = api.get_opt(&name).await.map_err(Error::api("get", what.clone()))? {
        require_ours(&what, present.meta(), &validated.name, &uid.unwrap_or_default())?;
    }
    let params = PatchParams::apply(OPERATOR_MANAGER).force();
    let applied =
        api.patch(&name, &params, &Patch::Apply(object)).await.map_err(Error::api("apply", what.clone()))?;
    ctx.applied.remember(&owner, &what, fingerprint, applied.resource_version(), ctx.clock.elapsed());
    Ok(())
}

/// Deletes an object that the cluster has no longer, if it is the cluster's, unless that was looked at a moment ago and
/// nobody touched anything since.
async fn ensure_absent<K>(
    ctx: &Context,
    validated: &Validated,
    cluster: &Cluster,
    name: &str,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    const ABSENT: &str = "absent";
    let what = format!("{} {name}", K::kind(&()));
    let owner = cache_key(&validated.namespace, &validated.name);
    if ctx.applied.is_fresh(&owner, &what, ABSENT, ctx.clock.elapsed()) {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &validated.namespace);
    let present = api.get_metadata_opt(name).await.map_err(Error::api("get", what.clone()))?;
    if let Some(present) = present
        && present.owner_references().iter().any(|o| Some(&o.uid) == cluster.uid().as_ref())
    {
        delete::<K>(ctx, &validated.namespace, name, present.uid()).await?;
        tracing::info!(object = what, "deleted: no longer asked for");
    }
    ctx.applied.remember(&owner, &what, ABSENT.to_owned(), None, ctx.clock.elapsed());
    Ok(())
}

/// Carries out the steps of `plan`, in their order. They do not build on each other: one that fails (a volume
/// whose class cannot grow, say) does not keep the others back; the first failure is returned.
pub async fn apply_steps(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    plan: &Plan,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    for step in &plan.steps {
        let done = apply_step(ctx, validated, observed, plan, step).await;
        outcome = outcome.and(done);
    }
    outcome
}

async fn apply_step(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    plan: &Plan,
    step: &Step,
) -> Result<(), Error> {
    let cluster = &observed.cluster;
    let name = |serial: i32| naming::instance(&validated.name, serial);
    let reference = cluster.object_ref(&());
    match step {
        Step::EnsureInstance { serial, fill, reason } => {
            ensure_instance(ctx, validated, cluster, plan, *serial, *fill).await?;
            ctx.event(&reference, EventType::Normal, "CreatingInstance", reason.clone()).await;
        }
        Step::DeletePod { serial, reason } => {
            delete_pod(ctx, validated, observed, &name(*serial)).await?;
            ctx.event(&reference, EventType::Normal, "ReplacingPod", reason.clone()).await;
        }
        Step::StopPod { serial, reason } => {
            delete_pod(ctx, validated, observed, &name(*serial)).await?;
            ctx.event(&reference, EventType::Normal, "StoppingInstance", reason.clone()).await;
        }
        Step::UpgradeManager { serial, reason } => {
            upgrade_manager(ctx, validated, observed, &name(*serial), reason).await?;
        }
        Step::RestartInstance { serial, reason } => {
            restart(ctx, validated, observed, &name(*serial)).await?;
            ctx.event(&reference, EventType::Normal, "RestartingInstance", reason.clone()).await;
        }
        Step::RemoveInstance { serial, reason } => {
            let instance = name(*serial);
            delete::<Pod>(ctx, &validated.namespace, &instance, None).await?;
            delete::<PersistentVolumeClaim>(ctx, &validated.namespace, &instance, None).await?;
            let wal = naming::wal_volume(&instance);
            delete::<PersistentVolumeClaim>(ctx, &validated.namespace, &wal, None).await?;
            ctx.event(&reference, EventType::Normal, "RemovingInstance", reason.clone()).await;
        }
        Step::Label { serial, role } => {
            let patch = json!({"metadata": {"labels": {labels::ROLE: role}}});
            merge::<Pod>(ctx, &validated.namespace, &name(*serial), &patch).await?;
        }
        Step::MarkVolume { serial } => {
            let patch = json!({"metadata": {"annotations": {labels::VOLUME_STATUS: "ready"}}});
            merge::<PersistentVolumeClaim>(ctx, &validated.namespace, &name(*serial), &patch).await?;
        }
        Step::Resize { volume, size } => {
            let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
            merge::<PersistentVolumeClaim>(ctx, &validated.namespace, volume, &patch).await?;
            let note = format!("{volume} grows to {size}");
            ctx.event(&reference, EventType::Normal, "ResizingVolume", note).await;
        }
        Step::ReleaseLease { holder } => {
            lease::release(ctx, &validated.namespace, observed, holder).await?;
        }
        Step::ClearAnnotation { key } => {
            // Only what was decided on: another request that came meanwhile is another decision.
            let patch = json!({
                "metadata": {"resourceVersion": cluster.metadata.resource_version, "annotations": {*key: null}},
            });
            merge::<Cluster>(ctx, &validated.namespace, &validated.name, &patch).await?;
        }
        Step::RefuseSwitchover { reason } => {
            ctx.event(&reference, EventType::Warning, "SwitchoverRefused", reason.clone()).await;
        }
    }
    tracing::info!(cluster = validated.name, namespace = validated.namespace, ?step, "step done");
    Ok(())
}

/// Deletes the pod that was decided on, not another that took its name since.
async fn delete_pod(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    pod: &str,
) -> Result<(), Error> {
    let uid = observed.pods.iter().find(|p| p.name_any() == pod).and_then(ResourceExt::uid);
    delete::<Pod>(ctx, &validated.namespace, pod, uid).await
}

/// Asks the manager of `instance` to restart PostgreSQL. One that cannot be asked now is asked in a later round.
async fn restart(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    instance: &str,
) -> Result<(), Error> {
    let pod = observed.pods.iter().find(|p| p.name_any() == instance);
    let credentials = fetch::credentials(&observed.secrets, &validated.name);
    let (Some(pod), Some(credentials)) = (pod, credentials) else { return Ok(()) };
    match fetch::target(&validated.namespace, &validated.name, pod, &credentials) {
        Some(target) => Ok(ctx.instances.restart(&target).await?),
        None => Ok(()),
    }
}

/// Sends this operator's instance manager to `instance`. What was tried is written on the pod, so that it ends.
async fn upgrade_manager(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    instance: &str,
    reason: &str,
) -> Result<(), Error> {
    let pod = observed.pods.iter().find(|p| p.name_any() == instance);
    let credentials = fetch::credentials(&observed.secrets, &validated.name);
    let (Some(pod), Some(credentials), Some(program)) = (pod, credentials, &ctx.settings.manager) else {
        return Ok(());
    };
    let Some(target) = fetch::target(&validated.namespace, &validated.name, pod, &credentials) else {
        return Ok(());
    };
    let reference = observed.cluster.object_ref(&());
    let known = Attempt::of(pod, &program.sha256);
    let attempt = match known {
        Some(attempt) => attempt,
        None => {
            let attempt = Attempt { sha256: program.sha256.clone(), since: ctx.clock.now(), refused: None };
            note_attempt(ctx, validated, instance, &attempt).await?;
            ctx.event(&reference, EventType::Normal, "ReplacingInstanceManager", reason.to_owned()).await;
            attempt
        }
    };
    match ctx.instances.upgrade(&target, program).await {
        Ok(()) => Ok(()),
        Err(InstanceError::Refused { message, passes: false, .. }) => {
            let note = format!("the instance manager of {instance} cannot be replaced in place: {message}");
            note_attempt(ctx, validated, instance, &Attempt { refused: Some(message), ..attempt }).await?;
            ctx.event(&reference, EventType::Warning, "InstanceManagerNotReplaced", note).await;
            Ok(())
        }
        Err(error) => {
            // It is sent again in the next round.
            tracing::warn!(
                instance,
                error = crate::error::chain(&error),
                "the instance manager is not replaced yet"
            );
            Ok(())
        }
    }
}

async fn note_attempt(
    ctx: &Context,
    validated: &Validated,
    instance: &str,
    attempt: &Attempt,
) -> Result<(), Error> {
    let what = || format!("annotation of Pod {instance}");
    let text = serde_json::to_string(attempt).map_err(|source| Error::Encode { object: what(), source })?;
    let patch = json!({"metadata": {"annotations": {labels::MANAGER_UPGRADE: text}}});
    merge::<Pod>(ctx, &validated.namespace, instance, &patch).await
}

async fn ensure_instance(
    ctx: &Context,
    validated: &Validated,
    cluster: &Cluster,
    plan: &Plan,
    serial: i32,
    fill: Fill,
) -> Result<(), Error> {
    // Volumes first: a pod without its volume would wait, a volume without its pod gets one.
    for volume in build::volumes::volumes(cluster, serial) {
        create(ctx, validated, &volume).await?;
    }
    let instance = naming::instance(&validated.name, serial);
    // A new primary gets its role when it says that it has it.
    let current = cluster.status.as_ref().and_then(|s| s.current_primary.as_deref());
    let role = if plan.target_primary.as_deref() == Some(instance.as_str())
        && current.is_none_or(|name| name == instance)
    {
        labels::ROLE_PRIMARY
    } else {
        labels::ROLE_REPLICA
    };
    create(ctx, validated, &build::pod::pod(cluster, validated, serial, fill, role)).await
}

/// Creates `object`; one that is there already must be the cluster's own.
pub(super) async fn create<K>(ctx: &Context, validated: &Validated, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let name = object.name_any();
    let what = format!("{} {name}", K::kind(&()));
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &validated.namespace);
    let params = PostParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    match api.create(&params, object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let present = api.get_opt(&name).await.map_err(Error::api("get", what.clone()))?;
            let Some(present) = present else { return Ok(()) };
            let uid = object.owner_references().first().map(|o| o.uid.clone()).unwrap_or_default();
            require_ours(&what, present.meta(), &validated.name, &uid)
        }
        Err(error) => Err(Error::api("create", what)(error)),
    }
}

/// Deletes an object; with `uid` only that very one, not another that took its name since.
pub(super) async fn delete<K>(
    ctx: &Context,
    namespace: &str,
    name: &str,
    uid: Option<String>,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    let mut params = DeleteParams::background();
    params.preconditions = uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None });
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Error::api("delete", format!("{} {name}", K::kind(&())))(error)),
    }
}

pub(super) async fn merge<K>(
    ctx: &Context,
    namespace: &str,
    name: &str,
    patch: &serde_json::Value,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    let params = PatchParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    match api.patch(name, &params, &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Error::api("change", format!("{} {name}", K::kind(&())))(error)),
    }
}
