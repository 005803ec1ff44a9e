//! Getting a WAL file out of the archive.

use super::find::WalObject;
use super::pack::blocking;
use crate::buffered::read_buffered;
use crate::codec::{Bounded, Decoder};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::store::blocking::BlockingReader;
use crate::timeline::TimelineHistory;
use crate::wal_header::{LONG_HEADER, WalHeader};
use crate::wal_name::{SegmentSize, WalName};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// What a fetched file must be.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// Bytes in a segment of this server; any valid size when `None`.
    pub segment_size: Option<SegmentSize>,
    /// System identifier of this server: a segment that says it belongs to another is refused.
    pub system_id: Option<u64>,
    /// Accept a partial segment when there is no complete one.
    pub accept_partial: bool,
    /// Write the file through to the disk before returning.
    pub sync: bool,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedWal {
    /// The object it came from; its name says whether it was a partial segment.
    pub object: WalObject,
    /// Bytes written.
    pub size: u64,
}

impl Repository {
    /// Fetches a file of the archive into `dest`, which is made or replaced; the caller renames it into place.
    ///
    /// A complete segment wins over a partial one. When several objects hold the file, a damaged one is passed
    /// over. Fails with [`ErrorKind::NotFound`] when there is none and with [`ErrorKind::Corrupt`] when what is
    /// there cannot be the file; `dest` is removed then.
    pub async fn fetch_wal(&self, name: WalName, dest: &Path, options: &FetchOptions) -> Result<FetchedWal> {
        let found = self.find_wal(name).await?;
        self.fetch_wal_found(name, &found, dest, options).await
    }

    /// As [`Repository::fetch_wal`], for a caller that knows the objects under the name, best first.
    pub async fn fetch_wal_found(
        &self,
        name: WalName,
        found: &[WalObject],
        dest: &Path,
        options: &FetchOptions,
    ) -> Result<FetchedWal> {
        let mut damaged = None;
        for object in found.iter().filter(|object| options.accept_partial || object.name == name) {
            match self.fetch_wal_object(object, dest, options).await {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(error = %error.report(), "a damaged object of the WAL archive");
                    damaged.get_or_insert(error);
                }
                // Deleted between the listing and the request.
                Err(error) if error.is_not_found() => {}
                other => return other,
            }
        }
        Err(damaged.unwrap_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{name} is not in the archive {}", self.url()))
                .with_key(self.store().url_of(&self.layout().wal(name, crate::Compression::None)))
                .with_remedy(
                    "recovery cannot go past it: choose an earlier target, or put the file into the archive",
                )
        }))
    }

    /// Fetches one object of the archive; see [`Repository::fetch_wal`]. Dropping the future ends the work on its
    /// thread, too.
    pub async fn fetch_wal_object(
        &self,
        object: &WalObject,
        dest: &Path,
        options: &FetchOptions,
    ) -> Result<FetchedWal> {
        let (wanted, dest, options) = (object.clone(), dest.to_owned(), options.clone());
        let size = self
            .with_wal_object(object, move |reader| {
                let written = write_file(&wanted, reader, &dest, &options);
                if written.is_err() {
                    // Best effort: a file that is not there is as good as removed.
                    let _ = std::fs::remove_file(&dest);
                }
                written
            })
            .await?;
        Ok(FetchedWal { object: object.clone(), size })
    }

    /// Reads one object of the archive to its end and refuses what [`Repository::fetch_wal_object`] would refuse, but
    /// keeps nothing of it. Returns the head of a segment, `None` when there is none that could be read.
    pub async fn check_wal_object(
        &self,
        object: &WalObject,
        options: &FetchOptions,
    ) -> Result<Option<WalHeader>> {
        let (wanted, options) = (object.clone(), options.clone());
        self.with_wal_object(object, move |reader| {
            let (_, head) = pour(&wanted, reader, &options, |_| Ok(()))?;
            Ok(WalHeader::parse(&head))
        })
        .await
    }

    /// Reads an object on a thread that may block, and names it in errors.
    async fn with_wal_object<T: Send + 'static>(
        &self,
        object: &WalObject,
        work: impl FnOnce(Wanted) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (_, stream) = self.store().open(&object.object.key, None).await?;
        let reader = BlockingReader::new(stream);
        let url = self.store().url_of(&object.object.key);
        let wish = Arc::new(());
        let wanted = Wanted { reader, wish: Arc::downgrade(&wish) };
        let done = blocking(move || work(wanted).map_err(|error| error.with_key(url))).await;
        drop(wish);
        done
    }
}

