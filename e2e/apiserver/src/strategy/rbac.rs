//! Roles and bindings.

use serde_json::{Value, json};

use super::fill;
use crate::status::FieldError;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Defaults of bindings: the group of users, groups and the role.
pub fn default(object: &mut Value) {
    if let Some(role) = object.get_mut("roleRef") {
        fill(role, "apiGroup", GROUP);
    }
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            fill(subject, "apiGroup", GROUP);
        }
    }
}

/// Checks a role or binding.
pub fn validate(kind: &str, object: &Value, errors: &mut Vec<FieldError>) {
    if matches!(kind, "Role" | "ClusterRole") {
        for (index, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
            validate_rule(rule, &format!("rules[{index}]"), kind == "ClusterRole", errors);
        }
        return;
    }
    let role = &object["roleRef"];
    let kinds: &[Value] =
        if kind == "RoleBinding" { &[json!("Role"), json!("ClusterRole")] } else { &[json!("ClusterRole")] };
    if role["name"].as_str().is_none_or(str::is_empty) {
        errors.push(FieldError::required("roleRef.name", ""));
    }
    if !kinds.contains(&role["kind"]) {
        errors.push(FieldError::not_supported("roleRef.kind", &role["kind"], kinds));
    }
    for (index, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        let at = format!("subjects[{index}]");
        if subject["name"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        match subject["kind"].as_str() {
            Some("ServiceAccount") => {
                if kind == "ClusterRoleBinding" && subject["namespace"].as_str().is_none_or(str::is_empty) {
                    errors.push(FieldError::required(format!("{at}.namespace"), ""));
                }
            }
            Some("User" | "Group") => {}
            _ => errors.push(FieldError::not_supported(
                format!("{at}.kind"),
                &subject["kind"],
                &[json!("ServiceAccount"), json!("User"), json!("Group")],
            )),
        }
    }
}

fn validate_rule(rule: &Value, at: &str, cluster: bool, errors: &mut Vec<FieldError>) {
    let some = |field: &str| rule[field].as_array().is_some_and(|l| !l.is_empty());
    if !some("verbs") {
        errors.push(FieldError::required(format!("{at}.verbs"), "verbs must contain at least one value"));
    }
    if some("nonResourceURLs") {
        if !cluster {
            errors.push(FieldError::invalid(
                format!("{at}.nonResourceURLs"),
                &rule["nonResourceURLs"],
                "namespaced rules cannot apply to non-resource URLs",
            ));
        }
        return;
    }
    if !some("apiGroups") {
        errors.push(FieldError::required(
            format!("{at}.apiGroups"),
            "resource rules must supply at least one api group",
        ));
    }
    if !some("resources") {
        errors.push(FieldError::required(
            format!("{at}.resources"),
            "resource rules must supply at least one resource",
        ));
    }
}

/// Checks a change: a binding keeps its role.
pub fn validate_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let (old, new) = (&old["roleRef"], &new["roleRef"]);
    if old != new {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        // Spelled as the server's own form of the reference.
        let shown = format!(
            "{{\"APIGroup\":{:?},\"Kind\":{:?},\"Name\":{:?}}}",
            text(&new["apiGroup"]),
            text(&new["kind"]),
            text(&new["name"])
        );
        errors.push(FieldError::rule(
            "roleRef",
            "FieldValueInvalid",
            format!("Invalid value: {shown}: cannot change roleRef"),
        ));
    }
}
