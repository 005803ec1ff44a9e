//! Which pods a service leads to, and the Endpoints and EndpointSlice objects that say so. Pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use crate::probe::port_number;

/// A pod behind a service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Backend {
    pub ip: Ipv4Addr,
    pub ready: bool,
    pub terminating: bool,
    pub node: Option<String>,
    pub pod: ObjectReference,
    /// The port of this pod for each port of the service, by the service port's name.
    pub ports: BTreeMap<String, u16>,
}

fn name_of(port: &ServicePort) -> String {
    port.name.clone().unwrap_or_default()
}

/// The port of `pod` that a service port leads to.
fn target(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(0)) => u16::try_from(port.port).ok(),
        Some(wanted) => {
            let spec = pod.spec.as_ref()?;
            spec.containers.iter().find_map(|container| port_number(wanted, container))
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The pods that `service` selects, in the order of their names.
pub(crate) fn backends<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod>) -> Vec<Backend> {
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    if selector.is_empty() {
        return Vec::new();
    }
    let publish_all = spec.publish_not_ready_addresses == Some(true);
    let mut found: Vec<Backend> = pods
        .filter(|pod| pod.namespace() == service.namespace())
        .filter(|pod| selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)))
        .filter_map(|pod| {
            let status = pod.status.as_ref()?;
            if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
                return None;
            }
            let ports = spec.ports.iter().flatten();
            let terminating = pod.metadata.deletion_timestamp.is_some();
            Some(Backend {
                ip: status.pod_ip.as_deref()?.parse().ok()?,
                ready: publish_all || (is_ready(pod) && !terminating),
                terminating,
                node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
                pod: ObjectReference {
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    namespace: pod.namespace(),
                    uid: pod.uid(),
                    ..Default::default()
                },
                ports: ports.filter_map(|port| Some((name_of(port), target(pod, port)?))).collect(),
            })
        })
        .collect();
    found.sort_by(|a, b| a.pod.name.cmp(&b.pod.name));
    found
}

/// Where connections to one port of a service go.
pub(crate) fn addresses(backends: &[Backend], port: &ServicePort) -> Vec<SocketAddr> {
    let name = name_of(port);
    backends
        .iter()
        .filter(|backend| backend.ready)
        .filter_map(|backend| Some(SocketAddr::from((backend.ip, *backend.ports.get(&name)?))))
        .collect()
}

fn metadata(service: &Service, name: String) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: service.name_any(),
        uid: service.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(name),
        namespace: service.namespace(),
        labels: service.metadata.labels.clone(),
        owner_references: Some(vec![owner]),
        ..Default::default()
    }
}

/// Backends that offer the same ports, for those are described together.
fn groups(backends: &[Backend]) -> Vec<(&BTreeMap<String, u16>, Vec<&Backend>)> {
    let mut groups: Vec<(&BTreeMap<String, u16>, Vec<&Backend>)> = Vec::new();
    for backend in backends {
        match groups.iter_mut().find(|(ports, _)| **ports == backend.ports) {
            Some((_, members)) => members.push(backend),
            None => groups.push((&backend.ports, vec![backend])),
        }
    }
    groups
}

fn protocol(service: &Service, name: &str) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let port = spec.ports.iter().flatten().find(|port| name_of(port) == name)?;
    Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()))
}

/// The Endpoints object of a service.
pub(crate) fn endpoints(service: &Service, backends: &[Backend]) -> Endpoints {
    let address = |backend: &&Backend| EndpointAddress {
        ip: backend.ip.to_string(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.pod.clone()),
        ..Default::default()
    };
    let subsets = groups(backends)
        .into_iter()
        .filter_map(|(ports, members)| {
            let list = |ready: bool| -> Option<Vec<EndpointAddress>> {
                let list: Vec<EndpointAddress> = members
                    .iter()
                    .filter(|b| b.ready == ready && (ready || !b.terminating))
                    .map(address)
                    .collect();
                (!list.is_empty()).then_some(list)
            };
            let (ready, waiting) = (list(true), list(false));
            if ready.is_none() && waiting.is_none() {
                return None;
            }
            let ports = ports
                .iter()
                .map(|(name, port)| EndpointPort {
                    name: (!name.is_empty()).then(|| name.clone()),
                    port: i32::from(*port),
                    protocol: protocol(service, name),
                    ..Default::default()
                })
                .collect();
            Some(EndpointSubset { addresses: ready, not_ready_addresses: waiting, ports: Some(ports) })
        })
        .collect();
    let mut metadata = metadata(service, service.name_any());
    // The slices are made here too, so nobody has to derive them from this object.
    metadata
        .labels
        .get_or_insert_default()
        .insert("endpointslice.kubernetes.io/skip-mirror".to_owned(), "true".to_owned());
    Endpoints { metadata, subsets: Some(subsets) }
}

