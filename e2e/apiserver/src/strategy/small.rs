//! Types with little behaviour of their own.

use serde_json::{Value, json};

use super::fill;
use crate::status::FieldError;

/// Defaults of a namespace: the label with its name.
pub fn default_namespace(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return;
    }
    if !namespace["metadata"]["labels"].is_object() {
        namespace["metadata"]["labels"] = json!({});
    }
    fill(&mut namespace["metadata"]["labels"], "kubernetes.io/metadata.name", name);
    if !namespace["spec"].is_object() {
        namespace["spec"] = json!({});
    }
    if !namespace["status"].is_object() {
        namespace["status"] = json!({});
    }
    fill(&mut namespace["status"], "phase", "Active");
}

/// A new namespace is active and is emptied before it goes.
pub fn prepare_namespace(namespace: &mut Value) {
    namespace["status"] = json!({"phase": "Active"});
    let mut list = namespace["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !list.iter().any(|f| f == "kubernetes") {
        list.push("kubernetes".into());
    }
    namespace["spec"]["finalizers"] = list.into();
}

/// Defaults of a node: what can be allocated is what is there.
pub fn default_node(node: &mut Value) {
    if let Some(capacity) = node["status"].get("capacity").cloned() {
        fill(&mut node["status"], "allocatable", capacity);
    }
    if node.get("spec").is_none_or(Value::is_null) {
        node["spec"] = json!({});
    }
    if node.get("status").is_none_or(Value::is_null) {
        node["status"] = json!({});
    }
}

/// Defaults of a network policy.
pub fn default_network_policy(policy: &mut Value) {
    let spec = &mut policy["spec"];
    if !spec.is_object() {
        return;
    }
    fill(spec, "podSelector", json!({}));
    let mut types = vec![json!("Ingress")];
    if spec.get("egress").is_some() {
        types.push(json!("Egress"));
    }
    fill(spec, "policyTypes", types);
}

/// A new budget knows nothing yet.
pub fn prepare_budget(budget: &mut Value) {
    budget["status"] =
        json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
}

/// Checks a lease.
pub fn validate_lease(lease: &Value, errors: &mut Vec<FieldError>) {
    let duration = &lease["spec"]["leaseDurationSeconds"];
    if duration.as_i64().is_some_and(|d| d <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"));
    }
    let transitions = &lease["spec"]["leaseTransitions"];
    if transitions.as_i64().is_some_and(|t| t < 0) {
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            transitions,
            "must be greater than or equal to 0",
        ));
    }
}

/// Checks a disruption budget.
pub fn validate_budget(budget: &Value, errors: &mut Vec<FieldError>) {
    let spec = &budget["spec"];
    if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
        errors.push(FieldError::invalid(
            "spec",
            &json!({"minAvailable": spec["minAvailable"], "maxUnavailable": spec["maxUnavailable"]}),
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
}
