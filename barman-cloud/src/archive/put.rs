//! Putting a WAL file into the archive.

use super::find::WalObject;
use crate::codec::{Bounded, Compression, Decoder, Encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::store::blocking::BlockingReader;
use crate::store::{Created, part_size};
use crate::wal_name::{SegmentSize, WalName};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Files up to this size are compressed in memory and sent in one request; larger ones (segments of 64 MiB and
/// more) go in parts.
const ONE_REQUEST: u64 = 33 << 20;
const COPY_BUFFER: usize = 128 << 10;

/// Where the content of a WAL file is.
#[derive(Debug, Clone)]
pub enum WalSource {
    /// A local file.
    File(PathBuf),
    /// Memory.
    Bytes(Bytes),
}

impl WalSource {
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Self::File(path) => {
                let file = File::open(path)
                    .map_err(|error| Error::io(format!("{} cannot be opened", path.display()), error))?;
                Ok(Box::new(file))
            }
        }
    }

    fn size(&self) -> Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => {
                let metadata = std::fs::metadata(path)
                    .map_err(|error| Error::io(format!("{} cannot be read", path.display()), error))?;
                Ok(metadata.len())
            }
        }
    }
}

/// How to archive.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// Compression of new objects.
    pub compression: Compression,
    /// Its level, or the codec's usual one.
    pub level: Option<i32>,
    /// Look at the object after writing it, and compare its size: one more request, for stores that say yes to
    /// what they have not kept.
    pub confirm: bool,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self { compression: Compression::None, level: None, confirm: true }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedWal {
    /// Whether the object was written now, or was there with the same content.
    pub created: Created,
    /// Key of the object.
    pub key: String,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of the object.
    pub stored: u64,
}

