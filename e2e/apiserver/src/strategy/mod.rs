//! What the server does to objects of each type beside its schema: defaults, preparation and checks.

pub mod crds;
pub mod events;
pub mod internal_form;
mod meta;
mod pods;
mod rbac;
mod secrets;
pub mod services;
mod small;
mod volumes;
mod workloads;

use serde_json::{Value, json};

use crate::registry::ResourceDef;
use crate::status::FieldError;
use crate::store::Store;

pub use meta::{validate_metadata, validate_metadata_update};

/// Fills in the defaults of a type, as reading a body does.
pub fn default(def: &ResourceDef, object: &mut Value) {
    if def.is_custom() {
        crate::schema::defaults::apply(object, &def.schema);
        return;
    }
    match (def.group.as_str(), def.kind.as_str()) {
        ("", "Pod") => pods::default(object),
        ("", "Service") => services::default(object),
        ("", "PersistentVolumeClaim") => volumes::default_claim(object),
        ("", "PersistentVolume") => volumes::default_volume(object),
        ("", "Secret") => secrets::default_secret(object),
        ("", "Namespace") => small::default_namespace(object),
        ("", "Node") => small::default_node(object),
        ("apps" | "batch", _) => workloads::default(&def.kind, object),
        ("storage.k8s.io", "StorageClass") => volumes::default_class(object),
        ("rbac.authorization.k8s.io", _) => rbac::default(object),
        ("apiextensions.k8s.io", _) => crds::default(object),
        ("", "Event") | ("events.k8s.io", "Event") => events::default(object),
        ("networking.k8s.io", "NetworkPolicy") => small::default_network_policy(object),
        _ => {}
    }
}

/// Whether the type counts its changes in `metadata.generation`.
pub fn counts_generation(def: &ResourceDef) -> bool {
    def.is_custom()
        || matches!(
            def.group.as_str(),
            "apps" | "batch" | "networking.k8s.io" | "policy" | "apiextensions.k8s.io"
        ) && def.kind != "ControllerRevision"
        || matches!(def.kind.as_str(), "Pod" | "EndpointSlice" | "ReplicationController")
}

/// Completes a new object after its fields were attributed to its writer.
pub fn prepare_create(def: &ResourceDef, object: &mut Value, store: &Store) {
    // Status belongs to the status subresource.
    if def.has_status() {
        let blank = if def.is_custom() { None } else { def.blank.get("status").cloned() };
        match blank {
            Some(blank)
                if def.kind != "PersistentVolumeClaim" && def.kind != "Node" && def.kind != "Namespace" =>
            {
                object["status"] = blank;
            }
            Some(_) => {}
            None => {
                object.as_object_mut().map(|o| o.remove("status"));
            }
        }
    }
    match (def.group.as_str(), def.kind.as_str()) {
        ("", "Pod") => pods::prepare_create(object, store),
        ("", "PersistentVolumeClaim") => volumes::prepare_claim(object, store),
        ("", "PersistentVolume") => volumes::prepare_volume(object),
        ("", "Namespace") => small::prepare_namespace(object),
        ("apps" | "batch", _) => workloads::prepare_create(&def.kind, object),
        ("policy", "PodDisruptionBudget") => small::prepare_budget(object),
        ("apiextensions.k8s.io", _) => crds::prepare_create(object),
        _ => {}
    }
}

/// Undoes what an update may not change, and counts the generation. `subresource` is empty for the object itself.
pub fn prepare_update(def: &ResourceDef, subresource: &str, old: &Value, new: &mut Value) {
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        restore(&mut new["metadata"], &old["metadata"], field);
    }
    if def.namespaced {
        restore(&mut new["metadata"], &old["metadata"], "namespace");
    }
    match subresource {
        "status" => {
            let names: Vec<String> = old
                .as_object()
                .into_iter()
                .flatten()
                .chain(new.clone().as_object().into_iter().flatten())
                .map(|(k, _)| k.clone())
                .collect();
            for name in names {
                if !matches!(name.as_str(), "status" | "metadata" | "apiVersion" | "kind") {
                    restore(new, old, &name);
                }
            }
            if def.is_custom() || def.kind == "CustomResourceDefinition" {
                let managed = new["metadata"].get("managedFields").cloned();
                let version = new["metadata"].get("resourceVersion").cloned();
                new["metadata"] = old["metadata"].clone();
                set_or_remove(&mut new["metadata"], "managedFields", managed);
                set_or_remove(&mut new["metadata"], "resourceVersion", version);
            } else {
                restore(&mut new["metadata"], &old["metadata"], "ownerReferences");
            }
        }
        "" if def.has_status() => restore(new, old, "status"),
        _ => {}
    }
    match (def.group.as_str(), def.kind.as_str()) {
        ("", "Service") if subresource.is_empty() => services::prepare_update(old, new),
        ("", "Secret") => secrets::prepare_update(old, new),
        ("", "Namespace") if subresource != "finalize" => {
            restore(&mut new["spec"], &old["spec"], "finalizers")
        }
        ("apiextensions.k8s.io", _) => crds::prepare_update(subresource, old, new),
        _ => {}
    }
    if counts_generation(def) && spec_changed(def, old, new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = (generation + 1).into();
    }
}

