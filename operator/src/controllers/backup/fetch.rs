//! Gathers what a decision about a Backup needs.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_api::instance::InstanceStatus;
use howdah_api::{Backup, Cluster, labels, naming};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::context::Context;
use crate::controllers::cluster::fetch as cluster_fetch;
use crate::error::Error;
use crate::instance_client::InstanceError;

/// Everything that a decision about one Backup is made from.
#[derive(Clone, Default)]
pub struct Observed {
    /// The Backup.
    pub backup: Backup,
    /// Its cluster, when it exists.
    pub cluster: Option<Cluster>,
    /// All Backups of that cluster, this one among them, oldest first.
    pub queue: Vec<Backup>,
    /// Pods of that cluster.
    pub pods: Vec<Pod>,
    /// What each instance said.
    pub reports: BTreeMap<String, Result<InstanceStatus, InstanceError>>,
    /// How long the Backup has shown no sign of life, by our own clock.
    pub silent_for: Duration,
}

impl Observed {
    /// UID of the Backup.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.backup.metadata.uid.as_deref().unwrap_or_default()
    }

    /// What changes while an instance works on the Backup.
    #[must_use]
    pub fn sign_of_life(&self) -> String {
        sign_of_life(&self.backup)
    }
}

fn sign_of_life(backup: &Backup) -> String {
    let Some(status) = &backup.status else { return String::new() };
    let heartbeat = status.heartbeat_at.as_ref().map(|t| t.0.to_string()).unwrap_or_default();
    let done = status.progress.as_ref().map_or(0, |p| p.bytes_done);
    let session = status.instance_id.as_ref().map(|i| i.session_id.as_str()).unwrap_or_default();
    format!("{} {heartbeat} {done} {session}", status.phase())
}

/// Name of the cluster of a Backup that still needs care; `None` when the Backup is gone or has ended.
pub async fn cluster_of(ctx: &Context, namespace: &str, name: &str) -> Result<Option<String>, Error> {
    let backup = get(ctx, namespace, name).await?;
    Ok(backup.filter(needs_care).map(|b| b.spec.cluster.name))
}

/// Whether it has to be given to an instance or watched.
pub(super) fn needs_care(backup: &Backup) -> bool {
    let phase = backup.status.as_ref().map(|s| s.phase()).unwrap_or_default();
    // One that is being taken comes to its end though it is deleted: its data waits for that.
    !phase.is_terminal() && (backup.metadata.deletion_timestamp.is_none() || phase.is_executing())
}

async fn get(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Backup>, Error> {
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), namespace);
    api.get_opt(name).await.map_err(Error::api("get", format!("Backup {name}")))
}

/// Reads everything about the Backup `name`; `None` when it is gone or has ended.
pub async fn fetch(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Observed>, Error> {
    let Some(backup) = get(ctx, namespace, name).await?.filter(needs_care) else { return Ok(None) };
    let cluster_name = backup.spec.cluster.name.clone();
    let clusters: Api<Cluster> = Api::namespaced(ctx.client.clone(), namespace);
    let pods_api: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let params = ListParams::default().labels(&format!("{}={cluster_name}", labels::CLUSTER));
    let (cluster, queue, pods) = tokio::try_join!(
        async {
            clusters
                .get_opt(&cluster_name)
                .await
                .map_err(Error::api("get", format!("Cluster {cluster_name}")))
        },
        cluster_fetch::backups(ctx, namespace, &cluster_name),
        async {
            pods_api
                .list(&params)
                .await
                .map_err(Error::api("list", format!("Pods of Cluster {cluster_name}")))
        },
    )?;
    let pods: Vec<Pod> = pods
        .items
        .into_iter()
        .filter(|p| naming::serial_of(&cluster_name, &p.name_any()).is_some())
        .collect();
    let secret = naming::operator_secret(&cluster_name);
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let found = secrets.get_opt(&secret).await.map_err(Error::api("get", format!("Secret {secret}")))?;
    let known = found.map(|s| BTreeMap::from([(secret, s)])).unwrap_or_default();
    let credentials = cluster_fetch::credentials(&known, &cluster_name);
    let reports = cluster_fetch::poll(ctx, namespace, &cluster_name, &pods, credentials).await;
    let uid = backup.uid().unwrap_or_default();
    let silent_for = ctx.heartbeats.unchanged_for(&uid, &sign_of_life(&backup), ctx.clock.elapsed());
    Ok(Some(Observed { backup, cluster, queue, pods, reports, silent_for }))
}
