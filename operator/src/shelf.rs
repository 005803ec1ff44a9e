//! What the watches have brought, looked up by owner: one look costs as much as its owner has objects, however many there
//! are in all.
//!
//! What lies here may be behind the API server. It may say that there is nothing to do; what is done is decided on what
//! was read afresh.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use howdah_api::{Backup, Cluster, ScheduledBackup, labels};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;

/// Longest time to wait for the first list of a watch.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// A watch that has failed is tried again after half a minute at most; one that has not failed for this long works.
const TROUBLE: Duration = Duration::from_secs(60);

/// What one watch has brought.
struct Watched<K>
where
    K: Lookup + 'static,
    K::DynamicType: Hash + Eq,
{
    /// The namespace that it watches; none: all of them.
    namespace: Option<String>,
    store: Store<K>,
    /// Whether its first list is complete. The store knows that too, but tells only the last of those who asked: its own
    /// controller would wait in vain.
    complete: watch::Sender<bool>,
    /// When it failed last.
    failed: Option<Instant>,
}

impl<K> Watched<K>
where
    K: Lookup + 'static,
    K::DynamicType: Hash + Eq,
{
    fn knows(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|of| of == namespace)
    }
}

/// The objects of one kind. Without a watch there are none, and nothing is known.
pub struct Shelf<K>
where
    K: Lookup + 'static,
    K::DynamicType: Hash + Eq,
{
    /// Name of the owner of an object, in the same namespace.
    owner: fn(&K) -> Option<String>,
    watched: Mutex<Vec<Watched<K>>>,
    /// By namespace and owner: names. One that has gone meanwhile does no harm.
    names: Mutex<HashMap<(String, String), BTreeSet<String>>>,
}

impl<K> Shelf<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// An empty one.
    pub fn new(owner: fn(&K) -> Option<String>) -> Self {
        Self { owner, watched: Mutex::default(), names: Mutex::default() }
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Watched<K>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `store` is what is known of `namespace`, of all when that is `None`. What the watch brings goes to
    /// [`Self::hear`], after it has gone to the store.
    pub fn add(&self, namespace: Option<String>, store: Store<K>) {
        let mut watched = self.watched();
        watched.retain(|known| known.namespace != namespace);
        watched.push(Watched { namespace, store, complete: watch::Sender::new(false), failed: None });
    }

    /// What the watch of `namespace` says; the store has heard it already.
    pub fn hear(&self, namespace: Option<&str>, said: &Result<Event<K>, watcher::Error>) {
        match said {
            Ok(event) => self.note(namespace, event),
            Err(_) => self.fail(namespace),
        }
    }

    /// Keeps the names up to date.
    fn note(&self, namespace: Option<&str>, event: &Event<K>) {
        let (object, there) = match event {
            Event::Apply(object) | Event::InitApply(object) => (object, true),
            Event::Delete(object) => (object, false),
            Event::Init => return,
            Event::InitDone => {
                let watched = self.watched();
                for known in watched.iter().filter(|known| known.namespace.as_deref() == namespace) {
                    known.complete.send_replace(true);
                }
                return;
            }
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

    /// The watch of `namespace` failed.
    fn fail(&self, namespace: Option<&str>) {
        for known in self.watched().iter_mut().filter(|known| known.namespace.as_deref() == namespace) {
            known.failed = Some(Instant::now());
        }
    }

    /// Whether what is known of `namespace` is complete and its watch has not failed lately: then it is behind the API
    /// server by no more than an event takes.
    pub fn is_current(&self, namespace: &str) -> bool {
        let watched = self.watched();
        let known = watched.iter().find(|known| known.knows(namespace));
        known.is_some_and(|w| *w.complete.borrow() && w.failed.is_none_or(|at| at.elapsed() >= TROUBLE))
    }

    /// The store that knows of `namespace`, and whether its first list is complete.
    fn store(&self, namespace: &str) -> Option<(Store<K>, watch::Receiver<bool>)> {
        let watched = self.watched();
        watched
            .iter()
            .find(|known| known.knows(namespace))
            .map(|known| (known.store.clone(), known.complete.subscribe()))
    }

    /// The same, once that is so.
    fn complete(&self, namespace: &str) -> Option<Store<K>> {
        let (store, complete) = self.store(namespace)?;
        let complete = *complete.borrow();
        complete.then_some(store)
    }

    /// Waits until the first list of the watch that knows of `namespace` is complete, if there is such a watch: what is
    /// asked for meanwhile would have to be read from the API server, by each owner for itself.
    pub async fn first_list(&self, namespace: &str) {
        if let Some((_, mut complete)) = self.store(namespace) {
            // Without it things go on as without a watch.
            let _ = tokio::time::timeout(FIRST_LIST, complete.wait_for(|complete| *complete)).await;
        }
    }

    /// One object; `None` also when nothing is known yet.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.complete(namespace)?.get(&ObjectRef::new(name).within(namespace))
    }

    /// Names of what belongs to `owner`, gone ones perhaps among them.
    pub fn names(&self, namespace: &str, owner: &str) -> Vec<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let found = names.get(&(namespace.to_owned(), owner.to_owned()));
        found.into_iter().flatten().cloned().collect()
    }

    /// What belongs to `owner`, by name; `None` while nothing is known of its namespace.
    pub fn of(&self, namespace: &str, owner: &str) -> Option<Vec<Arc<K>>> {
        let store = self.complete(namespace)?;
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
        namespace: Option<String>,
        writer: reflector::store::Writer<Pod>,
    }

    impl Watch {
        fn of(shelf: &Shelf<Pod>, namespace: Option<&str>) -> Self {
            let (reader, writer) = reflector::store::<Pod>();
            let namespace = namespace.map(str::to_owned);
            shelf.add(namespace.clone(), reader);
            Self { namespace, writer }
        }

        fn brings(&mut self, shelf: &Shelf<Pod>, event: Event<Pod>) {
            self.writer.apply_watcher_event(&event);
            shelf.note(self.namespace.as_deref(), &event);
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

    /// What it knows stays good for what cannot change any more, and is not trusted for the rest.
    #[test]
    fn a_watch_that_failed_is_not_current() {
        let shelf = Seen::default().pods;
        assert!(!shelf.is_current("park"));
        let mut watch = Watch::of(&shelf, Some("park"));
        watch.brings(&shelf, Event::Init);
        assert!(!shelf.is_current("park"));
        watch.brings(&shelf, Event::InitDone);
        assert!(shelf.is_current("park") && !shelf.is_current("shop"));
        shelf.fail(None);
        assert!(shelf.is_current("park"), "another watch failed");
        shelf.fail(Some("park"));
        assert!(!shelf.is_current("park"));
        assert!(shelf.of("park", "zoo").is_some());
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
