//! The table of built-in resources.

use serde_json::{Value, json};

use super::{ResourceDef, Subresource};
use crate::schema::builtin;
use crate::store::GroupResource;

const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const GPU: &[&str] = &["get", "patch", "update"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const STREAM: &[&str] = &["create", "get"];

/// One line of the table.
struct Row {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    /// Package of the OpenAPI definition.
    package: &'static str,
    namespaced: bool,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    /// `name[:kind[:group/version]]=verbs`.
    subresources: &'static [(&'static str, &'static str, &'static str, &'static [&'static str])],
}

const fn row(group: &'static str, plural: &'static str, kind: &'static str, package: &'static str) -> Row {
    Row {
        group,
        version: "v1",
        plural,
        kind,
        package,
        namespaced: true,
        short: &[],
        categories: &[],
        subresources: &[],
    }
}

impl Row {
    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }
    const fn short(mut self, short: &'static [&'static str]) -> Self {
        self.short = short;
        self
    }
    const fn in_all(mut self) -> Self {
        self.categories = &["all"];
        self
    }
    const fn sub(
        mut self,
        list: &'static [(&'static str, &'static str, &'static str, &'static [&'static str])],
    ) -> Self {
        self.subresources = list;
        self
    }
}

const CORE: &str = "io.k8s.api.core.v1";
const APPS: &str = "io.k8s.api.apps.v1";
const BATCH: &str = "io.k8s.api.batch.v1";
const RBAC: &str = "io.k8s.api.rbac.v1";
const STORAGE: &str = "io.k8s.api.storage.v1";
const AUTHZ: &str = "io.k8s.api.authorization.v1";
const NETWORKING: &str = "io.k8s.api.networking.v1";
const APIEXT: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
const STATUS: (&str, &str, &str, &[&str]) = ("status", "", "", GPU);
const SCALE: (&str, &str, &str, &[&str]) = ("scale", "Scale", "autoscaling/v1", GPU);

