//! Custom resource definitions: defaults, checks, and how they come into force.

use serde_json::{Value, json};

use super::fill;
use crate::registry::custom;
use crate::schema::structural;
use crate::status::FieldError;
use crate::store::{GroupResource, Store};

/// Group of the definitions.
pub const GROUP: &str = "apiextensions.k8s.io";

/// Defaults: names that follow from the kind, conversion, schema-less nothing.
pub fn default(crd: &mut Value) {
    let spec = &mut crd["spec"];
    if !spec.is_object() {
        return;
    }
    fill(spec, "conversion", json!({"strategy": "None"}));
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    if spec["names"].is_object() && !kind.is_empty() {
        fill(&mut spec["names"], "singular", kind.to_lowercase());
        fill(&mut spec["names"], "listKind", format!("{kind}List"));
    }
}

/// A new definition is not in force yet.
pub fn prepare_create(crd: &mut Value) {
    let stored = storage_versions(crd);
    crd["status"] =
        json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored});
}

fn storage_versions(crd: &Value) -> Vec<Value> {
    let versions = crd["spec"]["versions"].as_array().into_iter().flatten();
    versions.filter(|v| v["storage"] == true).map(|v| v["name"].clone()).collect()
}

/// Versions that were ever stored are remembered.
pub fn prepare_update(subresource: &str, _old: &Value, new: &mut Value) {
    if subresource.is_empty() && new["status"].is_object() {
        let mut stored = new["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
        for version in storage_versions(new) {
            if !stored.contains(&version) {
                stored.push(version);
            }
        }
        new["status"]["storedVersions"] = stored.into();
    }
}

/// Checks a definition.
pub fn validate(crd: &Value, errors: &mut Vec<FieldError>) {
    let spec = &crd["spec"];
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let name = &crd["metadata"]["name"];
    if name.as_str() != Some(&format!("{plural}.{group}")) {
        errors.push(FieldError::invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group"));
    }
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            "spec.group",
            &spec["group"],
            "should be a domain with at least one dot",
        ));
    } else if group == "k8s.io" || group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io") {
        let approved = &crd["metadata"]["annotations"]["api-approved.kubernetes.io"];
        if approved.as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(
                "metadata.annotations[api-approved.kubernetes.io]",
                "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
            ));
        }
    }
    let scopes = [json!("Cluster"), json!("Namespaced")];
    if !scopes.contains(&spec["scope"]) {
        errors.push(FieldError::not_supported("spec.scope", &spec["scope"], &scopes));
    }
    for field in ["plural", "kind"] {
        if spec["names"][field].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
    }
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    if storage_versions(crd).len() != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            &json!([]),
            "must have exactly one version marked as storage version",
        ));
    }
    let mut names: Vec<&Value> = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{index}]");
        if names.contains(&&version["name"]) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &version["name"]));
        }
        names.push(&version["name"]);
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_null() {
            errors.push(FieldError::required(format!("{at}.schema.openAPIV3Schema"), "schemas are required"));
        } else {
            structural::check(schema, &format!("{at}.schema.openAPIV3Schema"), errors);
        }
    }
    if errors.is_empty()
        && let Err(problems) = custom::resources(crd)
    {
        for problem in problems {
            errors.push(FieldError::rule(
                "spec.versions[0].schema.openAPIV3Schema",
                "FieldValueInvalid",
                format!("Invalid value: compilation failed: {problem}"),
            ));
        }
    }
}

/// Checks a change: scope and group stay, and so do versions that are stored.
pub fn validate_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    for (path, pointer) in [
        ("spec.scope", "/spec/scope"),
        ("spec.group", "/spec/group"),
        ("spec.names.plural", "/spec/names/plural"),
    ] {
        if old.pointer(pointer) != new.pointer(pointer) {
            errors.push(FieldError::invalid(
                path,
                new.pointer(pointer).unwrap_or(&Value::Null),
                "field is immutable",
            ));
        }
    }
    let names: Vec<&Value> =
        new["spec"]["versions"].as_array().into_iter().flatten().map(|v| &v["name"]).collect();
    for (index, stored) in new["status"]["storedVersions"].as_array().into_iter().flatten().enumerate() {
        if !names.contains(&stored) {
            errors.push(FieldError::invalid(
                format!("status.storedVersions[{index}]"),
                stored,
                "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in it and removes it from status.storedVersions",
            ));
        }
    }
}

/// The status of a definition once its names are accepted; `None` when it is as it should be already.
pub fn established(crd: &Value, store: &Store, now: &str) -> Option<Value> {
    let names = &crd["spec"]["names"];
    let group = &crd["spec"]["group"];
    let clash =
        store.list(&GroupResource::new(GROUP, "customresourcedefinitions"), "").find_map(|(_, other)| {
            let same = other["metadata"]["uid"] == crd["metadata"]["uid"] || other["spec"]["group"] != *group;
            if same {
                return None;
            }
            let taken = &other["status"]["acceptedNames"];
            ["kind", "listKind"]
                .iter()
                .find(|f| !taken[**f].is_null() && taken[**f] == names[**f])
                .map(|f| format!("{:?} is already in use", names[*f].as_str().unwrap_or_default()))
        });
    let old = &crd["status"];
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let before = old["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind);
        let time = before
            .filter(|c| c["status"] == status)
            .map_or(Value::from(now), |c| c["lastTransitionTime"].clone());
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time})
    };
    let mut status = old.clone();
    if let Some(message) = clash {
        status["conditions"] = json!([
            condition("NamesAccepted", "False", "KindConflict", &message),
            condition("Established", "False", "NotAccepted", "not all names are accepted"),
        ]);
    } else {
        status["acceptedNames"] = names.clone();
        status["conditions"] = json!([
            condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
            condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted"),
        ]);
    }
    (status != *old).then_some(status)
}

/// Whether a definition is in force.
pub fn is_established(crd: &Value) -> bool {
    let conditions = crd["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Established" && c["status"] == "True")
}
