//! Which lists and maps of the built-in types are merged by key or by value, and which are owned as a whole.
//!
//! The published definitions carry this as `x-kubernetes-list-type`, `-list-map-keys` (server-side apply) and
//! `x-kubernetes-patch-merge-key` (strategic merge patch); the two differ for a few fields.

use super::ListType;

/// How one field is merged.
pub struct Entry {
    /// For server-side apply.
    pub list_type: ListType,
    /// The map is owned as a whole.
    pub atomic_map: bool,
    /// For strategic merge patches.
    pub merge_key: Option<&'static str>,
    /// Values are merged by strategic merge patches.
    pub merge_set: bool,
    /// A strategic merge patch may name the keys to keep.
    pub retain_keys: bool,
}

/// Structures that are owned as a whole wherever they appear.
pub const ATOMIC_STRUCTS: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.TopologySelectorTerm",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// `(type, field, server-side apply keys, strategic merge key)`; several apply keys are separated by commas.
const MAPS: &[(&str, &str, &str, &str)] = &[
    ("meta.v1.ObjectMeta", "ownerReferences", "uid", "uid"),
    ("core.v1.PodSpec", "containers", "name", "name"),
    ("core.v1.PodSpec", "initContainers", "name", "name"),
    ("core.v1.PodSpec", "ephemeralContainers", "name", "name"),
    ("core.v1.PodSpec", "volumes", "name", "name"),
    ("core.v1.PodSpec", "imagePullSecrets", "name", "name"),
    ("core.v1.PodSpec", "hostAliases", "ip", "ip"),
    ("core.v1.PodSpec", "schedulingGates", "name", "name"),
    ("core.v1.PodSpec", "resourceClaims", "name", "name"),
    ("core.v1.PodSpec", "topologySpreadConstraints", "topologyKey,whenUnsatisfiable", "topologyKey"),
    ("core.v1.PodStatus", "conditions", "type", "type"),
    ("core.v1.PodStatus", "podIPs", "ip", "ip"),
    ("core.v1.PodStatus", "hostIPs", "", "ip"),
    ("core.v1.PodStatus", "resourceClaimStatuses", "name", "name"),
    ("core.v1.Container", "env", "name", "name"),
    ("core.v1.Container", "ports", "containerPort,protocol", "containerPort"),
    ("core.v1.Container", "volumeMounts", "mountPath", "mountPath"),
    ("core.v1.Container", "volumeDevices", "devicePath", "devicePath"),
    ("core.v1.EphemeralContainer", "env", "name", "name"),
    ("core.v1.EphemeralContainer", "ports", "containerPort,protocol", "containerPort"),
    ("core.v1.EphemeralContainer", "volumeMounts", "mountPath", "mountPath"),
    ("core.v1.EphemeralContainer", "volumeDevices", "devicePath", "devicePath"),
    ("core.v1.ResourceRequirements", "claims", "name", ""),
    ("core.v1.VolumeResourceRequirements", "claims", "name", ""),
    ("core.v1.ServiceSpec", "ports", "port,protocol", "port"),
    ("core.v1.ServiceStatus", "conditions", "type", "type"),
    ("core.v1.ServiceAccount", "secrets", "name", "name"),
    ("core.v1.ServiceAccount", "imagePullSecrets", "", ""),
    ("core.v1.NamespaceStatus", "conditions", "type", "type"),
    ("core.v1.NodeStatus", "conditions", "type", "type"),
    ("core.v1.NodeStatus", "addresses", "type", "type"),
    ("core.v1.PersistentVolumeClaimStatus", "conditions", "type", "type"),
    ("core.v1.ReplicationControllerStatus", "conditions", "type", "type"),
    ("apps.v1.DeploymentStatus", "conditions", "type", "type"),
    ("apps.v1.ReplicaSetStatus", "conditions", "type", "type"),
    ("apps.v1.StatefulSetStatus", "conditions", "type", "type"),
    ("apps.v1.DaemonSetStatus", "conditions", "type", "type"),
    ("batch.v1.JobStatus", "conditions", "", "type"),
    ("policy.v1.PodDisruptionBudgetStatus", "conditions", "type", "type"),
    ("discovery.v1.EndpointSlice", "ports", "", ""),
    ("apiextensions.v1.CustomResourceDefinitionStatus", "conditions", "type", ""),
    ("apiregistration.v1.APIServiceStatus", "conditions", "type", "type"),
    ("storage.v1.CSINodeSpec", "drivers", "name", "name"),
];

/// Lists that are sets.
const SETS: &[(&str, &str)] = &[
    ("meta.v1.ObjectMeta", "finalizers"),
    ("core.v1.NodeSpec", "podCIDRs"),
    ("discovery.v1.Endpoint", "addresses"),
    ("storage.v1.CSIDriverSpec", "volumeLifecycleModes"),
    ("batch.v1.UncountedTerminatedPods", "failed"),
    ("batch.v1.UncountedTerminatedPods", "succeeded"),
];

/// Maps that are owned as a whole.
const ATOMIC_MAPS: &[(&str, &str)] = &[
    ("core.v1.PodSpec", "nodeSelector"),
    ("core.v1.ServiceSpec", "selector"),
    ("core.v1.ReplicationControllerSpec", "selector"),
];

/// Fields whose patches may carry `$retainKeys`.
const RETAIN_KEYS: &[(&str, &str)] = &[
    ("core.v1.PodSpec", "volumes"),
    ("apps.v1.DeploymentSpec", "strategy"),
    ("core.v1.PodSpec", "resourceClaims"),
];

/// How a field of a built-in definition is merged, where it is not as a whole.
pub fn find(definition: &str, field: &str) -> Option<Entry> {
    let short = definition
        .strip_prefix("io.k8s.api.")
        .or_else(|| definition.rsplit_once(".apis.").map(|(_, rest)| rest))
        .unwrap_or(definition);
    let hit = |entry: &(&str, &str)| entry.0 == short && entry.1 == field;
    let mut entry = Entry {
        list_type: ListType::Atomic,
        atomic_map: ATOMIC_MAPS.iter().any(hit),
        merge_key: None,
        merge_set: false,
        retain_keys: RETAIN_KEYS.iter().any(hit),
    };
    let mut known = entry.atomic_map || entry.retain_keys;
    if let Some((_, _, apply, merge)) = MAPS.iter().find(|(ty, name, _, _)| *ty == short && *name == field) {
        known = true;
        if !apply.is_empty() {
            entry.list_type = ListType::Map(apply.split(',').map(str::to_owned).collect());
        }
        entry.merge_key = Some(*merge).filter(|k| !k.is_empty());
    }
    if SETS.iter().any(hit) {
        known = true;
        entry.list_type = ListType::Set;
        entry.merge_set = true;
    }
    known.then_some(entry)
}