impl Repository {
    /// Archives a file under its name. On return it is in the store.
    ///
    /// Repeating it is harmless. When an object of that name is there, in any compression, its content decides:
    /// the same is a success, another is [`ErrorKind::AlreadyExists`] and leaves the object alone.
    pub async fn archive_wal(
        &self,
        name: WalName,
        source: WalSource,
        options: &ArchiveOptions,
    ) -> Result<ArchivedWal> {
        options.compression.check_level(options.level)?;
        let size = check_size(name, source.size()?)?;
        if size > ONE_REQUEST {
            return self.archive_in_parts(name, source, size, options).await;
        }
        // Looking for the name and compressing take about as long, so they go side by side.
        let (existing, packed) =
            tokio::try_join!(self.find_exact(name), compress(source.clone(), size, options.clone()))?;
        if let Some(object) = existing {
            return self.accept_same(object, source, size).await;
        }
        let key = self.layout().wal(name, options.compression);
        let stored = packed.len() as u64;
        match self.store().create(&key, packed).await? {
            Created::Yes => {
                self.confirm(&key, stored, options).await?;
                Ok(ArchivedWal { created: Created::Yes, key, size, stored })
            }
            Created::Exists => {
                // Another writer was faster, or our own first try had arrived after all.
                let object = self.find_exact(name).await?.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unavailable,
                        "the store says that the object exists but does not list it",
                    )
                    .with_key(self.store().url_of(&key))
                })?;
                self.accept_same(object, source, size).await
            }
        }
    }

    async fn find_exact(&self, name: WalName) -> Result<Option<WalObject>> {
        Ok(self.find_wal(name).await?.into_iter().find(|object| object.name == name))
    }

    async fn confirm(&self, key: &str, stored: u64, options: &ArchiveOptions) -> Result<()> {
        if !options.confirm {
            return Ok(());
        }
        let lost = |what: String| {
            Error::new(ErrorKind::Unavailable, what)
                .with_key(self.store().url_of(key))
                .with_remedy("the store lost what it had accepted: check the store; archiving is tried again")
        };
        match self.store().head(key).await {
            Ok(info) if info.size == stored => Ok(()),
            Ok(info) => Err(lost(format!("{} bytes were written and {} are there", stored, info.size))),
            Err(error) if error.is_not_found() => Err(lost("it was written and is not there".to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Compares an object's content with the file's.
    async fn accept_same(&self, object: WalObject, source: WalSource, size: u64) -> Result<ArchivedWal> {
        let (info, stream) = self.store().open(&object.object.key, None).await?;
        let reader = BlockingReader::new(stream);
        let codec = object.compression;
        let url = self.store().url_of(&object.object.key);
        let same = blocking(move || {
            let mut local = source.open()?;
            let unreadable = |error| {
                Error::from_io(error, ErrorKind::Corrupt, "the archived file cannot be decompressed")
                    .with_key(url.clone())
            };
            let decoder = Decoder::new(codec, reader).map_err(unreadable)?;
            let mut archived = Bounded::new(decoder, SegmentSize::MAX.bytes());
            equal(&mut archived, local.as_mut(), |error| {
                Error::from_io(error, ErrorKind::Corrupt, "the archived file cannot be decompressed")
                    .with_key(url.clone())
            })
        })
        .await?;
        if same {
            let (key, stored) = (object.object.key, info.size);
            return Ok(ArchivedWal { created: Created::Exists, key, size, stored });
        }
        Err(Error::new(ErrorKind::AlreadyExists, format!("{} is archived already with other content", object.name))
            .with_key(self.store().url_of(&object.object.key))
            .with_remedy(
                "another server archives to the same place, or this server was restored and went on under the old \
                 name: give it a destination path or server name of its own",
            ))
    }

    async fn archive_in_parts(
        &self,
        name: WalName,
        source: WalSource,
        size: u64,
        options: &ArchiveOptions,
    ) -> Result<ArchivedWal> {
        if let Some(object) = self.find_exact(name).await? {
            return self.accept_same(object, source, size).await;
        }
        let key = self.layout().wal(name, options.compression);
        let upload = self.store().upload(&key).await?;
        let sent = self.send_parts(&upload, source, size, options).await;
        let stored = match sent {
            Ok(stored) => stored,
            Err(error) => {
                if let Err(cleanup) = upload.abort().await {
                    tracing::warn!(error = %cleanup, "the parts of a broken upload stay in the store");
                }
                return Err(error);
            }
        };
        self.confirm(&key, stored, options).await?;
        Ok(ArchivedWal { created: Created::Yes, key, size, stored })
    }

    async fn send_parts(
        &self,
        upload: &crate::store::Upload,
        source: WalSource,
        size: u64,
        options: &ArchiveOptions,
    ) -> Result<u64> {
        let part = usize::try_from(part_size(size, None)?).unwrap_or(usize::MAX);
        // One part is compressed while another is sent: three are in memory at most.
        let (sender, mut parts) = mpsc::channel(1);
        let options = options.clone();
        let packing = tokio::task::spawn_blocking(move || -> Result<u64> {
            let sink = Parts { part, buffer: Vec::with_capacity(part), sender };
            let mut sink = pack(&source, size, &options, sink)?;
            sink.send().map_err(|error| Error::from_io(error, ErrorKind::Other, "sending"))?;
            Ok(size)
        });
        let (mut done, mut stored) = (Vec::new(), 0);
        while let Some(content) = parts.recv().await {
            let content: Bytes = content;
            stored += content.len() as u64;
            done.push(upload.put_part(done.len(), content).await?);
        }
        packing.await.map_err(panicked)??;
        upload.complete(done).await?;
        Ok(stored)
    }
}

/// Buffers output and sends it in parts of equal size.
struct Parts {
    part: usize,
    buffer: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
}

impl Parts {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.part));
        self.sender.blocking_send(full.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Parts {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(self.part - self.buffer.len());
        self.buffer.extend_from_slice(&data[..count]);
        if self.buffer.len() == self.part {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A segment has one of few sizes; anything else would make the archive unusable and is refused before upload.
fn check_size(name: WalName, size: u64) -> Result<u64> {
    if name.has_segment_size() {
        SegmentSize::new(size).map_err(|error| {
            Error::invalid(format!("{name} is not a whole segment"))
                .with_source(error)
                .with_remedy("give the complete file from pg_wal")
        })?;
    } else if size > super::MAX_TEXT || size == 0 {
        return Err(Error::invalid(format!("{name} has {size} bytes, which cannot be")));
    }
    Ok(size)
}

async fn compress(source: WalSource, size: u64, options: ArchiveOptions) -> Result<Bytes> {
    if let (WalSource::Bytes(bytes), Compression::None) = (&source, options.compression) {
        return Ok(bytes.clone());
    }
    blocking(move || {
        let capacity = if options.compression == Compression::None { size } else { size / 3 };
        let out = Vec::with_capacity(usize::try_from(capacity).unwrap_or(0));
        pack(&source, size, &options, out).map(Bytes::from)
    })
    .await
}

/// Compresses a file into `out`; a file that is not as long as it was is an error.
fn pack<W: Write>(source: &WalSource, size: u64, options: &ArchiveOptions, out: W) -> Result<W> {
    let mut input = source.open()?;
    let mut encoder = Encoder::new(options.compression, options.level, out)?;
    let mut buffer = vec![0; COPY_BUFFER];
    let mut total = 0;
    let reading = |error| Error::io("the WAL file cannot be read", error);
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(reading(error)),
        };
        total += count as u64;
        encoder
            .write_all(&buffer[..count])
            .map_err(|error| Error::from_io(error, ErrorKind::Other, "compressing"))?;
    }
    if total != size {
        return Err(Error::new(
            ErrorKind::Io,
            format!("the WAL file changed from {size} to {total} bytes while it was read"),
        ));
    }
    encoder.finish().map_err(|error| Error::from_io(error, ErrorKind::Other, "compressing"))
}

fn equal(
    archived: &mut dyn Read,
    local: &mut dyn Read,
    unreadable: impl Fn(io::Error) -> Error,
) -> Result<bool> {
    let (mut a, mut b) = (vec![0; COPY_BUFFER], vec![0; COPY_BUFFER]);
    loop {
        let count = fill(archived, &mut a).map_err(&unreadable)?;
        let other = fill(local, &mut b).map_err(|error| Error::io("the WAL file cannot be read", error))?;
        if count != other || a[..count] != b[..other] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Other, "a worker stopped").with_source(error)
}
