//! OpenAPI v3: an index and one document a group and version.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::registry::{Registry, ResourceDef};
use crate::schema::builtin::raw_definitions;

/// Path of a group and version below `/openapi/v3/`.
pub fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The group and version of a path below `/openapi/v3/`, when it is served.
pub fn parse(registry: &Registry, path: &str) -> Option<(String, String)> {
    let groups = registry.groups();
    groups
        .into_iter()
        .flat_map(|(g, versions)| versions.into_iter().map(move |v| (g.clone(), v)))
        .find(|(g, v)| path_of(g, v) == path)
}

/// Copies a schema with its references rewritten, and notes what it refers to.
pub fn rewrite(schema: &Value, prefix: &str, found: &mut BTreeSet<String>) -> Value {
    match schema {
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                // A property may have that name as well.
                if key == "$ref"
                    && let Some(reference) = value.as_str()
                {
                    let name = reference.rsplit('/').next().unwrap_or_default();
                    found.insert(name.to_owned());
                    out.insert(key.clone(), format!("{prefix}{name}").into());
                } else {
                    out.insert(key.clone(), rewrite(value, prefix, found));
                }
            }
            // A reference stands alone in v3; what is said beside it moves around it.
            if prefix.starts_with("#/components")
                && out.get("$ref").is_some_and(Value::is_string)
                && out.len() > 1
            {
                let reference = out.remove("$ref");
                out.insert("allOf".into(), json!([{"$ref": reference}]));
            }
            Value::Object(out)
        }
        Value::Array(items) => items.iter().map(|i| rewrite(i, prefix, found)).collect(),
        other => other.clone(),
    }
}

/// Adds definitions and everything they refer to.
pub fn add_definitions(names: BTreeSet<String>, prefix: &str, out: &mut Map<String, Value>) {
    let mut open: Vec<String> = names.into_iter().collect();
    while let Some(name) = open.pop() {
        if out.contains_key(&name) {
            continue;
        }
        let Some(raw) = raw_definitions().get(&name) else { continue };
        let mut found = BTreeSet::new();
        let schema = rewrite(raw, prefix, &mut found);
        out.insert(name, schema);
        open.extend(found);
    }
}

/// The kinds a definition stands for.
pub fn kinds(def: &ResourceDef) -> Value {
    json!([{"group": def.group, "version": def.version, "kind": def.kind}])
}

/// The schema of an object, as a definition of its own.
pub fn definition(def: &ResourceDef, prefix: &str, found: &mut BTreeSet<String>) -> Value {
    let raw = match &def.custom {
        Some(custom) => {
            let mut raw = custom.raw.clone();
            let text = |field: &str| {
                raw_definitions()
                    .get("io.k8s.api.core.v1.ConfigMap")
                    .and_then(|d| d["properties"][field]["description"].as_str())
                    .unwrap_or_default()
                    .to_owned()
            };
            let (api_version, kind) = (text("apiVersion"), text("kind"));
            raw["properties"]["apiVersion"] = json!({"type": "string", "description": api_version});
            raw["properties"]["kind"] = json!({"type": "string", "description": kind});
            raw["properties"]["metadata"] = json!({"$ref": "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
                "description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"});
            raw
        }
        None => raw_definitions().get(&def.definition).cloned().unwrap_or_else(|| json!({"type": "object"})),
    };
    let mut schema = rewrite(&raw, prefix, found);
    schema["x-kubernetes-group-version-kind"] = kinds(def);
    schema
}

fn list_definition(def: &ResourceDef, prefix: &str, found: &mut BTreeSet<String>) -> Value {
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
    found.insert(meta.to_owned());
    json!({
        "type": "object", "description": format!("{} is a list of {}", def.list_kind, def.kind), "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": format!("{prefix}{}", def.definition)}},
            "metadata": {"$ref": format!("{prefix}{meta}")},
        },
        "x-kubernetes-group-version-kind": [{"group": def.group, "version": def.version, "kind": def.list_kind}],
    })
}

/// Parameters that writes take; clients look for `fieldValidation` among them.
fn write_parameters() -> Value {
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    json!([parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation"), parameter("pretty")])
}

fn paths(def: &ResourceDef) -> Vec<(String, Value)> {
    let base = format!("/{}", path_of(&def.group, &def.version));
    let collection = if def.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", def.plural)
    } else {
        format!("{base}/{}", def.plural)
    };
    let reference = json!({"$ref": format!("#/components/schemas/{}", def.definition)});
    let answer =
        json!({"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}});
    let operation = |action: &str, verb: &str| {
        json!({
            "operationId": format!("{verb}{}", def.kind), "responses": answer,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kinds(def)[0],
        })
    };
    let writing = |action: &str, verb: &str, media: &[&str]| {
        let mut op = operation(action, verb);
        op["parameters"] = write_parameters();
        let content: Map<String, Value> =
            media.iter().map(|m| ((*m).to_owned(), json!({"schema": reference}))).collect();
        op["requestBody"] = json!({"required": true, "content": content});
        op
    };
    let has = |verb: &str| def.verbs.contains(&verb);
    let mut whole = Map::new();
    let mut single = Map::new();
    if has("list") {
        whole.insert("get".into(), operation("list", "list"));
    }
    if has("create") {
        whole.insert("post".into(), writing("post", "create", &["*/*"]));
    }
    if has("get") {
        single.insert("get".into(), operation("get", "read"));
    }
    if has("update") {
        single.insert("put".into(), writing("put", "replace", &["*/*"]));
    }
    if has("patch") {
        let media: &[&str] = &[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
            "application/strategic-merge-patch+json",
        ];
        let media = if def.is_custom() { &media[..3] } else { media };
        single.insert("patch".into(), writing("patch", "patch", media));
    }
    if has("delete") {
        single.insert("delete".into(), operation("delete", "delete"));
    }
    let mut out = vec![(collection.clone(), Value::Object(whole))];
    if !single.is_empty() {
        out.push((format!("{collection}/{{name}}"), Value::Object(single)));
    }
    out
}

/// The document of a group and version.
pub fn document(registry: &Registry, group: &str, version: &str) -> Value {
    const PREFIX: &str = "#/components/schemas/";
    let mut schemas = Map::new();
    let mut found = BTreeSet::new();
    let mut all_paths = Map::new();
    for def in registry.all().filter(|d| d.group == group && d.version == version) {
        schemas.insert(def.definition.clone(), definition(def, PREFIX, &mut found));
        if def.verbs.contains(&"list") {
            schemas.insert(format!("{}List", def.definition), list_definition(def, PREFIX, &mut found));
        }
        all_paths.extend(paths(def));
    }
    add_definitions(found, PREFIX, &mut schemas);
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.0"}, "paths": all_paths,
        "components": {"schemas": schemas}})
}
