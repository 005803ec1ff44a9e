//! Carries the steps out.

use howdah_api::{OPERATOR_MANAGER, naming};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, PostParams};
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::{Plan, Step};
use crate::context::Context;
use crate::controllers::cluster::apply::{create, delete, merge};
use crate::controllers::cluster::build::repo_host::{self, RepoHostInput};
use crate::controllers::cluster::observed::Observed;
use crate::controllers::cluster::validate::Validated;
use crate::error::Error;

/// Carries out all steps; one that fails does not keep the others back, the first failure is returned.
pub async fn apply(
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
    let reference = observed.cluster.object_ref(&());
    match step {
        Step::MakeVolume { repository } => {
            make_volume(ctx, validated, observed, repository).await?;
            let note = format!("volume of repository {repository} is made");
            ctx.event(&reference, EventType::Normal, "CreatingRepositoryVolume", note).await;
        }
        Step::Grow { volume, size } => {
            let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
            merge::<PersistentVolumeClaim>(ctx, &validated.namespace, volume, &patch).await?;
            let note = format!("{volume} grows to {size}");
            ctx.event(&reference, EventType::Normal, "ResizingVolume", note).await;
        }
        Step::MakePod { reason } => {
            let input = RepoHostInput { repositories: &plan.served };
            create(ctx, validated, &repo_host::pod(&observed.cluster, validated, input)).await?;
            ctx.event(&reference, EventType::Normal, "CreatingRepositoryHost", reason.clone()).await;
        }
        Step::DeletePod { reason } => {
            let name = naming::repo_host_pod(&validated.name);
            let uid = observed.repo_host.pod.as_ref().and_then(ResourceExt::uid);
            delete::<Pod>(ctx, &validated.namespace, &name, uid).await?;
            ctx.event(&reference, EventType::Normal, "ReplacingRepositoryHost", reason.clone()).await;
        }
    }
    tracing::info!(cluster = validated.name, namespace = validated.namespace, ?step, "step done");
    Ok(())
}

/// Makes a volume, unless one of its name is there: it has no owner whose it would have to be.
async fn make_volume(
    ctx: &Context,
    validated: &Validated,
    observed: &Observed,
    repository: &str,
) -> Result<(), Error> {
    let given = validated.volume_repositories.iter().find(|(name, _)| name == repository);
    let Some((_, given)) = given else { return Ok(()) };
    let volume = repo_host::volume(&observed.cluster, repository, given);
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &validated.namespace);
    let params = PostParams { field_manager: Some(OPERATOR_MANAGER.into()), ..Default::default() };
    match api.create(&params, &volume).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => {
            Err(Error::api("create", format!("PersistentVolumeClaim {}", volume.name_any()))(error))
        }
    }
}
