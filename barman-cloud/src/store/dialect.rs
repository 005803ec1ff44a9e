//! What a store has shown that it can do. S3's relatives differ, and only trying shows how; what was learned is
//! kept for as long as somebody uses the bucket, by all who share [`super::Connections`].

use super::{Inner, Store, StoreFeatures};
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Bodies below this are always signed: there is nothing to save.
pub(super) const LARGE: usize = 64 << 10;

/// How the bytes of a large body are protected on their way into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BodyCheck {
    /// By the SHA-256 in the signature. Every store checks it; it costs most.
    #[default]
    Signature,
    /// By a CRC-64/NVME in a signed header. The store was seen to refuse a body that does not match.
    Crc64Nvme,
    /// By TLS alone: the store takes unsigned bodies and checks no CRC-64.
    Transport,
    /// By a CRC-32C that goes along and is compared with what the store computed.
    Crc32c,
}

impl BodyCheck {
    /// One word for a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "Signature",
            Self::Crc64Nvme => "Crc64Nvme",
            Self::Transport => "Transport",
            Self::Crc32c => "Crc32c",
        }
    }
}

/// A client of the bucket that protects bodies in one way.
pub(super) struct Client {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) multipart: Arc<dyn MultipartStore>,
}

/// Clients for the ways that are cheaper than a signature; none where they cannot be used.
#[derive(Default)]
pub(super) struct Cheaper {
    pub(super) crc: Option<Client>,
    pub(super) transport: Option<Client>,
    /// The user wants no protection: the ordinary client does not sign bodies either.
    pub(super) unprotected: bool,
}

/// What was learned.
pub(super) struct Known {
    /// The store takes `If-None-Match` on writes.
    pub(super) conditional: AtomicBool,
    /// The store takes `If-Match` on writes.
    pub(super) replace: AtomicBool,
    /// The store deletes many objects in one request.
    pub(super) bulk_delete: AtomicBool,
    /// 0 as long as nobody has tried; else the check's number.
    body: AtomicU8,
    /// How Google Cloud Storage, or an emulator, takes large objects; 0 as long as nobody has asked.
    pub(super) uploads: AtomicU8,
    /// Held while somebody tries.
    pub(super) trying: tokio::sync::Mutex<()>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            conditional: AtomicBool::new(true),
            replace: AtomicBool::new(true),
            bulk_delete: AtomicBool::new(true),
            body: AtomicU8::new(0),
            uploads: AtomicU8::new(0),
            trying: tokio::sync::Mutex::default(),
        }
    }
}

impl Known {
    pub(super) fn body_check(&self) -> Option<BodyCheck> {
        match self.body.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(BodyCheck::Signature),
            2 => Some(BodyCheck::Crc64Nvme),
            _ => Some(BodyCheck::Transport),
        }
    }

    pub(super) fn learn_body_check(&self, check: BodyCheck) {
        let number = match check {
            // What protects a storage's bodies without being tried is not learned.
            BodyCheck::Signature | BodyCheck::Crc32c => 1,
            BodyCheck::Crc64Nvme => 2,
            BodyCheck::Transport => 3,
        };
        self.body.store(number, Ordering::Relaxed);
    }
}

impl Inner {
    /// The check for a body of a length, by what is known; an unknown store gets signatures.
    pub(super) fn body_check(&self, length: usize) -> BodyCheck {
        match self.known.body_check() {
            Some(check) if length >= LARGE => check,
            _ => BodyCheck::Signature,
        }
    }

    pub(super) fn objects_for(&self, check: BodyCheck) -> &Arc<dyn ObjectStore> {
        self.client_for(check).map_or(&self.objects, |client| &client.objects)
    }

    pub(super) fn multipart_for(&self, check: BodyCheck) -> &Arc<dyn MultipartStore> {
        self.client_for(check).map_or(&self.multipart, |client| &client.multipart)
    }

    pub(super) fn client_for(&self, check: BodyCheck) -> Option<&Client> {
        match check {
            BodyCheck::Signature | BodyCheck::Crc32c => None,
            BodyCheck::Crc64Nvme => self.cheaper.crc.as_ref(),
            BodyCheck::Transport => self.cheaper.transport.as_ref(),
        }
    }
}

#[cfg(test)]
impl Store {
    /// As if the store had refused to replace a version on condition.
    pub(crate) fn forget_replacing(&self) {
        self.inner.known.replace.store(false, Ordering::Relaxed);
    }
}

impl Store {
    /// What is known of the store so far; [`Store::probe`] finds out.
    pub fn features(&self) -> StoreFeatures {
        let known = &self.inner.known;
        StoreFeatures {
            conditional_writes: known.conditional.load(Ordering::Relaxed),
            bulk_delete: known.bulk_delete.load(Ordering::Relaxed),
            body_check: match (self.inner.own_check, self.inner.cheaper.unprotected) {
                (Some(own), _) => own,
                (None, true) => BodyCheck::Transport,
                (None, false) => known.body_check().unwrap_or_default(),
            },
        }
    }
}
