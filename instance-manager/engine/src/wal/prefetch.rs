//! Segments that are fetched before PostgreSQL asks for them.

use super::depth::Depth;
use crate::error::{Error, Result};
use barman_cloud::Segment;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What the task of a fetch and its request tell each other.
#[derive(Clone, Default)]
pub struct Stage(Arc<Shared>);

#[derive(Default)]
struct Shared {
    failed: AtomicBool,
    hurry: Notify,
}

impl Stage {
    /// It brought nothing.
    pub fn fail(&self) {
        self.0.failed.store(true, Ordering::Release);
    }

    fn failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire)
    }

    /// Returns when somebody waits for the segment.
    pub async fn hurried(&self) {
        self.0.hurry.notified().await;
    }
}

/// A fetch ahead; it ends when dropped.
pub struct Prefetch {
    stage: Stage,
    task: JoinHandle<Result<()>>,
}

impl Prefetch {
    /// A fetch that a task does.
    pub fn new(stage: Stage, task: JoinHandle<Result<()>>) -> Self {
        Self { stage, task }
    }

    /// Waits for the end. The file is in the spool when it is a success.
    pub async fn finish(mut self) -> Result<()> {
        (&mut self.task).await.map_err(|error| Error::cancelled().with_source(error))?
    }

    /// Ends it and waits until it has ended.
    pub async fn stop(mut self) {
        self.task.abort();
        // Aborted or done: either way it writes no more.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All fetches ahead.
pub struct Ahead {
    fetches: BTreeMap<Segment, Prefetch>,
    depth: Depth,
}

impl Ahead {
    /// None yet.
    pub fn new(parallel: usize) -> Self {
        Self { fetches: BTreeMap::new(), depth: Depth::new(parallel) }
    }

    /// Takes out the fetch of a requested segment, unless it brought nothing. One that waits for its turn begins now.
    pub fn take(&mut self, segment: Segment) -> Option<Prefetch> {
        let fetch = self.fetches.remove(&segment).filter(|fetch| !fetch.stage.failed())?;
        if !fetch.task.is_finished() {
            fetch.stage.0.hurry.notify_one();
            self.depth.waited();
        }
        Some(fetch)
    }

    /// Segments that may be ahead now.
    pub fn depth(&self, segment_size: u64, free: u64) -> usize {
        // What is on its way has not taken its space yet.
        let there = |fetch: &&Prefetch| fetch.task.is_finished() && !fetch.stage.failed();
        self.depth.segments(segment_size, self.fetches.values().filter(there).count(), free)
    }

    /// Ends and forgets what is not wanted, and returns it.
    pub fn retain(&mut self, wanted: &[Segment]) -> Vec<Segment> {
        let unwanted: Vec<Segment> =
            self.fetches.keys().copied().filter(|segment| !wanted.contains(segment)).collect();
        for segment in &unwanted {
            self.fetches.remove(segment);
        }
        unwanted
    }

    /// Forgets what brought nothing, so that it is tried again: the archive may have grown.
    pub fn forget_failures(&mut self) {
        self.fetches.retain(|_, fetch| !fetch.stage.failed());
    }

    /// Whether a segment is there or on its way.
    pub fn contains(&self, segment: Segment) -> bool {
        self.fetches.contains_key(&segment)
    }

    /// Adds a fetch.
    pub fn insert(&mut self, segment: Segment, fetch: Prefetch) {
        self.fetches.insert(segment, fetch);
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Vec<Prefetch> {
        std::mem::take(&mut self.fetches).into_values().collect()
    }
}
