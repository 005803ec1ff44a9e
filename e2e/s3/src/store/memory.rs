//! The store in memory, which keeps bodies or, as a sink, drops large ones.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use howdah_s3_server::{
    Bucket, Flow, Keys, ObjectInfo, Opened, Page, Query, StoredBody, Upload, UploadSummary, WriteCondition,
    no_such_bucket, no_such_key, no_such_upload,
};
use s3s::dto::StreamingBlob;
use s3s::{S3Result, s3_error};

use super::Snapshot;
use super::inspect::visit_map;

/// Bodies up to this size are kept by the sink, so that small control objects can be read back.
const SINK_KEEPS: usize = 64 * 1024;

/// The bytes of an object.
#[derive(Debug, Clone)]
enum Data {
    /// As they arrived.
    Kept(Vec<Bytes>),
    /// Thrown away.
    Dropped,
}

#[derive(Debug, Clone)]
struct Stored {
    info: Arc<ObjectInfo>,
    data: Data,
}

#[derive(Debug)]
struct Open {
    template: ObjectInfo,
    initiated: DateTime<Utc>,
    parts: BTreeMap<u32, Stored>,
}

impl Open {
    fn upload(&self) -> Upload {
        let parts = self.parts.iter().map(|(number, stored)| (*number, stored.info.clone())).collect();
        Upload { template: self.template.clone(), initiated: self.initiated, parts }
    }
}

#[derive(Debug)]
struct State {
    created: DateTime<Utc>,
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Open>,
}

impl Keys for State {
    fn visit(&self, _: &str, from: &str, visit: &mut dyn FnMut(&str) -> Flow) -> io::Result<()> {
        visit_map(&self.objects, from, visit);
        Ok(())
    }
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    sink: bool,
    buckets: Mutex<BTreeMap<String, State>>,
}

/// A body being received.
pub(crate) struct Staging {
    chunks: Vec<Bytes>,
    size: usize,
    /// Whether the body is dropped once it is too large.
    sink: bool,
}

impl Staging {
    fn data(self) -> Data {
        if self.sink && self.size > SINK_KEEPS { Data::Dropped } else { Data::Kept(self.chunks) }
    }
}

type Buckets = BTreeMap<String, State>;

fn of<'a>(buckets: &'a mut MutexGuard<'_, Buckets>, bucket: &str) -> S3Result<&'a mut State> {
    buckets.get_mut(bucket).ok_or_else(|| no_such_bucket(bucket))
}

impl Memory {
    /// One that drops large bodies.
    pub fn sink() -> Self {
        Self { sink: true, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn make_bucket(&self, bucket: &str) -> bool {
        let mut buckets = self.lock();
        if buckets.contains_key(bucket) {
            return false;
        }
        let state = State { created: Utc::now(), objects: BTreeMap::new(), uploads: BTreeMap::new() };
        buckets.insert(bucket.to_owned(), state);
        true
    }

    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub fn snapshot(&self, bucket: &str) -> Option<Snapshot> {
        let buckets = self.lock();
        let state = buckets.get(bucket)?;
        Some(Snapshot::of(state.objects.values().map(|stored| stored.info.clone())))
    }

    pub fn pending(&self, bucket: &str) -> S3Result<Vec<(String, Upload)>> {
        let mut buckets = self.lock();
        let state = of(&mut buckets, bucket)?;
        Ok(state.uploads.iter().map(|(id, open)| (id.clone(), open.upload())).collect())
    }

    fn store(&self, bucket: &str, info: ObjectInfo, data: Data, condition: &WriteCondition) -> S3Result<()> {
        let mut buckets = self.lock();
        let state = of(&mut buckets, bucket)?;
        condition.check(state.objects.get(&info.key).map(|stored| stored.info.as_ref()))?;
        state.objects.insert(info.key.clone(), Stored { info: Arc::new(info), data });
        Ok(())
    }

    fn open_upload<T>(&self, bucket: &str, id: &str, look: impl FnOnce(&mut Open) -> T) -> S3Result<T> {
        let mut buckets = self.lock();
        let state = of(&mut buckets, bucket)?;
        state.uploads.get_mut(id).map(look).ok_or_else(|| no_such_upload(id))
    }
}

#[async_trait::async_trait]
impl StoredBody for Data {
    async fn stream(self: Box<Self>, range: Range<u64>) -> S3Result<StreamingBlob> {
        let Self::Kept(chunks) = *self else {
            return Err(s3_error!(
                InvalidObjectState,
                "this store drops large bodies; only their sizes are known"
            ));
        };
        let pieces = slice(&chunks, range).into_iter().map(Ok::<_, io::Error>);
        Ok(StreamingBlob::wrap(futures::stream::iter(pieces)))
    }
}

#[async_trait::async_trait]
impl howdah_s3_server::Store for Memory {
    type Staging = Staging;

    async fn buckets(&self) -> S3Result<Vec<Bucket>> {
        let buckets = self.lock();
        Ok(buckets.iter().map(|(name, s)| Bucket { name: name.clone(), created: s.created }).collect())
    }

    async fn create_bucket(&self, bucket: &str) -> S3Result<bool> {
        Ok(self.make_bucket(bucket))
    }

    async fn delete_bucket(&self, bucket: &str) -> S3Result<()> {
        let mut buckets = self.lock();
        if !of(&mut buckets, bucket)?.objects.is_empty() {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        buckets.remove(bucket);
        Ok(())
    }

    async fn require_bucket(&self, bucket: &str) -> S3Result<()> {
        of(&mut self.lock(), bucket).map(drop)
    }

    async fn stage(&self, bucket: &str, _: Option<u64>) -> S3Result<Staging> {
        self.require_bucket(bucket).await?;
        Ok(Staging { chunks: Vec::new(), size: 0, sink: self.sink })
    }

    async fn write(&self, staging: &mut Staging, bytes: Bytes) -> S3Result<()> {
        staging.size += bytes.len();
        if staging.sink && staging.size > SINK_KEEPS {
            staging.chunks.clear();
        } else {
            staging.chunks.push(bytes);
        }
        Ok(())
    }

    async fn put(
        &self,
        bucket: &str,
        info: ObjectInfo,
        staging: Staging,
        condition: &WriteCondition,
    ) -> S3Result<()> {
        self.store(bucket, info, staging.data(), condition)
    }

    async fn head(&self, bucket: &str, key: &str) -> S3Result<Arc<ObjectInfo>> {
        Ok(self.open(bucket, key).await?.info)
    }

    async fn open(&self, bucket: &str, key: &str) -> S3Result<Opened> {
        let mut buckets = self.lock();
        let found = of(&mut buckets, bucket)?.objects.get(key).cloned();
        let Stored { info, data } = found.ok_or_else(|| no_such_key(key))?;
        Ok(Opened { info, body: Box::new(data) })
    }

    async fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        of(&mut self.lock(), bucket)?.objects.remove(key);
        Ok(())
    }

    async fn list(&self, bucket: &str, query: &Query) -> S3Result<Page<Arc<ObjectInfo>>> {
        let mut buckets = self.lock();
        let state = &*of(&mut buckets, bucket)?;
        super::list(state, query, |key| state.objects.get(key).map(|stored| &stored.info))
    }

    async fn begin_upload(&self, bucket: &str, template: ObjectInfo) -> S3Result<String> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let open = Open { initiated: template.modified, template, parts: BTreeMap::new() };
        of(&mut self.lock(), bucket)?.uploads.insert(id.clone(), open);
        Ok(id)
    }

    async fn require_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        self.upload(bucket, key, id).await.map(drop)
    }

