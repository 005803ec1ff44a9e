//! What the watches have brought, looked up by owner: one look costs as much as its owner has objects, however many there
//! are in all.
//!
//! What lies here may be behind the API server. It may say that there is nothing to do; what is done is decided on what
//! was read afresh.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use howdah_api::{Backup, Cluster, ScheduledBackup, labels};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher::Event;

/// Longest time to wait for the first list of a watch.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// The objects of one kind. Without a watch there are none, and nothing is known.
pub struct Shelf<K>
where
    K: Lookup + 'static,
    K::DynamicType: Hash + Eq,
{
    /// Name of the owner of an object, in the same namespace.
    owner: fn(&K) -> Option<String>,
    /// What each watch has brought: of one namespace, or of all.
    stores: Mutex<Vec<(Option<String>, Store<K>)>>,
    /// By namespace and owner: names. One that has gone meanwhile does no harm.
    names: Mutex<HashMap<(String, String), BTreeSet<String>>>,
}

impl<K> Shelf<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// An empty one.
    pub fn new(owner: fn(&K) -> Option<String>) -> Self {
        Self { owner, stores: Mutex::default(), names: Mutex::default() }
    }

    /// From now on `store` is what is known of `namespace`, of all when that is `None`. The same watch goes to
    /// [`Self::note`].
    pub fn add(&self, namespace: Option<String>, store: Store<K>) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|(known, _)| *known != namespace);
        stores.push((namespace, store));
    }

    /// Keeps the names up to date; the store is so already.
    pub fn note(&self, event: &Event<K>) {
        let (object, there) = match event {
            Event::Apply(object) | Event::InitApply(object) => (object, true),
            Event::Delete(object) => (object, false),
            Event::Init | Event::InitDone => return,
        };
        let Some(owner) = (self.owner)(object) else { return };
        let key = (object.meta().namespace.clone().unwrap_or_default(), owner);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if there {
            names.entry(key).or_default().insert(name_of(object));
        } else if let Some(list) = names.get_mut(&key) {
            list.remove(&name_of(object));
            if list.is_empty() {
                names.remove(&key);
            }
        }
    }

    /// The store that knows of `namespace`, once its first list is complete.
    fn store(&self, namespace: &str) -> Option<Store<K>> {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |of: &Option<String>| of.as_deref().is_none_or(|of| of == namespace);
        let (_, store) = stores.iter().find(|(of, _)| fits(of))?;
        let ready = matches!(store.wait_until_ready().now_or_never(), Some(Ok(())));
        ready.then(|| store.clone())
    }

    /// Waits until the first list of the watch that knows of `namespace` is complete, if there is such a watch: what is
    /// asked for meanwhile would have to be read from the API server, by each owner for itself.
    pub async fn first_list(&self, namespace: &str) {
        let store = {
            let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |of: &Option<String>| of.as_deref().is_none_or(|of| of == namespace);
            stores.iter().find(|(of, _)| fits(of)).map(|(_, store)| store.clone())
        };
        if let Some(store) = store {
            // Without it things go on as without a watch.
            let _ = tokio::time::timeout(FIRST_LIST, store.wait_until_ready()).await;
        }
    }

    /// One object; `None` also when nothing is known yet.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store(namespace)?.get(&ObjectRef::new(name).within(namespace))
    }

    /// Names of what belongs to `owner`, gone ones perhaps among them.
    pub fn names(&self, namespace: &str, owner: &str) -> Vec<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let found = names.get(&(namespace.to_owned(), owner.to_owned()));
        found.into_iter().flatten().cloned().collect()
    }

    /// What belongs to `owner`, by name; `None` while nothing is known of its namespace.
    pub fn of(&self, namespace: &str, owner: &str) -> Option<Vec<Arc<K>>> {
        let store = self.store(namespace)?;
        let names = self.names(namespace, owner);
        let found = names.iter().filter_map(|name| store.get(&ObjectRef::new(name).within(namespace)));
        Some(found.filter(|object| (self.owner)(object).as_deref() == Some(owner)).collect())
    }
}

