//! What all writes share: checks, no-change detection, storing, and what follows from a stored object.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Request;
use crate::managed::ManagerId;
use crate::registry::{ResourceDef, custom};
use crate::schema::{lists, validate as schema_validate};
use crate::state::{State, now};
use crate::status::{ApiError, ApiResult, FieldError};
use crate::store::{GroupResource, Key, Store};
use crate::strategy::{self, crds};

/// Identity of the writer of a request.
pub fn manager_id(request: &Request<'_>, operation: &str) -> ManagerId {
    ManagerId {
        operation: operation.into(),
        manager: request.manager(),
        api_version: request.def.api_version(),
        subresource: request.info.subresource.clone(),
    }
}

/// Top-level fields that this door does not write.
pub fn resets(def: &ResourceDef, subresource: &str) -> Vec<&'static str> {
    match subresource {
        "" if def.has_status() => vec!["status"],
        "status" => vec!["spec", "data", "metadata"],
        _ => Vec::new(),
    }
}

/// Checks a new or changed object of any type.
pub fn check(def: &ResourceDef, subresource: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors =
        if subresource == "status" { Vec::new() } else { strategy::validate_metadata(def, object) };
    if let Some(old) = old {
        let changes = strategy::validate_metadata_update(old, object);
        if def.is_custom() {
            // Custom resources check these twice, and clients see both.
            errors.extend(changes.iter().cloned());
        }
        errors.extend(changes);
    }
    if let Some(custom) = &def.custom {
        let mut found = Vec::new();
        if subresource == "status" {
            if let (Some(status), Some(form)) = (object.get("status"), def.schema.field("status")) {
                schema_validate::subtree(status, form, "status", &mut found);
            }
        } else {
            schema_validate::object(object, &def.schema, &mut found);
        }
        lists::duplicates(object, &def.schema, "", &mut found);
        if let Some(old) = old {
            found.retain(|e| !unchanged(old, object, &e.field, e.reason));
        }
        errors.extend(found);
        let blocking = |e: &FieldError| {
            matches!(
                e.reason,
                "FieldValueNotSupported"
                    | "FieldValueRequired"
                    | "FieldValueTooLong"
                    | "FieldValueTooMany"
                    | "FieldValueTypeInvalid"
            )
        };
        if errors.iter().any(blocking) {
            errors.push(FieldError::invalid("<nil>", &Value::Null, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"));
        } else {
            let mut broken = custom.rules.check(object, old);
            if subresource == "status" {
                broken
                    .retain(|e| e.field == "status" || e.field.starts_with("status.") || e.field == "<nil>");
            }
            if let Some(old) = old {
                // Rules that got stricter do not bind what an update leaves alone.
                let untouched = |field: &str| {
                    let top = field.split(['.', '[']).next().unwrap_or_default();
                    old.get(top).is_some() && old.get(top) == object.get(top)
                };
                broken.retain(|e| !untouched(&e.field));
            }
            errors.extend(broken);
        }
        return errors;
    }
    errors.extend(strategy::validate(def, object));
    if let Some(old) = old {
        errors.extend(strategy::validate_update(def, subresource, old, object));
    }
    errors
}

/// Whether the value at a path is what it was: old objects stay writable when their schema got stricter.
fn unchanged(old: &Value, new: &Value, field: &str, reason: &str) -> bool {
    if reason == "FieldValueRequired" {
        // A field that was missing before may stay missing only where its parent is the same.
        let parent = field.rsplit_once('.').map_or("", |(p, _)| p);
        return !parent.is_empty() && at(old, parent).is_some() && at(old, parent) == at(new, parent);
    }
    let value = at(old, field);
    value.is_some() && value == at(new, field)
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut node = object;
    for part in path.split('.') {
        let (name, indexes) = part.split_once('[').unwrap_or((part, ""));
        if !name.is_empty() {
            node = node.get(name)?;
        }
        for index in indexes.split('[').filter(|i| !i.is_empty()) {
            node = node.get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
        }
    }
    Some(node)
}

/// Whether two states differ in nothing but version and times of ownership.
pub fn same(old: &Value, new: &Value) -> bool {
    let strip = |object: &Value| {
        let mut copy = object.clone();
        if let Some(metadata) = copy.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            let entries = metadata.get_mut("managedFields").and_then(Value::as_array_mut);
            for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
                entry.remove("time");
            }
        }
        copy
    };
    strip(old) == strip(new)
}

