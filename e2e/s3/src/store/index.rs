//! The in-memory index: what a bucket holds, without the bytes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Data;
use crate::listing::Sorted;
use crate::object::ObjectInfo;

/// An object or part and where its bytes are.
#[derive(Debug)]
pub(crate) struct Stored {
    pub info: Arc<ObjectInfo>,
    pub data: Data,
}

/// A multipart upload in progress. Its parts carry the part number as key.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What the object will be like: key, tags, encryption.
    pub template: ObjectInfo,
    pub initiated: DateTime<Utc>,
    pub parts: BTreeMap<u32, Arc<Stored>>,
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct BucketState {
    pub created: DateTime<Utc>,
    pub objects: BTreeMap<String, Arc<Stored>>,
    pub uploads: BTreeMap<String, Upload>,
}

impl BucketState {
    pub fn new() -> Self {
        Self { created: Utc::now(), objects: BTreeMap::new(), uploads: BTreeMap::new() }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.objects.iter().map(|(key, stored)| (key.clone(), stored.info.clone())).collect())
    }
}

impl Sorted for BucketState {
    fn visit_from(&self, from: Bound<&str>, visit: &mut dyn FnMut(&Arc<ObjectInfo>) -> bool) {
        for (_, stored) in self.objects.range::<str, _>((from, Bound::Unbounded)) {
            if !visit(&stored.info) {
                return;
            }
        }
    }
}

/// What a bucket held at one moment; a stale listing is answered from it.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot(BTreeMap<String, Arc<ObjectInfo>>);

impl Snapshot {
    pub fn infos(&self) -> impl Iterator<Item = &Arc<ObjectInfo>> {
        self.0.values()
    }
}

impl Sorted for Snapshot {
    fn visit_from(&self, from: Bound<&str>, visit: &mut dyn FnMut(&Arc<ObjectInfo>) -> bool) {
        for (_, info) in self.0.range::<str, _>((from, Bound::Unbounded)) {
            if !visit(info) {
                return;
            }
        }
    }
}