const TABLE: &[Row] = &[
    row("", "bindings", "Binding", CORE),
    row("", "configmaps", "ConfigMap", CORE).short(&["cm"]),
    row("", "endpoints", "Endpoints", CORE).short(&["ep"]),
    row("", "events", "Event", CORE).short(&["ev"]),
    row("", "limitranges", "LimitRange", CORE).short(&["limits"]),
    row("", "namespaces", "Namespace", CORE)
        .cluster()
        .short(&["ns"])
        .sub(&[("finalize", "", "", &["update"]), STATUS]),
    row("", "nodes", "Node", CORE)
        .cluster()
        .short(&["no"])
        .sub(&[("proxy", "NodeProxyOptions", "", PROXY), STATUS]),
    row("", "persistentvolumeclaims", "PersistentVolumeClaim", CORE).short(&["pvc"]).sub(&[STATUS]),
    row("", "persistentvolumes", "PersistentVolume", CORE).cluster().short(&["pv"]).sub(&[STATUS]),
    row("", "pods", "Pod", CORE).short(&["po"]).in_all().sub(&[
        ("attach", "PodAttachOptions", "", STREAM),
        ("binding", "Binding", "", CREATE),
        ("ephemeralcontainers", "", "", GPU),
        ("eviction", "Eviction", "policy/v1", CREATE),
        ("exec", "PodExecOptions", "", STREAM),
        ("log", "", "", &["get"]),
        ("portforward", "PodPortForwardOptions", "", STREAM),
        ("proxy", "PodProxyOptions", "", PROXY),
        ("resize", "", "", GPU),
        STATUS,
    ]),
    row("", "podtemplates", "PodTemplate", CORE),
    row("", "replicationcontrollers", "ReplicationController", CORE)
        .short(&["rc"])
        .in_all()
        .sub(&[SCALE, STATUS]),
    row("", "resourcequotas", "ResourceQuota", CORE).short(&["quota"]).sub(&[STATUS]),
    row("", "secrets", "Secret", CORE),
    row("", "serviceaccounts", "ServiceAccount", CORE).short(&["sa"]).sub(&[(
        "token",
        "TokenRequest",
        "authentication.k8s.io/v1",
        CREATE,
    )]),
    row("", "services", "Service", CORE)
        .short(&["svc"])
        .in_all()
        .sub(&[("proxy", "ServiceProxyOptions", "", PROXY), STATUS]),
    row("apps", "controllerrevisions", "ControllerRevision", APPS),
    row("apps", "daemonsets", "DaemonSet", APPS).short(&["ds"]).in_all().sub(&[STATUS]),
    row("apps", "deployments", "Deployment", APPS).short(&["deploy"]).in_all().sub(&[SCALE, STATUS]),
    row("apps", "replicasets", "ReplicaSet", APPS).short(&["rs"]).in_all().sub(&[SCALE, STATUS]),
    row("apps", "statefulsets", "StatefulSet", APPS).short(&["sts"]).in_all().sub(&[SCALE, STATUS]),
    row("events.k8s.io", "events", "Event", "io.k8s.api.events.v1").short(&["ev"]),
    row("authentication.k8s.io", "tokenreviews", "TokenReview", "io.k8s.api.authentication.v1").cluster(),
    row("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", "io.k8s.api.authentication.v1")
        .cluster(),
    row("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", AUTHZ),
    row("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", AUTHZ).cluster(),
    row("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", AUTHZ).cluster(),
    row("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", AUTHZ).cluster(),
    row("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "io.k8s.api.autoscaling.v1")
        .short(&["hpa"])
        .in_all()
        .sub(&[STATUS]),
    row("batch", "cronjobs", "CronJob", BATCH).short(&["cj"]).in_all().sub(&[STATUS]),
    row("batch", "jobs", "Job", BATCH).in_all().sub(&[STATUS]),
    row("networking.k8s.io", "ingresses", "Ingress", NETWORKING).short(&["ing"]).sub(&[STATUS]),
    row("networking.k8s.io", "ingressclasses", "IngressClass", NETWORKING).cluster(),
    row("networking.k8s.io", "networkpolicies", "NetworkPolicy", NETWORKING).short(&["netpol"]),
    row("policy", "poddisruptionbudgets", "PodDisruptionBudget", "io.k8s.api.policy.v1")
        .short(&["pdb"])
        .sub(&[STATUS]),
    row("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding", RBAC).cluster(),
    row("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", RBAC).cluster(),
    row("rbac.authorization.k8s.io", "rolebindings", "RoleBinding", RBAC),
    row("rbac.authorization.k8s.io", "roles", "Role", RBAC),
    row("storage.k8s.io", "csidrivers", "CSIDriver", STORAGE).cluster(),
    row("storage.k8s.io", "csinodes", "CSINode", STORAGE).cluster(),
    row("storage.k8s.io", "storageclasses", "StorageClass", STORAGE).cluster().short(&["sc"]),
    row("storage.k8s.io", "volumeattachments", "VolumeAttachment", STORAGE).cluster().sub(&[STATUS]),
    row("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", APIEXT)
        .cluster()
        .short(&["crd", "crds"])
        .sub(&[STATUS]),
    row("scheduling.k8s.io", "priorityclasses", "PriorityClass", "io.k8s.api.scheduling.v1")
        .cluster()
        .short(&["pc"]),
    row("coordination.k8s.io", "leases", "Lease", "io.k8s.api.coordination.v1"),
    row("discovery.k8s.io", "endpointslices", "EndpointSlice", "io.k8s.api.discovery.v1"),
];

/// Resources that answer a question and are not kept.
pub fn is_review(group: &str, plural: &str) -> bool {
    matches!(group, "authentication.k8s.io" | "authorization.k8s.io")
        || (group.is_empty() && plural == "bindings")
}

fn verbs(row: &Row) -> Vec<&'static str> {
    let verbs = if is_review(row.group, row.plural) {
        CREATE
    } else if row.plural == "namespaces" {
        NO_COLLECTION
    } else {
        ALL_VERBS
    };
    verbs.to_vec()
}

