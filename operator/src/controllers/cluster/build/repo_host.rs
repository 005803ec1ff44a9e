//! The pod that serves a cluster's repositories on volumes, these volumes, and its service.

use std::collections::BTreeMap;

use howdah_api::{Cluster, labels, naming};
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod,
    PodAffinityTerm, PodAntiAffinity, PodSpec, ResourceRequirements, SecretVolumeSource, Service,
    ServicePort, ServiceSpec, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::child_meta;
use super::pod::{
    base, claim, controller_container, field, mount, plain, pod_security, probe, pull_secrets, scratch,
};
use crate::controllers::cluster::validate::Validated;

/// What the pod is made from.
#[derive(Clone, Copy, Debug)]
pub struct RepoHostInput<'a> {
    /// Names of the repositories and the claims of their volumes.
    pub repositories: &'a [(String, PersistentVolumeClaimSpec)],
}

/// Seconds a request may go on when the pod is told to end, and some to spare.
const GRACE: i64 = 30;
/// Startup probes, two seconds apart: a large repository is looked through after a crash.
const STARTUP_FAILURES: i32 = 900;

/// The pod.
#[must_use]
pub fn pod(cluster: &Cluster, validated: &Validated, input: RepoHostInput<'_>) -> Pod {
    let mut metadata = child_meta(cluster, naming::repo_host_pod(&validated.name));
    let labels = metadata.labels.get_or_insert_default();
    labels.remove(labels::CLUSTER);
    labels.insert(labels::REPO_HOST.to_owned(), validated.name.clone());
    let hash = spec_hash(cluster, validated, input);
    metadata.annotations = Some(BTreeMap::from([(labels::POD_SPEC_HASH.to_owned(), hash)]));
    Pod { metadata, spec: Some(spec(cluster, validated, input)), status: None }
}

/// Fingerprint of what the pod looks like.
#[must_use]
pub fn spec_hash(cluster: &Cluster, validated: &Validated, input: RepoHostInput<'_>) -> String {
    let json =
        serde_json::to_vec(&spec(cluster, validated, input)).expect("a pod specification is plain data");
    hex::encode(&Sha256::digest(&json)[..8])
}

/// The volume of a repository. It has no owner: backups outlive their cluster.
#[must_use]
pub fn volume(
    cluster: &Cluster,
    repository: &str,
    given: &PersistentVolumeClaimSpec,
) -> PersistentVolumeClaim {
    let name = cluster.name_any();
    let mut metadata =
        ObjectMeta { owner_references: None, ..child_meta(cluster, naming::repo_volume(&name, repository)) };
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(labels::REPO_HOST.to_owned(), name);
    labels.insert(labels::REPOSITORY.to_owned(), repository.to_owned());
    let mut spec = given.clone();
    spec.access_modes.get_or_insert_with(|| vec!["ReadWriteOnce".to_owned()]);
    PersistentVolumeClaim { metadata, spec: Some(spec), status: None }
}

