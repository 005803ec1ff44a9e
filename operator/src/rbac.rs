//! What the operator may do. `config/rbac/role.yaml` is generated from here.
//!
//! A Kubernetes API server lets nobody grant what he does not hold; so besides what the operator does itself
//! it holds everything that the roles of the instances contain (`controllers::cluster::build::rbac`).

use howdah_api::GROUP;
use k8s_openapi::api::rbac::v1::PolicyRule;

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(own(groups)),
        resources: Some(own(resources)),
        verbs: own(verbs),
        ..PolicyRule::default()
    }
}

/// Rules of the operator in the namespaces that it watches: a ClusterRole, or one Role in each of them.
#[must_use]
pub fn rules() -> Vec<PolicyRule> {
    vec![
        // Patched to take the annotation away with which a switchover is asked for.
        rule(&[GROUP], &["clusters"], &["get", "list", "patch", "watch"]),
        // Those of the repositories are made and removed with them.
        rule(&[GROUP], &["scheduledbackups"], &["create", "delete", "get", "list", "patch", "watch"]),
        // Patched for the finalizer of those whose data goes with them.
        rule(&[GROUP], &["backups"], &["create", "delete", "get", "list", "patch", "watch"]),
        rule(&[GROUP], &["clusters/status", "backups/status", "scheduledbackups/status"], &["get", "patch"]),
        // Owner references that block deletion.
        rule(&[GROUP], &["clusters/finalizers", "scheduledbackups/finalizers"], &["update"]),
        rule(&[""], &["pods"], &["create", "delete", "get", "list", "patch", "watch"]),
        rule(&[""], &["persistentvolumeclaims"], &["create", "delete", "get", "list", "patch", "watch"]),
        rule(&[""], &["services", "serviceaccounts"], &["create", "get", "list", "patch", "watch"]),
        rule(&["policy"], &["poddisruptionbudgets"], &["create", "delete", "get", "list", "patch", "watch"]),
        // Named by the clusters, so no list and no watch.
        rule(&[""], &["secrets"], &["create", "get", "patch"]),
        rule(
            &["rbac.authorization.k8s.io"],
            &["roles", "rolebindings"],
            &["create", "get", "list", "patch", "watch"],
        ),
        rule(&["", "events.k8s.io"], &["events"], &["create", "patch"]),
        rule(&["policy"], &["poddisruptionbudgets"], &["create", "delete", "get", "list", "patch", "watch"]),
        // The lease of the leader, and that of each cluster's primary: their names are not known beforehand.
        rule(&["coordination.k8s.io"], &["leases"], &["create", "get", "patch", "update"]),
        // Whether the primary's node is lost or being drained. Not to be had in an installation for some namespaces only.
        rule(&[""], &["nodes"], &["get"]),
    ]
}

/// Whether `held` allows everything that `wanted` does.
#[must_use]
pub fn covers(held: &[PolicyRule], wanted: &PolicyRule) -> bool {
    let empty = Vec::new();
    let groups = wanted.api_groups.as_ref().unwrap_or(&empty);
    let resources = wanted.resources.as_ref().unwrap_or(&empty);
    groups.iter().all(|group| {
        resources.iter().all(|resource| {
            wanted.verbs.iter().all(|verb| {
                held.iter().any(|rule| {
                    rule.resource_names.is_none()
                        && rule.api_groups.as_ref().is_some_and(|g| g.contains(group))
                        && rule.resources.as_ref().is_some_and(|r| r.contains(resource))
                        && rule.verbs.contains(verb)
                })
            })
        })
    })
}
