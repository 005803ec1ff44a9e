//! Writing tar.

use super::header::{self, Block};
use super::{BLOCK, Entry, EntryKind, RECORD};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of zeros that follow content of this size, up to the next block.
pub fn padding(size: u64) -> usize {
    let rest = (size % BLOCK as u64) as usize;
    if rest == 0 { 0 } else { BLOCK - rest }
}

/// Appends the header of an entry to `out`: one block, or a pax header and one block.
pub fn encode_header(entry: &Entry, out: &mut Vec<u8>) {
    let mut block: Block = [0; BLOCK];
    let mut pax = Vec::new();

    let mut name = entry.path.as_os_str().as_bytes().to_vec();
    if entry.kind == EntryKind::Directory && !name.ends_with(b"/") {
        name.push(b'/');
    }
    if !put_name(&mut block, &name) {
        record(&mut pax, "path", &name);
        // What a reader without pax would see; cut, but never outside of the field.
        header::put(&mut block, header::NAME, &name[..name.len().min(header::NAME.1)]);
    }
    let (kind, link) = match &entry.kind {
        EntryKind::File => (b'0', None),
        EntryKind::Hardlink { target } => (b'1', Some(target)),
        EntryKind::Symlink { target } => (b'2', Some(target)),
        EntryKind::Directory => (b'5', None),
        EntryKind::Fifo => (b'6', None),
    };
    block[header::TYPE] = kind;
    if let Some(target) = link {
        put_link(&mut block, &mut pax, target);
    }
    header::put_octal(&mut block, header::MODE, u64::from(entry.mode & 0o7777));
    number(&mut block, &mut pax, header::UID, "uid", entry.uid);
    number(&mut block, &mut pax, header::GID, "gid", entry.gid);
    let size = if entry.kind == EntryKind::File { entry.size } else { 0 };
    number(&mut block, &mut pax, header::SIZE, "size", size);
    put_mtime(&mut block, &mut pax, entry);
    header::put(&mut block, header::MAGIC, b"ustar\x0000");
    put_owner(&mut block, &mut pax, header::UNAME, "uname", &entry.uname);
    put_owner(&mut block, &mut pax, header::GNAME, "gname", &entry.gname);
    header::seal(&mut block);

    if !pax.is_empty() {
        write_pax(&pax, out);
    }
    out.extend_from_slice(&block);
}

/// ustar splits a long name at a slash: up to 155 bytes before it and 100 after.
fn put_name(block: &mut Block, name: &[u8]) -> bool {
    // Names that are not UTF-8 go into ustar as they are; readers take the bytes.
    if header::put(block, header::NAME, name) {
        return true;
    }
    let least = name.len().saturating_sub(header::NAME.1 + 1);
    let split = name
        .iter()
        .enumerate()
        .skip(least.max(1))
        .take_while(|(index, _)| *index <= header::PREFIX.1)
        // A slash at the very end belongs to the name of a directory.
        .find(|(index, byte)| **byte == b'/' && index + 1 < name.len());
    let Some((at, _)) = split else { return false };
    header::put(block, header::PREFIX, &name[..at]) && header::put(block, header::NAME, &name[at + 1..])
}

fn put_link(block: &mut Block, pax: &mut Vec<u8>, target: &Path) {
    let bytes = target.as_os_str().as_bytes();
    if !header::put(block, header::LINK, bytes) {
        record(pax, "linkpath", bytes);
        header::put(block, header::LINK, &bytes[..header::LINK.1]);
    }
}

fn put_owner(block: &mut Block, pax: &mut Vec<u8>, field: header::Field, key: &str, name: &str) {
    // The last byte stays NUL.
    if name.len() >= field.1 || !header::put(block, field, name.as_bytes()) {
        record(pax, key, name.as_bytes());
    }
}

fn number(block: &mut Block, pax: &mut Vec<u8>, field: header::Field, key: &str, value: u64) {
    if !header::put_octal(block, field, value) {
        record(pax, key, value.to_string().as_bytes());
        header::put_octal(block, field, 0);
    }
}

fn put_mtime(block: &mut Block, pax: &mut Vec<u8>, entry: &Entry) {
    let whole = u64::try_from(entry.mtime).ok().filter(|time| header::put_octal(block, header::MTIME, *time));
    if whole.is_none() {
        header::put_octal(block, header::MTIME, 0);
    }
    if whole.is_none() || entry.mtime_nanos != 0 {
        record(pax, "mtime", decimal_time(entry.mtime, entry.mtime_nanos).as_bytes());
    }
}

