//! The server's own controllers: garbage collection, namespaces, protection of claims in use.

mod budgets;
pub mod gc;
pub mod namespaces;

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::store::{GroupResource, Key, Store};

/// Runs the controllers until the server stops: after every write they look at what is left to do.
pub async fn run(state: Arc<State>, stop: CancellationToken) {
    let mut changes = state.store().subscribe();
    loop {
        let begun = Instant::now();
        {
            let mut store = state.store();
            gc::collect(&state, &mut store);
            namespaces::empty(&state, &mut store);
            release_claims(&mut store);
            budgets::update(&mut store);
        }
        // They look at everything there is: where that is much, they leave the other half of the time to requests.
        tokio::time::sleep(begun.elapsed()).await;
        // Their own writes are looked at once more; nothing to do writes nothing.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Writes an object without some finalizers, or removes it when those were the last thing that held it.
pub(crate) fn drop_finalizers(store: &mut Store, key: &Key, gone: &[&str]) {
    let Some(old) = store.get(key).cloned() else { return };
    let mut new = (*old).clone();
    let list: Vec<Value> = new["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|f| !gone.iter().any(|g| *f == g))
        .cloned()
        .collect();
    if list.is_empty() {
        new["metadata"].as_object_mut().map(|m| m.remove("finalizers"));
        let grace = new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let held = new["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if new["metadata"].get("deletionTimestamp").is_some() && grace == 0 && !held {
            store.remove(key);
            return;
        }
    } else {
        new["metadata"]["finalizers"] = list.into();
    }
    store.put(key.clone(), new);
}

/// Claims and volumes that are to go lose their protection once no pod (no claim) uses them.
fn release_claims(store: &mut Store) {
    let leaving = |store: &Store, resource: &str, finalizer: &str| -> Vec<Key> {
        store
            .list(&GroupResource::new("", resource), "")
            .filter(|(_, o)| {
                o["metadata"].get("deletionTimestamp").is_some()
                    && o["metadata"]["finalizers"]
                        .as_array()
                        .is_some_and(|f| f.iter().any(|x| x == finalizer))
            })
            .map(|(k, _)| k.clone())
            .collect()
    };
    for key in leaving(store, "persistentvolumeclaims", "kubernetes.io/pvc-protection") {
        let used = store.list(&GroupResource::new("", "pods"), &key.namespace).any(|(_, pod)| {
            let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            let scheduled = pod["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
            let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            !ended && scheduled && volumes.any(|v| v["persistentVolumeClaim"]["claimName"] == key.name)
        });
        if !used {
            drop_finalizers(store, &key, &["kubernetes.io/pvc-protection"]);
        }
    }
    for key in leaving(store, "persistentvolumes", "kubernetes.io/pv-protection") {
        let used = store
            .list(&GroupResource::new("", "persistentvolumeclaims"), "")
            .any(|(_, claim)| claim["spec"]["volumeName"] == key.name);
        if !used {
            drop_finalizers(store, &key, &["kubernetes.io/pv-protection"]);
        }
    }
}
