//! Deployments and ReplicaSets.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::rollout::{self, Count, HASH, REVISION};
use crate::error::{Error, is_conflict, is_not_found};
use crate::events::{self, Events};

/// How often everything is looked at when nothing changes.
const RESYNC: Duration = Duration::from_secs(5);

/// Sees to Deployments and ReplicaSets.
pub(crate) struct Deployments {
    pub client: Client,
    pub events: Events,
}

fn owner_of<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn failed<K: Resource<DynamicType = ()>>(
    action: &'static str,
    object: &K,
) -> impl FnOnce(kube::Error) -> Error {
    let name = format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any());
    Error::api(action, name)
}

/// Everything of the kinds concerned, as it was at one time.
struct Seen {
    deployments: Vec<Deployment>,
    sets: Vec<ReplicaSet>,
    pods: Vec<Pod>,
}

impl Deployments {
    fn api<K>(&self, object: &impl ResourceExt) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    async fn look(&self) -> Result<Seen, Error> {
        let all = ListParams::default();
        let deployments: Api<Deployment> = Api::all(self.client.clone());
        let sets: Api<ReplicaSet> = Api::all(self.client.clone());
        let pods: Api<Pod> = Api::all(self.client.clone());
        Ok(Seen {
            deployments: deployments.list(&all).await.map_err(Error::api("list", "Deployments"))?.items,
            sets: sets.list(&all).await.map_err(Error::api("list", "ReplicaSets"))?.items,
            pods: pods.list(&all).await.map_err(Error::api("list", "Pods"))?.items,
        })
    }

