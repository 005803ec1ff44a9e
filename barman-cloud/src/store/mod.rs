//! A repository's place in a bucket, and the operations on it.
//!
//! [`Store`] is what the rest of the library uses: keys are relative to the destination path, errors name the
//! object by URL and carry a kind, requests are retried with growing pauses, reads go on where a connection broke,
//! and a write that must not replace anything works on stores with and without conditional writes.

mod address;
mod answer;
mod azure;
pub mod blocking;
mod cipher;
mod classify;
mod codes;
mod codes_azure;
mod codes_gcs;
mod conformance;
mod connect;
mod connections;
mod delete;
mod dialect;
pub mod dns;
#[cfg(test)]
mod double;
mod findings;
mod gcs;
mod identity;
#[cfg(test)]
mod identity_tests;
mod list;
mod options;
mod pending;
mod probe;
mod protocol;
mod raw;
mod read;
#[cfg(test)]
mod refusal_tests;
mod tags;
mod tls;
mod transport;
mod upload;
mod write;

pub use azure::{AzureCredentials, AzureOptions};
pub use cipher::{
    Cipher, CipherMode, KeyRotation, Keyring, MIN_ITERATIONS, RepositoryCipher, Sealed, Sealer,
};
pub use connections::Connections;
pub use delete::Undeleted;
pub use dialect::BodyCheck;
pub use findings::{Finding, Outcome, Probed};
pub use gcs::{GcsCredentials, GcsOptions};
pub use list::Listing;
pub use options::{ClientCertificate, Credentials, Encryption, Limits, S3Options, Secret, UriStyle};
pub use pending::PendingUpload;
pub use probe::StoreFeatures;
pub use read::ObjectStream;
pub use tls::client_config;
pub use upload::{MAX_OBJECT, MAX_PARTS, MIN_PART, PartId, Upload, part_size};

use crate::error::{Error, Result};
use crate::layout::Storage;
use chrono::{DateTime, Utc};
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An object as a listing or a look shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Key relative to the destination path.
    pub key: String,
    /// Stored bytes: of an encrypted object, those of its ciphertext.
    pub size: u64,
    /// When the store took it.
    pub last_modified: DateTime<Utc>,
    /// Version mark, when the store gives one.
    pub etag: Option<String>,
}

impl ObjectInfo {
    /// The part of the key after the last slash.
    pub fn file_name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or(&self.key)
    }
}

/// What became of a write that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is new.
    Yes,
    /// Something was there already; it was left alone.
    Exists,
}

/// What became of a write in place of one version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// The object is the new one.
    Yes,
    /// It is another version by now, or gone; it was left alone.
    Changed,
}

/// A destination path in a bucket. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Encrypts bodies before they leave.
    cipher: Option<Cipher>,
}

struct Inner {
    objects: Arc<dyn ObjectStore>,
    /// The same, but deletes with one request an object.
    singles: Arc<dyn ObjectStore>,
    multipart: Arc<dyn MultipartStore>,
    /// Raw prefix listing, where the backend has it.
    pages: Option<Arc<dyn PaginatedListStore>>,
    /// For requests to S3 that the client library lacks.
    raw: Option<raw::Raw>,
    /// Pending uploads, where the storage has a list of its own.
    pending: Option<Arc<dyn pending::Pending>>,
    /// How this storage protects bodies, where nothing has to be tried out.
    own_check: Option<BodyCheck>,
    /// Clients that protect large bodies at less cost.
    cheaper: dialect::Cheaper,
    storage: Storage,
    url: String,
    prefix: String,
    tags: tags::Tags,
    limits: Limits,
    /// What was learned by trying.
    known: Arc<dialect::Known>,
    /// Answers that asked for fewer requests.
    throttled: Arc<AtomicU64>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("url", &self.inner.url).finish_non_exhaustive()
    }
}

impl Store {
    /// The destination as a URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The URL of an object, for messages.
    pub fn url_of(&self, key: &str) -> String {
        format!("{}/{key}", self.inner.url)
    }

    /// Time limits and retries in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// How often the store asked for fewer requests so far, whether a retry succeeded or not.
    pub fn throttled(&self) -> u64 {
        self.inner.throttled.load(Ordering::Relaxed)
    }

    /// Full path of a key in the bucket.
    fn path(&self, key: &str) -> Result<Path> {
        let full = if self.inner.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.inner.prefix)
        };
        Path::parse(full).map_err(|error| {
            Error::invalid(format!("{key:?} cannot be the key of an object")).with_source(error)
        })
    }

    /// A listed object with its key made relative; `None` for what is not under the destination.
    fn info(&self, meta: ObjectMeta) -> Option<ObjectInfo> {
        let key = self.relative(meta.location.as_ref())?.to_owned();
        Some(ObjectInfo { key, size: meta.size, last_modified: meta.last_modified, etag: meta.e_tag })
    }

    fn relative<'a>(&self, full: &'a str) -> Option<&'a str> {
        if self.inner.prefix.is_empty() {
            return Some(full);
        }
        full.strip_prefix(self.inner.prefix.as_str())?.strip_prefix('/')
    }

    fn error(&self, doing: &str, key: &str, error: object_store::Error) -> Error {
        classify::classify(doing, &self.url_of(key), error)
    }

    /// Tries again, with growing and jittered pauses, while the failure may pass. The client below already
    /// retries what is safe to send twice; this is for the rest.
    async fn retrying<T, F, Fut>(&self, mut call: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let limits = &self.inner.limits;
        let begin = tokio::time::Instant::now();
        let mut pause = limits.backoff_first;
        for _ in 0..limits.retries {
            match call().await {
                Err(error) if error.is_transient() && begin.elapsed() < limits.retry_for => {
                    tracing::debug!(error = %error, "trying again");
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                    pause = (pause * 2).min(limits.backoff_max);
                }
                other => return other,
            }
        }
        call().await
    }
}
