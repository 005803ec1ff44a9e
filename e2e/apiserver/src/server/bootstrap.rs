//! What is there before the first request: namespaces, roles, the `kubernetes` service.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::controllers::namespaces::{furnish, make};
use crate::state::State;
use crate::store::{GroupResource, Key, Store};
use crate::strategy::services;

const RBAC: &str = "rbac.authorization.k8s.io";

fn put(store: &mut Store, group: &str, plural: &str, object: Value) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let key = Key { gr: GroupResource::new(group, plural), namespace: text("namespace"), name: text("name") };
    store.put(key, object);
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn cluster_role(store: &mut Store, name: &str, rules: Vec<Value>) {
    let api = format!("{RBAC}/v1");
    put(store, RBAC, "clusterroles", make(&api, "ClusterRole", "", name, json!({"rules": rules})));
}

fn cluster_binding(store: &mut Store, name: &str, groups: &[&str]) {
    let subjects: Vec<Value> =
        groups.iter().map(|g| json!({"apiGroup": RBAC, "kind": "Group", "name": g})).collect();
    let body =
        json!({"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}, "subjects": subjects});
    put(
        store,
        RBAC,
        "clusterrolebindings",
        make(&format!("{RBAC}/v1"), "ClusterRoleBinding", "", name, body),
    );
}

fn roles(store: &mut Store) {
    const READ: &[&str] = &["get", "list", "watch"];
    const WRITE: &[&str] =
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    const CORE: &[&str] = &[
        "configmaps",
        "endpoints",
        "events",
        "persistentvolumeclaims",
        "pods",
        "pods/log",
        "pods/status",
        "replicationcontrollers",
        "serviceaccounts",
        "services",
        "services/status",
        "bindings",
        "limitranges",
        "resourcequotas",
    ];
    let work = |verbs: &[&str]| {
        vec![
            rule(
                &["apps"],
                &[
                    "controllerrevisions",
                    "daemonsets",
                    "deployments",
                    "deployments/scale",
                    "replicasets",
                    "statefulsets",
                ],
                verbs,
            ),
            rule(&["batch"], &["cronjobs", "jobs"], verbs),
            rule(&["policy"], &["poddisruptionbudgets"], verbs),
            rule(&["networking.k8s.io"], &["ingresses", "networkpolicies"], verbs),
            rule(&["discovery.k8s.io"], &["endpointslices"], verbs),
            rule(&["coordination.k8s.io"], &["leases"], verbs),
        ]
    };
    cluster_role(
        store,
        "cluster-admin",
        vec![rule(&["*"], &["*"], &["*"]), json!({"nonResourceURLs": ["*"], "verbs": ["*"]})],
    );
    let mut view = vec![rule(&[""], CORE, READ), rule(&[""], &["namespaces"], READ)];
    view.extend(work(READ));
    cluster_role(store, "view", view);
    let mut edit = vec![
        rule(&[""], CORE, WRITE),
        rule(&[""], &["secrets", "pods/exec", "pods/eviction", "serviceaccounts/token"], WRITE),
        rule(&[""], &["namespaces"], READ),
    ];
    edit.extend(work(WRITE));
    cluster_role(store, "edit", edit.clone());
    edit.push(rule(&[RBAC], &["roles", "rolebindings"], WRITE));
    cluster_role(store, "admin", edit);
    cluster_role(
        store,
        "system:auth-delegator",
        vec![
            rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
            rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        ],
    );
    cluster_role(
        store,
        "system:basic-user",
        vec![
            rule(
                &["authorization.k8s.io"],
                &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                &["create"],
            ),
            rule(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
        ],
    );
    let public = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
    let all: Vec<&str> = public.iter().chain(&discovery).copied().collect();
    cluster_role(store, "system:discovery", vec![json!({"nonResourceURLs": all, "verbs": ["get"]})]);
    cluster_role(
        store,
        "system:public-info-viewer",
        vec![json!({"nonResourceURLs": public, "verbs": ["get"]})],
    );
    cluster_binding(store, "cluster-admin", &["system:masters"]);
    cluster_binding(store, "system:basic-user", &["system:authenticated"]);
    cluster_binding(store, "system:discovery", &["system:authenticated"]);
    cluster_binding(store, "system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]);
}

/// Fills a new server.
pub fn fill(state: &State, address: SocketAddr) {
    let mut store = state.store();
    roles(&mut store);
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let body = json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let mut namespace = make("v1", "Namespace", "", name, body);
        namespace["metadata"]["labels"] = json!({"kubernetes.io/metadata.name": name});
        put(&mut store, "", "namespaces", namespace);
        furnish(state, &mut store, name);
    }
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let mut service = make(
        "v1",
        "Service",
        "default",
        "kubernetes",
        json!({"spec": {
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": address.port()}]}, "status": {"loadBalancer": {}}}),
    );
    service["metadata"]["labels"] = labels.clone();
    services::default(&mut service);
    services::set_address(&mut service, &state.services.first().to_string());
    put(&mut store, "", "services", service);
    let ip = address.ip().to_string();
    let mut endpoints = make(
        "v1",
        "Endpoints",
        "default",
        "kubernetes",
        json!({"subsets": [
        {"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}]}]}),
    );
    endpoints["metadata"]["labels"] = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    put(&mut store, "", "endpoints", endpoints);
    let mut slice = make(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "default",
        "kubernetes",
        json!({
        "addressType": "IPv4", "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}]}),
    );
    slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": "kubernetes"});
    put(&mut store, "discovery.k8s.io", "endpointslices", slice);
}
