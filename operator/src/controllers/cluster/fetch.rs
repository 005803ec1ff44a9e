//! Gathers what a decision about a cluster needs: the only step that reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use howdah_api::{Backup, Cluster, labels, naming};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, ListParams};
use kube::core::DeserializeGuard;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::observed::{Observed, RepoHost};
use super::resting::Known;
use super::{certificates, lease, nodes, trouble, validate};
use crate::context::Context;
use crate::error::Error;
use crate::instance_client::{Credentials, Target};
use crate::shelf;

/// At a cluster at rest, nodes may have been looked at so long ago.
const NODES: Duration = Duration::from_secs(30);
/// The instances of a cluster at rest answer within this time; where one does not, the cluster is read afresh.
const ANSWER: Duration = Duration::from_secs(1);

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
        backups(ctx, namespace, name),
    )?;
    let recovery_backup = recovery_backup(client, namespace, &cluster).await?;
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
    observed.nodes = nodes::read(ctx, &observed.pods, Duration::ZERO).await;
    observed.repo_host = repo_host(client, namespace, &observed).await?;
    observed.secrets = secrets(client, namespace, &observed).await?;
    let credentials = credentials(&observed.secrets, name);
    observed.reports = poll(ctx, namespace, name, &observed.pods, credentials).await;
    observed.target_unchanged = lease::target_unchanged(ctx, namespace, name, &observed);
    Ok(Some(observed))
}

/// The same of a cluster at rest, without the lease and at the price of what its instances answer: from the watches, and
/// from `known`, read again when that is old. `None` when it cannot be had that way.
pub async fn stored(
    ctx: &Context,
    namespace: &str,
    name: &str,
    known: &Known,
) -> Result<Option<Observed>, Error> {
    let client = &ctx.client;
    let seen = &ctx.seen;
    let current = seen.clusters.is_current(namespace)
        && seen.pods.is_current(namespace)
        && seen.volumes.is_current(namespace)
        && seen.repo_hosts.is_current(namespace)
        && seen.backups.is_current(namespace);
    if !current {
        return Ok(None);
    }
    let cluster = seen.clusters.get(namespace, name).and_then(|found| found.0.as_ref().ok().cloned());
    let pods = seen.pods.of(namespace, name);
    let volumes = seen.volumes.of(namespace, name);
    let backups = seen.backups.of(namespace, name);
    let (Some(cluster), Some(pods), Some(volumes), Some(backups)) = (cluster, pods, volumes, backups) else {
        return Ok(None);
    };
    let mut observed = Observed {
        cluster,
        pods: pods.iter().map(|pod| (**pod).clone()).collect(),
        backups: in_order(backups.iter().filter_map(|backup| backup.0.as_ref().ok().cloned()).collect()),
        recovery_backup: known.recovery_backup.clone(),
        now: ctx.clock.now(),
        ..Observed::default()
    };
    let (own, of_repositories): (Vec<_>, Vec<_>) = volumes
        .iter()
        .map(|volume| (**volume).clone())
        .partition(|v| !v.labels().contains_key(labels::REPO_HOST));
    observed.volumes = own;
    if observed.volumes.is_empty() {
        return Ok(None);
    }
    let Some(repo_host) = stored_repo_host(ctx, namespace, &observed, of_repositories) else {
        return Ok(None);
    };
    observed.repo_host = repo_host;
    if known.is_old(ctx.clock.elapsed()) {
        observed.recovery_backup = recovery_backup(client, namespace, &observed.cluster).await?;
        observed.secrets = secrets(client, namespace, &observed).await?;
    } else if given_are_the_same(client, namespace, &observed.cluster, known).await? {
        observed.secrets.clone_from(&known.secrets);
    } else {
        return Ok(None);
    }
    observed.nodes = nodes::read(ctx, &observed.pods, NODES).await;
    let credentials = credentials(&observed.secrets, name);
    let asking = poll(ctx, namespace, name, &observed.pods, credentials);
    let Ok(reports) = tokio::time::timeout(ANSWER, asking).await else { return Ok(None) };
    observed.reports = reports;
    Ok(Some(observed))
}

/// What the parts of a repository host are called.
struct RepoHostNames {
    pod: String,
    /// Each repository with its volume.
    volumes: Vec<(String, String)>,
}

impl RepoHostNames {
    /// `None` for a cluster that has no repository on a volume, and had none.
    fn of(observed: &Observed) -> Option<Self> {
        let name = observed.cluster.name_any();
        let repositories = validate::volume_repositories(&observed.cluster);
        if repositories.is_empty() && observed.status().repository_volumes.is_empty() {
            return None;
        }
        let volumes = repositories.into_iter().map(|(repository, _)| {
            let volume = naming::repo_volume(&name, &repository);
            (repository, volume)
        });
        Some(Self { pod: naming::repo_host_pod(&name), volumes: volumes.collect() })
    }
}