fn spec_changed(def: &ResourceDef, old: &Value, new: &Value) -> bool {
    if def.is_custom() {
        let strip = |v: &Value| {
            let mut copy = v.clone();
            if let Some(map) = copy.as_object_mut() {
                map.remove("metadata");
                if def.has_status() {
                    map.remove("status");
                }
            }
            copy
        };
        return strip(old) != strip(new);
    }
    old.get("spec") != new.get("spec") || old.get("endpoints") != new.get("endpoints")
}

fn restore(new: &mut Value, old: &Value, field: &str) {
    let value = old.get(field).cloned();
    set_or_remove(new, field, value);
}

fn set_or_remove(target: &mut Value, field: &str, value: Option<Value>) {
    if !target.is_object() {
        if value.is_none() {
            return;
        }
        *target = json!({});
    }
    let Some(map) = target.as_object_mut() else { return };
    match value {
        Some(value) => {
            map.insert(field.into(), value);
        }
        None => {
            map.remove(field);
        }
    }
}

/// Checks an object of a built-in type.
pub fn validate(def: &ResourceDef, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match (def.group.as_str(), def.kind.as_str()) {
        ("", "Pod") => pods::validate(&object["spec"], "spec", &mut errors),
        ("", "Service") => services::validate(object, &mut errors),
        ("", "PersistentVolumeClaim") => volumes::validate_claim(object, &mut errors),
        ("", "Secret") => secrets::validate_secret(object, &mut errors),
        ("", "ConfigMap") => secrets::validate_config_map(object, &mut errors),
        ("", "Event") | ("events.k8s.io", "Event") => events::validate(object, def, &mut errors),
        ("apps" | "batch", _) => workloads::validate(&def.kind, object, &mut errors),
        ("coordination.k8s.io", "Lease") => small::validate_lease(object, &mut errors),
        ("policy", "PodDisruptionBudget") => small::validate_budget(object, &mut errors),
        ("rbac.authorization.k8s.io", _) => rbac::validate(&def.kind, object, &mut errors),
        ("apiextensions.k8s.io", _) => crds::validate(object, &mut errors),
        ("storage.k8s.io", "StorageClass") => volumes::validate_class(object, &mut errors),
        _ => {}
    }
    errors
}

/// Checks a change of an object of a built-in type.
pub fn validate_update(def: &ResourceDef, subresource: &str, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match (def.group.as_str(), def.kind.as_str()) {
        ("", "Pod") if subresource.is_empty() => pods::validate_update(old, new, &mut errors),
        ("", "Service") => services::validate_update(old, new, &mut errors),
        ("", "PersistentVolumeClaim") if subresource.is_empty() => {
            volumes::validate_claim_update(old, new, &mut errors)
        }
        ("", "Secret") => secrets::validate_secret_update(old, new, &mut errors),
        ("", "ConfigMap") => secrets::validate_config_map_update(old, new, &mut errors),
        ("apps" | "batch", kind) => workloads::validate_update(kind, old, new, &mut errors),
        ("rbac.authorization.k8s.io", _) => rbac::validate_update(old, new, &mut errors),
        ("apiextensions.k8s.io", _) => crds::validate_update(old, new, &mut errors),
        ("storage.k8s.io", "StorageClass") => volumes::validate_class_update(old, new, &mut errors),
        _ => {}
    }
    errors
}

/// Sets a field of an object to a value when it is not there.
pub(crate) fn fill(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        let missing = map.get(field).is_none_or(Value::is_null);
        if missing {
            map.insert(field.into(), value.into());
        }
    }
}
