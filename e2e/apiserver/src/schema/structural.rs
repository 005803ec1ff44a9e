//! Whether a schema is structural: the form that pruning and defaulting need.

use serde_json::Value;

use super::prune::join;
use crate::status::FieldError;

/// Reports what makes a schema unusable; `path` leads to it.
pub fn check(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if schema["type"] != "object" {
        errors.push(FieldError::invalid(
            format!("{path}.type"),
            &schema["type"],
            "must be object at the root",
        ));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        errors.push(FieldError::invalid(
            format!("{path}.x-kubernetes-preserve-unknown-fields"),
            &false.into(),
            "must be true or undefined",
        ));
    }
    node(schema, path, true, errors);
}

fn node(schema: &Value, path: &str, root: bool, errors: &mut Vec<FieldError>) {
    let Some(map) = schema.as_object() else {
        errors.push(FieldError::type_invalid(path, schema, "must be an object"));
        return;
    };
    let typed = map.get("type").and_then(Value::as_str).is_some_and(|t| !t.is_empty());
    let exempt = map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
        || map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if !typed && !exempt {
        errors.push(FieldError::required(
            format!("{path}.type"),
            "must not be empty for specified object fields",
        ));
    }
    for keyword in [
        "$ref",
        "definitions",
        "dependencies",
        "deprecated",
        "discriminator",
        "id",
        "patternProperties",
        "readOnly",
        "writeOnly",
        "xml",
        "$schema",
    ] {
        if map.contains_key(keyword) {
            errors.push(FieldError::forbidden(
                format!("{path}.{keyword}"),
                "not supported in structural schemas",
            ));
        }
    }
    if map.get("uniqueItems") == Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden(
            format!("{path}.uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
    let additional = map.get("additionalProperties");
    if additional == Some(&Value::Bool(false)) {
        errors.push(FieldError::forbidden(
            format!("{path}.additionalProperties"),
            "additionalProperties cannot be set to false",
        ));
    }
    if additional.is_some() && map.get("properties").and_then(Value::as_object).is_some_and(|p| !p.is_empty())
    {
        errors.push(FieldError::forbidden(
            format!("{path}.additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    if let Some(pattern) = map.get("pattern").and_then(Value::as_str)
        && let Err(error) = regex::Regex::new(pattern)
    {
        errors.push(FieldError::invalid(
            format!("{path}.pattern"),
            &pattern.into(),
            &format!("must be a valid regular expression, but isn't: {error}"),
        ));
    }
    list(map, path, errors);
    if let Some(form) = additional.filter(|a| a.is_object()) {
        node(form, &format!("{path}.additionalProperties"), false, errors);
    }
    if schema["type"] == "array" {
        match map.get("items") {
            Some(items) => node(items, &format!("{path}.items"), false, errors),
            None => errors.push(FieldError::required(format!("{path}.items"), "must be specified")),
        }
    }
    for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        // Metadata may be described, but has its own form.
        if root && name == "metadata" {
            continue;
        }
        node(
            property,
            &join(&format!("{path}.properties"), &format!("[{name}]")).replace(".[", "["),
            false,
            errors,
        );
    }
}

fn list(map: &serde_json::Map<String, Value>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(kind) = map.get("x-kubernetes-list-type").and_then(Value::as_str) else { return };
    if map.get("type").and_then(Value::as_str) != Some("array") {
        errors.push(FieldError::invalid(
            format!("{path}.type"),
            map.get("type").unwrap_or(&Value::Null),
            "must be array if x-kubernetes-list-type is specified",
        ));
    }
    if kind != "map" {
        return;
    }
    let keys = map.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    if keys.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(
            format!("{path}.x-kubernetes-list-map-keys"),
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    let item = map.get("items");
    for key in keys.into_iter().flatten().filter_map(Value::as_str) {
        let property = item.and_then(|i| i["properties"].get(key));
        let required =
            item.and_then(|i| i["required"].as_array()).is_some_and(|r| r.iter().any(|v| v == key));
        if property.is_none() {
            errors.push(FieldError::invalid(
                format!("{path}.x-kubernetes-list-map-keys"),
                &key.into(),
                "entries must all be names of item properties",
            ));
        } else if !required && property.is_some_and(|p| p.get("default").is_none()) {
            errors.push(FieldError::required(
                format!("{path}.items.properties[{key}].default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ));
        }
    }
}
