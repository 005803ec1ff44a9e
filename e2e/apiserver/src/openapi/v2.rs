//! OpenAPI v2, as JSON and as the protobuf form that old clients ask for.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::proto;
use super::v3::{add_definitions, definition, kinds, path_of};
use crate::registry::{Registry, ResourceDef};

const PREFIX: &str = "#/definitions/";

/// Takes out of a schema what v2 does not know.
fn plain(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for keyword in ["nullable", "anyOf", "oneOf", "not"] {
        map.remove(keyword);
    }
    if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        // Old clients would take the named properties for all there are.
        map.remove("items");
        map.remove("properties");
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) && !map.contains_key("type") {
        map.insert("format".into(), "int-or-string".into());
        map.insert("type".into(), "string".into());
    }
    for keyword in ["items", "additionalProperties"] {
        map.get_mut(keyword).into_iter().for_each(plain);
    }
    map.get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
        .for_each(|(_, p)| plain(p));
    map.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten().for_each(plain);
}

fn operations(def: &ResourceDef) -> Vec<(String, Value)> {
    let base = format!("/{}", path_of(&def.group, &def.version));
    let collection = if def.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", def.plural)
    } else {
        format!("{base}/{}", def.plural)
    };
    let kind = kinds(def)[0].clone();
    let answer =
        json!({"200": {"description": "OK", "schema": {"$ref": format!("{PREFIX}{}", def.definition)}}});
    let operation = |verb: &str, action: &str, writes: bool| {
        let mut parameters = Vec::new();
        if writes {
            for name in ["dryRun", "fieldManager", "fieldValidation"] {
                parameters.push(json!({"name": name, "in": "query", "type": "string", "uniqueItems": true}));
            }
        }
        json!({"operationId": format!("{verb}{}{}", def.version, def.kind), "parameters": parameters, "responses": answer,
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind})
    };
    let mut single = Map::new();
    for (verb, method, action, writes) in [
        ("get", "get", "get", false),
        ("update", "put", "put", true),
        ("patch", "patch", "patch", true),
        ("delete", "delete", "delete", true),
    ] {
        if def.verbs.contains(&verb) {
            single.insert(method.into(), operation(verb, action, writes));
        }
    }
    let mut whole = Map::new();
    if def.verbs.contains(&"create") {
        whole.insert("post".into(), operation("create", "post", true));
    }
    let mut out = vec![(collection.clone(), Value::Object(whole))];
    if !single.is_empty() {
        out.push((format!("{collection}/{{name}}"), Value::Object(single)));
    }
    out
}

/// The whole document.
pub fn document(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    let mut found = BTreeSet::new();
    let mut paths = Map::new();
    for def in registry.all() {
        definitions.insert(def.definition.clone(), definition(def, PREFIX, &mut found));
        paths.extend(operations(def));
    }
    add_definitions(found, PREFIX, &mut definitions);
    definitions.values_mut().for_each(plain);
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.36.0"}, "paths": paths,
        "definitions": definitions})
}

/// The document in the protobuf form `openapi.v2.Document`.
pub fn encoded(registry: &Registry) -> Vec<u8> {
    proto::document(&document(registry))
}
