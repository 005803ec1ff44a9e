//! What `fetch` brought: plain data, looked at by the pure steps.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_api::instance::{InstanceRole, InstanceStatus};
use howdah_api::{Backup, Cluster, ClusterStatus, labels, naming};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::ownership::{Owner, owner};
use crate::instance_client::InstanceError;

/// Everything that a decision about one cluster is made from.
#[derive(Clone, Default)]
pub struct Observed {
    /// The cluster itself.
    pub cluster: Cluster,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its volumes, and foreign ones that bear a name it needs.
    pub volumes: Vec<PersistentVolumeClaim>,
    /// Those of the Secrets it names or owns that exist.
    pub secrets: BTreeMap<String, Secret>,
    /// The Backups of this cluster.
    pub backups: Vec<Backup>,
    /// The Backup to recover from, when one is named and exists.
    pub recovery_backup: Option<Backup>,
    /// The pod and the volumes of the repository host.
    pub repo_host: RepoHost,
    /// What each running instance said, by pod name.
    pub reports: BTreeMap<String, Result<InstanceStatus, InstanceError>>,
    /// When all this was looked at.
    pub now: Timestamp,
    /// The lease of the primary; `None` when there is none. It was read before the pods: what these say is newer.
    pub lease: Option<PrimaryLease>,
    /// The nodes of the pods; one that is not named is not known.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// For how long, by our own clock, the chosen primary has said the same; zero while there is no change of the primary.
    pub target_unchanged: Duration,
}

/// Who may take writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrimaryLease {
    /// An instance and its pod (`naming::lease_holder`); empty when nobody holds it.
    pub holder: String,
    /// For how long it was not renewed, by our own clock.
    pub unchanged: Duration,
    /// It was not renewed for longer than it lasts.
    pub expired: bool,
    /// Version of the object that was read.
    pub resource_version: Option<String>,
}

/// What matters of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its kubelet has reported lately that it is well.
    pub ready: bool,
    /// It takes no new pods: it is being drained, mostly.
    pub unschedulable: bool,
}

/// What serves repositories on volumes.
#[derive(Clone, Debug, Default)]
pub struct RepoHost {
    /// Its pod.
    pub pod: Option<Pod>,
    /// Volumes that are there, by name of the repository.
    pub volumes: BTreeMap<String, PersistentVolumeClaim>,
}

/// One instance: a pod, its volumes, and what its manager said. Any of them may be missing.
#[derive(Clone, Copy)]
pub struct Instance<'a> {
    /// Serial.
    pub serial: i32,
    /// Its pod.
    pub pod: Option<&'a Pod>,
    /// Its data volume.
    pub data: Option<&'a PersistentVolumeClaim>,
    /// Its WAL volume.
    pub wal: Option<&'a PersistentVolumeClaim>,
    /// Its manager's answer.
    pub report: Option<&'a InstanceStatus>,
}

impl Observed {
    /// The cluster's status, empty when there is none.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.cluster.status.clone().unwrap_or_default()
    }

    /// UID of the cluster.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.cluster.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Whether `meta` is owned by this very cluster.
    #[must_use]
    pub fn owns(&self, meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> bool {
        owner(meta, &self.cluster.name_any(), self.uid()) == Owner::Us
    }

    /// The instances, by serial. Objects of others do not count.
    #[must_use]
    pub fn instances(&self) -> Vec<Instance<'_>> {
        let cluster = self.cluster.name_any();
        let mut map: BTreeMap<i32, Instance<'_>> = BTreeMap::new();
        let empty = |serial| Instance { serial, pod: None, data: None, wal: None, report: None };
        for pod in self.pods.iter().filter(|p| self.owns(&p.metadata)) {
            let name = pod.name_any();
            if let Some(serial) = naming::serial_of(&cluster, &name) {
                let instance = map.entry(serial).or_insert_with(|| empty(serial));
                instance.pod = Some(pod);
                instance.report = self.reports.get(&name).and_then(|r| r.as_ref().ok());
            }
        }
        for volume in self.volumes.iter().filter(|v| self.owns(&v.metadata)) {
            let name = volume.name_any();
            let (instance, is_wal) = match name.strip_suffix("-wal") {
                Some(instance) => (instance, true),
                None => (name.as_str(), false),
            };
            if let Some(serial) = naming::serial_of(&cluster, instance) {
                let instance = map.entry(serial).or_insert_with(|| empty(serial));
                if is_wal {
                    instance.wal = Some(volume);
                } else {
                    instance.data = Some(volume);
                }
            }
        }
        map.into_values().collect()
    }

    /// Whether this cluster has ever had data: then nothing may be initialised again.
    #[must_use]
    pub fn initialised(&self) -> bool {
        let status = self.status();
        status.system_id.is_some()
            || status.current_primary.is_some()
            || self.volumes.iter().any(|v| self.owns(&v.metadata) && volume_ready(v))
    }
}

impl Instance<'_> {
    /// Whether the pod takes connections, as Kubernetes sees it.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.pod.is_some_and(pod_ready)
    }

    /// Whether it is ready and says itself that it is a primary that has ended its recovery.
    #[must_use]
    pub fn ready_primary(&self) -> bool {
        self.ready()
            && self.report.is_some_and(|r| r.ready && r.role == Some(InstanceRole::Primary) && !r.recovering)
    }

    /// What it follows (`spec.replica`), when it is ready and does so.
    #[must_use]
    pub fn following(&self) -> Option<&str> {
        self.report.filter(|r| self.ready() && r.ready)?.following.as_deref()
    }

    /// Whether the volumes it needs are there and stay.
    #[must_use]
    pub fn has_volumes(&self, with_wal: bool) -> bool {
        let stays =
            |v: Option<&PersistentVolumeClaim>| v.is_some_and(|v| v.metadata.deletion_timestamp.is_none());
        stays(self.data) && (!with_wal || stays(self.wal))
    }

    /// Whether its volume holds a finished data directory.
    #[must_use]
    pub fn volume_ready(&self) -> bool {
        self.data.is_some_and(volume_ready)
    }

    /// UID of its pod.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        self.pod?.metadata.uid.as_deref()
    }

    /// Whether its pod is on its way out.
    #[must_use]
    pub fn terminating(&self) -> bool {
        self.pod.is_some_and(|p| p.metadata.deletion_timestamp.is_some())
    }
}

/// Whether the volume is marked as holding a finished data directory.
#[must_use]
pub fn volume_ready(volume: &PersistentVolumeClaim) -> bool {
    volume.annotations().get(labels::VOLUME_STATUS).is_some_and(|v| v == "ready")
}

/// Whether the pod has the condition `Ready` and stays.
#[must_use]
pub fn pod_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .any(|c| c.type_ == "Ready" && c.status == "True")
}
