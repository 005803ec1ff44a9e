//! How far a verification is, readable from any thread at any time.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counters of one verification.
#[derive(Debug, Default)]
pub struct VerifyProgress {
    read: AtomicU64,
    total: AtomicU64,
    segments: AtomicU64,
    doing: Mutex<String>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyCounts {
    /// What is looked at.
    pub doing: String,
    /// Stored bytes of parts read.
    pub bytes_done: u64,
    /// Stored bytes of parts to read, as far as known.
    pub bytes_total: u64,
    /// WAL segments read.
    pub segments: u64,
}

impl VerifyProgress {
    /// The counters now.
    pub fn counts(&self) -> VerifyCounts {
        VerifyCounts {
            doing: self.doing.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_done: self.read.load(Ordering::Relaxed),
            bytes_total: self.total.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
        }
    }

    pub(super) fn begin(&self, doing: impl Into<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing.into();
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_segment(&self) {
        self.segments.fetch_add(1, Ordering::Relaxed);
    }
}
