//! Reads a file of the running server without disturbing its page cache.
//!
//! What was in the cache before stays; what this read brought in is given up again behind it. Which is which is
//! asked of the kernel before the first read, by reads that may not wait.

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes whose residency is asked about together.
const STRIDE: u64 = 1 << 20;

/// An open file and what of it was cached.
#[derive(Debug)]
pub struct Source {
    file: File,
    /// One bit a stride, set when it was not in the cache; empty when nothing must be given up.
    cold: Vec<bool>,
    /// Strides that are done with.
    passed: usize,
}

impl Source {
    /// Opens a regular file; `None` when it is not there, or is no longer a file.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32)
            .open(path);
        match opened {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(Self { file, cold: Vec::new(), passed: 0 })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Metadata of the open file.
    pub fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file.metadata()
    }

    /// Finds out what of the first `size` bytes is cached, and asks for read-ahead.
    pub fn prepare(&mut self, size: u64) {
        // A file may be read twice.
        self.passed = 0;
        // No read-ahead while probing, or the probes themselves would fill the cache.
        let quiet = fadvise(&self.file, 0, None, Advice::Random);
        if quiet.is_ok() {
            let strides = usize::try_from(size.div_ceil(STRIDE)).unwrap_or(0);
            self.cold = Vec::with_capacity(strides);
            for stride in 0..strides as u64 {
                let first = stride * STRIDE;
                let last = (first + STRIDE).min(size).saturating_sub(1);
                match (self.cached(first), self.cached(last)) {
                    (Some(first), Some(last)) => self.cold.push(!(first && last)),
                    _ => {
                        self.cold = Vec::new();
                        break;
                    }
                }
            }
        }
        // Only a hint; reading works without it.
        let _ = fadvise(&self.file, 0, None, Advice::Sequential);
    }

    /// Whether the byte is in the cache; `None` when the file system cannot say.
    fn cached(&self, offset: u64) -> Option<bool> {
        let mut byte = [0_u8; 1];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        match preadv2(&self.file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(_) => Some(true),
            Err(Errno::AGAIN) => Some(false),
            Err(_) => None,
        }
    }

    /// Fills the buffer from `offset`; less only at the end of the file.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Says that everything before `end` is done with: of the strides that lie before it, what was not cached
    /// before goes.
    pub fn done(&mut self, end: u64) {
        let whole = usize::try_from(end / STRIDE).unwrap_or(usize::MAX).min(self.cold.len());
        for stride in self.passed..whole {
            self.give_up(stride);
        }
        self.passed = self.passed.max(whole);
    }

    /// Says that the whole file is done with.
    pub fn finish(&mut self) {
        self.done(self.cold.len() as u64 * STRIDE);
    }

    fn give_up(&self, stride: usize) {
        if self.cold[stride] {
            // Only a hint.
            let _ = fadvise(&self.file, stride as u64 * STRIDE, NonZeroU64::new(STRIDE), Advice::DontNeed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_nothing_to_read() {
        let temp = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("link")).expect("a link");
        for name in ["missing", "link", "."] {
            assert!(Source::open(&temp.path().join(name)).expect("opens").is_none(), "{name}");
        }
    }

    #[test]
    fn reads_to_the_end_and_no_further() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("file");
        let content: Vec<u8> = (0..3_000_000_u32).map(|i| i as u8).collect();
        std::fs::write(&path, &content).expect("a file");
        let mut source = Source::open(&path).expect("opens").expect("is there");
        source.prepare(content.len() as u64);
        let mut buffer = vec![0; 2_000_000];
        assert_eq!(source.read_at(&mut buffer, 0).expect("reads"), 2_000_000);
        assert_eq!(buffer, content[..2_000_000]);
        assert_eq!(source.read_at(&mut buffer, 2_000_000).expect("reads"), 1_000_000);
        source.done(2_000_000);
        assert_eq!(source.passed, 1);
        source.finish();
        assert_eq!(source.passed, 3);
        assert_eq!(source.read_at(&mut buffer, 3_000_000).expect("reads"), 0);
    }
}
