//! Field selectors: the few fields of each type that lists and watches may ask for.

use serde_json::Value;

use crate::status::{ApiError, ApiResult};

/// A conjunction of `field=value` and `field!=value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

/// Selectable fields beside name and namespace; the second name is where the object keeps it.
fn selectable(group: &str, resource: &str) -> &'static [&'static str] {
    match (group, resource) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        _ => &[],
    }
}

/// Names of `events.k8s.io` beside those of the core form.
fn alias(field: &str) -> &str {
    match field {
        "regarding.kind" => "involvedObject.kind",
        "regarding.namespace" => "involvedObject.namespace",
        "regarding.name" => "involvedObject.name",
        "regarding.uid" => "involvedObject.uid",
        "regarding.apiVersion" => "involvedObject.apiVersion",
        "regarding.resourceVersion" => "involvedObject.resourceVersion",
        "regarding.fieldPath" => "involvedObject.fieldPath",
        "reportingController" => "reportingComponent",
        other => other,
    }
}

impl FieldSelector {
    /// Reads a selector for a resource; `extra` are fields that a custom resource declares selectable.
    pub fn parse(text: &str, group: &str, resource: &str, extra: &[String]) -> ApiResult<Self> {
        let mut list = Vec::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (field, equal, value) = if let Some((f, v)) = part.split_once("!=") {
                (f, false, v)
            } else if let Some((f, v)) = part.split_once("==") {
                (f, true, v)
            } else if let Some((f, v)) = part.split_once('=') {
                (f, true, v)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            let field = alias(field.trim());
            let known = matches!(field, "metadata.name" | "metadata.namespace")
                || selectable(group, resource).contains(&field)
                || extra.iter().any(|e| e == field);
            if !known {
                let message = if group.is_empty() && selectable(group, resource).is_empty()
                    || !group.is_empty()
                {
                    format!(
                        "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    )
                } else {
                    format!("field label not supported: {field}")
                };
                return Err(ApiError::bad_request(message));
            }
            list.push((field.to_owned(), equal, value.trim().to_owned()));
        }
        Ok(Self(list))
    }

    /// Whether an object fits.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, equal, value)| (read(object, field) == *value) == *equal)
    }
}

fn read(object: &Value, field: &str) -> String {
    let field = match field {
        "source" => "source.component",
        "status.successful" => "status.succeeded",
        other => other,
    };
    let mut at = object;
    for part in field.split('.') {
        at = &at[part];
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null if field == "spec.unschedulable" || field == "spec.hostNetwork" => "false".into(),
        Value::Null if field.ends_with("replicas") || field.ends_with("succeeded") => "0".into(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
