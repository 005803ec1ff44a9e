//! Tokens for Google Cloud Storage: by a service account's key, or from the metadata server of the node.

use super::{GcsCredentials, GcsOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::store::identity::{Environment, Kept, Named};
use crate::store::raw::{Raw, RawRequest, Signer};
use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use object_store::client::{CredentialProvider, HttpClient};
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

const METADATA_HOST: &str = "metadata.google.internal";
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const CLOUD_KEY: &str = "put the JSON key of a service account into the Secret, whole and unchanged \
                         (gcloud iam service-accounts keys create)";

pub(super) fn credentials(
    options: &GcsOptions,
    client: &HttpClient,
    environment: Environment<'_>,
) -> Result<GcpCredentialProvider> {
    match &options.credentials {
        GcsCredentials::ServiceAccount(json) => by_key(json.expose(), "the service account key"),
        GcsCredentials::Inherit => match environment("GOOGLE_APPLICATION_CREDENTIALS") {
            Some(file) => {
                let json = std::fs::read_to_string(&file)
                    .map_err(|error| Error::io(format!("reading {file}"), error))?;
                by_key(&json, &format!("{file} (GOOGLE_APPLICATION_CREDENTIALS)"))
            }
            None => Ok(by_metadata(options, client, environment)),
        },
    }
}

#[derive(Deserialize)]
struct KeyFile {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
}

fn by_key(json: &str, what: &str) -> Result<GcpCredentialProvider> {
    // Its text is in no error: it is the key.
    let wrong =
        |text: &str| Error::new(ErrorKind::Credentials, format!("{what} {text}")).with_remedy(CLOUD_KEY);
    let file: KeyFile = serde_json::from_str(json).map_err(|_| wrong("is no JSON document of a key"))?;
    if let Some(kind) = file.kind.filter(|kind| kind != "service_account") {
        return Err(wrong(&format!("is of the type {kind:?}, not \"service_account\"")));
    }
    let email = file.client_email.ok_or_else(|| wrong("has no client_email"))?;
    // The builder is the only way to the client library's signer of tokens; the bucket does not matter to it.
    let made = GoogleCloudStorageBuilder::new()
        .with_bucket_name("any")
        .with_http_connector(NoRequests)
        .with_service_account_key(json)
        .build()
        .map_err(|_| wrong("has no usable private_key, private_key_id and client_email"))?;
    let who = format!("the service account {email}");
    Ok(Named::new(made.credentials().clone(), who, CLOUD_KEY, None))
}

/// Tokens are signed here, not fetched.
#[derive(Debug)]
struct NoRequests;

impl object_store::client::HttpConnector for NoRequests {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self))
    }
}

#[async_trait]
impl object_store::client::HttpService for NoRequests {
    async fn call(
        &self,
        _: object_store::client::HttpRequest,
    ) -> std::result::Result<object_store::client::HttpResponse, object_store::client::HttpError> {
        let kind = object_store::client::HttpErrorKind::Unknown;
        Err(object_store::client::HttpError::new(kind, std::io::Error::other("a key needs no request")))
    }
}

fn by_metadata(
    options: &GcsOptions,
    client: &HttpClient,
    environment: Environment<'_>,
) -> GcpCredentialProvider {
    let host = environment("GCE_METADATA_HOST")
        .or_else(|| environment("GCE_METADATA_ROOT"))
        .unwrap_or_else(|| METADATA_HOST.to_owned());
    let who = format!("the metadata server {host}");
    let raw = Raw {
        client: client.clone(),
        signer: Signer::Nobody,
        base: format!("http://{host}"),
        encryption: Vec::new(),
        limits: options.limits.clone(),
    };
    let remedy = "bind the pod's Kubernetes service account to a Google service account (workload identity), or give \
                  a service account key";
    Named::new(Arc::new(Metadata { raw, kept: Kept::default() }), who, remedy, None)
}

/// The token of the pod's, or the node's, service account.
struct Metadata {
    raw: Raw,
    kept: Kept<GcpCredential>,
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("base", &self.raw.base).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: u64,
}

#[async_trait]
impl CredentialProvider for Metadata {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let fetch = || async {
            let ask =
                RawRequest::get(TOKEN.to_owned()).with_header(FLAVOR, HeaderValue::from_static("Google"));
            let answer = self.raw.perform(ask, true).await?;
            // The cause is not told: it may quote the token.
            let token: Token = serde_json::from_slice(&answer.body).map_err(|_| {
                object_store::Error::Generic { store: "GCS", source: "its answer holds no token".into() }
            })?;
            Ok((GcpCredential { bearer: token.access_token }, Duration::from_secs(token.expires_in)))
        };
        self.kept.get(fetch).await
    }
}
