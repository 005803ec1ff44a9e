//! One object under construction: tar, codec, upload.
//!
//! A thread writes into [`OpenPart`]; full buffers go to a task that sends them, several at a time. How many can
//! be under way is decided by the buffer pool alone. Nothing is visible in the store before the part was finished
//! and its size compared; a part that is dropped is given up and its upload aborted.

use super::pool::{BufferPool, PoolBuffer};
use super::record::FileRecord;
use super::resume::{PartRecord, Shelf};
use super::throttle::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use barman_cloud::Compression;
use barman_cloud::codec::Encoder;
use barman_cloud::store::{PartId, Sealer, Upload};
use barman_cloud::tar::TarWriter;
use barman_cloud::{PartName, Store};
use bytes::Bytes;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::TaskTracker;

/// What every part of a backup shares.
#[derive(Clone)]
pub struct PartContext {
    pub store: Store,
    pub pool: BufferPool,
    pub compression: Compression,
    pub level: Option<i32>,
    pub progress: Arc<Progress>,
    pub limits: Limits,
    /// Where finished parts are noted.
    pub shelf: Shelf,
    pub runtime: tokio::runtime::Handle,
    /// Knows the uploads under way, so that a failed backup can wait until they were given up.
    pub uploads: TaskTracker,
}

/// A part that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedPart {
    pub name: PartName,
    /// Bytes in the store.
    pub size: u64,
}

/// The end of a part's upload, to be awaited.
pub type PartTask = JoinHandle<Result<FinishedPart>>;

/// A part being filled.
pub struct OpenPart {
    pub name: PartName,
    tar: TarWriter<Encoder<Sink>>,
    task: PartTask,
}

enum Message {
    Chunk(Bytes),
    Finish { size: u64, note: Option<PartRecord> },
}

impl OpenPart {
    /// Begins a part, on a thread that may block. Buffers are sent from a task of the runtime; the upload begins with
    /// the first one.
    pub fn open(context: &PartContext, key: String, name: PartName) -> Result<Self> {
        // The first part of an encrypted backup makes its key, which takes requests; a worker may wait for them.
        let sealer = context.runtime.block_on(context.store.sealer(&key))?;
        let (sender, receiver) = unbounded_channel();
        let sink = Sink { pool: context.pool.clone(), buffer: None, sealer, sender, sent: 0 };
        let encoder = Encoder::new(context.compression, context.level, sink)?;
        let task = context.uploads.spawn_on(send(context.clone(), key, name, receiver), &context.runtime);
        Ok(Self { name, tar: TarWriter::new(encoder), task })
    }

    /// The tar.
    pub fn tar(&mut self) -> &mut TarWriter<Encoder<Sink>> {
        &mut self.tar
    }

    /// Bytes of tar so far.
    pub fn written(&self) -> u64 {
        self.tar.written()
    }

    /// Ends tar and frame; the task ends when the object is confirmed, and what is in it is noted. On failure the task
    /// comes back too: it says why the upload ended.
    pub fn finish(self, records: &[FileRecord]) -> Result<PartTask, (io::Error, PartTask)> {
        let closed = self.tar.finish().and_then(Encoder::finish).and_then(|sink| sink.finish(records));
        match closed {
            Ok(()) => Ok(self.task),
            Err(error) => Err((error, self.task)),
        }
    }

    /// Gives the part up. The task says why the upload ended, if it did.
    pub fn abandon(self) -> PartTask {
        self.task
    }
}

/// Cuts the compressed stream into equal buffers, encrypted in place where the store encrypts.
pub struct Sink {
    pool: BufferPool,
    buffer: Option<PoolBuffer>,
    sealer: Sealer,
    sender: UnboundedSender<Message>,
    sent: u64,
}

impl Sink {
    fn send(&mut self, buffer: PoolBuffer) {
        self.sent += buffer.len() as u64;
        // A closed channel means that the upload failed; its task says why.
        let _ = self.sender.send(Message::Chunk(buffer.freeze()));
    }

