//! The pod of an instance.

use std::collections::BTreeMap;

use howdah_api::cluster::{ImagePullPolicy, PodAntiAffinityType};
use howdah_api::{Cluster, labels, naming};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    HTTPGetAction, LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, Pod,
    PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, Probe, SeccompProfile, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::child_meta;
use crate::controllers::cluster::decide::Fill;
use crate::controllers::cluster::validate::Validated;

/// Seconds between two startup probes.
const STARTUP_PERIOD: i32 = 2;
/// Default of `startDelay`.
const START_DELAY: i32 = 3600;
/// Default of `stopDelay`.
const STOP_DELAY: i32 = 1800;

/// The pod of instance `serial`, whose volume is filled by `fill`. `role` is its first role label.
#[must_use]
pub fn pod(cluster: &Cluster, validated: &Validated, serial: i32, fill: Fill, role: &str) -> Pod {
    let name = naming::instance(&validated.name, serial);
    let mut metadata = child_meta(cluster, name.clone());
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(labels::INSTANCE.to_owned(), name.clone());
    labels.insert(labels::ROLE.to_owned(), role.to_owned());
    let mut annotations = BTreeMap::from([
        (labels::SERIAL.to_owned(), serial.to_string()),
        (labels::POD_SPEC_HASH.to_owned(), spec_hash(cluster, validated)),
    ]);
    annotations.extend(restarted_at(cluster).map(|at| (labels::RESTARTED_AT.to_owned(), at.to_owned())));
    metadata.annotations = Some(annotations);
    Pod { metadata, spec: Some(spec(cluster, validated, &name, fill)), status: None }
}

/// Fingerprint of what a pod of this cluster looks like, whichever instance it is and however it is filled. The image of
/// the instance manager is left out: that may be replaced without the pod (`manager_upgrade`).
#[must_use]
pub fn spec_hash(cluster: &Cluster, validated: &Validated) -> String {
    let mut spec = spec(cluster, validated, "instance", Fill::Nothing);
    let controllers = spec.init_containers.iter_mut().flatten();
    for container in controllers.filter(|c| c.name == naming::CONTAINER_CONTROLLER) {
        container.image = None;
    }
    let mut json = serde_json::to_vec(&spec).expect("a pod specification is plain data");
    json.extend(restarted_at(cluster).unwrap_or_default().as_bytes());
    hex::encode(&Sha256::digest(&json)[..8])
}

/// What `kubectl annotate` says about a restart of all instances.
fn restarted_at(cluster: &Cluster) -> Option<&str> {
    cluster.annotations().get(labels::RESTARTED_AT).map(String::as_str)
}

fn spec(cluster: &Cluster, validated: &Validated, instance: &str, fill: Fill) -> PodSpec {
    let given = &cluster.spec;
    let mut init = vec![controller_container(cluster, validated)];
    init.extend(fill_container(cluster, validated, fill));
    PodSpec {
        init_containers: Some(init),
        containers: vec![postgres_container(cluster, validated)],
        volumes: Some(pod_volumes(cluster, instance)),
        service_account_name: Some(naming::service_account(&validated.name)),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        restart_policy: Some("Always".to_owned()),
        termination_grace_period_seconds: Some(i64::from(given.stop_delay.unwrap_or(STOP_DELAY))),
        image_pull_secrets: pull_secrets(cluster),
        affinity: affinity(cluster),
        node_selector: (!given.affinity.node_selector.is_empty())
            .then(|| given.affinity.node_selector.clone()),
        tolerations: (!given.affinity.tolerations.is_empty()).then(|| given.affinity.tolerations.clone()),
        topology_spread_constraints: spread(cluster),
        security_context: Some(pod_security(cluster)),
        ..PodSpec::default()
    }
}

pub(super) fn pull_secrets(cluster: &Cluster) -> Option<Vec<LocalObjectReference>> {
    let given = &cluster.spec.image_pull_secrets;
    (!given.is_empty()).then(|| given.iter().map(|s| LocalObjectReference { name: s.name.clone() }).collect())
}

pub(super) fn pod_security(cluster: &Cluster) -> PodSecurityContext {
    let (uid, gid) = cluster.spec.postgres_ids();
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(uid),
        run_as_group: Some(gid),
        fs_group: Some(gid),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(seccomp()),
        ..PodSecurityContext::default()
    }
}

fn seccomp() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        seccomp_profile: Some(seccomp()),
        ..SecurityContext::default()
    }
}

pub(super) fn base(cluster: &Cluster, name: &str, image: &str, command: &[&str]) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: cluster.spec.image_pull_policy.map(|p| {
            match p {
                ImagePullPolicy::Always => "Always",
                ImagePullPolicy::IfNotPresent => "IfNotPresent",
                ImagePullPolicy::Never => "Never",
            }
            .to_owned()
        }),
        command: Some(command.iter().map(|s| (*s).to_owned()).collect()),
        resources: cluster.spec.resources.clone(),
        security_context: Some(restricted()),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

pub(super) fn mount(name: &str, path: &str, sub_path: Option<&str>) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        sub_path: sub_path.map(str::to_owned),
        ..VolumeMount::default()
    }
}

