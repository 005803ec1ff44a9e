//! An object as `std::io::Read`, for codecs and tar on a blocking thread.

use super::ObjectStream;
use crate::buffered::read_buffered;
use crate::error::{Error, Result};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use std::io::{self, BufRead, Read};
use tokio::sync::mpsc;

/// Pieces in flight between the network and the reader. A piece is what the network gives at once, some 16 KiB to
/// a few hundred, so this bounds memory.
const PIECES: usize = 16;

/// Reads a stream from a thread that may block. Errors come out whole through [`Error::from_io`].
///
/// Made on a runtime: a task there reads ahead a little. Dropping the reader ends the task and the transfer.
pub struct BlockingReader {
    pieces: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
}

impl BlockingReader {
    /// Begins to read ahead.
    pub fn new(mut stream: ObjectStream) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            loop {
                let piece = tokio::select! {
                    piece = stream.next() => piece,
                    () = sender.closed() => return,
                };
                let Some(piece) = piece else { return };
                let failed = piece.is_err();
                if sender.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        Self { pieces, current: Bytes::new() }
    }
}

impl BufRead for BlockingReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.current = piece,
                Some(Err(error)) => return Err(Error::into_io(error)),
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl Read for BlockingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}
