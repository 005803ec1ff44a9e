//! Whether the objects under a name hold the content of a file.

use super::find::WalObject;
use super::pack::blocking;
use super::put::ArchivedWal;
use super::source::WalSource;
use crate::codec::{Bounded, Decoder};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::store::Created;
use crate::store::blocking::BlockingReader;
use crate::wal_name::SegmentSize;
use std::io::{self, Read};

const COMPARE_BUFFER: usize = 128 << 10;

/// Compares every object with the file: all must hold its content. Other content is
/// [`ErrorKind::AlreadyExists`]. Returns the first object, or `None` when there is none.
pub async fn accept_same(
    repository: &Repository,
    objects: &[WalObject],
    source: &WalSource,
    size: u64,
) -> Result<Option<ArchivedWal>> {
    let mut first = None;
    for object in objects {
        let stored = same(repository, object, source).await?;
        let key = object.object.key.clone();
        first.get_or_insert(ArchivedWal { created: Created::Exists, key, size, stored });
    }
    Ok(first)
}

/// Bytes of an object that holds the content of the file.
async fn same(repository: &Repository, object: &WalObject, source: &WalSource) -> Result<u64> {
    let (info, stream) = repository.store().open(&object.object.key, None).await?;
    let reader = BlockingReader::new(stream);
    let (codec, source) = (object.compression, source.clone());
    let url = repository.store().url_of(&object.object.key);
    let named = url.clone();
    let same = blocking(move || {
        let mut local = source.open()?;
        let unreadable = |error| {
            Error::from_io(error, ErrorKind::Corrupt, "the archived file cannot be decompressed")
                .with_key(named.clone())
        };
        let decoder = Decoder::new(codec, reader).map_err(unreadable)?;
        let mut archived = Bounded::new(decoder, SegmentSize::MAX.bytes());
        equal(&mut archived, local.as_mut(), unreadable)
    })
    .await?;
    if same {
        return Ok(info.size);
    }
    let text = format!("{} is archived already with other content", object.name);
    Err(Error::new(ErrorKind::AlreadyExists, text).with_key(url).with_remedy(
        "another server archives to the same place, or this server was restored and went on under the old name: \
         give it a destination path or server name of its own",
    ))
}

fn equal(
    archived: &mut dyn Read,
    local: &mut dyn Read,
    unreadable: impl Fn(io::Error) -> Error,
) -> Result<bool> {
    let (mut a, mut b) = (vec![0; COMPARE_BUFFER], vec![0; COMPARE_BUFFER]);
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
