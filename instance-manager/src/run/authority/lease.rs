//! The Lease object `<cluster>-primary`: read, written and given up.

use std::time::Duration;

use howdah_api::naming::{PRIMARY_LEASE_SECONDS, primary_lease};
use howdah_api::{Cluster, INSTANCE_MANAGER, labels};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};
use tokio::time::timeout;

use super::tenure::Seen;
use crate::error::{Error, Result};
use crate::kube::Kubernetes;
use crate::kube::client::api_error;

/// Longest time for one call: a renewal that takes longer comes too late.
const CALL: Duration = Duration::from_secs(3);

/// The lease of one cluster, seen by one instance.
#[derive(Clone)]
pub struct PrimaryLease {
    kube: Kubernetes,
    name: String,
    me: String,
}

impl PrimaryLease {
    /// `me` is the holder's name for this pod.
    #[must_use]
    pub fn new(kube: Kubernetes, me: String) -> Self {
        let name = primary_lease(&kube.cluster_name);
        Self { kube, name, me }
    }

    /// Who this instance is in the lease.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.kube.client.clone(), &self.kube.namespace)
    }

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<Option<T>> {
        match timeout(limit, call).await {
            Ok(Ok(value)) => Ok(Some(value)),
            // Somebody else wrote, or it does not exist (any more): the caller looks again.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 || status.code == 404 => Ok(None),
            Ok(Err(error)) => Err(api_error("Lease", &self.name, error)),
            Err(_) => Err(Error::transient(format!(
                "the Kubernetes API did not answer within {} s about Lease {}",
                limit.as_secs(),
                self.name
            ))),
        }
    }

    /// The lease as it is; `None` when there is none.
    ///
    /// # Errors
    /// When the API does not answer within `limit`.
    pub async fn read_within(&self, limit: Duration) -> Result<Option<Lease>> {
        self.call(limit, self.api().get(&self.name)).await
    }

    /// As [`PrimaryLease::read_within`] with the usual limit.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn read(&self) -> Result<Option<Lease>> {
        self.read_within(CALL).await
    }

    /// Makes the lease one's own, or renews it. `known` is the lease as it was read: when it was changed since, nothing
    /// is written and the answer is `None`.
    ///
    /// # Errors
    /// When the API does not answer; the lease may have been written all the same.
    pub async fn write(&self, known: Option<Lease>, cluster: &Cluster) -> Result<Option<Lease>> {
        let now = MicroTime(Timestamp::now());
        let params = PostParams { field_manager: Some(INSTANCE_MANAGER.to_owned()), ..PostParams::default() };
        let Some(mut lease) = known else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(self.name.clone());
            lease.labels_mut().insert(labels::CLUSTER.to_owned(), self.kube.cluster_name.clone());
            lease.labels_mut().insert(labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_VALUE.to_owned());
            lease.metadata.owner_references = cluster.owner_ref(&()).map(|owner| vec![owner]);
            lease.spec = Some(self.held(&LeaseSpec::default(), now));
            return self.call(CALL, self.api().create(&params, &lease)).await;
        };
        lease.spec = Some(self.held(&lease.spec.unwrap_or_default(), now));
        self.call(CALL, self.api().replace(&self.name, &params, &lease)).await
    }

    fn held(&self, before: &LeaseSpec, now: MicroTime) -> LeaseSpec {
        let changes_hands = before.holder_identity.as_deref() != Some(self.me.as_str());
        let transitions = before.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(PRIMARY_LEASE_SECONDS),
            acquire_time: if changes_hands { Some(now.clone()) } else { before.acquire_time.clone() },
            renew_time: Some(now),
            lease_transitions: Some(transitions + i32::from(changes_hands)),
            ..before.clone()
        }
    }

    /// Gives the lease up, when it is one's own.
    ///
    /// # Errors
    /// When the API does not answer: the lease then ends by itself.
    pub async fn release(&self) -> Result<()> {
        let Some(mut lease) = self.read().await? else { return Ok(()) };
        if seen(&lease).holder != self.me {
            return Ok(());
        }
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = Some(String::new());
        }
        let params = PostParams { field_manager: Some(INSTANCE_MANAGER.to_owned()), ..PostParams::default() };
        self.call(CALL, self.api().replace(&self.name, &params, &lease)).await.map(drop)
    }
}

/// What matters of a lease.
#[must_use]
pub fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    Seen {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|t| t.0.to_string()).unwrap_or_default(),
    }
}
