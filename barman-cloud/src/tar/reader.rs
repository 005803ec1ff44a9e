//! Reading tar.

use super::header::{self, Block};
use super::{BLOCK, Entry, EntryKind, padding};
use crate::error::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Longest pax header or GNU name: far more than any path.
const MAX_META: u64 = 1 << 20;

type Records = HashMap<Vec<u8>, Vec<u8>>;

/// Reads a tar from a stream, entry by entry.
///
/// Every error says where in the stream it is. The end of the stream before the end blocks is an error; after
/// them [`TarReader::next_entry`] drains the stream, so that a decoder below gets to check its own end.
pub struct TarReader<R: BufRead> {
    input: R,
    position: u64,
    /// Content of the current entry still to be read.
    open: u64,
    /// Zeros after that content.
    pad: usize,
    globals: Records,
    /// Symbolic links so far: no later entry may lie beneath one.
    links: HashSet<PathBuf>,
    done: bool,
}

impl<R: BufRead> TarReader<R> {
    /// A tar from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            position: 0,
            open: 0,
            pad: 0,
            globals: Records::new(),
            links: HashSet::new(),
            done: false,
        }
    }

    /// Bytes of tar read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, or `None` at the end. Content of the entry before that was not read is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip()?;
        if self.done {
            return Ok(None);
        }
        let mut meta = self.globals.clone();
        let mut gnu: [Option<Vec<u8>>; 2] = [None, None];
        loop {
            let at = self.position;
            let Some(block) = self.header_block()? else {
                if meta.len() > self.globals.len() || gnu.iter().any(Option::is_some) {
                    return Err(damaged(at, "an extended header without an entry"));
                }
                self.finish()?;
                return Ok(None);
            };
            match block[header::TYPE] {
                b'x' => parse_records(&self.meta_content(&block, at)?, at, &mut meta)?,
                b'g' => {
                    let content = self.meta_content(&block, at)?;
                    parse_records(&content, at, &mut self.globals)?;
                    parse_records(&content, at, &mut meta)?;
                }
                b'L' => gnu[0] = Some(c_string(self.meta_content(&block, at)?)),
                b'K' => gnu[1] = Some(c_string(self.meta_content(&block, at)?)),
                _ => return self.entry(&block, at, meta, gnu).map(Some),
            }
        }
    }

    /// The next content of the current entry, where it lies; empty at its end. Give it back with
    /// [`TarReader::consume`].
    pub fn data(&mut self) -> Result<&[u8]> {
        if self.open == 0 {
            return Ok(&[]);
        }
        if self.fill()? == 0 {
            return Err(truncated(self.position, "in the content of an entry"));
        }
        let (position, open) = (self.position, self.open);
        let data = self.input.fill_buf().map_err(|error| unreadable(position, error))?;
        Ok(&data[..usize::try_from(open).unwrap_or(usize::MAX).min(data.len())])
    }

    /// Marks bytes that [`TarReader::data`] gave as read.
    pub fn consume(&mut self, count: usize) {
        let count = self.open.min(count as u64);
        self.open -= count;
        self.position += count;
        // Not more than was there, so it fits.
        self.input.consume(count as usize);
    }

    /// Content of the current entry, copied; 0 at its end.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let data = self.data()?;
        let count = data.len().min(buffer.len());
        buffer[..count].copy_from_slice(&data[..count]);
        self.consume(count);
        Ok(count)
    }

    /// Skips what is left of the current entry.
    pub fn skip(&mut self) -> Result<()> {
        let rest = self.open + self.pad as u64;
        self.open = 0;
        self.pad = 0;
        self.discard(rest)
    }

    fn entry(
        &mut self,
        block: &Block,
        at: u64,
        meta: Records,
        [gnu_name, gnu_link]: [Option<Vec<u8>>; 2],
    ) -> Result<Entry> {
        let number = |field, key: &str| field_number(block, &meta, field, key, at);
        let size = number(header::SIZE, "size")?;
        if i64::try_from(size).is_err() {
            return Err(damaged(at, "a size that no file can have"));
        }
        let text = |field, key: &str| match meta.get(key.as_bytes()) {
            Some(value) => String::from_utf8_lossy(value).into_owned(),
            None => String::from_utf8_lossy(header::text(block, field)).into_owned(),
        };
        let name = meta.get(b"path".as_slice()).cloned().or(gnu_name).unwrap_or_else(|| full_name(block));
        let link = meta
            .get(b"linkpath".as_slice())
            .cloned()
            .or(gnu_link)
            .unwrap_or_else(|| header::text(block, header::LINK).to_vec());
        if meta.keys().any(|key| key.starts_with(b"GNU.sparse")) {
            return Err(damaged(at, "a sparse file, which no base backup contains"));
        }
        let path = clean(&name, at)?;
        let kind = match block[header::TYPE] {
            b'0' | 0 | b'7' if name.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File,
            b'1' => EntryKind::Hardlink { target: clean(&link, at)? },
            b'2' => EntryKind::Symlink { target: PathBuf::from(OsStr::from_bytes(&link)) },
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(damaged(at, &format!("an entry of unknown type {:?}", char::from(other)))),
        };
        self.refuse_through_links(&path, &kind, at)?;
        let content = if kind == EntryKind::File { size } else { 0 };
        self.open = content;
        self.pad = padding(content);
        let (mtime, mtime_nanos) = mtime(block, &meta, at)?;
        let mode = header::number(block, header::MODE).filter(|mode| *mode >= 0);
        let mode = mode.ok_or_else(|| damaged(at, "a mode that is no number"))?;
        Ok(Entry {
            path,
            kind,
            size: content,
            mode: (mode & 0o7777) as u32,
            uid: number(header::UID, "uid")?,
            gid: number(header::GID, "gid")?,
            uname: text(header::UNAME, "uname"),
            gname: text(header::GNAME, "gname"),
            mtime,
            mtime_nanos,
        })
    }

    /// An archive must not plant a link and then write through it.
    fn refuse_through_links(&mut self, path: &Path, kind: &EntryKind, at: u64) -> Result<()> {
        let through = |path: &Path| path.ancestors().skip(1).any(|above| self.links.contains(above));
        let bad = match kind {
            EntryKind::Hardlink { target } => through(path) || through(target) || self.links.contains(target),
            _ => through(path),
        };
        if bad {
            return Err(damaged(at, &format!("{path:?}, which lies behind a symbolic link")));
        }
        if matches!(kind, EntryKind::Symlink { .. }) {
            self.links.insert(path.to_owned());
        }
        Ok(())
    }

    /// The next header block, checked; `None` at the end blocks.
    fn header_block(&mut self) -> Result<Option<Block>> {
        let mut block: Block = [0; BLOCK];
        let at = self.position;
        self.read_full(&mut block, "before its end blocks")?;
        if block.iter().all(|byte| *byte == 0) {
            // Two blocks of zeros end a tar.
            self.read_full(&mut block, "within its end blocks")?;
            if block.iter().any(|byte| *byte != 0) {
                return Err(damaged(at, "a single block of zeros"));
            }
            return Ok(None);
        }
        let stored = header::number(&block, header::CHECKSUM);
        let computed = header::checksum(&block);
        if stored.and_then(|stored| u64::try_from(stored).ok()) != Some(computed) {
            return Err(damaged(at, "a header with a wrong checksum"));
        }
        Ok(Some(block))
    }

    fn meta_content(&mut self, block: &Block, at: u64) -> Result<Vec<u8>> {
        let size = header::number(block, header::SIZE).and_then(|size| u64::try_from(size).ok());
        let size = size.filter(|size| *size <= MAX_META);
        let size = size.ok_or_else(|| damaged(at, "an extended header of impossible size"))?;
        let mut content = vec![0; size as usize];
        self.read_full(&mut content, "in an extended header")?;
        self.discard(padding(size) as u64)?;
        Ok(content)
    }

    /// Reads to the end of the stream; what follows the end blocks is padding.
    fn finish(&mut self) -> Result<()> {
        while self.fill()? > 0 {
            self.take(usize::MAX)?;
        }
        self.done = true;
        Ok(())
    }

    fn discard(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            if self.fill()? == 0 {
                return Err(truncated(self.position, "in an entry"));
            }
            count -= self.take(usize::try_from(count).unwrap_or(usize::MAX))?;
        }
        Ok(())
    }

    /// Passes over what is there, up to `most` bytes.
    fn take(&mut self, most: usize) -> Result<u64> {
        let count = self.fill()?.min(most);
        self.input.consume(count);
        self.position += count as u64;
        Ok(count as u64)
    }

    fn read_full(&mut self, buffer: &mut [u8], place: &str) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => return Err(truncated(self.position, place)),
                count => filled += count,
            }
        }
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.fill()?.min(buffer.len());
        let position = self.position;
        let data = self.input.fill_buf().map_err(|error| unreadable(position, error))?;
        buffer[..count].copy_from_slice(&data[..count]);
        self.input.consume(count);
        self.position += count as u64;
        Ok(count)
    }

    /// How many bytes are there without waiting, after waiting for some; 0 at the end of the stream.
    fn fill(&mut self) -> Result<usize> {
        loop {
            match self.input.fill_buf() {
                Ok(data) => return Ok(data.len()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(self.position, error)),
            }
        }
    }
}