/// What the watches of all controllers have brought.
pub struct Seen {
    /// Clusters, by the Backup that they were told to recover from.
    pub clusters: Shelf<DeserializeGuard<Cluster>>,
    /// Pods of instances, by cluster.
    pub pods: Shelf<Pod>,
    /// Pods of repository hosts, by cluster.
    pub repo_hosts: Shelf<Pod>,
    /// Volumes, by cluster.
    pub volumes: Shelf<PersistentVolumeClaim>,
    /// Backups, by cluster.
    pub backups: Shelf<DeserializeGuard<Backup>>,
    /// Backups, by the ScheduledBackup that they were made by.
    pub children: Shelf<DeserializeGuard<Backup>>,
    /// ScheduledBackups of repositories, by cluster.
    pub schedules: Shelf<DeserializeGuard<ScheduledBackup>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            clusters: Shelf::new(|cluster| recovers_from(cluster.0.as_ref().ok()?)),
            pods: Shelf::new(|pod| label(pod, labels::CLUSTER)),
            repo_hosts: Shelf::new(|pod| label(pod, labels::REPO_HOST)),
            volumes: Shelf::new(|volume| label(volume, labels::CLUSTER)),
            backups: Shelf::new(|backup| Some(backup.0.as_ref().ok()?.spec.cluster.name.clone())),
            children: Shelf::new(|backup| label(backup, labels::SCHEDULED_BACKUP)),
            schedules: Shelf::new(|schedule| label(schedule, labels::CLUSTER)),
        }
    }
}

fn name_of<K: Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

fn label<K: Resource>(object: &K, key: &str) -> Option<String> {
    object.meta().labels.as_ref()?.get(key).cloned()
}

/// Name of the Backup that `cluster` was told to recover from.
#[must_use]
pub fn recovers_from(cluster: &Cluster) -> Option<String> {
    let recovery = cluster.spec.bootstrap.as_ref()?.recovery()?;
    recovery.backup.as_ref().map(|backup| backup.name.clone())
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use kube::runtime::reflector;
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, cluster: &str) -> Pod {
        let meta = json!({"namespace": namespace, "name": name, "labels": {labels::CLUSTER: cluster}});
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta})).unwrap()
    }

    /// A watch of one namespace or of all, as the controllers have it.
    struct Watch {
        writer: reflector::store::Writer<Pod>,
    }

    impl Watch {
        fn of(shelf: &Shelf<Pod>, namespace: Option<&str>) -> Self {
            let (reader, writer) = reflector::store::<Pod>();
            shelf.add(namespace.map(str::to_owned), reader);
            Self { writer }
        }

        fn brings(&mut self, shelf: &Shelf<Pod>, event: Event<Pod>) {
            self.writer.apply_watcher_event(&event);
            shelf.note(&event);
        }
    }

    fn names(shelf: &Shelf<Pod>, namespace: &str, cluster: &str) -> Option<Vec<String>> {
        Some(shelf.of(namespace, cluster)?.iter().map(|pod| pod.name_any()).collect())
    }

    #[test]
    fn nothing_is_known_before_the_first_list_is_complete() {
        let shelf = Seen::default().pods;
        assert_eq!(names(&shelf, "park", "zoo"), None);
        let mut watch = Watch::of(&shelf, Some("park"));
        watch.brings(&shelf, Event::Init);
        watch.brings(&shelf, Event::InitApply(pod("park", "zoo-2", "zoo")));
        watch.brings(&shelf, Event::InitApply(pod("park", "zoo-1", "zoo")));
        assert_eq!(names(&shelf, "park", "zoo"), None);
        watch.brings(&shelf, Event::InitDone);
        assert_eq!(names(&shelf, "park", "zoo").unwrap(), ["zoo-1", "zoo-2"]);
        assert!(names(&shelf, "park", "barn").unwrap().is_empty(), "a cluster without pods");
        assert_eq!(names(&shelf, "shop", "zoo"), None, "nobody watches this namespace");
    }

    #[test]
    fn what_goes_or_changes_its_owner_is_not_found_any_more() {
        let shelf = Seen::default().pods;
        let mut watch = Watch::of(&shelf, None);
        watch.brings(&shelf, Event::Init);
        for name in ["zoo-1", "zoo-2", "zoo-3"] {
            watch.brings(&shelf, Event::InitApply(pod("park", name, "zoo")));
        }
        watch.brings(&shelf, Event::InitDone);
        watch.brings(&shelf, Event::Delete(pod("park", "zoo-1", "zoo")));
        watch.brings(&shelf, Event::Apply(pod("park", "zoo-2", "barn")));
        assert_eq!(names(&shelf, "park", "zoo").unwrap(), ["zoo-3"]);
        assert_eq!(names(&shelf, "park", "barn").unwrap(), ["zoo-2"]);
        // It went while the watch was broken.
        watch.brings(&shelf, Event::Init);
        watch.brings(&shelf, Event::InitDone);
        assert!(names(&shelf, "park", "zoo").unwrap().is_empty());
        assert!(shelf.get("park", "zoo-3").is_none());
    }
}
