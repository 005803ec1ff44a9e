//! A fixed number of equal buffers between the threads that compress and the tasks that upload.
//!
//! The pool is what bounds memory: a thread that wants a buffer waits until an upload has given one back. A
//! buffer travels as [`Bytes`] and returns by itself when the last clone of them is dropped, retries included.

use bytes::Bytes;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The pool was closed because the backup ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

struct State {
    free: Vec<Vec<u8>>,
    /// Buffers that may still be allocated.
    unmade: usize,
    closed: bool,
}

struct Shared {
    capacity: usize,
    state: Mutex<State>,
    returned: Condvar,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool; clones share it.
#[derive(Clone)]
pub struct BufferPool(Arc<Shared>);

/// A buffer taken out, empty at first.
pub struct PoolBuffer {
    data: Vec<u8>,
    home: Arc<Shared>,
}

impl BufferPool {
    /// `count` buffers of `capacity` bytes, allocated when first needed.
    pub fn new(count: usize, capacity: usize) -> Self {
        let state = State { free: Vec::with_capacity(count), unmade: count.max(1), closed: false };
        Self(Arc::new(Shared { capacity, state: Mutex::new(state), returned: Condvar::new() }))
    }

    /// Waits for a buffer; call it on a blocking thread only.
    pub fn take(&self) -> Result<PoolBuffer, Closed> {
        let mut state = self.0.lock();
        loop {
            if state.closed {
                return Err(Closed);
            }
            let data = match state.free.pop() {
                Some(data) => Some(data),
                None if state.unmade > 0 => {
                    state.unmade -= 1;
                    Some(Vec::with_capacity(self.0.capacity))
                }
                None => None,
            };
            if let Some(data) = data {
                return Ok(PoolBuffer { data, home: Arc::clone(&self.0) });
            }
            state = self.0.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends every wait, now and later.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.returned.notify_all();
    }
}

impl PoolBuffer {
    /// Lets `work` append to the content, up to the capacity that it is told.
    pub fn fill<T>(&mut self, work: impl FnOnce(&mut Vec<u8>, usize) -> T) -> T {
        let done = work(&mut self.data, self.home.capacity);
        debug_assert!(self.data.len() <= self.home.capacity);
        done
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.data.len() == self.home.capacity
    }

    /// The content, to be shared; the buffer goes home after the last clone.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PoolBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        self.home.lock().free.push(data);
        self.home.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_after_its_last_clone() {
        let pool = BufferPool::new(1, 4);
        let mut buffer = pool.take().expect("open");
        assert_eq!(buffer.fill(|data, room| (data.extend_from_slice(b"abcd"), room).1), 4);
        assert!(buffer.is_full());
        let bytes = buffer.freeze();
        let clone = bytes.clone();
        drop(bytes);
        let waiting = pool.clone();
        let thread = std::thread::spawn(move || waiting.take().map(|buffer| buffer.len()));
        assert_eq!(&clone[..], b"abcd");
        drop(clone);
        assert_eq!(thread.join().expect("joins"), Ok(0));
    }

    #[test]
    fn closing_ends_the_wait() {
        let pool = BufferPool::new(1, 4);
        let held = pool.take().expect("open");
        let waiting = pool.clone();
        let thread = std::thread::spawn(move || waiting.take().map(|_| ()));
        pool.close();
        assert_eq!(thread.join().expect("joins"), Err(Closed));
        drop(held);
    }
}
