//! Bodies that something happens to on the way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::gate::{ReplyBody, StdError};

pub(crate) fn cut() -> StdError {
    Box::new(io::Error::new(io::ErrorKind::ConnectionReset, "a fault rule cut the connection"))
}

/// What happens.
pub(crate) enum Tamper {
    /// The connection is cut; the flag tells whether it came to that.
    Cut(Arc<AtomicBool>),
    /// Nothing moves for a while.
    Stall(Duration),
    /// One byte changes.
    Flip,
    /// From here on small pieces, with a pause before each.
    Drip {
        piece: u64,
        pause: Duration,
    },
    Done,
}

/// A body that something happens to at one offset.
pub(crate) struct Tampered {
    inner: ReplyBody,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Bytes still to go before it happens.
    left: u64,
    tamper: Tamper,
    /// What follows the bytes before the offset.
    rest: Option<Bytes>,
    /// The body ends with an error once the pause is over.
    cutting: bool,
}

impl Tampered {
    pub fn new(inner: ReplyBody, at: u64, tamper: Tamper) -> Self {
        Self { inner, sleep: None, left: at, tamper, rest: None, cutting: false }
    }

    /// Handles the bytes from the offset on.
    fn happen(&mut self, rest: Bytes) {
        match std::mem::replace(&mut self.tamper, Tamper::Done) {
            Tamper::Cut(tripped) => {
                tripped.store(true, Ordering::Release);
                // What came before is written to the wire only while this body has nothing to give.
                self.sleep = Some(Box::pin(tokio::time::sleep(Duration::from_millis(20))));
                self.cutting = true;
            }
            Tamper::Stall(delay) => {
                self.sleep = Some(Box::pin(tokio::time::sleep(delay)));
                self.rest = Some(rest);
            }
            Tamper::Flip => {
                let mut changed = rest.to_vec();
                if let Some(first) = changed.first_mut() {
                    *first ^= 0xFF;
                }
                self.rest = Some(changed.into());
            }
            Tamper::Drip { piece, pause } => {
                self.sleep = Some(Box::pin(tokio::time::sleep(pause)));
                self.rest = Some(rest);
                self.left = piece.max(1);
                self.tamper = Tamper::Drip { piece, pause };
            }
            Tamper::Done => self.rest = Some(rest),
        }
    }
}

impl Body for Tampered {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            if self.cutting {
                return Poll::Ready(Some(Err(cut())));
            }
            let mut data = match self.rest.take() {
                // Anything but dripping happens once: what follows passes.
                Some(rest) => rest,
                None => {
                    match ready!(Pin::new(&mut self.inner).poll_frame(cx)).map(|f| f.map(Frame::into_data)) {
                        None => return Poll::Ready(None),
                        Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                        Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                        Some(Ok(Ok(data))) => data,
                    }
                }
            };
            let length = data.len() as u64;
            if matches!(self.tamper, Tamper::Done) || length <= self.left {
                self.left = self.left.saturating_sub(length);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            // `left` is less than the chunk's length, so it is a usize.
            let before = data.split_to(self.left as usize);
            self.left = 0;
            self.happen(data);
            if !before.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(before))));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        if let Some(exact) = self.inner.size_hint().exact() {
            hint.set_exact(exact + self.rest.as_ref().map_or(0, |rest| rest.len() as u64));
        }
        hint
    }
}
