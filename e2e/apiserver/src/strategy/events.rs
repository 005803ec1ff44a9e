//! Events: one storage in the core form, shown through two APIs.

use serde_json::{Value, json};

use super::fill;
use crate::registry::ResourceDef;
use crate::status::FieldError;

/// Fields that the two APIs call differently: core, events.k8s.io.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn rename(event: &mut Value, api_version: &str, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(map) = event.as_object_mut() else { return };
    map.insert("apiVersion".into(), api_version.into());
    for (from, to) in pairs {
        if let Some(value) = map.remove(from) {
            map.insert(to.into(), value);
        }
    }
}

/// From `events.k8s.io` to the stored form.
pub fn to_core(event: &mut Value) {
    rename(event, "v1", RENAMED.iter().map(|(core, other)| (*other, *core)));
}

/// From the stored form to `events.k8s.io`.
pub fn from_core(event: &mut Value) {
    rename(event, "events.k8s.io/v1", RENAMED.iter().copied());
}

/// Fields that are shown even when they are empty.
pub fn default(event: &mut Value) {
    // Called with either form; what belongs to the other one stays away.
    let core = event["apiVersion"] != "events.k8s.io/v1";
    let Some(map) = event.as_object_mut() else { return };
    let blank = [("source", json!({})), ("firstTimestamp", Value::Null), ("lastTimestamp", Value::Null)];
    for (core_name, value) in blank {
        let name = if core {
            core_name
        } else {
            RENAMED.iter().find(|(c, _)| *c == core_name).map_or(core_name, |(_, other)| *other)
        };
        map.entry(name).or_insert(value);
    }
    map.entry("eventTime").or_insert(Value::Null);
    if core {
        fill(event, "involvedObject", json!({}));
        fill(event, "reportingComponent", "");
        fill(event, "reportingInstance", "");
    }
}

/// Checks an event, given in its stored form.
pub fn validate(event: &Value, def: &ResourceDef, errors: &mut Vec<FieldError>) {
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let about = event["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let about = if about.is_empty() && namespace == "default" { "default" } else { about };
    if about != namespace {
        let mut shown = event["involvedObject"]["namespace"].clone();
        if shown.is_null() {
            shown = "".into();
        }
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            &shown,
            "does not match event.namespace",
        ));
    }
    if def.group != "events.k8s.io" {
        return;
    }
    if event["eventTime"].is_null() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = event["type"].as_str().unwrap_or_default();
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", &kind.into(), &format!("has invalid value: {kind}")));
    }
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    if !event["eventTime"].is_null() {
        for (field, name) in [
            ("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"),
            ("action", "action"),
            ("reason", "reason"),
        ] {
            if text(field).is_empty() {
                errors.push(FieldError::required(name, ""));
            }
        }
    }
    if text("message").len() > 1024 {
        errors.push(FieldError::too_long("note", 1024));
    }
}
