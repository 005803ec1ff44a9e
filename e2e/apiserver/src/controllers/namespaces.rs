//! Namespaces: what every one has, and how one is emptied before it goes.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::rest::delete;
use crate::state::{State, now};
use crate::store::{GroupResource, Key, Store};

fn namespace_key(name: &str) -> Key {
    Key { gr: GroupResource::new("", "namespaces"), namespace: String::new(), name: name.into() }
}

/// A new object made by the server itself.
pub fn make(api_version: &str, kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {
        "name": name, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now()}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    for (field, value) in rest.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    object
}

/// Gives a namespace its default service account and the certificate authority.
pub fn furnish(state: &State, store: &mut Store, name: &str) {
    let alive =
        store.get(&namespace_key(name)).is_some_and(|n| n["metadata"].get("deletionTimestamp").is_none());
    if !alive {
        return;
    }
    let account =
        Key { gr: GroupResource::new("", "serviceaccounts"), namespace: name.into(), name: "default".into() };
    if store.get(&account).is_none() {
        store.put(account, make("v1", "ServiceAccount", name, "default", json!({})));
    }
    let authority = Key {
        gr: GroupResource::new("", "configmaps"),
        namespace: name.into(),
        name: "kube-root-ca.crt".into(),
    };
    if store.get(&authority).is_none() {
        let data = json!({"data": {"ca.crt": state.ca_pem}});
        store.put(authority, make("v1", "ConfigMap", name, "kube-root-ca.crt", data));
    }
}

/// Empties namespaces that are to go, and lets them go once they are empty.
pub fn empty(state: &Arc<State>, store: &mut Store) {
    let going: Vec<String> = store
        .list(&GroupResource::new("", "namespaces"), "")
        .filter(|(_, n)| n["metadata"].get("deletionTimestamp").is_some())
        .map(|(k, _)| k.name.clone())
        .collect();
    for name in going {
        let content: Vec<Key> =
            store.all().filter(|(k, _)| k.namespace == name).map(|(k, _)| k.clone()).collect();
        for key in &content {
            let deleting = store.get(key).is_some_and(|o| o["metadata"].get("deletionTimestamp").is_some());
            if !deleting {
                delete::by_server(state, store, key);
            }
        }
        let left = store.all().any(|(k, _)| k.namespace == name);
        if left {
            continue;
        }
        let key = namespace_key(&name);
        let Some(namespace) = store.get(&key).cloned() else { continue };
        let rest: Vec<Value> = namespace["spec"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|f| *f != "kubernetes")
            .cloned()
            .collect();
        let held =
            !rest.is_empty() || namespace["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let mut last = (*namespace).clone();
        if rest.is_empty() {
            last["spec"].as_object_mut().map(|s| s.remove("finalizers"));
        } else {
            last["spec"]["finalizers"] = rest.into();
        }
        if !held {
            store.remove(&key);
        } else if last != *namespace {
            store.put(key, last);
        }
    }
}
