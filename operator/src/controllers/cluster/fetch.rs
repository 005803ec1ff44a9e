//! Gathers what a decision about a cluster needs: the only step that reads.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use howdah_api::{Backup, Cluster, labels, naming};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, ListParams};
use kube::core::DeserializeGuard;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::observed::{Observed, RepoHost};
use super::{certificates, lease, nodes, trouble, validate};
use crate::context::Context;
use crate::error::Error;
use crate::instance_client::{Credentials, Target};

/// Reads everything about `cluster`; `None` when it is gone.
pub async fn fetch(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Observed>, Error> {
    let client = &ctx.client;
    let clusters: Api<Cluster> = Api::namespaced(client.clone(), namespace);
    let Some(cluster) = clusters.get_opt(name).await.map_err(Error::api("get", format!("Cluster {name}")))?
    else {
        return Ok(None);
    };
    // Before the pods: what these say of its holder is newer, and emptying it fails when it was renewed meanwhile.
    let lease = lease::read(ctx, namespace, name).await?;
    let (pods, volumes, backups) = tokio::try_join!(
        children::<Pod>(client, namespace, name),
        volumes(client, namespace, &cluster),
        list_backups(client, namespace, name),
    )?;
    let recovery_backup = match cluster.spec.bootstrap.as_ref().and_then(|b| b.recovery()?.backup.as_ref()) {
        Some(reference) => {
            let api: Api<Backup> = Api::namespaced(client.clone(), namespace);
            let what = format!("Backup {}", reference.name);
            api.get_opt(&reference.name).await.map_err(Error::api("get", what))?
        }
        None => None,
    };
    let mut observed = Observed {
        cluster,
        pods,
        volumes,
        backups,
        recovery_backup,
        lease,
        now: ctx.clock.now(),
        ..Observed::default()
    };
    observed.nodes = nodes::read(ctx, &observed.pods).await;
    observed.repo_host = repo_host(client, namespace, &observed).await?;
    observed.secrets = secrets(client, namespace, &observed).await?;
    let credentials = credentials(&observed.secrets, name);
    observed.reports = poll(ctx, namespace, name, &observed.pods, credentials).await;
    observed.target_unchanged = lease::target_unchanged(ctx, namespace, name, &observed);
    Ok(Some(observed))
}

async fn children<K>(client: &Client, namespace: &str, cluster: &str) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let params = ListParams::default().labels(&format!("{}={cluster}", labels::CLUSTER));
    let what = format!("{}s of Cluster {cluster}", K::kind(&()));
    let list = Api::<K>::namespaced(client.clone(), namespace).list(&params).await;
    Ok(list.map_err(Error::api("list", what))?.items)
}

/// The cluster's volumes by label, and whatever else bears the name of its first volume.
async fn volumes(
    client: &Client,
    namespace: &str,
    cluster: &Cluster,
) -> Result<Vec<PersistentVolumeClaim>, Error> {
    let name = cluster.name_any();
    let mut list = children::<PersistentVolumeClaim>(client, namespace, &name).await?;
    list.retain(|volume| !volume.labels().contains_key(labels::REPO_HOST));
    if list.is_empty() {
        let first = naming::instance(&name, 1);
        let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        let what = format!("PersistentVolumeClaim {first}");
        list.extend(api.get_opt(&first).await.map_err(Error::api("get", what))?);
    }
    Ok(list)
}

