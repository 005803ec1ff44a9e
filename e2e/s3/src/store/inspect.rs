//! What tests and fault rules see of a store, past the protocol.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use howdah_s3_server::{Flow, Keys, ObjectInfo, Upload};
use s3s::S3Result;

use super::Store;
use crate::error::Error;
use crate::upload::UploadInfo;

/// What a bucket held at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot(BTreeMap<String, Arc<ObjectInfo>>);

impl Snapshot {
    pub fn of(infos: impl IntoIterator<Item = Arc<ObjectInfo>>) -> Self {
        Self(infos.into_iter().map(|info| (info.key.clone(), info)).collect())
    }

    pub fn infos(&self) -> impl Iterator<Item = &Arc<ObjectInfo>> {
        self.0.values()
    }

    pub fn get(&self, key: &str) -> Option<&Arc<ObjectInfo>> {
        self.0.get(key)
    }
}

impl Keys for Snapshot {
    fn visit(&self, _: &str, from: &str, visit: &mut dyn FnMut(&str) -> Flow) -> io::Result<()> {
        visit_map(&self.0, from, visit);
        Ok(())
    }
}

/// Walks the keys of a map.
pub(super) fn visit_map<T>(map: &BTreeMap<String, T>, from: &str, visit: &mut dyn FnMut(&str) -> Flow) {
    for key in map.range::<str, _>((Bound::Included(from), Bound::Unbounded)).map(|(key, _)| key) {
        if visit(key) == Flow::Stop {
            return;
        }
    }
}

impl Store {
    /// Makes a bucket; false when it was there.
    pub fn make_bucket(&self, bucket: &str) -> Result<bool, Error> {
        if !s3s::path::check_bucket_name(bucket) {
            return Err(Error::Configuration {
                what: format!("{bucket:?} is no bucket name"),
                remedy: "use 3 to 63 lower-case letters, digits, hyphens and dots",
            });
        }
        match self {
            Self::Memory(store) => Ok(store.make_bucket(bucket)),
            Self::Disk(store) => store.create(bucket).map_err(|error| Error::Configuration {
                what: format!("bucket {bucket} cannot be made: {}", error.message().unwrap_or_default()),
                remedy: "choose another name",
            }),
        }
    }

    /// The objects of a bucket as they are now.
    pub fn snapshot(&self, bucket: &str) -> Option<Snapshot> {
        match self {
            Self::Memory(store) => store.snapshot(bucket),
            Self::Disk(store) => store.objects(bucket).ok().map(Snapshot::of),
        }
    }

    /// The objects of all buckets.
    pub fn snapshots(&self) -> BTreeMap<String, Snapshot> {
        let names = match self {
            Self::Memory(store) => store.names(),
            Self::Disk(store) => store.names(),
        };
        names.into_iter().filter_map(|name| self.snapshot(&name).map(|found| (name, found))).collect()
    }

    /// Uploads in progress.
    pub fn pending(&self, bucket: &str) -> S3Result<Vec<UploadInfo>> {
        let found = match self {
            Self::Memory(store) => store.pending(bucket)?,
            Self::Disk(store) => store.pending(bucket)?,
        };
        let info = |(id, upload): (String, Upload)| UploadInfo {
            id,
            key: upload.template.key,
            parts: upload.parts.iter().map(|(number, info)| (*number, info.size)).collect(),
        };
        Ok(found.into_iter().map(info).collect())
    }
}