    async fn reconcile(&self) -> Result<(), Error> {
        let seen = self.look().await?;
        for deployment in seen.deployments.iter().filter(|d| d.metadata.deletion_timestamp.is_none()) {
            self.roll_out(deployment, &seen).await?;
        }
        for set in seen.sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()) {
            self.fill(set, &seen.pods).await?;
        }
        Ok(())
    }

    async fn roll_out(&self, deployment: &Deployment, seen: &Seen) -> Result<(), Error> {
        let Some(spec) = &deployment.spec else { return Ok(()) };
        let uid = deployment.uid().unwrap_or_default();
        let owned: Vec<&ReplicaSet> = seen.sets.iter().filter(|set| rollout::controls(&uid, *set)).collect();
        let hash = rollout::template_hash(&spec.template);
        let name = format!("{}-{hash}", deployment.name_any());
        let current = owned.iter().copied().find(|set| set.name_any() == name);
        let counts = |set: &ReplicaSet| count(set, &seen.pods);
        let old_sets: Vec<&ReplicaSet> = owned.iter().copied().filter(|set| set.name_any() != name).collect();
        let old = old_sets.iter().map(|set| counts(set)).fold(
            Count { wanted: 0, exist: 0, ready: 0 },
            |sum, next| Count {
                wanted: sum.wanted + next.wanted,
                exist: sum.exist + next.exist,
                ready: sum.ready + next.ready,
            },
        );
        let new = current.map_or(Count { wanted: 0, exist: 0, ready: 0 }, counts);
        let latest = owned.iter().map(|set| rollout::revision(set)).max().unwrap_or(0);
        if spec.paused != Some(true) {
            let (new_wanted, mut old_wanted) = rollout::next(deployment, new, old);
            match current {
                None => self.create_set(deployment, spec, &name, &hash, new_wanted, latest + 1).await?,
                Some(set) => {
                    // Rolled back to: it is the newest again.
                    let revision = (rollout::revision(set) < latest).then_some(latest + 1);
                    self.scale(set, new_wanted, revision).await?;
                }
            }
            for set in &old_sets {
                let share = counts(set).wanted.min(old_wanted);
                old_wanted -= share;
                self.scale(set, share, None).await?;
            }
        }
        let wanted_revision = current.map_or(latest + 1, rollout::revision).max(1).to_string();
        let api: Api<Deployment> = self.api(deployment);
        if deployment.annotations().get(REVISION) != Some(&wanted_revision) && current.is_some() {
            let patch = json!({"metadata": {"annotations": {REVISION: wanted_revision}}});
            api.patch(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .map_err(failed("patch", deployment))?;
        }
        let status = rollout::status(deployment, new, old, &name, Timestamp::now());
        if deployment.status.as_ref() != Some(&status) {
            let patch = json!({ "status": status });
            api.patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .map_err(failed("patch the status of", deployment))?;
        }
        Ok(())
    }

    async fn create_set(
        &self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
        name: &str,
        hash: &str,
        replicas: i32,
        revision: u64,
    ) -> Result<(), Error> {
        let mut template = spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH.to_owned(), hash.to_owned());
        let labels = labels.clone();
        let mut selector = spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.to_owned());
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: deployment.namespace(),
                labels: Some(labels),
                annotations: Some([(REVISION.to_owned(), revision.to_string())].into()),
                owner_references: Some(vec![owner_of(deployment)]),
                ..Default::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                selector,
                template: Some(template),
                ..Default::default()
            }),
            ..Default::default()
        };
        let api: Api<ReplicaSet> = self.api(deployment);
        match api.create(&PostParams::default(), &set).await {
            Ok(_) => {
                let text = format!("Scaled up replica set {name} to {replicas}");
                self.events.normal(&events::about(deployment), "ScalingReplicaSet", text);
                Ok(())
            }
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(failed("create", &set)(error)),
        }
    }

    async fn scale(&self, set: &ReplicaSet, replicas: i32, revision: Option<u64>) -> Result<(), Error> {
        let now = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        if now == replicas && revision.is_none() {
            return Ok(());
        }
        let mut patch = json!({"spec": {"replicas": replicas}});
        if let Some(revision) = revision {
            patch["metadata"]["annotations"][REVISION] = revision.to_string().into();
        }
        let api: Api<ReplicaSet> = self.api(set);
        match api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(failed("scale", set)(error)),
        }
    }

    async fn fill(&self, set: &ReplicaSet, pods: &[Pod]) -> Result<(), Error> {
        let uid = set.uid().unwrap_or_default();
        let owned: Vec<&Pod> =
            pods.iter().filter(|pod| rollout::controls(&uid, *pod) && rollout::is_active(pod)).collect();
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let wanted_pods = usize::try_from(wanted).unwrap_or(0);
        let api: Api<Pod> = self.api(set);
        for pod in rollout::surplus(&owned, wanted_pods) {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
                ..Default::default()
            };
            match api.delete(&pod.name_any(), &params).await {
                Ok(_) => {
                    let text = format!("Deleted pod: {}", pod.name_any());
                    self.events.normal(&events::about(set), "SuccessfulDelete", text);
                }
                Err(error) if is_not_found(&error) || is_conflict(&error) => {}
                Err(error) => return Err(failed("delete", pod)(error)),
            }
        }
        for _ in owned.len()..wanted_pods {
            self.create_pod(&api, set).await?;
        }
        self.tell(set, &owned).await
    }

    async fn create_pod(&self, api: &Api<Pod>, set: &ReplicaSet) -> Result<(), Error> {
        let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let mut metadata = template.metadata.unwrap_or_default();
        // Named here and not by the server, so that any server's naming rules are met alike.
        let suffix: String = uuid::Uuid::new_v4()
            .simple()
            .to_string()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(5)
            .collect();
        metadata.name = Some(format!("{}-{suffix}", set.name_any()));
        metadata.namespace = set.namespace();
        metadata.owner_references = Some(vec![owner_of(set)]);
        let pod = Pod { metadata, spec: template.spec, status: None };
        match api.create(&PostParams::default(), &pod).await {
            Ok(made) => {
                let text = format!("Created pod: {}", made.name_any());
                self.events.normal(&events::about(set), "SuccessfulCreate", text);
                Ok(())
            }
            Err(error) => {
                let text = format!("Error creating: {error}");
                self.events.warning(&events::about(set), "FailedCreate", text);
                Err(failed("create", &pod)(error))
            }
        }
    }

    async fn tell(&self, set: &ReplicaSet, owned: &[&Pod]) -> Result<(), Error> {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let ready = number(owned.iter().filter(|pod| rollout::is_ready(pod)).count());
        let status = ReplicaSetStatus {
            replicas: number(owned.len()),
            fully_labeled_replicas: Some(number(owned.len())),
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            observed_generation: set.metadata.generation,
            ..Default::default()
        };
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<ReplicaSet> = self.api(set);
        let patch = json!({ "status": status });
        match api.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(failed("patch the status of", set)(error)),
        }
    }

    /// Sees to them until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let watched = |stream: futures::stream::BoxStream<'static, ()>| stream;
        let all = || watcher::Config::default();
        let deployments = watcher::watcher(Api::<Deployment>::all(self.client.clone()), all());
        let sets = watcher::watcher(Api::<ReplicaSet>::all(self.client.clone()), all());
        let pods = watcher::watcher(Api::<Pod>::all(self.client.clone()), all());
        let mut changes = futures::stream::select_all([
            watched(deployments.default_backoff().map(|_| ()).boxed()),
            watched(sets.default_backoff().map(|_| ()).boxed()),
            watched(pods.default_backoff().map(|_| ()).boxed()),
        ]);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                next = changes.next() => if next.is_none() { return },
                // What was refused for a passing reason is tried again though nothing changed.
                () = tokio::time::sleep(RESYNC) => {}
            }
            // Changes come in bursts: what is there already is looked at together.
            let deadline = tokio::time::Instant::now() + Duration::from_millis(20);
            while let Ok(Some(())) = tokio::time::timeout_at(deadline, changes.next()).await {}
            loop {
                let done = tokio::select! {
                    () = stop.cancelled() => return,
                    done = self.reconcile() => done,
                };
                let Err(error) = done else { break };
                tracing::debug!(error = error.chain(), "deployments are looked at again");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
}

fn count(set: &ReplicaSet, pods: &[Pod]) -> Count {
    let uid = set.uid().unwrap_or_default();
    let owned: Vec<&Pod> = pods.iter().filter(|pod| rollout::controls(&uid, *pod)).collect();
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Count {
        wanted: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        exist: number(owned.iter().filter(|pod| !is_over(pod)).count()),
        ready: number(owned.iter().filter(|pod| rollout::is_active(pod) && rollout::is_ready(pod)).count()),
    }
}

/// A pod that has ended counts nowhere; one that is ending still does.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