/// The service by which instances find the pod.
#[must_use]
pub fn service(cluster: &Cluster) -> Service {
    let name = cluster.name_any();
    Service {
        metadata: child_meta(cluster, naming::repo_host(&name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(BTreeMap::from([(labels::REPO_HOST.to_owned(), name)])),
            ports: Some(vec![ServicePort {
                name: Some("s3".to_owned()),
                port: naming::REPO_HOST_PORT,
                target_port: Some(IntOrString::Int(naming::REPO_HOST_PORT)),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn spec(cluster: &Cluster, validated: &Validated, input: RepoHostInput<'_>) -> PodSpec {
    let given = &cluster.spec;
    PodSpec {
        init_containers: Some(vec![Container {
            resources: Some(resources()),
            ..controller_container(cluster, validated)
        }]),
        containers: vec![container(cluster, validated, input)],
        volumes: Some(volumes(validated, input)),
        service_account_name: Some(naming::service_account(&validated.name)),
        // It asks nothing of the API.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Always".to_owned()),
        termination_grace_period_seconds: Some(GRACE),
        image_pull_secrets: pull_secrets(cluster),
        affinity: Some(away_from_instances(cluster)),
        node_selector: (!given.affinity.node_selector.is_empty())
            .then(|| given.affinity.node_selector.clone()),
        tolerations: (!given.affinity.tolerations.is_empty()).then(|| given.affinity.tolerations.clone()),
        security_context: Some(pod_security(cluster)),
        ..PodSpec::default()
    }
}

/// Its memory does not grow with the repositories: those of the instances would be a waste.
fn resources() -> ResourceRequirements {
    let quantities = |list: &[(&str, &str)]| {
        Some(list.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect())
    };
    ResourceRequirements {
        requests: quantities(&[("cpu", "50m"), ("memory", "128Mi")]),
        limits: quantities(&[("memory", "512Mi")]),
        ..ResourceRequirements::default()
    }
}

fn container(cluster: &Cluster, validated: &Validated, input: RepoHostInput<'_>) -> Container {
    let directory = |name: &str| format!("{}/{name}", naming::REPOSITORIES_DIR);
    let mut command = vec![naming::MANAGER_PATH.to_owned(), "repo-host".to_owned()];
    for (name, _) in input.repositories {
        command.extend(["--repository".to_owned(), format!("{name}={}", directory(name))]);
    }
    for (name, folder) in folders(cluster) {
        command.extend(["--folder".to_owned(), format!("{name}={folder}")]);
    }
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut mounts: Vec<_> = input
        .repositories
        .iter()
        .map(|(name, _)| mount(&volume_name(name), &directory(name), None))
        .collect();
    let mut certificates = mount("certificates", naming::REPO_CERTIFICATES_DIR, None);
    certificates.read_only = Some(true);
    mounts.extend([
        certificates,
        mount("controller", naming::CONTROLLER_DIR, None),
        mount("controller", "/etc/passwd", Some("passwd")),
        mount("controller", "/etc/group", Some("group")),
        mount("tmp", "/tmp", None),
    ]);
    let port = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    Container {
        env: Some(vec![
            plain("CLUSTER_NAME", &validated.name),
            field("NAMESPACE", "metadata.namespace"),
            field("POD_NAME", "metadata.name"),
            field("POD_IP", "status.podIP"),
        ]),
        volume_mounts: Some(mounts),
        ports: Some(vec![port("s3", naming::REPO_HOST_PORT), port("probes", naming::PROBES_PORT)]),
        startup_probe: Some(probe("/startupz", 2, STARTUP_FAILURES)),
        liveness_probe: Some(probe("/healthz", 10, 3)),
        readiness_probe: Some(probe("/readyz", 5, 3)),
        resources: Some(resources()),
        ..base(cluster, naming::CONTAINER_REPO_HOST, &validated.image, &command)
    }
}

/// Folders on volumes that the user has named.
fn folders(cluster: &Cluster) -> Vec<(&str, &str)> {
    let given = cluster.spec.backup.iter().flat_map(|backup| &backup.repositories);
    let on_volumes = given.filter(|repository| repository.volume.is_some());
    on_volumes.filter_map(|r| Some((r.name.as_str(), r.path.as_deref()?.trim_matches('/')))).collect()
}

/// The pod's own name of a repository's volume.
fn volume_name(repository: &str) -> String {
    format!("repository-{repository}")
}

fn volumes(validated: &Validated, input: RepoHostInput<'_>) -> Vec<Volume> {
    let mut list: Vec<_> = input
        .repositories
        .iter()
        .map(|(name, _)| claim(&volume_name(name), naming::repo_volume(&validated.name, name)))
        .collect();
    list.push(Volume {
        name: "certificates".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(naming::repo_host(&validated.name)),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    list.extend([scratch("controller", None), scratch("tmp", None)]);
    list
}

/// Backups on the node of the data they are of would be lost with it.
fn away_from_instances(cluster: &Cluster) -> Affinity {
    let given = &cluster.spec.affinity;
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(labels::CLUSTER.to_owned(), cluster.name_any())])),
            match_expressions: None,
        }),
        topology_key: given.topology_key.clone().unwrap_or_else(|| "kubernetes.io/hostname".to_owned()),
        ..PodAffinityTerm::default()
    };
    Affinity {
        node_affinity: given.node_affinity.clone(),
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: term,
            }]),
            required_during_scheduling_ignored_during_execution: None,
        }),
        pod_affinity: None,
    }
}
