//! Google Cloud Storage.
//!
//! Objects are written, listed, deleted and composed by the JSON API, and read by the XML API of the client library:
//! both are at the same endpoint, and emulators have these parts of each. Large objects go up in parts by the XML
//! API; a store without that (an emulator) gets the parts as objects and composes them (see [`compose`]). Version
//! marks of objects are their generations.

mod compose;
mod identity;
mod list;
mod objects;
mod options;
#[cfg(test)]
mod tests;
mod uploads;

pub use options::{GcsCredentials, GcsOptions};

use super::dialect::{BodyCheck, Known};
use super::identity::Environment;
use super::protocol::Protocol;
use super::raw::{Raw, Signer, encoded};
use super::{Inner, Store, connect};
use crate::error::{Error, Result};
use crate::layout::{Destination, Storage, normalise_endpoint};
use object_store::client::HttpClient;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const PUBLIC: &str = "https://storage.googleapis.com";

/// The two APIs of a bucket. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gcs(Arc<Api>);

struct Api {
    /// The client library's, for what it does by the XML API.
    xml: GoogleCloudStorage,
    /// Requests of our own, below the endpoint.
    raw: Raw,
    /// The bucket's name, as it is in URLs.
    bucket: String,
    /// The destination's path in the bucket.
    prefix: String,
    known: Arc<Known>,
}

impl Gcs {
    /// Path of the bucket's objects in the JSON API.
    fn objects(&self) -> String {
        format!("/storage/v1/b/{}/o", self.0.bucket)
    }

    /// Path of an object in the JSON API.
    fn object(&self, key: &str) -> String {
        format!("{}/{}", self.objects(), encoded(key))
    }
}

impl fmt::Debug for Gcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gcs").field("bucket", &self.0.bucket).finish_non_exhaustive()
    }
}

impl fmt::Display for Gcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gs://{}", self.0.bucket)
    }
}

impl Store {
    /// A store on Google Cloud Storage. Makes no request.
    ///
    /// With [`GcsCredentials::Inherit`] the usual variables of the pod are read (`GOOGLE_APPLICATION_CREDENTIALS`,
    /// `GCE_METADATA_HOST`); keys are never read from the environment.
    pub fn gcs(destination: &Destination, options: &GcsOptions) -> Result<Self> {
        gcs_in(destination, options, &|variable| std::env::var(variable).ok())
    }
}

pub(super) fn gcs_in(
    destination: &Destination,
    options: &GcsOptions,
    environment: Environment<'_>,
) -> Result<Store> {
    if *destination.storage() != Storage::Gcs {
        return Err(connect::another_storage(destination, "gs://bucket/path"));
    }
    if !options.tags.is_empty() || !options.history_tags.is_empty() {
        return Err(Error::invalid(format!("{destination} cannot have tags: Google Cloud Storage has none"))
            .with_remedy("remove tags and historyTags, or label the bucket instead"));
    }
    let endpoint = match &options.endpoint {
        Some(endpoint) => normalise_endpoint(endpoint)?,
        None => PUBLIC.to_owned(),
    };
    let authority = endpoint.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default().to_owned();
    let shared = options.connections.transport(&options.ca_pem, &None, &options.limits)?;
    let throttled = shared.throttled();
    let transport = shared.speaking(Protocol::Gcs { authority });
    let client = HttpClient::new(transport.clone());
    let credentials = identity::credentials(options, &client, environment)?;
    let xml = GoogleCloudStorageBuilder::new()
        .with_bucket_name(destination.bucket())
        .with_base_url(&endpoint)
        .with_http_connector(transport)
        .with_retry(connect::retry_config(&options.limits))
        .with_credentials(credentials.clone())
        .build()
        .map_err(|error| connect::unusable(destination, error))?;
    let known = options.connections.known(&format!("{endpoint}/{}", destination.bucket()));
    // Each deletion is a request of its own.
    known.bulk_delete.store(false, Ordering::Relaxed);
    let gcs = Gcs(Arc::new(Api {
        xml,
        raw: Raw {
            client,
            signer: Signer::Gcs { credentials },
            base: endpoint,
            encryption: Vec::new(),
            limits: options.limits.clone(),
        },
        bucket: encoded(destination.bucket()),
        prefix: destination.prefix().to_owned(),
        known: known.clone(),
    }));
    let backend = Arc::new(gcs);
    let mut made = Inner::new(backend.clone(), backend.clone(), Some(backend.clone()), destination);
    made.pending = Some(backend);
    made.known = known;
    made.own_check = Some(BodyCheck::Crc32c);
    made.throttled = throttled;
    made.limits = options.limits.clone();
    Ok(Store { inner: Arc::new(made), cipher: None })
}
