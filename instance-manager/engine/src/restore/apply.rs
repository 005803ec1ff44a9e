//! Puts changed blocks into a file that an earlier backup of the chain brought.
//!
//! Applying the same blocks again changes nothing: a part may be tried again.

use super::built::Built;
use super::check::{FileCheck, wrong};
use crate::error::{Error, ErrorKind, Result};
use crate::increment::{Decoder, Header, Shape};
use crate::progress::Progress;
use barman_cloud::tar::TarReader;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How files of changed blocks are applied.
#[derive(Debug, Clone)]
pub struct Blocks {
    /// How the server lays out relations.
    pub shape: Shape,
    /// The files that are put together.
    pub built: Arc<Built>,
}

/// Where a file of changed blocks goes.
#[derive(Debug, Clone, Copy)]
pub struct Onto<'a> {
    /// The file on disk.
    pub path: &'a Path,
    /// Its path in the manifest.
    pub plain: &'a Path,
    /// Bytes of the file of changed blocks.
    pub size: u64,
    pub blocks: &'a Blocks,
}

/// Applies the current entry. Returns the bytes that were written.
pub fn apply(
    tar: &mut TarReader<impl BufRead>,
    onto: Onto<'_>,
    mut check: FileCheck<'_>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<u64> {
    let refused = |what: String| wrong(&crate::increment::incremental_name(onto.plain), what);
    let writing = |error| Error::io("cannot write", onto.path, error);
    let file = open(onto.path)?;
    let mut decoder = Decoder::new(onto.size, onto.blocks.shape);
    let (mut begun, mut written) = (false, 0);
    loop {
        let data = tar.data()?;
        if data.is_empty() {
            break;
        }
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let (count, piece) = decoder.push(data).map_err(refused)?;
        check.update(&data[..count]);
        if let Some(piece) = piece {
            file.write_all_at(piece.data, piece.offset).map_err(writing)?;
            progress.add_stored(piece.data.len() as u64);
            written += piece.data.len() as u64;
        }
        tar.consume(count);
        if let Some(header) = decoder.header().filter(|_| !begun) {
            shorten(&file, header, onto).map_err(writing)?;
            begun = true;
        }
    }
    let header = decoder.finish().map_err(refused)?;
    check.finish()?;
    let length = u64::from(header.length()) * u64::from(onto.blocks.shape.page);
    file.set_len(length).map_err(writing)?;
    Ok(written)
}

/// Cuts what is no longer valid, before the first block is written.
fn shorten(file: &File, header: &Header, onto: Onto<'_>) -> io::Result<()> {
    let page = u64::from(onto.blocks.shape.page);
    let (length, valid) = (file.metadata()?.len(), u64::from(header.truncation) * page);
    // Before anything is changed: a part that is tried again finds it changed already.
    if !header.blocks.is_empty() || length != u64::from(header.length()) * page {
        onto.blocks.built.touch(onto.plain);
    }
    if length > valid { file.set_len(valid) } else { Ok(()) }
}

fn open(path: &Path) -> Result<File> {
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Corrupt,
            format!("{} is to be changed, and no earlier backup of the chain has brought it", path.display()),
        )),
        other => other.map_err(|error| Error::io("cannot open", path, error)),
    }
}