fn mounts(cluster: &Cluster) -> Vec<VolumeMount> {
    let mut list = vec![mount("data", naming::DATA_MOUNT, None)];
    if cluster.spec.wal_storage.is_some() {
        list.push(mount("wal", naming::WAL_MOUNT, None));
    }
    list.extend([
        mount("controller", naming::CONTROLLER_DIR, None),
        mount("controller", "/etc/passwd", Some("passwd")),
        mount("controller", "/etc/group", Some("group")),
        mount("tmp", "/tmp", None),
        mount("shm", "/dev/shm", None),
    ]);
    list
}

pub(super) fn controller_container(cluster: &Cluster, validated: &Validated) -> Container {
    let command = [naming::MANAGER_IN_IMAGE, "install", naming::CONTROLLER_DIR];
    Container {
        volume_mounts: Some(vec![mount("controller", naming::CONTROLLER_DIR, None)]),
        ..base(cluster, naming::CONTAINER_CONTROLLER, &validated.manager.image, &command)
    }
}

fn fill_container(cluster: &Cluster, validated: &Validated, fill: Fill) -> Option<Container> {
    let (name, how) = match fill {
        Fill::InitDb => (naming::CONTAINER_BOOTSTRAP, "initdb"),
        Fill::Join => (naming::CONTAINER_BOOTSTRAP, "join"),
        Fill::Recovery => (naming::CONTAINER_RECOVERY, "full-recovery"),
        Fill::Nothing => return None,
    };
    let command = [naming::MANAGER_PATH, "bootstrap", how];
    Some(Container {
        env: Some(environment(validated)),
        volume_mounts: Some(mounts(cluster)),
        ..base(cluster, name, &validated.image, &command)
    })
}

fn postgres_container(cluster: &Cluster, validated: &Validated) -> Container {
    let start = cluster.spec.start_delay.unwrap_or(START_DELAY);
    let port = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    Container {
        env: Some(environment(validated)),
        volume_mounts: Some(mounts(cluster)),
        ports: Some(vec![
            port("postgres", naming::POSTGRES_PORT),
            port("status", naming::STATUS_PORT),
            port("probes", naming::PROBES_PORT),
            port("metrics", naming::METRICS_PORT),
        ]),
        startup_probe: Some(probe("/startupz", STARTUP_PERIOD, (start / STARTUP_PERIOD).max(1))),
        liveness_probe: Some(probe("/healthz", 10, 3)),
        readiness_probe: Some(probe("/readyz", 5, 3)),
        ..base(cluster, naming::CONTAINER_POSTGRES, &validated.image, &[naming::MANAGER_PATH, "run"])
    }
}

pub(super) fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(naming::PROBES_PORT),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        ..Probe::default()
    }
}

pub(super) fn plain(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

pub(super) fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn environment(validated: &Validated) -> Vec<EnvVar> {
    vec![
        plain("CLUSTER_NAME", &validated.name),
        field("NAMESPACE", "metadata.namespace"),
        field("POD_NAME", "metadata.name"),
        field("POD_UID", "metadata.uid"),
        field("POD_IP", "status.podIP"),
        plain("PGDATA", naming::PGDATA),
        plain("PGHOST", naming::RUN_DIR),
        plain("PGUSER", "postgres"),
    ]
}

pub(super) fn claim(name: &str, claim: String) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim,
            read_only: None,
        }),
        ..Volume::default()
    }
}

pub(super) fn scratch(name: &str, medium: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { medium: medium.map(str::to_owned), size_limit: None }),
        ..Volume::default()
    }
}

fn pod_volumes(cluster: &Cluster, instance: &str) -> Vec<Volume> {
    let mut list = vec![claim("data", instance.to_owned())];
    if cluster.spec.wal_storage.is_some() {
        list.push(claim("wal", naming::wal_volume(instance)));
    }
    list.extend([scratch("controller", None), scratch("tmp", None), scratch("shm", Some("Memory"))]);
    list
}

/// Selects what bears the cluster's label.
fn instances_of(cluster: &Cluster) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(labels::CLUSTER.to_owned(), cluster.name_any())])),
        match_expressions: None,
    }
}

fn spread(cluster: &Cluster) -> Option<Vec<TopologySpreadConstraint>> {
    let given = &cluster.spec.topology_spread_constraints;
    let complete = |constraint: &TopologySpreadConstraint| {
        let mut constraint = constraint.clone();
        constraint.label_selector.get_or_insert_with(|| instances_of(cluster));
        constraint
    };
    (!given.is_empty()).then(|| given.iter().map(complete).collect())
}

fn affinity(cluster: &Cluster) -> Option<Affinity> {
    let given = &cluster.spec.affinity;
    let apart = given.enable_pod_anti_affinity.unwrap_or(true).then(|| {
        let term = PodAffinityTerm {
            label_selector: Some(instances_of(cluster)),
            topology_key: given.topology_key.clone().unwrap_or_else(|| "kubernetes.io/hostname".to_owned()),
            ..PodAffinityTerm::default()
        };
        match given.pod_anti_affinity_type.unwrap_or_default() {
            PodAntiAffinityType::Required => PodAntiAffinity {
                required_during_scheduling_ignored_during_execution: Some(vec![term]),
                preferred_during_scheduling_ignored_during_execution: None,
            },
            PodAntiAffinityType::Preferred => PodAntiAffinity {
                preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: term,
                }]),
                required_during_scheduling_ignored_during_execution: None,
            },
        }
    });
    if apart.is_none() && given.node_affinity.is_none() {
        return None;
    }
    Some(Affinity {
        node_affinity: given.node_affinity.clone(),
        pod_anti_affinity: apart,
        pod_affinity: None,
    })
}
