//! OpenAPI: what clients explain and validate with.

mod proto;
pub mod v2;
pub mod v3;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Documents made once and kept until the served resources change.
#[derive(Default)]
pub struct Documents(Mutex<HashMap<String, Arc<Document>>>);

/// One document.
pub struct Document {
    /// The document.
    pub body: Bytes,
    /// Its hash, for `ETag` and `hash=`.
    pub hash: String,
}

impl Documents {
    /// A document, made when it is not kept.
    pub fn get(&self, key: &str, make: impl FnOnce() -> Vec<u8>) -> Arc<Document> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        found.unwrap_or_else(|| {
            let body = Bytes::from(make());
            let hash = hex::encode_upper(Sha256::digest(&body));
            let document = Arc::new(Document { body, hash });
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), document.clone());
            document
        })
    }

    /// The served resources changed.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
