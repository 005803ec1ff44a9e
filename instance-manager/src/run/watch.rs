//! Keeps the Cluster and the Secrets fresh. When the API is away, the last known ones stay.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use howdah_api::Cluster;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::time::sleep;

use super::certificates;
use super::passwords::Wanted;
use super::shared::Shared;
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::error::Result;
use crate::kube::Kubernetes;
use crate::kube::secrets::SecretValues;

/// How often Secrets are read again: they are few, and a watch on each would cost more.
const SECRETS_EVERY: Duration = Duration::from_secs(20);

/// Names of every Secret that this instance uses.
#[must_use]
pub fn secret_names(cluster: &Cluster, cluster_name: &str, recovery: Option<&RecoveryFile>) -> Vec<String> {
    let mut names = certificates::secret_names(cluster, cluster_name);
    names.extend(Wanted::secret_names(cluster_name, &cluster.spec));
    let stores = cluster.spec.stores("", cluster_name);
    let sources = recovery.into_iter().flat_map(RecoveryFile::places).map(|place| &place.store);
    let stores = stores.iter().map(|named| &named.store).chain(sources);
    names.extend(stores.flat_map(|s| s.secret_names()).map(str::to_owned));
    names.sort_unstable();
    names.dedup();
    names
}

/// Reads every Secret that this instance uses.
///
/// # Errors
/// When the API does not answer.
pub async fn read_secrets(
    kube: &Kubernetes,
    cluster: &Cluster,
    recovery: Option<&RecoveryFile>,
) -> Result<SecretValues> {
    let names = secret_names(cluster, &kube.cluster_name, recovery);
    kube.read_secrets(names.iter().map(String::as_str)).await
}

/// Follows the Cluster.
pub async fn follow_cluster(shared: Arc<Shared>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", shared.kube.cluster_name));
    let stream = watcher(shared.kube.clusters(), config).default_backoff();
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(cluster) | watcher::Event::InitApply(cluster)) => {
                shared.cluster.send_if_modified(|known| {
                    // Its managed fields are of no use here and cost memory.
                    let mut cluster = cluster;
                    cluster.metadata.managed_fields = None;
                    let changed = **known != cluster;
                    if changed {
                        *known = Arc::new(cluster);
                    }
                    changed
                });
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the Cluster cannot be watched; trying again"),
        }
    }
}

/// Follows the Secrets.
pub async fn follow_secrets(shared: Arc<Shared>) {
    let mut cluster_changes = shared.cluster.subscribe();
    loop {
        tokio::select! {
            () = sleep(SECRETS_EVERY) => {}
            changed = cluster_changes.changed() => if changed.is_err() { return },
        }
        if let Err(error) = refresh_secrets(&shared).await {
            tracing::warn!("Secrets cannot be read; trying again: {}", error.report());
        }
    }
}

/// Reads the Secrets once and tells everyone when something changed.
///
/// # Errors
/// When the API does not answer.
pub async fn refresh_secrets(shared: &Shared) -> Result<()> {
    let recovery = RecoveryFile::read(&shared.env.paths)?;
    let values = read_secrets(&shared.kube, &shared.cluster(), recovery.as_ref()).await?;
    shared.secrets.send_if_modified(|known| {
        let changed = **known != values;
        if changed {
            *known = Arc::new(values);
        }
        changed
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_secrets_are_read() {
        assert_eq!(
            secret_names(&Cluster::default(), "pg", None),
            ["pg-app", "pg-replication", "pg-server", "pg-superuser"]
        );
    }
}
