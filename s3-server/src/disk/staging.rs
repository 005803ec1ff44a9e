//! A body on its way in: a file with no name among the objects yet.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempPath;

use super::record::Record;

/// Bytes gathered before they are written: each write is a turn of another thread.
const BATCH: usize = 1 << 20;

/// A body being received. Dropping it removes its file.
#[derive(Debug)]
pub struct DiskStaging {
    open: Open,
    pending: Vec<Bytes>,
    length: usize,
}

#[derive(Debug)]
struct Open {
    file: Arc<File>,
    path: TempPath,
}

/// A whole file, flushed, that is in no place yet.
#[derive(Debug)]
pub(super) struct Finished {
    pub path: TempPath,
}

impl DiskStaging {
    pub(super) fn new(tmp: &Path) -> io::Result<Self> {
        let (file, path) = tempfile::NamedTempFile::new_in(tmp)?.into_parts();
        Ok(Self { open: Open { file: Arc::new(file), path }, pending: Vec::new(), length: 0 })
    }

    /// Takes bytes; returns true when it is time to write them.
    pub(super) fn push(&mut self, bytes: Bytes) -> bool {
        self.length += bytes.len();
        self.pending.push(bytes);
        self.length >= BATCH
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.length = 0;
        write_all(&self.open.file, &std::mem::take(&mut self.pending))
    }

    /// The same on a thread that may block.
    pub(super) async fn flush_elsewhere(&mut self) -> io::Result<()> {
        self.length = 0;
        let (file, chunks) = (Arc::clone(&self.open.file), std::mem::take(&mut self.pending));
        tokio::task::spawn_blocking(move || write_all(&file, &chunks)).await.map_err(io::Error::other)?
    }

    /// Ends the body with its description. The file is on the disk when this returns.
    pub(super) fn finish(mut self, record: &Record) -> io::Result<Finished> {
        self.pending.push(record.trailer()?.into());
        self.flush()?;
        self.open.file.sync_all()?;
        Ok(Finished { path: self.open.path })
    }
}

fn write_all(mut file: &File, chunks: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
    let mut rest = &mut slices[..];
    // Empty ones would make a write of nothing look like a failure.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_arrive_in_order_and_nothing_stays_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut staging = DiskStaging::new(dir.path()).unwrap();
        for chunk in ["ab", "", "cde"] {
            assert!(!staging.push(Bytes::from_static(chunk.as_bytes())));
        }
        staging.flush().unwrap();
        assert!(staging.push(vec![b'x'; BATCH].into()));
        staging.flush().unwrap();
        let text = std::fs::read(&staging.open.path).unwrap();
        assert_eq!((&text[..7], text.len()), (&b"abcdexx"[..], 5 + BATCH));
        drop(staging);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
