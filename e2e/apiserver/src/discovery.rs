//! What clients ask first: versions, groups and resources, in the old and in the aggregated form.

use serde_json::{Value, json};

use crate::registry::{Registry, ResourceDef};

/// The version the server says it is.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": "v1.36.0",
        "gitCommit": "0000000000000000000000000000000000000000", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.25", "compiler": "gc", "platform": "linux/amd64",
    })
}

/// `/api`.
pub fn core_versions(address: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
}

fn group(name: &str, versions: &[String]) -> Value {
    let list: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v})).collect();
    json!({"name": name, "versions": list, "preferredVersion": list[0]})
}

/// `/apis`.
pub fn groups(registry: &Registry) -> Value {
    let list: Vec<Value> =
        registry.groups().iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| group(g, v)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
}

/// `/apis/<group>`.
pub fn one_group(registry: &Registry, name: &str) -> Option<Value> {
    let groups = registry.groups();
    let (_, versions) = groups.iter().find(|(g, _)| g == name && !name.is_empty())?;
    let mut body = group(name, versions);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Some(body)
}

fn of<'a>(registry: &'a Registry, group: &'a str, version: &'a str) -> Vec<&'a ResourceDef> {
    registry.all().filter(|d| d.group == group && d.version == version).map(|d| &**d).collect()
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let defs = of(registry, group, version);
    if defs.is_empty() {
        return None;
    }
    let mut list = Vec::new();
    for def in defs {
        let mut resource = json!({"name": def.plural, "singularName": def.singular, "namespaced": def.namespaced,
            "kind": def.kind, "verbs": def.verbs});
        if !def.short_names.is_empty() {
            resource["shortNames"] = json!(def.short_names);
        }
        if !def.categories.is_empty() {
            resource["categories"] = json!(def.categories);
        }
        list.push(resource);
        for sub in &def.subresources {
            let mut resource = json!({"name": format!("{}/{}", def.plural, sub.name), "singularName": "",
                "namespaced": def.namespaced, "kind": sub.kind, "verbs": sub.verbs});
            if let Some((group, version)) = &sub.group_version {
                resource["group"] = group.clone().into();
                resource["version"] = version.clone().into();
            }
            list.push(resource);
        }
    }
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}),
    )
}

/// The aggregated form of `/api` (`core`) or `/apis`; `stable` is false for the beta form of old clients.
pub fn aggregated(registry: &Registry, core: bool, stable: bool) -> Value {
    let mut items = Vec::new();
    for (name, versions) in registry.groups() {
        if name.is_empty() != core {
            continue;
        }
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| {
                let resources: Vec<Value> =
                    of(registry, &name, version).into_iter().map(aggregated_one).collect();
                json!({"version": version, "resources": resources, "freshness": "Current"})
            })
            .collect();
        let metadata = if core { json!({"creationTimestamp": null}) } else { json!({"name": name}) };
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    let version = if stable { "v2" } else { "v2beta1" };
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items})
}

fn aggregated_one(def: &ResourceDef) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut resource = json!({
        "resource": def.plural, "responseKind": kind(&def.group, &def.version, &def.kind),
        "scope": if def.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": def.singular, "verbs": def.verbs,
    });
    if !def.short_names.is_empty() {
        resource["shortNames"] = json!(def.short_names);
    }
    if !def.categories.is_empty() {
        resource["categories"] = json!(def.categories);
    }
    let subs: Vec<Value> = def
        .subresources
        .iter()
        .map(|sub| {
            let (group, version) =
                sub.group_version.clone().unwrap_or_else(|| (def.group.clone(), def.version.clone()));
            json!({"subresource": sub.name, "responseKind": kind(&group, &version, &sub.kind), "verbs": sub.verbs})
        })
        .collect();
    if !subs.is_empty() {
        resource["subresources"] = subs.into();
    }
    resource
}