/// Fields that an object of the type has even when nobody set them: nobody owns these by creating it.
fn blank(kind: &str) -> Value {
    let template = || json!({"metadata": {}, "spec": {"containers": null}});
    match kind {
        "Namespace"
        | "Node"
        | "ResourceQuota"
        | "NetworkPolicy"
        | "Lease"
        | "HorizontalPodAutoscaler"
        | "PodDisruptionBudget"
        | "PersistentVolume" => json!({"spec": {}, "status": {}}),
        "Service" => json!({"spec": {}, "status": {"loadBalancer": {}}}),
        "Ingress" => json!({"spec": {}, "status": {"loadBalancer": {}}}),
        "Pod" => json!({"spec": {"containers": null}, "status": {}}),
        "PersistentVolumeClaim" => json!({"spec": {"resources": {}}, "status": {}}),
        "Deployment" => {
            json!({"spec": {"selector": null, "template": template(), "strategy": {}}, "status": {}})
        }
        "StatefulSet" => {
            json!({"spec": {"selector": null, "template": template(), "serviceName": "", "updateStrategy": {}},
                "status": {"replicas": 0}})
        }
        "DaemonSet" => {
            json!({"spec": {"selector": null, "template": template(), "updateStrategy": {}}, "status": {}})
        }
        "ReplicaSet" => {
            json!({"spec": {"selector": null, "template": template()}, "status": {"replicas": 0}})
        }
        "Job" => json!({"spec": {"template": template()}, "status": {}}),
        "CronJob" => json!({"spec": {"schedule": "",
            "jobTemplate": {"metadata": {}, "spec": {"template": template()}}}, "status": {}}),
        "Role" | "ClusterRole" => json!({"rules": null}),
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": {"apiGroup": "", "kind": "", "name": ""}}),
        "Event" => json!({"involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null,
            "eventTime": null, "reportingComponent": "", "reportingInstance": ""}),
        "StorageClass" => json!({"provisioner": ""}),
        "EndpointSlice" => json!({"addressType": "", "endpoints": null, "ports": null}),
        "CustomResourceDefinition" => json!({
            "spec": {"group": "", "names": {"plural": "", "kind": ""}, "scope": "", "versions": null},
            "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null}}),
        _ => json!({}),
    }
}

/// All built-in resources.
pub fn all() -> Vec<ResourceDef> {
    TABLE.iter().map(define).collect()
}

fn define(row: &Row) -> ResourceDef {
    let definition = format!("{}.{}", row.package, row.kind);
    let subresources = row
        .subresources
        .iter()
        .map(|(name, kind, group_version, verbs)| Subresource {
            name: (*name).into(),
            group_version: group_version.split_once('/').map(|(g, v)| (g.into(), v.into())),
            kind: if kind.is_empty() { row.kind.into() } else { (*kind).into() },
            verbs: verbs.to_vec(),
        })
        .collect();
    // Both event APIs are one storage, in the core form.
    let storage_group = if row.plural == "events" { "" } else { row.group };
    ResourceDef {
        group: row.group.into(),
        version: row.version.into(),
        plural: row.plural.into(),
        singular: row.kind.to_lowercase(),
        kind: row.kind.into(),
        list_kind: format!("{}List", row.kind),
        short_names: row.short.iter().map(|s| (*s).into()).collect(),
        categories: row.categories.iter().map(|s| (*s).into()).collect(),
        namespaced: row.namespaced,
        verbs: verbs(row),
        subresources,
        schema: builtin::shared(&definition).unwrap_or_default(),
        definition,
        custom: None,
        blank: blank(row.kind),
        storage: GroupResource::new(storage_group, row.plural),
    }
}
