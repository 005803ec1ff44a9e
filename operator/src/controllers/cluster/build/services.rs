//! The three services of a cluster.

use howdah_api::{Cluster, labels, naming};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::child_meta;

/// Read-write, read-only and any.
#[must_use]
pub fn services(cluster: &Cluster) -> [Service; 3] {
    let name = cluster.name_any();
    [
        service(cluster, naming::service_rw(&name), Some(labels::ROLE_PRIMARY)),
        service(cluster, naming::service_ro(&name), Some(labels::ROLE_REPLICA)),
        service(cluster, naming::service_r(&name), None),
    ]
}

fn service(cluster: &Cluster, name: String, role: Option<&str>) -> Service {
    let selector = std::iter::once((labels::CLUSTER.to_owned(), cluster.name_any()))
        .chain(role.map(|r| (labels::ROLE.to_owned(), r.to_owned())))
        .collect();
    Service {
        metadata: child_meta(cluster, name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some("postgres".to_owned()),
                port: naming::POSTGRES_PORT,
                target_port: Some(IntOrString::Int(naming::POSTGRES_PORT)),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