/// Seconds and nanoseconds as a decimal; before 1970 the fraction counts the other way.
fn decimal_time(seconds: i64, nanos: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (sign, value) = if total < 0 { ("-", -total) } else { ("", total) };
    let text = format!("{sign}{}.{:09}", value / 1_000_000_000, value % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One pax record: its own length in decimal, a blank, `key=value`, a newline.
fn record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    if pax.is_empty() && std::str::from_utf8(value).is_err() {
        record(pax, "hdrcharset", b"BINARY");
    }
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(format!("{length} {key}=").as_bytes());
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn write_pax(pax: &[u8], out: &mut Vec<u8>) {
    let mut block: Block = [0; BLOCK];
    header::put(&mut block, header::NAME, b"././@PaxHeader");
    header::put_octal(&mut block, header::MODE, 0);
    header::put_octal(&mut block, header::UID, 0);
    header::put_octal(&mut block, header::GID, 0);
    header::put_octal(&mut block, header::SIZE, pax.len() as u64);
    header::put_octal(&mut block, header::MTIME, 0);
    header::put(&mut block, header::MAGIC, b"ustar\x0000");
    block[header::TYPE] = b'x';
    header::seal(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(pax);
    out.resize(out.len() + padding(pax.len() as u64), 0);
}

const ZEROS: [u8; 8192] = [0; 8192];

/// Writes a tar to a stream.
///
/// Files of a running server change while they are read. The header promises a size, so content is cut at it, and
/// padded with zeros up to it: PostgreSQL's recovery rewrites such pages from the WAL.
pub struct TarWriter<W: Write> {
    out: W,
    header: Vec<u8>,
    /// Content still promised by the last header.
    open: u64,
    /// Size of the entry under way, for the padding of its last block.
    size: u64,
    written: u64,
}

impl<W: Write> TarWriter<W> {
    /// A tar into `out`.
    pub fn new(out: W) -> Self {
        Self { out, header: Vec::with_capacity(3 * BLOCK), open: 0, size: 0, written: 0 }
    }

    /// Begins an entry; what the one before still owes is filled with zeros.
    pub fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.end()?;
        self.header.clear();
        encode_header(entry, &mut self.header);
        self.out.write_all(&self.header)?;
        self.written += self.header.len() as u64;
        self.size = if entry.kind == EntryKind::File { entry.size } else { 0 };
        self.open = self.size;
        Ok(())
    }

    /// Content of the entry under way. Gives the bytes taken; the rest is beyond the promised size.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = usize::try_from(self.open).unwrap_or(usize::MAX).min(bytes.len());
        self.out.write_all(&bytes[..take])?;
        self.open -= take as u64;
        self.written += take as u64;
        Ok(take)
    }

    /// Ends the entry under way; gives the bytes of content that had to be filled with zeros.
    pub fn end(&mut self) -> io::Result<u64> {
        let missing = self.open;
        let mut zeros = missing + padding(self.size) as u64;
        self.written += zeros;
        while zeros > 0 {
            let count = zeros.min(ZEROS.len() as u64) as usize;
            self.out.write_all(&ZEROS[..count])?;
            zeros -= count as u64;
        }
        self.open = 0;
        self.size = 0;
        Ok(missing)
    }

    /// A whole entry with its content; gives the bytes that had to be filled with zeros.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<u64> {
        self.begin(entry)?;
        let mut buffer = vec![0; 64 << 10];
        while self.open > 0 {
            let want = usize::try_from(self.open).unwrap_or(usize::MAX).min(buffer.len());
            match content.read(&mut buffer[..want]) {
                Ok(0) => break,
                Ok(count) => {
                    self.data(&buffer[..count])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.end()
    }

    /// Bytes of tar so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The stream below.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// Writes the end, padded to a record, and gives the stream back.
    pub fn finish(mut self) -> io::Result<W> {
        self.end()?;
        let end = self.written + 2 * BLOCK as u64;
        let padded = end.div_ceil(RECORD as u64) * RECORD as u64;
        let mut zeros = padded - self.written;
        while zeros > 0 {
            let count = zeros.min(ZEROS.len() as u64) as usize;
            self.out.write_all(&ZEROS[..count])?;
            zeros -= count as u64;
        }
        Ok(self.out)
    }
}