fn unreadable(position: u64, error: std::io::Error) -> Error {
    Error::from_io(error, ErrorKind::Io, format!("the tar cannot be read after {position} bytes"))
}

fn truncated(at: u64, place: &str) -> Error {
    Error::corrupt(format!("the tar is truncated: it ends {place}, after {at} bytes"))
}

fn damaged(at: u64, what: &str) -> Error {
    Error::corrupt(format!("the tar holds {what}, at byte {at}"))
}

fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn full_name(block: &Block) -> Vec<u8> {
    let (prefix, name) = (header::text(block, header::PREFIX), header::text(block, header::NAME));
    // Only POSIX ustar has a prefix; old GNU headers keep times there.
    if prefix.is_empty() || header::slice(block, header::MAGIC) != b"ustar\x0000" {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// A number from the pax records, or from the header.
fn field_number(block: &Block, meta: &Records, field: header::Field, key: &str, at: u64) -> Result<u64> {
    let value = match meta.get(key.as_bytes()) {
        Some(value) => std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
        None => header::number(block, field).and_then(|value| u64::try_from(value).ok()),
    };
    value.ok_or_else(|| damaged(at, &format!("a {key} that is no number")))
}

fn mtime(block: &Block, meta: &Records, at: u64) -> Result<(i64, u32)> {
    let wrong = || damaged(at, "an mtime that is no number");
    let Some(value) = meta.get(b"mtime".as_slice()) else {
        return Ok((header::number(block, header::MTIME).ok_or_else(wrong)?, 0));
    };
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().map_err(|_| wrong())?;
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// Reads `length key=value\n` records into `records`; an empty value takes a key away.
fn parse_records(mut content: &[u8], at: u64, records: &mut Records) -> Result<()> {
    let wrong = || damaged(at, "an extended header that is not a list of records");
    while !content.is_empty() {
        let blank = content.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let length = std::str::from_utf8(&content[..blank]).ok().and_then(|text| text.parse::<usize>().ok());
        let length =
            length.filter(|length| *length > blank + 1 && *length <= content.len()).ok_or_else(wrong)?;
        let body = content[blank + 1..length].strip_suffix(b"\n").ok_or_else(wrong)?;
        let equals = body.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        let (key, value) = (&body[..equals], &body[equals + 1..]);
        if value.is_empty() {
            records.remove(key);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
        content = &content[length..];
    }
    Ok(())
}

/// A name relative to the target directory, without `.` parts. Refuses everything that leads out of it.
fn clean(name: &[u8], at: u64) -> Result<PathBuf> {
    let refuse = || {
        damaged(
            at,
            &format!("the name {:?}, which leads out of the target directory", String::from_utf8_lossy(name)),
        )
    };
    if name.is_empty() || name.contains(&0) {
        return Err(damaged(at, "an entry without a valid name"));
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(refuse()),
        }
    }
    if path.as_os_str().is_empty() {
        path.push(".");
    }
    Ok(path)
}
