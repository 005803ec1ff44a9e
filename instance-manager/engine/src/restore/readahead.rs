//! Decompression on a thread of its own, a few buffers ahead of the thread that writes: for a part that is alone
//! while cores are idle.

use barman_cloud::buffered::read_buffered;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio_util::task::TaskTracker;

/// Bytes of a buffer: few wake-ups, and still in the cache when it is written.
const BUFFER: usize = 512 << 10;
/// Buffers of one part; with the two that the threads hold this bounds its memory.
const BUFFERS: usize = 4;

type Filled = io::Result<Vec<u8>>;

/// What another thread reads from `R`. Dropping it ends that thread at its next buffer.
pub struct ReadAhead {
    full: Receiver<Filled>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

impl ReadAhead {
    /// Begins to read. Call it within a runtime.
    pub fn start(input: impl Read + Send + 'static, threads: &TaskTracker) -> Self {
        let (full_sender, full) = sync_channel(BUFFERS);
        let (empty, empty_receiver) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for all of them, and both ends live.
            let _ = empty.send(Vec::new());
        }
        threads.spawn_blocking(move || read_all(input, &full_sender, &empty_receiver));
        Self { full, empty, current: Vec::new(), position: 0 }
    }
}

fn read_all(mut input: impl Read, full: &SyncSender<Filled>, empty: &Receiver<Vec<u8>>) {
    while let Ok(mut buffer) = empty.recv() {
        buffer.resize(BUFFER, 0);
        let filled = fill(&mut input, &mut buffer);
        let ends = !matches!(&filled, Ok(BUFFER));
        let message = filled.map(|count| {
            buffer.truncate(count);
            buffer
        });
        if full.send(message).is_err() || ends {
            return;
        }
    }
}

/// Reads until the buffer is full or the input ends. An error that follows bytes is met again by the next read.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            let next = match self.full.recv() {
                Ok(next) => next?,
                // The thread ended after the last buffer.
                Err(_) => Vec::new(),
            };
            self.position = 0;
            // Nobody takes it any more when the thread has ended.
            let _ = self.empty.try_send(std::mem::replace(&mut self.current, next));
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position = (self.position + amount).min(self.current.len());
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives bytes in small pieces, and then fails or ends.
    struct Pieces {
        left: usize,
        fails: bool,
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fails {
                return Err(io::Error::other("the cable"));
            }
            let count = buffer.len().min(self.left).min(10_007);
            for (index, byte) in buffer[..count].iter_mut().enumerate() {
                *byte = (self.left - index) as u8;
            }
            self.left -= count;
            Ok(count)
        }
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_so_does_an_error() {
        const SIZE: usize = BUFFER * (BUFFERS + 3) + 17;
        for fails in [false, true] {
            let threads = TaskTracker::new();
            let mut ahead = ReadAhead::start(Pieces { left: SIZE, fails }, &threads);
            let read = tokio::task::spawn_blocking(move || {
                let mut out = Vec::new();
                let end = ahead.read_to_end(&mut out).map(|_| ());
                (out, end)
            });
            let (out, end) = read.await.expect("a thread");
            if fails {
                assert_eq!(end.expect_err("fails").to_string(), "the cable");
                assert_eq!(out.len(), SIZE / BUFFER * BUFFER, "whole buffers arrive before the error");
            } else {
                end.expect("ends");
                assert_eq!(out.len(), SIZE);
            }
            assert!(out.iter().enumerate().all(|(index, byte)| *byte == (SIZE - index) as u8));
            threads.close();
            threads.wait().await;
        }
    }

    #[tokio::test]
    async fn a_dropped_reader_ends_the_thread() {
        let threads = TaskTracker::new();
        let ahead = ReadAhead::start(std::io::repeat(7), &threads);
        drop(ahead);
        threads.close();
        threads.wait().await;
    }
}