/// Stores a changed object, or removes it when that was the last thing that held it.
pub fn store_update(
    request: &Request<'_>,
    store: &mut Store,
    old: &Arc<Value>,
    new: Value,
) -> ApiResult<Value> {
    if same(old, &new) {
        return Ok((**old).clone());
    }
    if request.dry_run()? {
        let mut new = new;
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        return Ok(new);
    }
    let key = request.key();
    let finalizers = new["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let held = request.def.is("", "namespaces")
        && new["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let grace = new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    if new["metadata"].get("deletionTimestamp").is_some() && !finalizers && !held && grace == 0 {
        let stored = store.remove(&key);
        after_remove(request.state, store, &request.def, &key);
        let mut gone = new;
        if let Some(stored) = stored {
            gone["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
        }
        return Ok(gone);
    }
    let stored = store.put(key.clone(), new);
    after_put(request.state, store, &request.def, &key, &stored);
    Ok((*stored).clone())
}

/// What follows from a stored object: definitions come into force, namespaces get their furniture.
pub fn after_put(state: &State, store: &mut Store, def: &ResourceDef, key: &Key, object: &Arc<Value>) {
    if def.is(crds::GROUP, "customresourcedefinitions") {
        let mut current = object.clone();
        if let Some(status) = crds::established(object, store, &now()) {
            let mut next = (**object).clone();
            next["status"] = status;
            current = store.put(key.clone(), next);
        }
        register(state, &current);
    }
    if def.is("", "namespaces") {
        crate::controllers::namespaces::furnish(state, store, &key.name);
    }
}

/// What follows from a removed object.
pub fn after_remove(state: &State, store: &mut Store, def: &ResourceDef, key: &Key) {
    if def.is(crds::GROUP, "customresourcedefinitions")
        && let Some((plural, group)) = key.name.split_once('.')
    {
        // The objects go with their definition.
        let gr = GroupResource::new(group, plural);
        let gone: Vec<Key> = store.list(&gr, "").map(|(k, _)| k.clone()).collect();
        for key in gone {
            store.remove(&key);
        }
        state.change_registry(|r| r.set_custom(group, plural, Vec::new()));
    }
    if def.namespaced
        && !key.namespace.is_empty()
        && matches!(key.gr.resource.as_str(), "serviceaccounts" | "configmaps")
    {
        crate::controllers::namespaces::furnish(state, store, &key.namespace);
    }
}

/// Serves the versions of a definition that is in force.
pub fn register(state: &State, crd: &Value) {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&crd["spec"]["group"]), text(&crd["spec"]["names"]["plural"]));
    let defs =
        if crds::is_established(crd) { custom::resources(crd).unwrap_or_default() } else { Vec::new() };
    state.change_registry(|r| r.set_custom(&group, &plural, defs));
}

/// Nobody may grant more than they hold.
pub fn check_escalation(request: &Request<'_>, store: &Store, object: &Value) -> ApiResult<()> {
    use crate::auth::rbac::{Attributes, allowed, missing_rules, role_rules};
    let def = &request.def;
    if def.group != "rbac.authorization.k8s.io" {
        return Ok(());
    }
    let namespace = &request.info.namespace;
    let binding = matches!(def.kind.as_str(), "RoleBinding" | "ClusterRoleBinding");
    let rules = if binding {
        role_rules(store, &object["roleRef"], namespace)
    } else {
        object["rules"].as_array().cloned().unwrap_or_default()
    };
    let missing = missing_rules(store, &request.user, namespace, &rules);
    if missing.is_empty() {
        return Ok(());
    }
    let (verb, resource, name) = if binding {
        let cluster = object["roleRef"]["kind"] == "ClusterRole";
        (
            "bind",
            if cluster { "clusterroles" } else { "roles" },
            object["roleRef"]["name"].as_str().unwrap_or_default(),
        )
    } else {
        ("escalate", def.plural.as_str(), object["metadata"]["name"].as_str().unwrap_or_default())
    };
    let ask = Attributes {
        verb: verb.into(),
        group: def.group.clone(),
        resource: resource.into(),
        namespace: namespace.clone(),
        name: name.into(),
        path: None,
    };
    if allowed(store, &request.user, &ask) {
        return Ok(());
    }
    let list: Vec<String> = missing.iter().map(Value::to_string).collect();
    Err(ApiError::forbidden(
        &def.group,
        &def.plural,
        object["metadata"]["name"].as_str().unwrap_or_default(),
        &format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            request.user.name,
            json!(request.user.groups),
            list.join("\n")
        ),
    ))
}
