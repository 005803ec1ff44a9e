//! Where and how backups and WAL are stored: the Barman Cloud object store.

mod cloud;
mod data;
mod levels;
mod wal;

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{LocalObjectReference, SecretKeySelector};
use crate::encryption::ClientEncryption;

pub use cloud::{AzureCredentials, GoogleCredentials};
pub use data::{BadPagePolicy, DataCompression, DataConfiguration, IoClass, IoPriority};
pub use wal::{WalCompression, WalConfiguration};

/// An object store in the Barman Cloud layout, readable and writable by `barman-cloud-*`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.s3Credentials) || self.destinationPath.startsWith('s3://')")
    .message("s3Credentials belong to a destinationPath of the form s3://BUCKET_NAME/path"))]
#[x_kube(validation = Rule::new("!has(self.googleCredentials) || self.destinationPath.startsWith('gs://')")
    .message("googleCredentials belong to a destinationPath of the form gs://BUCKET_NAME/path"))]
#[x_kube(validation = Rule::new("!has(self.azureCredentials) || self.destinationPath.matches('^(https?|azure)://')")
    .message("azureCredentials belong to a destinationPath of the form https://ACCOUNT.blob.core.windows.net/CONTAINER/path"))]
#[x_kube(validation = Rule::new("!self.destinationPath.startsWith('gs://') || !(has(self.tags) && self.tags.size() > 0 || has(self.historyTags) && self.historyTags.size() > 0)")
    .message("Google Cloud Storage has no tags on objects: remove tags and historyTags, or label the bucket"))]
#[x_kube(validation = Rule::new("self.destinationPath.startsWith('s3://') || !(has(self.wal) && has(self.wal.encryption) || has(self.data) && has(self.data.encryption))")
    .message("wal.encryption and data.encryption ask S3 to encrypt; Google and Azure always do: remove them, or use encryption, which encrypts before anything is sent"))]
pub struct BarmanObjectStore {
    /// Folder that receives backups and WAL files, as a URL: `s3://BUCKET_NAME/path/to/folder`,
    /// `gs://BUCKET_NAME/path` (Google), `https://ACCOUNT.blob.core.windows.net/CONTAINER/path` or
    /// `azure://CONTAINER/path` (Azure). A trailing slash makes no difference. The path may be empty.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^((s3|gs|azure)://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/.*)?|https?://[^/ ]+/[^ ]+)$')")
        .message("destinationPath must be s3://BUCKET_NAME/path, gs://BUCKET_NAME/path or https://ACCOUNT.blob.core.windows.net/CONTAINER/path"))]
    pub destination_path: String,

    /// Endpoint of an S3-compatible service, for example `http://minio:9000` or
    /// `bucket.us-east1.linodeobjects.com`. Without a scheme `https://` is assumed. Default: Amazon S3.
    #[serde(rename = "endpointURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(https?://)?[^/ ]+/?$')")
        .message("endpointURL must be a host with an optional http:// or https:// before it and an optional :port behind it"))]
    pub endpoint_url: Option<String>,

    /// Certificate authority (PEM bundle) of the endpoint, when it is not a publicly known one.
    #[serde(rename = "endpointCA", skip_serializing_if = "Option::is_none")]
    pub endpoint_ca: Option<SecretKeySelector>,

    /// Certificate that the endpoint asks its clients for: a Secret with the keys `tls.crt` and `tls.key`. The
    /// repository host of a cluster asks for one, that of its instances is in `<cluster>-replication`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<LocalObjectReference>,

    /// Where the bucket stands in a URL: `host` (`bucket.endpoint`) or `path` (`endpoint/bucket`).
    /// Default: `path` with an `endpointURL`, `host` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_style: Option<UriStyle>,

    /// Region. Default: what `s3Credentials.region` names, else `us-east-1`, which S3-compatible services ignore.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,

    /// Folder of this server below the destination. Default: the name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[^/ ]+$')").message("serverName must not contain slashes or spaces"))]
    pub server_name: Option<String>,

    /// Credentials of the S3 service. Not needed where a `clientCertificate` is all that is asked for.
    #[serde(rename = "s3Credentials", skip_serializing_if = "Option::is_none")]
    pub s3_credentials: Option<S3Credentials>,

    /// Credentials of Google Cloud Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_credentials: Option<GoogleCredentials>,

    /// Credentials of Azure Blob Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_credentials: Option<AzureCredentials>,

    /// Client-side encryption. Barman's own tools cannot read an encrypted repository. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<ClientEncryption>,

    /// How WAL files are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalConfiguration>,

    /// How base backups are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataConfiguration>,

    /// Tags set on every object, at most ten. Example: `{"retention": "default"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.size() <= 10").message("an S3 object holds at most ten tags"))]
    #[schemars(extend("maxProperties" = 10))]
    pub tags: BTreeMap<String, String>,

    /// Tags of timeline history files; they replace `tags` on these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10))]
    pub history_tags: BTreeMap<String, String>,
}

