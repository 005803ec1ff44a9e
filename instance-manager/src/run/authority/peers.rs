//! The other instances' word: a primary that cannot reach the API server asks whether they can.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use howdah_api::Cluster;
use howdah_api::instance::PrimaryConfirmation;

use crate::error::{Error, Result};
use crate::run::manager_client::client;
use crate::run::shared::Shared;

/// How long one peer may take: it may try the API server itself meanwhile.
const ANSWER: Duration = Duration::from_secs(4);

/// Another instance of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its address; `None` when the operator had not seen one.
    pub ip: Option<IpAddr>,
}

/// The other instances, from the Cluster as it was last seen.
#[must_use]
pub fn peers(cluster: &Cluster, me: &str) -> Vec<Peer> {
    let all = cluster.status.iter().flat_map(|status| &status.instances_status);
    all.filter(|instance| instance.name != me)
        .map(|instance| Peer {
            name: instance.name.clone(),
            ip: instance.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
        })
        .collect()
}

/// Asks all of them.
///
/// # Errors
/// Names the first one that does not give its word, and why.
pub async fn ask(shared: &Shared) -> Result<()> {
    let me = &shared.env.pod;
    let all = peers(&shared.cluster(), me);
    let answers = join_all(all.iter().map(|peer| ask_one(shared, peer, me))).await;
    for (peer, answer) in all.iter().zip(answers) {
        let answer = answer?;
        if !answer.confirmed {
            return Err(Error::transient(format!("{} does not confirm: {}", peer.name, answer.reason)));
        }
    }
    Ok(())
}

async fn ask_one(shared: &Shared, peer: &Peer, me: &str) -> Result<PrimaryConfirmation> {
    let silent = |why: &str| Error::transient(format!("{} cannot be asked: {why}", peer.name));
    let ip = peer.ip.ok_or_else(|| silent("its address is not known"))?;
    let (client, base) = client(shared, ip, ANSWER)?;
    let url = format!("{base}/v1/primary?name={me}");
    let answer = client.get(url).send().await.map_err(|e| silent("it does not answer").because(e))?;
    if !answer.status().is_success() {
        return Err(silent(&format!("it answers {}", answer.status())));
    }
    answer.json().await.map_err(|e| silent("its answer is of another kind").because(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::ClusterStatus;
    use howdah_api::cluster_status::InstanceSummary;

    #[test]
    fn peers_are_all_others_whatever_their_state() {
        let summary = |name: &str, ip: Option<&str>| InstanceSummary {
            name: name.into(),
            pod_ip: ip.map(str::to_owned),
            ..InstanceSummary::default()
        };
        let instances_status =
            vec![summary("pg-1", Some("10.0.0.1")), summary("pg-2", Some("10.0.0.2")), summary("pg-3", None)];
        let mut cluster = Cluster::default();
        assert!(peers(&cluster, "pg-1").is_empty());
        cluster.status = Some(ClusterStatus { instances_status, ..ClusterStatus::default() });
        let found = peers(&cluster, "pg-1");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].ip, Some("10.0.0.2".parse().unwrap()));
        assert_eq!(found[1], Peer { name: "pg-3".into(), ip: None });
    }
}
