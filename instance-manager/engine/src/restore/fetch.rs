//! Fetches parts, several at a time, and extracts them.

use super::check::{Checker, InPart};
use super::extract::{self, Extracted, Layer, Target, Wanted};
use super::readahead::ReadAhead;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use barman_cloud::buffered::read_buffered;
use barman_cloud::catalog::PartObject;
use barman_cloud::codec::Decoder;
use barman_cloud::store::CipherMode;
use barman_cloud::store::blocking::BlockingReader;
use barman_cloud::{Archive, Repository};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tries of one part while failures may pass; each request is retried by the store besides.
const TRIES: u32 = 3;

/// One part to be fetched.
#[derive(Debug, Clone)]
pub struct Item {
    pub part: PartObject,
    pub target: Target,
    pub wanted: Wanted,
    /// How much work it is, compared with others: bytes of files, or of the part where those are not known.
    pub weight: u64,
}

impl Item {
    /// Bytes that the progress expects of it.
    fn expected(&self) -> u64 {
        if self.wanted == Wanted::Structure { 0 } else { self.part.object.size }
    }
}

/// What must be fetched, the largest first, so that none is left alone at the end. `files` says what is wanted of
/// each part; without it every part is read whole. `structure`: directories and links are wanted too.
pub fn queue(
    parts: &BTreeMap<Archive, Vec<PartObject>>,
    targets: &[(Archive, Target)],
    files: Option<&HashMap<&str, InPart>>,
    structure: bool,
) -> VecDeque<Item> {
    let mut items = Vec::new();
    for (archive, target) in targets {
        for part in parts.get(archive).into_iter().flatten() {
            let name = part.name.to_string();
            let known = files.map(|files| files.get(name.as_str()).copied().unwrap_or_default());
            let wanted = match known {
                None => Wanted::All,
                Some(files) if files.wanted > 0 && files.wanted == files.files => Wanted::All,
                Some(files) if files.wanted > 0 => Wanted::Files(files.wanted),
                Some(_) if part.name.index == 0 && structure => Wanted::Structure,
                Some(_) => continue,
            };
            let weight = known.map_or(part.object.size, |files| files.bytes);
            items.push(Item { part: part.clone(), target: target.clone(), wanted, weight });
        }
    }
    items.sort_by_key(|item| std::cmp::Reverse(item.weight));
    items.into()
}

/// Bytes that the progress expects of all.
pub fn expected(items: &VecDeque<Item>) -> u64 {
    items.iter().map(Item::expected).sum()
}

/// Which parts are fetched, and what becomes of them.
pub struct Job {
    pub repository: Repository,
    pub items: VecDeque<Item>,
    pub jobs: usize,
    pub layer: Layer,
    pub checker: Arc<Checker>,
    pub progress: Arc<Progress>,
    pub threads: TaskTracker,
}

/// What the workers share.
pub struct Fetch {
    repository: Repository,
    queue: Mutex<VecDeque<Item>>,
    jobs: usize,
    fetched: AtomicU64,
    layer: Layer,
    checker: Arc<Checker>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    threads: TaskTracker,
}