/// The EndpointSlices of a service.
pub(crate) fn slices(service: &Service, backends: &[Backend]) -> Vec<EndpointSlice> {
    let empty = BTreeMap::new();
    let mut all = groups(backends);
    if all.is_empty() {
        all.push((&empty, Vec::new()));
    }
    all.into_iter()
        .enumerate()
        .map(|(index, (ports, members))| {
            let name = match index {
                0 => format!("{}-lab", service.name_any()),
                _ => format!("{}-lab-{index}", service.name_any()),
            };
            let mut metadata = metadata(service, name);
            let labels = metadata.labels.get_or_insert_default();
            labels.insert("kubernetes.io/service-name".to_owned(), service.name_any());
            labels.insert("endpointslice.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned());
            let endpoints: Vec<Endpoint> = members
                .into_iter()
                .map(|backend| Endpoint {
                    addresses: vec![backend.ip.to_string()],
                    conditions: Some(EndpointConditions {
                        ready: Some(backend.ready),
                        serving: Some(backend.ready),
                        terminating: Some(backend.terminating),
                    }),
                    node_name: backend.node.clone(),
                    target_ref: Some(backend.pod.clone()),
                    ..Default::default()
                })
                .collect();
            let ports = ports
                .iter()
                .map(|(name, port)| SlicePort {
                    name: Some(name.clone()),
                    port: Some(i32::from(*port)),
                    protocol: protocol(service, name),
                    ..Default::default()
                })
                .collect();
            EndpointSlice {
                metadata,
                address_type: "IPv4".to_owned(),
                endpoints: Some(endpoints),
                ports: Some(ports),
            }
        })
        .collect()
}

/// Who manages the objects, as their field manager and in a label.
pub(crate) const MANAGER: &str = "lab-endpoint-controller";

/// A stable name for an object of a service, for telling which are no longer wanted.
pub(crate) fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(extra: serde_json::Value) -> Service {
        let mut spec = json!({"selector": {"app": "db"}, "ports": [
            {"name": "postgres", "port": 5432, "targetPort": "pg"}, {"name": "status", "port": 80, "targetPort": 8000}]});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(
            json!({"metadata": {"name": "db-rw", "namespace": "n", "uid": "u"}, "spec": spec}),
        )
        .unwrap()
    }

    fn pod(name: &str, ip: &str, ready: &str, port: u16) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"app": "db", "x": "y"}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "pg", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

    #[test]
    fn ready_pods_by_selector_and_named_port() {
        let mut other = pod("other", "127.80.0.9", "True", 5432);
        other.metadata.labels = None;
        let pods = [pod("b", "127.80.0.2", "True", 5433), pod("a", "127.80.0.1", "False", 5432), other];
        let service = service(json!({}));
        let backends = backends(&service, pods.iter());
        assert_eq!(backends.len(), 2);
        let ports = service.spec.as_ref().unwrap().ports.as_ref().unwrap();
        assert_eq!(addresses(&backends, &ports[0]), ["127.80.0.2:5433".parse().unwrap()]);
        assert_eq!(addresses(&backends, &ports[1]), ["127.80.0.2:8000".parse().unwrap()]);
        let subsets = endpoints(&service, &backends).subsets.unwrap();
        assert_eq!(subsets.len(), 2, "the pods name different ports");
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip, "127.80.0.1");
        assert_eq!(subsets[1].addresses.as_ref().unwrap()[0].ip, "127.80.0.2");
        let slices = slices(&service, &backends);
        assert_eq!(slices[1].metadata.name.as_deref(), Some("db-rw-lab-1"));
        assert_eq!(slices[1].endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready, Some(true));
    }

    #[test]
    fn ending_pods_leave_and_unready_ones_can_be_published() {
        let mut ending = pod("a", "127.80.0.1", "True", 5432);
        ending.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        let unready = pod("b", "127.80.0.2", "False", 5432);
        let found = backends(&service(json!({})), [&ending, &unready].into_iter());
        assert!(found.iter().all(|backend| !backend.ready));
        let all = backends(&service(json!({"publishNotReadyAddresses": true})), std::iter::once(&unready));
        assert!(all[0].ready);
        assert!(backends(&service(json!({"selector": null})), std::iter::once(&unready)).is_empty());
    }
}