/// The repository host from the watches; `None` when one of its volumes is not among them: a volume that a person gave
/// back bears no label of ours.
fn stored_repo_host(
    ctx: &Context,
    namespace: &str,
    observed: &Observed,
    mut volumes: Vec<PersistentVolumeClaim>,
) -> Option<RepoHost> {
    let Some(names) = RepoHostNames::of(observed) else { return Some(RepoHost::default()) };
    let pods = ctx.seen.repo_hosts.of(namespace, &observed.cluster.name_any())?;
    let pod = pods.iter().find(|pod| pod.name_any() == names.pod).map(|pod| (**pod).clone());
    let mut found = BTreeMap::new();
    for (repository, wanted) in names.volumes {
        let position = volumes.iter().position(|volume| volume.name_any() == wanted)?;
        found.insert(repository, volumes.swap_remove(position));
    }
    Some(RepoHost { pod, volumes: found })
}

/// The Backup that the cluster was told to recover from, when it exists.
async fn recovery_backup(
    client: &Client,
    namespace: &str,
    cluster: &Cluster,
) -> Result<Option<Backup>, Error> {
    let Some(name) = shelf::recovers_from(cluster) else { return Ok(None) };
    let api: Api<Backup> = Api::namespaced(client.clone(), namespace);
    api.get_opt(&name).await.map_err(Error::api("get", format!("Backup {name}")))
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
    let Some(names) = RepoHostNames::of(observed) else { return Ok(RepoHost::default()) };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let pod = pods.get_opt(&names.pod).await.map_err(Error::api("get", format!("Pod {}", names.pod)))?;
    // By name: a volume that a person gave back bears no label of ours.
    let looking = names.volumes.into_iter().map(|(repository, volume)| {
        let volumes = volumes.clone();
        async move {
            let what = format!("PersistentVolumeClaim {volume}");
            let found = volumes.get_opt(&volume).await.map_err(Error::api("get", what))?;
            Ok::<_, Error>(found.map(|found| (repository, found)))
        }
    });
    let found = join_all(looking).await;
    Ok(RepoHost { pod, volumes: found.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()? })
}

/// The Backups of one cluster, oldest first: those that have not ended as they are now. What has ended stays so, and is
/// taken from the watch, without what nobody asks an ended one for.
pub async fn backups(ctx: &Context, namespace: &str, cluster: &str) -> Result<Vec<Backup>, Error> {
    ctx.seen.backups.first_list(namespace).await;
    let Some(seen) = ctx.seen.backups.of(namespace, cluster) else {
        return list_backups(&ctx.client, namespace, cluster).await;
    };
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), namespace);
    let readable = seen.iter().filter_map(|backup| backup.0.as_ref().ok());
    let looking = readable.map(|backup| {
        let api = api.clone();
        async move {
            if backup.status.as_ref().is_some_and(|s| s.phase().is_terminal()) {
                return Ok(Some(backup.clone()));
            }
            let name = backup.name_any();
            api.get_opt(&name).await.map_err(Error::api("get", format!("Backup {name}")))
        }
    });
    let found = join_all(looking).await;
    Ok(in_order(found.into_iter().filter_map(Result::transpose).collect::<Result<_, Error>>()?))
}

fn in_order(mut backups: Vec<Backup>) -> Vec<Backup> {
    backups.sort_by_key(|b| (b.metadata.creation_timestamp.as_ref().map(|t| t.0), b.name_any()));
    backups
}

/// The same without a watch: all Backups of the namespace are read.
async fn list_backups(client: &Client, namespace: &str, cluster: &str) -> Result<Vec<Backup>, Error> {
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
    Ok(in_order(found))
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
    read_secrets(client, namespace, names).await
}

/// Those of these names that exist.
async fn read_secrets(
    client: &Client,
    namespace: &str,
    names: impl IntoIterator<Item = String>,
) -> Result<BTreeMap<String, Secret>, Error> {
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

/// Whether the certificates that the user gave are those that are known. Whoever replaces one waits for it to be taken up,
/// and no watch tells of it: the operator may read Secrets by name, and not list them.
async fn given_are_the_same(
    client: &Client,
    namespace: &str,
    cluster: &Cluster,
    known: &Known,
) -> Result<bool, Error> {
    let names = certificates::secret_names(cluster);
    let found = read_secrets(client, namespace, names.iter().cloned()).await?;
    let version = |secrets: &BTreeMap<String, Secret>, name| {
        secrets.get(name).and_then(|secret| secret.metadata.resource_version.clone())
    };
    Ok(names.iter().all(|name| version(&found, name) == version(&known.secrets, name)))
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
