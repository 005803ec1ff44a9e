//! What the instances of a cluster may do: read their own Cluster and Secrets, take the Backups given to them, hold the
//! lease of the primary.

use howdah_api::{Cluster, GROUP, naming};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::ResourceExt;

use super::child_meta;
use crate::controllers::cluster::validate::Validated;

/// The service account, with the metadata that the user gives for it.
#[must_use]
pub fn service_account(cluster: &Cluster) -> ServiceAccount {
    let mut metadata = child_meta(cluster, naming::service_account(&cluster.name_any()));
    if let Some(template) = &cluster.spec.service_account_template {
        let ours = metadata.labels.take().unwrap_or_default();
        metadata.labels = Some(template.metadata.labels.clone().into_iter().chain(ours).collect());
        if !template.metadata.annotations.is_empty() {
            metadata.annotations = Some(template.metadata.annotations.clone());
        }
    }
    ServiceAccount { metadata, ..ServiceAccount::default() }
}

/// Secrets that the instances read.
#[must_use]
pub fn readable_secrets(validated: &Validated) -> Vec<String> {
    let name = &validated.name;
    let mut names = vec![
        naming::server_secret(name),
        naming::replication_secret(name),
        naming::server_in_use(name),
        naming::replication_in_use(name),
        naming::superuser_secret(name),
        naming::app_secret(name),
    ];
    names.extend(validated.foreign_secrets.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// The role of the instances.
#[must_use]
pub fn role(cluster: &Cluster, validated: &Validated) -> Role {
    let rule = |group: &str, resources: &[&str], verbs: &[&str], names: Option<Vec<String>>| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|s| (*s).to_owned()).collect()),
        verbs: verbs.iter().map(|s| (*s).to_owned()).collect(),
        resource_names: names,
        non_resource_urls: None,
    };
    Role {
        metadata: child_meta(cluster, naming::service_account(&validated.name)),
        rules: Some(vec![
            rule(GROUP, &["clusters"], &["get", "list", "watch"], Some(vec![validated.name.clone()])),
            rule(GROUP, &["backups"], &["get", "list", "watch"], None),
            rule(GROUP, &["backups/status"], &["get", "patch"], None),
            rule("", &["secrets"], &["get"], Some(readable_secrets(validated))),
            rule("", &["pods"], &["get"], None),
            // Creating cannot be limited to a name.
            rule("coordination.k8s.io", &["leases"], &["create"], None),
            rule(
                "coordination.k8s.io",
                &["leases"],
                &["get", "update"],
                Some(vec![naming::primary_lease(&validated.name)]),
            ),
            rule("events.k8s.io", &["events"], &["create", "patch"], None),
            rule("", &["events"], &["create", "patch"], None),
        ]),
    }
}

/// Binds the role to the service account.
#[must_use]
pub fn role_binding(cluster: &Cluster) -> RoleBinding {
    let name = naming::service_account(&cluster.name_any());
    RoleBinding {
        metadata: child_meta(cluster, name.clone()),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name,
            namespace: cluster.namespace(),
            api_group: None,
        }]),
    }
}
