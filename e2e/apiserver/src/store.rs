//! The objects, their versions and the bounded history that watches are served from.
//!
//! Everything is one map under one lock: a write sees a consistent state, gets the next version and appends one
//! event. Objects are immutable once stored, so readers share them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

/// Group and plural name: all versions of a resource share one storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group, empty for core.
    pub group: String,
    /// Plural name.
    pub resource: String,
}

impl GroupResource {
    /// Names a resource.
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

/// Where one object lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The resource.
    pub gr: GroupResource,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone; the object is its last state with the version of the deletion.
    Deleted,
}

/// One entry of the history.
#[derive(Clone, Debug)]
pub struct StoreEvent {
    /// Version of the write.
    pub version: u64,
    /// What happened.
    pub kind: EventType,
    /// To whom.
    pub key: Key,
    /// The state after the write (before it, for a deletion).
    pub object: Arc<Value>,
    /// The state before the write.
    pub previous: Option<Arc<Value>>,
}

/// The objects and their history.
pub struct Store {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    uids: HashMap<String, Key>,
    history: VecDeque<StoreEvent>,
    capacity: usize,
    /// Versions up to here are no longer in the history.
    compacted: u64,
    changed: watch::Sender<u64>,
}

/// Asked for a version that the history no longer reaches.
#[derive(Debug, PartialEq, Eq)]
pub struct Compacted;

impl Store {
    /// An empty store that remembers `capacity` writes.
    pub fn new(capacity: usize) -> Self {
        Self {
            version: 0,
            objects: BTreeMap::new(),
            uids: HashMap::new(),
            history: VecDeque::new(),
            capacity,
            compacted: 0,
            changed: watch::Sender::new(0),
        }
    }

    /// Version of the latest write.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Told of every write, with its version.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// The key of the object with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<&Key> {
        self.uids.get(uid)
    }

    /// All objects of a resource, of one namespace or (empty) of all, in order of namespace and name.
    pub fn list<'a>(
        &'a self,
        gr: &GroupResource,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
        let from = Key { gr: gr.clone(), namespace: namespace.into(), name: String::new() };
        let gr = gr.clone();
        let namespace = namespace.to_owned();
        self.objects
            .range(from..)
            .take_while(move |(k, _)| k.gr == gr && (namespace.is_empty() || k.namespace == namespace))
    }

    /// Every object there is.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Writes an object, sets its version and returns it as stored.
    pub fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            self.uids.insert(uid.into(), key.clone());
        }
        let previous = self.objects.insert(key.clone(), object.clone());
        let kind = if previous.is_some() { EventType::Modified } else { EventType::Added };
        self.record(StoreEvent { version: self.version, kind, key, object: object.clone(), previous });
        object
    }

    /// Removes an object and returns its last state, with the version of the removal.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let previous = self.objects.remove(key)?;
        if let Some(uid) = previous["metadata"]["uid"].as_str() {
            self.uids.remove(uid);
        }
        self.version += 1;
        let mut last = (*previous).clone();
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        let last = Arc::new(last);
        self.record(StoreEvent {
            version: self.version,
            kind: EventType::Deleted,
            key: key.clone(),
            object: last.clone(),
            previous: Some(previous),
        });
        Some(last)
    }

    fn record(&mut self, event: StoreEvent) {
        let version = event.version;
        self.history.push_back(event);
        while self.history.len() > self.capacity {
            if let Some(old) = self.history.pop_front() {
                self.compacted = old.version;
            }
        }
        self.changed.send_replace(version);
    }

    /// Forgets the history: every older version is expired from now on.
    pub fn compact(&mut self) {
        self.history.clear();
        // A version of its own, so that even the version just listed is behind the compaction.
        self.version += 1;
        self.compacted = self.version;
        self.changed.send_replace(self.version);
    }

    /// Whether events after `version` are still all known.
    pub fn reaches(&self, version: u64) -> bool {
        version >= self.compacted
    }

    /// The writes after `version`, in order.
    pub fn since(&self, version: u64) -> Result<impl Iterator<Item = &StoreEvent>, Compacted> {
        if !self.reaches(version) {
            return Err(Compacted);
        }
        let start = self.history.partition_point(|e| e.version <= version);
        Ok(self.history.range(start..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str) -> Key {
        Key { gr: GroupResource::new("", "configmaps"), namespace: "n".into(), name: name.into() }
    }

    #[test]
    fn history_is_bounded_and_says_so() {
        let mut store = Store::new(2);
        for name in ["a", "b", "c"] {
            store.put(key(name), json!({"metadata": {"name": name, "uid": name}}));
        }
        assert_eq!(store.since(0).err(), Some(Compacted));
        assert_eq!(store.since(1).unwrap().map(|e| e.version).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(store.list(&GroupResource::new("", "configmaps"), "").count(), 3);
        store.compact();
        assert!(!store.reaches(3));
        assert!(store.reaches(store.version()));
    }

    #[test]
    fn removal_has_a_version_of_its_own() {
        let mut store = Store::new(10);
        store.put(key("a"), json!({"metadata": {"name": "a", "uid": "u"}}));
        let last = store.remove(&key("a")).unwrap();
        assert_eq!(last["metadata"]["resourceVersion"], "2");
        assert!(store.by_uid("u").is_none());
        assert!(store.remove(&key("a")).is_none());
    }
}
