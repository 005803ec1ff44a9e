//! Sending stored bytes: a piece at a time, from one file or from the parts of an upload.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::{self, Stream};
use s3s::S3Result;
use s3s::dto::StreamingBlob;

use super::open;
use crate::store::StoredBody;

/// Bytes read at a time.
const CHUNK: u64 = 256 << 10;

/// The parts of an upload that became an object. They stay for as long as this does, also when the object goes.
#[derive(Debug)]
pub(super) struct Parts {
    top: PathBuf,
    upload: String,
    /// The object is gone: the last reader removes them.
    pub doomed: AtomicBool,
}

impl Parts {
    pub fn new(top: &Path, upload: &str) -> Self {
        Self { top: top.to_owned(), upload: upload.to_owned(), doomed: AtomicBool::new(false) }
    }

    fn open(&self, number: u32) -> io::Result<File> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        // They move once, when the upload is complete.
        for at in ["parts", "uploads", "parts"] {
            match File::open(self.top.join(at).join(&self.upload).join(part_name(number))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
                other => return other,
            }
        }
        Err(last)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if !self.doomed.load(Ordering::Acquire) {
            return;
        }
        let (top, upload) = (std::mem::take(&mut self.top), std::mem::take(&mut self.upload));
        let remove = move || {
            if let Err(error) = open::bury(&top, &upload) {
                tracing::warn!(upload, %error, "parts could not be removed; the next start tries again");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// The name of a part's file.
pub(super) fn part_name(number: u32) -> String {
    format!("{number:05}#")
}

/// Bytes that stay readable.
#[derive(Debug)]
pub(super) enum Held {
    /// At the beginning of a file.
    File(File),
    /// In parts.
    Parts { parts: Arc<Parts>, numbers: Vec<u32> },
}

/// An object's bytes.
#[derive(Debug)]
pub(super) struct Body {
    pub held: Held,
    /// Sizes of the parts, when it has some.
    pub sizes: Vec<u64>,
}

#[async_trait::async_trait]
impl StoredBody for Body {
    async fn stream(self: Box<Self>, range: Range<u64>) -> S3Result<StreamingBlob> {
        Ok(StreamingBlob::wrap(send(*self, range)))
    }
}

/// Where the next bytes are.
enum Piece {
    Open(File, Range<u64>),
    Part(u32, Range<u64>),
}

struct Reading {
    pieces: VecDeque<Piece>,
    parts: Option<Arc<Parts>>,
}

fn send(body: Body, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> {
    let (pieces, parts) = match body.held {
        Held::File(file) => (VecDeque::from([Piece::Open(file, range)]), None),
        Held::Parts { parts, numbers } => {
            let chosen = cut(&body.sizes, range);
            let pieces =
                chosen.into_iter().filter_map(|(at, range)| Some(Piece::Part(*numbers.get(at)?, range)));
            (pieces.collect(), Some(parts))
        }
    };
    stream::try_unfold(Reading { pieces, parts }, |reading| async move {
        tokio::task::spawn_blocking(move || next(reading)).await.map_err(io::Error::other)?
    })
}

/// Reads the next chunk.
fn next(mut reading: Reading) -> io::Result<Option<(Bytes, Reading)>> {
    loop {
        match reading.pieces.pop_front() {
            None => return Ok(None),
            Some(Piece::Part(number, range)) => {
                let parts = reading.parts.as_ref().ok_or(io::ErrorKind::NotFound)?;
                let file = parts.open(number)?;
                reading.pieces.push_front(Piece::Open(file, range));
            }
            Some(Piece::Open(_, range)) if range.is_empty() => {}
            Some(Piece::Open(file, range)) => {
                // At most CHUNK.
                let mut chunk = vec![0; (range.end - range.start).min(CHUNK) as usize];
                file.read_exact_at(&mut chunk, range.start)?;
                let rest = range.start + chunk.len() as u64..range.end;
                reading.pieces.push_front(Piece::Open(file, rest));
                return Ok(Some((chunk.into(), reading)));
            }
        }
    }
}

/// Which parts a range lies in, and which of their bytes it takes.
fn cut(sizes: &[u64], range: Range<u64>) -> Vec<(usize, Range<u64>)> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (at, size) in sizes.iter().enumerate() {
        let (from, to) = (range.start.max(start), range.end.min(start + size));
        if from < to {
            pieces.push((at, from - start..to - start));
        }
        start += size;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_span_parts() {
        let sizes = [3, 4, 1];
        assert_eq!(cut(&sizes, 0..8), [(0, 0..3), (1, 0..4), (2, 0..1)]);
        assert_eq!(cut(&sizes, 2..5), [(0, 2..3), (1, 0..2)]);
        assert_eq!(cut(&sizes, 3..7), [(1, 0..4)]);
        assert_eq!(cut(&sizes, 7..8), [(2, 0..1)]);
        assert!(cut(&sizes, 4..4).is_empty());
    }
}