impl Fetch {
    /// A fetch of parts.
    pub fn new(job: Job, cancel: &CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            repository: job.repository,
            queue: Mutex::new(job.items),
            jobs: job.jobs,
            fetched: AtomicU64::new(0),
            layer: job.layer,
            checker: job.checker,
            progress: job.progress,
            // Its own, so that a worker's failure stops the others without hiding the failure.
            cancel: cancel.child_token(),
            threads: job.threads,
        })
    }

    /// Bytes that came from the store so far.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Fetches everything.
    pub async fn run(self: &Arc<Self>) -> Result<Extracted> {
        let workers: Vec<_> = (0..self.jobs)
            .map(|_| {
                let job = Arc::clone(self);
                tokio::spawn(async move {
                    let outcome = job.work().await;
                    if outcome.is_err() {
                        // The others need not go on.
                        job.cancel.cancel();
                    }
                    outcome
                })
            })
            .collect();
        let mut sum = Extracted::default();
        let mut failure: Option<Error> = None;
        for worker in workers {
            match worker.await.map_err(|error| Error::cancelled().with_source(error))? {
                Ok(extracted) => add(&mut sum, extracted),
                Err(error) if failure.as_ref().is_none_or(|known| known.kind() == ErrorKind::Cancelled) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        failure.map_or(Ok(sum), Err)
    }

    async fn work(self: &Arc<Self>) -> Result<Extracted> {
        let mut sum = Extracted::default();
        loop {
            let Some((item, ahead)) = self.next() else { return Ok(sum) };
            tokio::select! {
                biased;
                part = self.part(Arc::new(item), ahead) => add(&mut sum, part?),
                () = self.cancel.cancelled() => return Err(Error::cancelled()),
            }
        }
    }

    /// The next part, and whether it is more than a job's share of what is left: it will be alone at the end, while
    /// cores are idle.
    fn next(&self) -> Option<(Item, bool)> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let item = queue.pop_front()?;
        let rest: u64 = queue.iter().map(|item| item.weight).sum();
        let others = u64::try_from(self.jobs - 1).unwrap_or(u64::MAX);
        let ahead = item.weight.saturating_mul(others) > rest;
        Some((item, ahead))
    }

    async fn part(self: &Arc<Self>, item: Arc<Item>, ahead: bool) -> Result<Extracted> {
        let url = self.repository.store().url_of(&item.part.object.key);
        let mut tries = 0;
        loop {
            tries += 1;
            let shown = item.wanted != Wanted::Structure;
            let count = Count::new(shown.then(|| Arc::clone(&self.progress)));
            let outcome = self.try_part(&item, ahead, &count).await;
            let counted = count.close();
            // Counted is what came out of the store's decryption; reported is what came out of the store.
            let store = self.repository.store();
            let fetched = if counted == 0 { 0 } else { store.stored_size(&item.part.object.key, counted) };
            self.fetched.fetch_add(fetched, Ordering::Relaxed);
            match outcome {
                Ok(extracted) => {
                    self.progress.add_done(item.expected().saturating_sub(counted));
                    return Ok(extracted);
                }
                // A stream that was ended looks like a damaged part.
                Err(_) if self.cancel.is_cancelled() => return Err(Error::cancelled()),
                Err(error)
                    if error.is_transient() && error.kind() != ErrorKind::Cancelled && tries < TRIES =>
                {
                    tracing::warn!(part = url, error = %error.report(), "fetching the part again");
                    self.progress.take_done(counted.min(item.expected()));
                }
                Err(error) => return Err(about(error, &url)),
            }
        }
    }

    async fn try_part(
        self: &Arc<Self>,
        item: &Arc<Item>,
        ahead: bool,
        count: &Arc<Count>,
    ) -> Result<Extracted> {
        let (info, stream) = self.repository.store().open(&item.part.object.key, None).await?;
        if info.size != item.part.object.size {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("it changed from {} to {} bytes meanwhile", item.part.object.size, info.size),
            ));
        }
        // A thread that waits for the store must end with the rest.
        let stream = stream.take_until(self.cancel.clone().cancelled_owned()).boxed();
        let reader = Counting { inner: BlockingReader::new(stream), count: Arc::clone(count) };
        let (job, item) = (Arc::clone(self), Arc::clone(item));
        let thread = self.threads.spawn_blocking(move || {
            let decoder = Decoder::new(item.part.name.compression, reader).map_err(|error| {
                barman_cloud::Error::from_io(
                    error,
                    barman_cloud::ErrorKind::Corrupt,
                    "it cannot be decompressed",
                )
            })?;
            if ahead {
                job.extract(ReadAhead::start(decoder, &job.threads), &item)
            } else {
                job.extract(decoder, &item)
            }
        });
        thread.await.map_err(|error| Error::cancelled().with_source(error))?
    }

    fn extract(&self, mut input: impl BufRead, item: &Item) -> Result<Extracted> {
        let extracted = extract::extract(
            &mut input,
            &item.target,
            item.wanted,
            &self.layer,
            &self.checker,
            &self.progress,
            &self.cancel,
        )?;
        // What this cipher has given is authentic only at the end, so a part that is not wanted whole is read whole.
        if self.repository.store().cipher_mode() == Some(CipherMode::Aes256Cbc) {
            io::copy(&mut input, &mut io::sink()).map_err(|error| {
                let kind = barman_cloud::ErrorKind::Corrupt;
                barman_cloud::Error::from_io(error, kind, "it cannot be read to its end")
            })?;
        }
        Ok(extracted)
    }
}

