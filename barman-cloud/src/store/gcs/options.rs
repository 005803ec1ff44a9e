//! Settings of a store on Google Cloud Storage. Debug output shows no secret.

use crate::store::{Connections, Limits, Secret};
use std::fmt;

/// Whose requests these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcsCredentials {
    /// A service account's key, the text of the JSON file that Google gives.
    ServiceAccount(Secret),
    /// Whatever the pod's identity gives: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, else the metadata
    /// server (workload identity of the cluster, or the service account of the node).
    Inherit,
}

/// What is needed to reach a bucket of Google Cloud Storage.
#[derive(Clone, PartialEq, Eq)]
pub struct GcsOptions {
    /// Endpoint, with or without scheme (then https); `None` for Google's own.
    pub endpoint: Option<String>,
    /// Whose requests these are.
    pub credentials: GcsCredentials,
    /// PEM of certificate authorities trusted besides the public ones.
    pub ca_pem: Option<Vec<u8>>,
    /// Google Cloud Storage has no tags of objects: anything here is refused.
    pub tags: Vec<(String, String)>,
    /// The same for history files.
    pub history_tags: Vec<(String, String)>,
    /// Connections to share with other stores; a pool of its own by default.
    pub connections: Connections,
    /// Time limits and retries.
    pub limits: Limits,
}

impl GcsOptions {
    /// Options with a service account's key, and defaults for the rest.
    pub fn with_key(json: impl Into<Secret>) -> Self {
        Self::new(GcsCredentials::ServiceAccount(json.into()))
    }

    /// Options with these credentials and defaults for the rest.
    pub fn new(credentials: GcsCredentials) -> Self {
        Self {
            endpoint: None,
            credentials,
            ca_pem: None,
            tags: Vec::new(),
            history_tags: Vec::new(),
            connections: Connections::default(),
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for GcsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsOptions")
            .field("endpoint", &self.endpoint)
            .field("credentials", &self.credentials)
            .field("ca_pem", &self.ca_pem.as_ref().map(Vec::len))
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