/// Where the bucket stands in a URL.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UriStyle {
    /// `https://bucket.endpoint/key`
    Host,
    /// `https://endpoint/bucket/key`
    Path,
}

/// Credentials of an S3 service: a key pair from Secrets, or the identity of the pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.accessKeyId) == has(self.secretAccessKey)")
    .message("accessKeyId and secretAccessKey must be given together"))]
#[x_kube(validation = Rule::new("(has(self.inheritFromIAMRole) && self.inheritFromIAMRole) != has(self.accessKeyId)")
    .message("give either accessKeyId and secretAccessKey, or inheritFromIAMRole: true"))]
pub struct S3Credentials {
    /// The access key id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretKeySelector>,
    /// The secret access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretKeySelector>,
    /// The session token, when the keys are temporary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretKeySelector>,
    /// The region, from a Secret. Default: `us-east-1`, which S3-compatible services ignore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<SecretKeySelector>,
    /// Use the role bound to the pod (web identity or instance metadata) instead of keys. Default: false.
    #[serde(rename = "inheritFromIAMRole", skip_serializing_if = "Option::is_none")]
    pub inherit_from_iam_role: Option<bool>,
}

/// Encryption at rest, done by the object store.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Encryption {
    /// `x-amz-server-side-encryption: AES256`
    AES256,
    /// `x-amz-server-side-encryption: aws:kms`
    #[serde(rename = "aws:kms")]
    AwsKms,
}

impl BarmanObjectStore {
    /// The folder below the destination: `serverName`, or else the cluster's name.
    #[must_use]
    pub fn server_name_or<'a>(&'a self, cluster: &'a str) -> &'a str {
        self.server_name.as_deref().unwrap_or(cluster)
    }

    /// Every reference to a Secret, with the name of its field.
    #[must_use]
    pub fn selectors(&self) -> Vec<(&'static str, &SecretKeySelector)> {
        let mut all: Vec<(&'static str, &SecretKeySelector)> = Vec::new();
        if let Some(given) = &self.s3_credentials {
            let fields = [
                ("accessKeyId", &given.access_key_id),
                ("secretAccessKey", &given.secret_access_key),
                ("sessionToken", &given.session_token),
                ("region", &given.region),
            ];
            all.extend(fields.into_iter().filter_map(|(field, selector)| Some((field, selector.as_ref()?))));
        }
        all.extend(self.google_credentials.iter().flat_map(GoogleCredentials::selectors));
        all.extend(self.azure_credentials.iter().flat_map(AzureCredentials::selectors));
        all.extend(self.endpoint_ca.iter().map(|selector| ("endpointCA", selector)));
        all.extend(self.encryption.iter().flat_map(ClientEncryption::selectors));
        all
    }

    /// Names of the Secrets that this store refers to, each once, sorted.
    #[must_use]
    pub fn secret_names(&self) -> Vec<&str> {
        let own = self.client_certificate.iter().map(|s| s.name.as_str());
        let mut names: Vec<&str> =
            self.selectors().into_iter().map(|(_, s)| s.name.as_str()).chain(own).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
