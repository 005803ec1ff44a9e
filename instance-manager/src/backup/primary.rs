//! What a backup needs of the primary: that the segment it ended in is closed.
//!
//! On the primary itself that is SQL. A backup on a replica asks the primary's manager.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use howdah_api::Cluster;
use howdah_api::instance::{ErrorBody, WalSwitch};
use howdah_engine::backup::SwitchRequest;
use howdah_engine::{ErrorKind, PrimaryWal};

use crate::error::{Error, Result};
use crate::pg::sql::MAINTENANCE_DB;
use crate::pg::switch::{format_lsn, switch};
use crate::run::manager_client::client;
use crate::run::role::Running;
use crate::run::shared::Shared;

/// How long the primary may take to answer; a checkpoint may be part of it.
const ANSWER: Duration = Duration::from_secs(120);

/// The primary of this cluster, for a backup to one of its repositories.
pub struct Primary {
    /// This instance.
    pub shared: Arc<Shared>,
    /// Name of the repository.
    pub repository: String,
}

/// Address of the primary's pod, from the Cluster's status.
///
/// # Errors
/// When the status does not tell it (yet).
pub fn address(cluster: &Cluster) -> Result<IpAddr> {
    let status = cluster.status.clone().unwrap_or_default();
    let unknown = |what: &str| Error::transient(format!("{what}: waiting for the operator to write it"));
    let name = status
        .current_primary
        .or(status.target_primary)
        .ok_or_else(|| unknown("the Cluster's status names no primary"))?;
    status
        .instances_status
        .iter()
        .find(|i| i.name == name)
        .and_then(|i| i.pod_ip.as_deref())
        .and_then(|ip| ip.parse().ok())
        .ok_or_else(|| unknown(&format!("the Cluster's status has no address of the primary {name}")))
}

impl Primary {
    /// Closes the segment that is being written, or makes sure that the one with `wanted` is closed.
    ///
    /// # Errors
    /// When the primary cannot be asked, or refuses.
    pub async fn switch(&self, wanted: Option<u64>) -> Result<WalSwitch> {
        let shared = &self.shared;
        if shared.server.borrow().running == Some(Running::Primary) {
            let sql = shared.local.connect(MAINTENANCE_DB).await?;
            return switch(&sql, wanted).await;
        }
        let cluster = shared.cluster();
        let (client, base) = client(shared, address(&cluster)?, ANSWER)?;
        let lsn = wanted.map(|lsn| format!("?lsn={}", format_lsn(lsn))).unwrap_or_default();
        let url = format!("{base}/v1/wal/switch{lsn}");
        let answer = client.post(url).send().await.map_err(|e| {
            Error::transient("the primary's manager cannot be asked to close a WAL segment").because(e)
        })?;
        if answer.status().is_success() {
            return answer.json().await.map_err(|e| {
                Error::transient("the primary's manager gave an answer of another kind").because(e)
            });
        }
        let code = answer.status();
        let said: ErrorBody = answer.json().await.unwrap_or_default();
        Err(Error::transient(format!("the primary's manager answered {code}: {}", said.error)))
    }
}

#[async_trait]
impl PrimaryWal for Primary {
    async fn close_segment(&self, request: SwitchRequest) -> howdah_engine::Result<()> {
        self.switch(Some(request.lsn.0)).await.map(drop).map_err(|error| {
            howdah_engine::Error::new(ErrorKind::Postgres, error.report())
                .with_remedy("see that the primary is ready and that its pod can be reached on port 8000")
        })
    }

    fn archive_failure(&self) -> Option<String> {
        let wal = &self.shared.wal;
        wal.failure(&self.repository).or_else(|| wal.status()?.last_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::ClusterStatus;
    use howdah_api::cluster_status::InstanceSummary;

    #[test]
    fn the_address_comes_from_the_status() {
        let mut cluster = Cluster::default();
        assert!(address(&cluster).unwrap_err().to_string().contains("names no primary"));
        cluster.status =
            Some(ClusterStatus { target_primary: Some("pg-1".into()), ..ClusterStatus::default() });
        assert!(address(&cluster).unwrap_err().to_string().contains("no address of the primary pg-1"));
        let summary = InstanceSummary {
            name: "pg-1".into(),
            pod_ip: Some("10.0.0.7".into()),
            ..InstanceSummary::default()
        };
        cluster.status.as_mut().unwrap().instances_status = vec![summary];
        assert_eq!(address(&cluster).unwrap().to_string(), "10.0.0.7");
    }
}