/// Adds up what parts held.
pub fn add(sum: &mut Extracted, more: Extracted) {
    sum.files += more.files;
    sum.bytes += more.bytes;
    sum.links.extend(more.links);
    sum.has_label |= more.has_label;
}

/// Names the object in errors that are about what was in it.
fn about(error: Error, url: &str) -> Error {
    match error.kind() {
        ErrorKind::Corrupt if !error.to_string().contains(url) => {
            Error::new(ErrorKind::Corrupt, format!("{url}: {error}")).with_source(error)
        }
        _ => error,
    }
}

/// How much of a part was read in one try.
struct Count {
    progress: Option<Arc<Progress>>,
    /// Bytes, and whether the try is over: a thread that reads ahead may not know yet.
    state: Mutex<(u64, bool)>,
}

impl Count {
    fn new(progress: Option<Arc<Progress>>) -> Arc<Self> {
        Arc::new(Self { progress, state: Mutex::default() })
    }

    fn add(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.1 {
            state.0 += bytes;
            if let Some(progress) = &self.progress {
                progress.add_done(bytes);
            }
        }
    }

    fn close(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = true;
        state.0
    }
}

/// Counts what is read.
struct Counting<R> {
    inner: R,
    count: Arc<Count>,
}

impl<R: BufRead> BufRead for Counting<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
        self.count.add(amount as u64);
    }
}

impl<R: BufRead> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::PartName;
    use barman_cloud::store::ObjectInfo;
    use std::path::PathBuf;

    fn part(name: &str, size: u64) -> PartObject {
        let object = ObjectInfo {
            key: name.to_owned(),
            size,
            last_modified: chrono::DateTime::UNIX_EPOCH,
            etag: None,
        };
        PartObject { name: PartName::parse(name).expect("a part"), object }
    }

    fn names(files: Option<&[(&str, InPart)]>) -> Vec<(String, Wanted)> {
        let parts = BTreeMap::from([
            (Archive::Data, vec![part("data.tar", 10), part("data_0001.tar", 30), part("data_0002.tar", 20)]),
            (Archive::Tablespace(7), vec![part("7.tar", 5)]),
        ]);
        let target = |prefix: &str| Target { root: "/x".into(), manifest_prefix: PathBuf::from(prefix) };
        let targets = [(Archive::Data, target("")), (Archive::Tablespace(7), target("pg_tblspc/7"))];
        let files: Option<HashMap<&str, InPart>> = files.map(|files| files.iter().copied().collect());
        let items = queue(&parts, &targets, files.as_ref(), true);
        items.into_iter().map(|item| (item.part.name.to_string(), item.wanted)).collect()
    }

    #[test]
    fn without_lists_every_part_is_wanted_the_largest_first() {
        let found = names(None);
        assert!(found.iter().all(|(_, wanted)| *wanted == Wanted::All));
        let order: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(order, ["data_0001.tar", "data_0002.tar", "data.tar", "7.tar"]);
    }

    #[test]
    fn parts_without_wanted_files_are_left_out_but_for_their_directories() {
        let some = |files, wanted, bytes| InPart { files, wanted, bytes };
        let found = names(Some(&[
            ("data.tar", some(4, 0, 0)),
            ("data_0001.tar", some(3, 1, 100)),
            ("data_0002.tar", some(2, 2, 900)),
        ]));
        let expected = [
            ("data_0002.tar", Wanted::All),
            ("data_0001.tar", Wanted::Files(1)),
            ("data.tar", Wanted::Structure),
            ("7.tar", Wanted::Structure),
        ];
        assert_eq!(found, expected.map(|(name, wanted)| (name.to_owned(), wanted)));
        assert_eq!(names(Some(&[("data_0001.tar", some(1, 0, 0))])).len(), 2);
    }
}
