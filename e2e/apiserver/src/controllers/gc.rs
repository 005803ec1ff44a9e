//! Garbage collection by owner references: background, foreground and orphan.

use std::sync::Arc;

use serde_json::Value;

use crate::rest::delete;
use crate::state::State;
use crate::store::{Key, Store};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

fn has_finalizer(object: &Value, name: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|f| f.iter().any(|x| x == name))
}

fn deleting(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

/// What an owner is to a dependent.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Owner {
    /// There, and staying.
    Solid,
    /// There, waiting for its dependents to go.
    Waiting,
    /// Gone.
    Gone,
}

fn judge(store: &Store, namespace: &str, reference: &Value) -> Owner {
    let uid = reference["uid"].as_str().unwrap_or_default();
    let Some(key) = store.by_uid(uid) else { return Owner::Gone };
    // An owner in another namespace is no owner; what is in no namespace cannot be owned from inside one, and stays.
    if !key.namespace.is_empty() && key.namespace != namespace {
        return if namespace.is_empty() { Owner::Solid } else { Owner::Gone };
    }
    match store.get(key) {
        None => Owner::Gone,
        Some(owner) if deleting(owner) && has_finalizer(owner, FOREGROUND) => Owner::Waiting,
        Some(_) => Owner::Solid,
    }
}

/// Collects until there is nothing left to collect.
pub fn collect(state: &Arc<State>, store: &mut Store) {
    // Every round removes or changes something, so this ends.
    while orphan(store) || dependents(state, store) || finish_foreground(store) {}
}

/// Owners that leave their dependents behind: references go, then the finalizer.
fn orphan(store: &mut Store) -> bool {
    let leaving: Vec<(Key, String)> = store
        .all()
        .filter(|(_, o)| deleting(o) && has_finalizer(o, ORPHAN))
        .map(|(k, o)| (k.clone(), o["metadata"]["uid"].as_str().unwrap_or_default().to_owned()))
        .collect();
    for (key, uid) in &leaving {
        drop_references(store, |reference| reference["uid"] == *uid);
        super::drop_finalizers(store, key, &[ORPHAN]);
    }
    !leaving.is_empty()
}

fn drop_references(store: &mut Store, gone: impl Fn(&Value) -> bool) {
    let touched: Vec<(Key, Arc<Value>)> =
        store.all().filter(|(_, o)| owners(o).any(&gone)).map(|(k, o)| (k.clone(), o.clone())).collect();
    for (key, object) in touched {
        let mut new = (*object).clone();
        let rest: Vec<Value> = owners(&object).filter(|r| !gone(r)).cloned().collect();
        set_owners(&mut new, rest);
        store.put(key, new);
    }
}

fn set_owners(object: &mut Value, owners: Vec<Value>) {
    if owners.is_empty() {
        object["metadata"].as_object_mut().map(|m| m.remove("ownerReferences"));
    } else {
        object["metadata"]["ownerReferences"] = owners.into();
    }
}

/// Dependents whose owners are gone or wait for them.
fn dependents(state: &Arc<State>, store: &mut Store) -> bool {
    let mut changed = false;
    let candidates: Vec<Key> = store
        .all()
        .filter(|(_, o)| owners(o).next().is_some() && !deleting(o))
        .map(|(k, _)| k.clone())
        .collect();
    for key in candidates {
        let Some(object) = store.get(&key).cloned() else { continue };
        let judged: Vec<(Owner, &Value)> =
            owners(&object).map(|r| (judge(store, &key.namespace, r), r)).collect();
        let solid = judged.iter().any(|(o, _)| *o == Owner::Solid);
        let lost = judged.iter().any(|(o, _)| *o != Owner::Solid);
        if !lost {
            continue;
        }
        if solid {
            changed = true;
            let rest: Vec<Value> =
                judged.iter().filter(|(o, _)| *o == Owner::Solid).map(|(_, r)| (*r).clone()).collect();
            let mut new = (*object).clone();
            set_owners(&mut new, rest);
            store.put(key, new);
            continue;
        }
        let waiting = judged.iter().any(|(o, _)| *o == Owner::Waiting);
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let own_dependents = store.all().any(|(_, o)| owners(o).any(|r| r["uid"] == uid));
        if waiting && own_dependents && !has_finalizer(&object, FOREGROUND) {
            // The wait goes down the tree.
            let mut new = (*object).clone();
            let mut finalizers = new["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            finalizers.push(FOREGROUND.into());
            new["metadata"]["finalizers"] = finalizers.into();
            store.put(key.clone(), new);
        }
        changed |= delete::by_server(state, store, &key);
    }
    changed
}

/// Owners in foreground deletion go when nothing that blocks them is left.
fn finish_foreground(store: &mut Store) -> bool {
    let waiting: Vec<(Key, String)> = store
        .all()
        .filter(|(_, o)| deleting(o) && has_finalizer(o, FOREGROUND))
        .map(|(k, o)| (k.clone(), o["metadata"]["uid"].as_str().unwrap_or_default().to_owned()))
        .collect();
    let mut changed = false;
    for (key, uid) in waiting {
        let blocked =
            store.all().any(|(_, o)| owners(o).any(|r| r["uid"] == uid && r["blockOwnerDeletion"] == true));
        if !blocked {
            super::drop_finalizers(store, &key, &[FOREGROUND]);
            changed = true;
        }
    }
    changed
}
