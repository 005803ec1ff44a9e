//! Azure Blob Storage.
//!
//! The client library reads, lists and deletes; what is written is written here, because it goes with a CRC-64 that
//! Azure compares, and because tags of a large object are given when its blocks are committed.

mod blocks;
mod connection;
mod identity;
mod list;
mod objects;
mod options;
mod place;

pub use options::{AzureCredentials, AzureOptions};

use super::dialect::BodyCheck;
use super::identity::Environment;
use super::protocol::Protocol;
use super::raw::{Raw, Signer};
use super::tags::Tags;
use super::{Inner, Store, connect};
use crate::error::Result;
use crate::layout::Destination;
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::HttpClient;
use place::Place;
use std::fmt;
use std::sync::Arc;

/// A container. Cheap to clone.
#[derive(Clone)]
pub(super) struct Azure {
    /// The client library's.
    client: MicrosoftAzure,
    /// Requests of our own, below the container's URL.
    raw: Raw,
    tags: Tags,
    /// The destination's path in the container.
    prefix: String,
    /// Whether several blobs are deleted with one request.
    batches: bool,
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure").field("container", &self.raw.base).finish_non_exhaustive()
    }
}

impl fmt::Display for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw.base)
    }
}

impl Store {
    /// A store on Azure Blob Storage. Makes no request.
    ///
    /// With [`AzureCredentials::Inherit`] the usual variables of the pod are read (`AZURE_FEDERATED_TOKEN_FILE`,
    /// `AZURE_CLIENT_ID`, `AZURE_TENANT_ID`, `AZURE_AUTHORITY_HOST`, `IDENTITY_ENDPOINT`); keys are never read from
    /// the environment.
    pub fn azure(destination: &Destination, options: &AzureOptions) -> Result<Self> {
        azure_in(destination, options, &|variable| std::env::var(variable).ok())
    }
}

pub(super) fn azure_in(
    destination: &Destination,
    options: &AzureOptions,
    environment: Environment<'_>,
) -> Result<Store> {
    let Place { account, endpoint, keys } = place::place(destination, options)?;
    let tags = Tags::new(&options.tags, &options.history_tags)?;
    let shared = options.connections.transport(&options.ca_pem, &None, &options.limits)?;
    let throttled = shared.throttled();
    let transport = shared.speaking(Protocol::Azure);
    let builder = MicrosoftAzureBuilder::new()
        .with_account(&account)
        .with_container_name(destination.bucket())
        .with_endpoint(endpoint.clone())
        .with_allow_http(true)
        .with_http_connector(transport.clone())
        .with_retry(connect::retry_config(&options.limits));
    let credentials = identity::credentials(builder.clone(), &keys, environment)?;
    let client = builder
        .with_credentials(credentials.clone())
        .build()
        .map_err(|error| connect::unusable(destination, error))?;
    let container = format!("{endpoint}/{}", destination.bucket());
    let azure = Azure {
        client,
        raw: Raw {
            client: HttpClient::new(transport),
            signer: Signer::Azure { credentials, account },
            base: container.clone(),
            encryption: Vec::new(),
            limits: options.limits.clone(),
        },
        tags: tags.clone(),
        prefix: destination.prefix().to_owned(),
        batches: true,
    };
    let singles = Azure { batches: false, ..azure.clone() };
    let backend = Arc::new(azure);
    let mut made = Inner::new(backend.clone(), backend.clone(), Some(backend.clone()), destination);
    made.singles = Arc::new(singles);
    made.pending = Some(backend);
    made.known = options.connections.known(&container);
    made.own_check = Some(BodyCheck::Crc64Nvme);
    made.tags = tags;
    made.throttled = throttled;
    made.limits = options.limits.clone();
    Ok(Store { inner: Arc::new(made), cipher: None })
}
