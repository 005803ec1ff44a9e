//! Objects for tests: a cluster in whatever state a test needs. Names differ from those of the product, so
//! that a mix-up of labels and names shows.

use howdah_api::backup::{BackupPhase, BackupProgress, InstanceId};
use howdah_api::instance::{ArchiverStatus, InstanceRole, InstanceStatus};
use howdah_api::{Backup, BackupStatus, Cluster, ClusterStatus, labels, naming};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use crate::context::Settings;
use crate::controllers::cluster::build;
use crate::controllers::cluster::decide::{Fill, decide};
use crate::controllers::cluster::observed::Observed;
use crate::controllers::cluster::status::fold;
use crate::controllers::cluster::validate::{Validated, validate};
use crate::instance_client::InstanceError;

pub fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

pub fn settings() -> Settings {
    Settings {
        postgres_image: "registry/pg:17".into(),
        operator_image: "registry/howdah:1".into(),
        manager: None,
        manager_in_place: true,
    }
}

/// A cluster `zoo` in the namespace `park`; `spec` is YAML.
pub fn cluster(spec: &str) -> Cluster {
    let mut cluster: Cluster = serde_saphyr::from_str(&format!(
        "apiVersion: postgresql.k8s.enterprisedb.io/v1alpha1\nkind: Cluster\nmetadata: {{name: zoo, namespace: park, uid: uid-zoo, generation: 1}}\nspec:\n{}",
        spec.lines().map(|l| format!("  {l}\n")).collect::<String>()
    ))
    .unwrap();
    cluster.metadata.creation_timestamp = Some(Time(now()));
    cluster
}

/// With an object store and its Secret.
pub const STORE: &str = "instances: 2
storage: {size: 5Gi}
backup:
  barmanObjectStore:
    destinationPath: s3://bucket/folder
    s3Credentials:
      accessKeyId: {name: creds, key: ID}
      secretAccessKey: {name: creds, key: KEY}
";

pub fn secret(name: &str, data: &[(&str, &str)]) -> Secret {
    Secret {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some(name.into()),
            namespace: Some("park".into()),
            ..Default::default()
        },
        data: Some(data.iter().map(|(k, v)| ((*k).into(), ByteString(v.as_bytes().to_vec()))).collect()),
        ..Default::default()
    }
}

/// A world that tests change step by step.
pub struct World {
    pub observed: Observed,
}

impl World {
    pub fn new(spec: &str) -> Self {
        Self { observed: Observed { cluster: cluster(spec), now: now(), ..Observed::default() } }
    }

    pub fn validated(&self) -> Validated {
        validate(&self.observed, &settings())
    }

    /// A primary and a replica, both ready, whose WAL goes to a store.
    pub fn archiving_pair() -> Self {
        Self::new(STORE)
            .with_secret("creds", &[("ID", "a"), ("KEY", "b")])
            .initialised(2)
            .with_ready(1, InstanceRole::Primary)
            .with_ready(2, InstanceRole::Replica)
    }

    /// The status after the decision that follows from what is there.
    pub fn folded(&self) -> ClusterStatus {
        let validated = self.validated();
        let plan = decide(&validated, &self.observed, &self.hash());
        fold(&validated, &self.observed, &plan, "hash", now())
    }

    pub fn hash(&self) -> String {
        build::pod::spec_hash(&self.observed.cluster, &self.validated())
    }

    pub fn with_secret(mut self, name: &str, data: &[(&str, &str)]) -> Self {
        self.observed.secrets.insert(name.into(), secret(name, data));
        self
    }

    pub fn with_status(mut self, change: impl FnOnce(&mut ClusterStatus)) -> Self {
        change(self.observed.cluster.status.get_or_insert_default());
        self
    }

    pub fn with_spec(mut self, change: impl FnOnce(&mut howdah_api::ClusterSpec)) -> Self {
        change(&mut self.observed.cluster.spec);
        self
    }

    /// A status as after a first primary `zoo-1` with `serials` instances.
    pub fn initialised(self, serials: i32) -> Self {
        self.with_status(|s| {
            s.target_primary = Some("zoo-1".into());
            s.current_primary = Some("zoo-1".into());
            s.system_id = Some("7400000000000000001".into());
            s.latest_generated_serial = serials;
        })
    }

    pub fn with_volumes(mut self, serial: i32, ready: bool) -> Self {
        for mut volume in build::volumes::volumes(&self.observed.cluster, serial) {
            volume.metadata.uid = Some(format!("uid-{}", volume.name_any()));
            if ready {
                volume.annotations_mut().insert(labels::VOLUME_STATUS.into(), "ready".into());
            }
            self.observed.volumes.push(volume);
        }
        self
    }

