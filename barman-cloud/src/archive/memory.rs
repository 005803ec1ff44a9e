//! Memory of the files that are being archived: a budget, and buffers that are used again.

use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits of a semaphore count in this.
const UNIT: u64 = 1 << 16;

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Bytes that may be held at a time.
pub struct Budget {
    free: Arc<Semaphore>,
    all: u32,
}

/// A share of a budget; it goes back when dropped.
pub struct Share(Option<OwnedSemaphorePermit>);

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let all = units(bytes).max(1);
        Self { free: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits for a share; more than there is at all means all of it. Who asks first is served first.
    pub async fn take(&self, bytes: u64) -> Share {
        // The semaphore is never closed.
        Share(Arc::clone(&self.free).acquire_many_owned(units(bytes).min(self.all)).await.ok())
    }
}

impl Share {
    /// Keeps what `bytes` need and gives back the rest.
    pub fn shrink(&mut self, bytes: u64) {
        let Some(held) = &mut self.0 else { return };
        let keep = units(bytes) as usize;
        drop(held.split(held.num_permits().saturating_sub(keep)));
    }
}

#[derive(Default)]
struct Shelf {
    free: Vec<Vec<u8>>,
    out: usize,
}

/// Buffers that are used again while any of them is in use; the last one that comes back ends them all, so that
/// an idle process holds none.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Shelf>>);

/// A buffer; it goes back when it, or the last clone of its content, is dropped.
pub struct Buffer {
    data: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Buffer {
        let mut shelf = self.shelf();
        shelf.out += 1;
        let mut data = shelf.free.pop().unwrap_or_default();
        drop(shelf);
        data.reserve(capacity);
        Buffer { data, home: self.clone() }
    }
}

impl Buffer {
    /// The bytes, to be filled.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// The content, to be shared.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        let mut shelf = self.home.shelf();
        shelf.out -= 1;
        if shelf.out == 0 {
            shelf.free = Vec::new();
        } else {
            shelf.free.push(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_until_none_is_in_use() {
        let buffers = Buffers::default();
        let first = buffers.take(1000);
        let second = buffers.take(10);
        let content = second.freeze();
        let clone = content.clone();
        drop((first, content));
        assert!(buffers.take(10).bytes().capacity() >= 1000);
        drop(clone);
        assert_eq!(buffers.shelf().free.len(), 0);
    }

    #[tokio::test]
    async fn a_share_gives_back_what_it_does_not_need() {
        let budget = Budget::new(10 * UNIT);
        let mut share = budget.take(100 * UNIT).await;
        assert_eq!(budget.free.available_permits(), 0);
        share.shrink(UNIT + 1);
        assert_eq!(budget.free.available_permits(), 8);
        drop(share);
        assert_eq!(budget.free.available_permits(), 10);
    }
}