/// The pod and the volumes of the repository host, for a cluster that has or had repositories on volumes.
async fn repo_host(client: &Client, namespace: &str, observed: &Observed) -> Result<RepoHost, Error> {
    let name = observed.cluster.name_any();
    let repositories = validate::volume_repositories(&observed.cluster);
    if repositories.is_empty() && observed.status().repository_volumes.is_empty() {
        return Ok(RepoHost::default());
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let pod_name = naming::repo_host_pod(&name);
    let pod = pods.get_opt(&pod_name).await.map_err(Error::api("get", format!("Pod {pod_name}")))?;
    // By name: a volume that a person gave back bears no label of ours.
    let looking = repositories.into_iter().map(|(repository, _)| {
        let (volumes, volume) = (volumes.clone(), naming::repo_volume(&name, &repository));
        async move {
            let what = format!("PersistentVolumeClaim {volume}");
            let found = volumes.get_opt(&volume).await.map_err(Error::api("get", what))?;
            Ok::<_, Error>(found.map(|found| (repository, found)))
        }
    });
    let found = join_all(looking).await;
    Ok(RepoHost { pod, volumes: found.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()? })
}

/// The Backups of one cluster, oldest first.
pub async fn list_backups(client: &Client, namespace: &str, cluster: &str) -> Result<Vec<Backup>, Error> {
    let api: Api<DeserializeGuard<Backup>> = Api::namespaced(client.clone(), namespace);
    let mut params = ListParams::default().limit(500);
    let mut found = Vec::new();
    loop {
        let page =
            api.list(&params).await.map_err(Error::api("list", format!("Backups of Cluster {cluster}")))?;
        // One that cannot be read is left to the Backup controller to tell of.
        let readable = page.items.into_iter().filter_map(|b| b.0.ok());
        found.extend(readable.filter(|b| b.spec.cluster.name == cluster));
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => break,
        }
    }
    for backup in &mut found {
        backup.metadata.managed_fields = None;
    }
    found.sort_by_key(|b| (b.metadata.creation_timestamp.as_ref().map(|t| t.0), b.name_any()));
    Ok(found)
}

async fn secrets(
    client: &Client,
    namespace: &str,
    observed: &Observed,
) -> Result<BTreeMap<String, Secret>, Error> {
    let name = observed.cluster.name_any();
    let mut names: BTreeSet<String> =
        validate::foreign_secret_names(&observed.cluster, observed).into_iter().collect();
    names.extend([
        naming::ca_secret(&name),
        naming::server_secret(&name),
        naming::replication_secret(&name),
        naming::operator_secret(&name),
        naming::superuser_secret(&name),
        naming::app_secret(&name),
    ]);
    names.extend(certificates::secret_names(&observed.cluster));
    if !validate::volume_repositories(&observed.cluster).is_empty() {
        names.insert(naming::repo_host(&name));
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = join_all(names.into_iter().map(|secret| {
        let api = api.clone();
        async move {
            let what = format!("Secret {secret}");
            let found = api.get_opt(&secret).await.map_err(Error::api("get", what))?;
            Ok::<_, Error>(found.map(|s| (secret, s)))
        }
    }))
    .await;
    found.into_iter().filter_map(Result::transpose).collect()
}

/// The operator's client certificate for `cluster`, when there is one.
#[must_use]
pub fn credentials(secrets: &BTreeMap<String, Secret>, cluster: &str) -> Option<Credentials> {
    let data = secrets.get(&naming::operator_secret(cluster))?.data.as_ref()?;
    let get = |key: &str| data.get(key).map(|v| v.0.clone());
    Some(Credentials { certificate: get("tls.crt")?, key: get("tls.key")?, authority: get("ca.crt")? })
}

/// Asks all instances that have an address and a running PostgreSQL container, at the same time.
pub async fn poll(
    ctx: &Context,
    namespace: &str,
    cluster: &str,
    pods: &[Pod],
    credentials: Option<Credentials>,
) -> BTreeMap<String, Result<howdah_api::instance::InstanceStatus, crate::instance_client::InstanceError>> {
    let Some(credentials) = credentials else { return BTreeMap::new() };
    let targets = pods.iter().filter_map(|pod| target(namespace, cluster, pod, &credentials));
    join_all(targets.map(|target| async move {
        let answer = ctx.instances.status(&target).await;
        if let Err(error) = &answer {
            tracing::debug!(pod = target.pod, error = %error, "no status");
        }
        (target.pod, answer)
    }))
    .await
    .into_iter()
    .collect()
}

/// Where the manager in `pod` is spoken to; `None` while it has no address or does not run.
#[must_use]
pub fn target(namespace: &str, cluster: &str, pod: &Pod, credentials: &Credentials) -> Option<Target> {
    if !manager_runs(pod) {
        return None;
    }
    Some(Target {
        namespace: namespace.to_owned(),
        cluster: cluster.to_owned(),
        pod: pod.name_any(),
        ip: pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())?,
        credentials: credentials.clone(),
    })
}

/// Whether the container with the manager has been started.
fn manager_runs(pod: &Pod) -> bool {
    trouble::postgres(pod).and_then(|c| c.state.as_ref()).is_some_and(|s| s.running.is_some())
}