    /// A pod as the operator makes it; not started yet.
    pub fn with_pod(mut self, serial: i32) -> Self {
        let validated = self.validated();
        let name = naming::instance("zoo", serial);
        let target = self.observed.status().target_primary;
        let role = if target.as_deref() == Some(&name) { labels::ROLE_PRIMARY } else { labels::ROLE_REPLICA };
        let mut pod = build::pod::pod(&self.observed.cluster, &validated, serial, Fill::Nothing, role);
        pod.metadata.uid = Some(format!("uid-{name}"));
        self.observed.pods.push(pod);
        self
    }

    /// Pod and volumes, running and ready, with its manager's answer.
    pub fn with_ready(self, serial: i32, role: InstanceRole) -> Self {
        let mut world = self.with_volumes(serial, true).with_pod(serial);
        let name = naming::instance("zoo", serial);
        set_ready(world.pod(serial));
        world.observed.reports.insert(name.clone(), Ok(report(&name, role)));
        world
    }

    pub fn pod(&mut self, serial: i32) -> &mut Pod {
        let name = naming::instance("zoo", serial);
        self.observed.pods.iter_mut().find(|p| p.name_any() == name).unwrap()
    }

    pub fn volume(&mut self, name: &str) -> &mut PersistentVolumeClaim {
        self.observed.volumes.iter_mut().find(|v| v.name_any() == name).unwrap()
    }

    pub fn report(&mut self, serial: i32) -> &mut InstanceStatus {
        let name = naming::instance("zoo", serial);
        self.observed.reports.get_mut(&name).unwrap().as_mut().unwrap()
    }

    pub fn silent(mut self, serial: i32) -> Self {
        let pod = naming::instance("zoo", serial);
        let error = InstanceError::Unreachable {
            pod: pod.clone(),
            address: "10.0.0.1:8000".into(),
            message: "connection refused".into(),
        };
        self.observed.reports.insert(pod, Err(error));
        self
    }

    pub fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

pub fn set_ready(pod: &mut Pod) {
    pod.status = Some(
        serde_json::from_value(json!({
            "phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "postgres", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}],
        }))
        .unwrap(),
    );
}

pub fn set_failing_init(pod: &mut Pod, container: &str, message: &str) {
    pod.status = Some(
        serde_json::from_value(json!({
            "phase": "Pending", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "False"}],
            "initContainerStatuses": [
                {"name": "bootstrap-controller", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
                {"name": container, "image": "i", "imageID": "", "ready": false, "restartCount": 3,
                 "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                 "lastState": {"terminated": {"exitCode": 1, "message": message}}},
            ],
        }))
        .unwrap(),
    );
}

pub fn report(pod: &str, role: InstanceRole) -> InstanceStatus {
    InstanceStatus {
        pod_name: pod.into(),
        session_id: format!("session-of-{pod}"),
        manager_version: "1".into(),
        ready: true,
        role: Some(role),
        message: "PostgreSQL takes connections".into(),
        system_id: Some("7400000000000000001".into()),
        server_version: Some(170_010),
        timeline_id: Some(1),
        received_lsn: Some("0/5000060".into()),
        streaming: role == InstanceRole::Replica,
        server_running: true,
        archiver: Some(ArchiverStatus { working: true, confirmed: true, ..ArchiverStatus::default() }),
        ..InstanceStatus::default()
    }
}

/// A Backup of `zoo` made `second` seconds after ten.
pub fn backup(name: &str, second: i64, phase: BackupPhase) -> Backup {
    let mut backup: Backup = serde_json::from_value(json!({
        "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "park", "uid": format!("uid-{name}"), "resourceVersion": "7"},
        "spec": {"cluster": {"name": "zoo"}},
    }))
    .unwrap();
    let made = Timestamp::from_second(now().as_second() + second).unwrap();
    backup.metadata.creation_timestamp = Some(Time(made));
    let mut status = BackupStatus { phase: Some(phase), ..BackupStatus::default() };
    if phase.is_executing() {
        status.instance_id =
            Some(InstanceId { pod_name: "zoo-1".into(), session_id: "session-of-zoo-1".into() });
        status.heartbeat_at = Some(Time(made));
        status.progress = Some(BackupProgress { bytes_done: 1, bytes_total: 2, ..Default::default() });
    }
    if phase.is_terminal() {
        status.stopped_at = Some(Time(Timestamp::from_second(made.as_second() + 4).unwrap()));
    }
    if phase == BackupPhase::Completed {
        status.backup_id = Some("20261121T100000".into());
        status.destination_path = Some("s3://bucket/folder".into());
        status.server_name = Some("zoo".into());
    }
    if phase == BackupPhase::Failed {
        status.error = Some("the bucket is gone; make it again".into());
    }
    if phase != BackupPhase::Pending {
        backup.status = Some(status);
    }
    backup
}