/// A reader that fails once nobody wants what is read: a thread cannot be stopped from outside.
struct Wanted {
    reader: BlockingReader,
    wish: Weak<()>,
}

impl BufRead for Wanted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.wish.strong_count() == 0 {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

impl Read for Wanted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

fn write_file(object: &WalObject, reader: Wanted, dest: &PathBuf, options: &FetchOptions) -> Result<u64> {
    let local = |error| Error::io(format!("{} cannot be written", dest.display()), error);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(dest).map_err(local)?;
    let (size, _) = pour(object, reader, options, |piece| file.write_all(piece).map_err(local))?;
    finish(file, options.sync).map_err(local)?;
    Ok(size)
}

/// Decompresses an object into `sink` and checks that it can be the file of its name. Returns its size and its
/// beginning, or the whole of a text.
fn pour(
    object: &WalObject,
    reader: Wanted,
    options: &FetchOptions,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<(u64, Vec<u8>)> {
    let limit = match options.segment_size {
        Some(size) if object.name.has_segment_size() => size.bytes(),
        _ if object.name.has_segment_size() => SegmentSize::MAX.bytes(),
        _ => super::MAX_TEXT,
    };
    let decoding = |error| Error::from_io(error, ErrorKind::Corrupt, "it cannot be decompressed");
    let mut content = Bounded::new(Decoder::new(object.compression, reader).map_err(decoding)?, limit);
    let mut head = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(decoding(error)),
        };
        if head.len() < LONG_HEADER || !object.name.has_segment_size() {
            head.extend_from_slice(&buffer[..count]);
        }
        sink(&buffer[..count])?;
    }
    check(object.name, content.count(), &head, options)?;
    Ok((content.count(), head))
}

fn finish(file: File, sync: bool) -> io::Result<()> {
    if sync { file.sync_all() } else { Ok(()) }
}

/// Whether the content can be the file of that name. `head` is the beginning of a segment, or a whole text.
fn check(name: WalName, size: u64, head: &[u8], options: &FetchOptions) -> Result<()> {
    match name {
        WalName::Segment(_) | WalName::Partial(_) => {
            let whole =
                options.segment_size.map_or_else(|| SegmentSize::new(size).is_ok(), |s| s.bytes() == size);
            if !whole {
                return Err(Error::corrupt(format!("{size} bytes are not a whole WAL segment")));
            }
            check_owner(head, options)
        }
        WalName::History(timeline) => {
            let text = std::str::from_utf8(head)
                .map_err(|error| Error::corrupt("the history file is not a text").with_source(error))?;
            TimelineHistory::parse(timeline, text).map(|_| ())
        }
        WalName::BackupLabel { .. } if head.starts_with(b"START WAL LOCATION") => Ok(()),
        WalName::BackupLabel { .. } => Err(Error::corrupt("it is not a backup label")),
    }
}

fn check_owner(head: &[u8], options: &FetchOptions) -> Result<()> {
    let (Some(own), Some(header)) = (options.system_id, WalHeader::parse(head)) else { return Ok(()) };
    if header.system_id == own {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "it belongs to the server with system identifier {}, not {own}",
        header.system_id
    ))
    .with_remedy("the archive holds the WAL of several servers: restore from one with a single server's WAL"))
}
