//! What a parser may do while it reads.

use barman_cloud::{Error, ErrorKind};
use peak_alloc::PeakAlloc;
use std::io::{self, BufRead, Read};
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One measurement at a time: the allocator counts for the whole process. The runner gives each test a process of its
/// own; with several tests in one, what the others allocate outside of their measurements counts too.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `parse` and checks that it did not allocate more than `bound` bytes at a time.
pub fn within<T>(bound: usize, parse: impl FnOnce() -> T) -> T {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let value = parse();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    assert!(peak <= bound, "{peak} bytes were allocated, at most {bound} are allowed");
    value
}

/// Checks that an error blames the input and says something.
pub fn refused(error: &Error) {
    assert!(
        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid),
        "{:?}: {}",
        error.kind(),
        error.report()
    );
    assert!(error.to_string().len() > 10 && !error.remedy().is_empty(), "{}", error.report());
}

/// A reader that gives small pieces, and fails the test when it is asked again and again after the end.
pub struct Patient<'a> {
    rest: &'a [u8],
    asked_in_vain: usize,
}

impl<'a> Patient<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, asked_in_vain: 0 }
    }
}

impl BufRead for Patient<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.asked_in_vain += 1;
            assert!(self.asked_in_vain < 1000, "the end is read for ever");
        }
        Ok(&self.rest[..self.rest.len().min(4093)])
    }

    fn consume(&mut self, amount: usize) {
        self.rest = &self.rest[amount..];
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let piece = self.fill_buf()?;
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}