    /// The buffer under construction, or an empty one.
    fn buffer(&mut self) -> io::Result<PoolBuffer> {
        match self.buffer.take() {
            Some(buffer) => Ok(buffer),
            None => self
                .pool
                .take()
                .map_err(|_| io::Error::new(io::ErrorKind::Interrupted, "the backup is being cancelled"))
                // Not `Interrupted`, which callers repeat.
                .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error)),
        }
    }

    fn finish(mut self, records: &[FileRecord]) -> io::Result<()> {
        // Without encryption nothing follows what is in the buffer, and none need be waited for.
        while self.buffer.is_some() || !self.sealer.is_plain() {
            let mut buffer = self.buffer()?;
            let sealer = &mut self.sealer;
            let ended =
                buffer.fill(|data, room| sealer.finish(data, room)).map_err(barman_cloud::Error::into_io)?;
            if buffer.len() > 0 {
                self.send(buffer);
            }
            if ended {
                break;
            }
        }
        let note = PartRecord::new(self.sent, records);
        let _ = self.sender.send(Message::Finish { size: self.sent, note });
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sender.is_closed() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the upload ended"));
        }
        let mut buffer = self.buffer()?;
        let sealer = &mut self.sealer;
        let taken =
            buffer.fill(|data, room| sealer.fill(data, room, bytes)).map_err(barman_cloud::Error::into_io)?;
        if buffer.is_full() {
            self.send(buffer);
        } else {
            self.buffer = Some(buffer);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn send(
    context: PartContext,
    key: String,
    name: PartName,
    mut receiver: UnboundedReceiver<Message>,
) -> Result<FinishedPart> {
    let upload = context.store.upload(&key).await?;
    match send_all(&context, &upload, &mut receiver).await {
        Ok((size, note)) => {
            confirm(&context.store, &key, size).await?;
            if let Some(note) = note
                && let Err(error) = context.shelf.put_part(name, &note).await
            {
                tracing::warn!(part = %name, error = %error.report(), "could not be noted: after an interruption it is stored again");
            }
            Ok(FinishedPart { name, size })
        }
        Err(error) => {
            if let Err(abort) = upload.abort().await {
                tracing::warn!(key, error = %abort.report(), "an unfinished upload stays in the store");
            }
            Err(error)
        }
    }
}

async fn send_all(
    context: &PartContext,
    upload: &Upload,
    receiver: &mut UnboundedReceiver<Message>,
) -> Result<(u64, Option<PartRecord>)> {
    let mut sending: JoinSet<Result<(usize, PartId)>> = JoinSet::new();
    let mut parts: Vec<(usize, PartId)> = Vec::new();
    let mut count = 0;
    let end = loop {
        tokio::select! {
            biased;
            Some(sent) = sending.join_next() => parts.push(joined(sent)?),
            message = receiver.recv() => match message {
                Some(Message::Chunk(chunk)) => {
                    let (index, length) = (count, chunk.len() as u64);
                    count += 1;
                    let request = upload.put_part(index, chunk);
                    let (progress, limits) = (Arc::clone(&context.progress), context.limits.clone());
                    sending.spawn(async move {
                        limits.upload(length).await?;
                        let part = request.await?;
                        progress.add_stored(length);
                        Ok((index, part))
                    });
                }
                Some(Message::Finish { size, note }) => break (size, note),
                None => return Err(Error::cancelled()),
            }
        }
    };
    while let Some(sent) = sending.join_next().await {
        parts.push(joined(sent)?);
    }
    parts.sort_unstable_by_key(|(index, _)| *index);
    upload.complete(parts.into_iter().map(|(_, part)| part).collect()).await?;
    Ok(end)
}

fn joined(sent: Result<Result<(usize, PartId)>, tokio::task::JoinError>) -> Result<(usize, PartId)> {
    sent.map_err(|error| Error::cancelled().with_source(error))?
}

/// What the store holds must be what was sent: `size` bytes as they are stored.
pub(super) async fn confirm(store: &Store, key: &str, size: u64) -> Result<()> {
    let lost = |held: String| {
        Error::new(
            ErrorKind::Corrupt,
            format!("{}: {size} bytes were sent and the store holds {held}", store.url_of(key)),
        )
        .with_remedy("take the backup again; if it repeats, the object store loses data")
    };
    match store.head(key).await {
        Ok(found) if found.size == size => Ok(()),
        Ok(found) => Err(lost(found.size.to_string())),
        Err(error) if error.is_not_found() => Err(lost("none".to_owned())),
        Err(error) => Err(error.into()),
    }
}