    async fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
        let upload = self.open_upload(bucket, id, |open| open.upload())?;
        if upload.template.key == key { Ok(upload) } else { Err(no_such_upload(id)) }
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> S3Result<Vec<UploadSummary>> {
        let all = self.pending(bucket)?;
        let summary = |(id, upload): (String, Upload)| UploadSummary {
            key: upload.template.key,
            id,
            initiated: upload.initiated,
        };
        let mut found: Vec<_> = all.into_iter().map(summary).filter(|u| u.key.starts_with(prefix)).collect();
        found.sort();
        Ok(found)
    }

    async fn put_part(
        &self,
        bucket: &str,
        id: &str,
        number: u32,
        info: ObjectInfo,
        staging: Staging,
    ) -> S3Result<()> {
        let stored = Stored { info: Arc::new(info), data: staging.data() };
        self.open_upload(bucket, id, |open| open.parts.insert(number, stored)).map(drop)
    }

    async fn complete_upload(
        &self,
        bucket: &str,
        id: &str,
        info: ObjectInfo,
        parts: &[u32],
        condition: &WriteCondition,
    ) -> S3Result<()> {
        let joined = self.open_upload(bucket, id, |open| {
            let mut all = Vec::new();
            for part in parts.iter().filter_map(|number| open.parts.get(number)) {
                match &part.data {
                    Data::Kept(chunks) => all.extend(chunks.iter().cloned()),
                    Data::Dropped => return Data::Dropped,
                }
            }
            Data::Kept(all)
        })?;
        self.store(bucket, info, joined, condition)?;
        self.abort_upload(bucket, id).await
    }

    async fn abort_upload(&self, bucket: &str, id: &str) -> S3Result<()> {
        let removed = of(&mut self.lock(), bucket)?.uploads.remove(id);
        removed.map(drop).ok_or_else(|| no_such_upload(id))
    }
}

/// The chunks that make up `range`, without copying.
fn slice(chunks: &[Bytes], range: Range<u64>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut start = 0u64;
    for chunk in chunks {
        let end = start + chunk.len() as u64;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            // Both differences are at most the chunk's length, which is a usize.
            pieces.push(chunk.slice((from - start) as usize..(to - start) as usize));
        }
        start = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_span_chunks() {
        let chunks = [Bytes::from_static(b"abc"), Bytes::from_static(b"defg"), Bytes::from_static(b"h")];
        let text = |range| slice(&chunks, range).concat();
        assert_eq!(text(0..8), b"abcdefgh");
        assert_eq!(text(2..5), b"cde");
        assert_eq!(text(3..7), b"defg");
        assert_eq!(text(7..8), b"h");
        assert_eq!(text(4..4), b"");
    }
}
