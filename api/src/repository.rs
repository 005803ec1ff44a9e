//! `spec.backup.repositories`: several places for backups and WAL.
//!
//! A repository is the same thing as `barmanObjectStore`, said in other words: [`Repository::store`] translates it, and
//! nothing behind that call knows which of the two a user wrote.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{BackupType, SecretKeySelector};
use crate::encryption::ClientEncryption;
use crate::naming;
use crate::object_store::{
    AzureCredentials, BarmanObjectStore, DataConfiguration, GoogleCredentials, S3Credentials, UriStyle,
    WalConfiguration,
};
use crate::retention::Retention;
use crate::volume_repository::{self, VolumeRepository};

/// Name of the repository that `barmanObjectStore` describes.
pub const DEFAULT: &str = "default";

/// A place for base backups and WAL. WAL goes to every repository that archives it; each Backup goes to one.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name != 'default'")
    .message("default is the name of the repository in barmanObjectStore: use another, for example repo1"))]
#[x_kube(validation = Rule::new("[has(self.s3), has(self.gcs), has(self.azure), has(self.volume)].filter(x, x).size() == 1")
    .message("give exactly one of s3, gcs, azure and volume"))]
#[x_kube(validation = Rule::new("has(self.path) == has(oldSelf.path) && (!has(self.path) || self.path == oldSelf.path) && has(self.s3) == has(oldSelf.s3) && has(self.gcs) == has(oldSelf.gcs) && has(self.volume) == has(oldSelf.volume) && (!has(self.s3) || self.s3.bucket == oldSelf.s3.bucket) && (!has(self.gcs) || self.gcs.bucket == oldSelf.gcs.bucket) && (!has(self.azure) || !has(oldSelf.azure) || self.azure.container == oldSelf.azure.container)")
    .message("storage, bucket and path of a repository cannot be changed, its backups would be left behind: add another repository, and remove this one later"))]
#[x_kube(validation = Rule::new("!has(self.gcs) || !has(self.tags) || self.tags.size() == 0")
    .message("Google Cloud Storage has no tags on objects: remove tags, or label the bucket"))]
#[x_kube(validation = Rule::new("has(self.s3) || has(self.volume) || !(has(self.wal) && has(self.wal.encryption) || has(self.data) && has(self.data.encryption))")
    .message("wal.encryption and data.encryption ask S3 to encrypt; Google and Azure always do: remove them, or use encryption, which encrypts before anything is sent"))]
#[x_kube(validation = Rule::new("has(self.encryption) == has(oldSelf.encryption)")
    .message("encryption of a repository begins with its first object or not at all: add another repository, and remove this one later"))]
#[x_kube(validation = Rule::new("!has(self.encryption) || !has(oldSelf.encryption) || (has(self.encryption.cipher) ? self.encryption.cipher : 'aes-256-gcm') == (has(oldSelf.encryption.cipher) ? oldSelf.encryption.cipher : 'aes-256-gcm')")
    .message("the cipher of a repository cannot be changed, what is in it could not be read: add another repository, and remove this one later"))]
#[x_kube(validation = Rule::new("!has(self.credentials) || has(self.s3) || !(has(self.credentials.accessKeyId) || has(self.credentials.inheritFromIAMRole))")
    .message("accessKeyId, secretAccessKey, sessionToken and inheritFromIAMRole are credentials of s3"))]
#[x_kube(validation = Rule::new("!has(self.credentials) || has(self.gcs) || !(has(self.credentials.applicationCredentials) || has(self.credentials.workloadIdentity))")
    .message("applicationCredentials and workloadIdentity are credentials of gcs"))]
#[x_kube(validation = Rule::new("!has(self.credentials) || has(self.azure) || !(has(self.credentials.connectionString) || has(self.credentials.storageAccount) || has(self.credentials.storageKey) || has(self.credentials.storageSasToken) || has(self.credentials.inheritFromAzureAD))")
    .message("connectionString, storageAccount, storageKey, storageSasToken and inheritFromAzureAD are credentials of azure"))]
#[x_kube(validation = Rule::new("!has(self.volume) || !has(self.credentials)")
    .message("a repository on a volume has no credentials: the instances show their certificates"))]
#[x_kube(validation = Rule::new("!has(self.volume) || !((has(self.wal) && has(self.wal.encryption)) || (has(self.data) && has(self.data.encryption)))")
    .message("a volume does not encrypt what is written to it, leave wal.encryption and data.encryption out: use encryption, or a storage class that encrypts"))]
#[x_kube(validation = Rule::new("!has(self.volume) || self.name.size() >= 3")
    .message("the name of a repository on a volume has at least three characters, for example repo1"))]
pub struct Repository {
    /// Name by which Backups and schedules refer to it, for example `repo1`. `default` is the one in
    /// `barmanObjectStore`.
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a repository is lower-case letters, digits and hyphens, beginning with a letter, for example repo1"))]
    pub name: String,

    /// A bucket of Amazon S3 or of a service that speaks its protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Repository>,

    /// A bucket of Google Cloud Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsRepository>,

    /// A container of Azure Blob Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureRepository>,

    /// A Kubernetes volume, which a pod `<cluster>-repo-host-0` serves to the instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeRepository>,

    /// Folder in the bucket or on the volume. Default: `/<namespace>/<cluster>/<name>`, so that clusters never share one.
    /// Below it is a folder with the name of the cluster, in the Barman Cloud layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^/?[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?$') && !self.split('/').exists(p, p == '.' || p == '..')")
        .message("path is folder names of letters, digits, dots, hyphens and underscores between slashes, for example /backups/prod"))]
    pub path: Option<String>,

    /// Credentials. Default: the identity of the pod, as with `inheritFromIAMRole: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<RepositoryCredentials>,

    /// Client-side encryption: what is sent can be read by nobody without the passphrase. It is chosen when the
    /// repository is made; Barman's own tools cannot read it. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<ClientEncryption>,

    /// Whether all WAL goes here. Default: true. With false it takes base backups only: each gets the WAL that it needs
    /// to become consistent, copied from another repository, and is restored to its own end. There is no recovery to a
    /// later moment from here.
    #[serde(rename = "archiveWAL", skip_serializing_if = "Option::is_none")]
    pub archive_wal: Option<bool>,

    /// How WAL files are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalConfiguration>,

    /// How base backups are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataConfiguration>,

    /// How long backups and WAL stay. Default: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,

    /// When backups are taken by themselves. Each is a ScheduledBackup `<cluster>-<name>-<type>` that belongs to the
    /// cluster. Default: none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedules: Option<RepositorySchedules>,

    /// Tags set on every object, at most ten. Example: `{"retention": "default"}`. Google Cloud Storage has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.size() <= 10").message("an S3 object holds at most ten tags"))]
    #[schemars(extend("maxProperties" = 10))]
    pub tags: BTreeMap<String, String>,
}

/// When backups are taken by themselves.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositorySchedules {
    /// Full backups. Five fields as in crontab (`30 2 * * *`), six with seconds first, `@daily` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub full: Option<String>,
    /// Differential backups: what changed since the last full one. Example: `0 3 * * 1-6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub differential: Option<String>,
    /// Incremental backups: what changed since the last backup of any type. Example: `*/30 * * * *`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub incremental: Option<String>,
    /// Time zone of these schedules, for example `Europe/Berlin`. Default: `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Take none for now. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

impl RepositorySchedules {
    /// The schedules that are given, each with its type.
    pub fn given(&self) -> impl Iterator<Item = (BackupType, &str)> {
        let all = [
            (BackupType::Full, &self.full),
            (BackupType::Differential, &self.differential),
            (BackupType::Incremental, &self.incremental),
        ];
        all.into_iter().filter_map(|(kind, schedule)| Some((kind, schedule.as_deref()?)))
    }
}

/// A bucket.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Repository {
    /// Name of the bucket. It must exist.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$')")
        .message("bucket must be the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens"))]
    pub bucket: String,

    /// Region. Default: `us-east-1`, which S3-compatible services ignore.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,

    /// Endpoint of an S3-compatible service, for example `http://minio:9000` or `https://s3.example.com:443`.
    /// Without a scheme `https://` is assumed. Default: Amazon S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(https?://)?[^/ ]+/?$')")
        .message("endpoint must be a host with an optional http:// or https:// before it and an optional :port behind it"))]
    pub endpoint: Option<String>,

    /// Certificate authority (PEM bundle) of the endpoint, when it is not a publicly known one.
    #[serde(rename = "endpointCA", skip_serializing_if = "Option::is_none")]
    pub endpoint_ca: Option<SecretKeySelector>,

    /// Where the bucket stands in a URL: `host` (`bucket.endpoint`) or `path` (`endpoint/bucket`).
    /// Default: `path` with an `endpoint`, `host` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_style: Option<UriStyle>,
}

/// A bucket of Google Cloud Storage.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcsRepository {
    /// Name of the bucket. It must exist.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$')")
        .message("bucket must be the name of a bucket: 3 to 63 lower-case letters, digits, dots, hyphens and underscores"))]
    pub bucket: String,
    /// Endpoint, for a private one. Default: Google's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub endpoint: Option<String>,
    /// Certificate authority (PEM bundle) of the endpoint, when it is not a publicly known one.
    #[serde(rename = "endpointCA", skip_serializing_if = "Option::is_none")]
    pub endpoint_ca: Option<SecretKeySelector>,
}

/// A container of Azure Blob Storage.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureRepository {
    /// Name of the container. It must exist.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$')")
        .message("container must be the name of a container: 3 to 63 lower-case letters, digits and hyphens"))]
    pub container: String,
    /// Endpoint of the account, for example `https://ACCOUNT.blob.core.windows.net`; an emulator's ends with the
    /// account, `http://host:10000/ACCOUNT`. Default: from the account's name, in Azure's public cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub endpoint: Option<String>,
    /// Certificate authority (PEM bundle) of the endpoint, when it is not a publicly known one.
    #[serde(rename = "endpointCA", skip_serializing_if = "Option::is_none")]
    pub endpoint_ca: Option<SecretKeySelector>,
}

/// Credentials of a repository: from Secrets, or the identity of the pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.accessKeyId) == has(self.secretAccessKey)")
    .message("accessKeyId and secretAccessKey must be given together"))]
#[x_kube(validation = Rule::new("[has(self.accessKeyId), has(self.inheritFromIAMRole) && self.inheritFromIAMRole, has(self.applicationCredentials), has(self.workloadIdentity) && self.workloadIdentity, has(self.connectionString), has(self.storageKey), has(self.storageSasToken), has(self.inheritFromAzureAD) && self.inheritFromAzureAD].filter(x, x).size() == 1")
    .message("give one kind of credentials: accessKeyId and secretAccessKey, or inheritFromIAMRole: true (s3); applicationCredentials or workloadIdentity: true (gcs); connectionString, storageKey, storageSasToken or inheritFromAzureAD: true (azure)"))]
#[x_kube(validation = Rule::new("!has(self.sessionToken) || has(self.accessKeyId)")
    .message("sessionToken belongs to accessKeyId and secretAccessKey"))]
pub struct RepositoryCredentials {
    /// The access key id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretKeySelector>,
    /// The secret access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretKeySelector>,
    /// The session token, when the keys are temporary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretKeySelector>,
    /// Use the role bound to the pod (web identity or instance metadata) instead of keys. Default: false. The role is
    /// named by an annotation in `serviceAccountTemplate.metadata.annotations`, for example
    /// `eks.amazonaws.com/role-arn`.
    #[serde(rename = "inheritFromIAMRole", skip_serializing_if = "Option::is_none")]
    pub inherit_from_iam_role: Option<bool>,
    /// Google: the JSON file of a service account's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_credentials: Option<SecretKeySelector>,
    /// Google: use the service account bound to the pod or to its node. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<bool>,
    /// Azure: a connection string as the portal shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_string: Option<SecretKeySelector>,
    /// Azure: name of the storage account. Default: the one in the endpoint or in the connection string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_account: Option<SecretKeySelector>,
    /// Azure: a key of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_key: Option<SecretKeySelector>,
    /// Azure: a shared access signature of the container or the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_sas_token: Option<SecretKeySelector>,
    /// Azure: use the identity bound to the pod or the managed identity of its node. Default: false.
    #[serde(rename = "inheritFromAzureAD", skip_serializing_if = "Option::is_none")]
    pub inherit_from_azure_ad: Option<bool>,
}

/// A repository by its name, ready to be opened.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedStore {
    /// `default` or the name in `repositories`.
    pub name: String,
    /// Where and how.
    pub store: BarmanObjectStore,
    /// How long backups and WAL stay; `None` is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether all WAL goes there.
    #[serde(default = "yes")]
    pub archive_wal: bool,
}

fn yes() -> bool {
    true
}

impl NamedStore {
    /// A place for backups and all WAL, without retention.
    #[must_use]
    pub fn new(name: impl Into<String>, store: BarmanObjectStore) -> Self {
        Self { name: name.into(), store, retention: None, archive_wal: true }
    }
}

impl Repository {
    /// Folder in the bucket or on the volume, without slashes at its ends.
    #[must_use]
    pub fn folder(&self, namespace: &str, cluster: &str) -> String {
        match &self.path {
            Some(path) => path.trim_matches('/').to_owned(),
            None => naming::repository_folder(namespace, cluster, &self.name),
        }
    }

    /// Whether all WAL goes here.
    #[must_use]
    pub fn archives_wal(&self) -> bool {
        self.archive_wal.unwrap_or(true)
    }

    /// The same place in the words of `barmanObjectStore`.
    #[must_use]
    pub fn store(&self, namespace: &str, cluster: &str) -> BarmanObjectStore {
        let path = self.folder(namespace, cluster);
        let mut store = BarmanObjectStore {
            server_name: Some(cluster.to_owned()),
            wal: self.wal.clone(),
            data: self.data.clone(),
            tags: self.tags.clone(),
            encryption: self.encryption.clone(),
            ..match &self.volume {
                Some(_) => volume_repository::store(&self.name, cluster, &path),
                None => BarmanObjectStore::default(),
            }
        };
        let given = self.credentials.clone();
        if let Some(gcs) = &self.gcs {
            store.destination_path = format!("gs://{}/{path}", gcs.bucket);
            store.endpoint_url.clone_from(&gcs.endpoint);
            store.endpoint_ca.clone_from(&gcs.endpoint_ca);
            store.google_credentials = Some(google(given.unwrap_or_default()));
        } else if let Some(azure) = &self.azure {
            store.destination_path = format!("azure://{}/{path}", azure.container);
            store.endpoint_url.clone_from(&azure.endpoint);
            store.endpoint_ca.clone_from(&azure.endpoint_ca);
            store.azure_credentials = Some(self::azure(given.unwrap_or_default()));
        } else if let Some(bucket) = &self.s3 {
            store.destination_path = format!("s3://{}/{path}", bucket.bucket);
            store.endpoint_url.clone_from(&bucket.endpoint);
            store.endpoint_ca.clone_from(&bucket.endpoint_ca);
            store.uri_style = bucket.uri_style;
            store.region.clone_from(&bucket.region);
            store.s3_credentials = Some(s3(given.unwrap_or_default()));
        }
        store
    }
}

fn s3(given: RepositoryCredentials) -> S3Credentials {
    S3Credentials {
        // Nothing given is the identity of the pod.
        inherit_from_iam_role: given.access_key_id.is_none().then_some(true),
        access_key_id: given.access_key_id,
        secret_access_key: given.secret_access_key,
        session_token: given.session_token,
        region: None,
    }
}

fn google(given: RepositoryCredentials) -> GoogleCredentials {
    GoogleCredentials {
        gke_environment: given.application_credentials.is_none().then_some(true),
        application_credentials: given.application_credentials,
    }
}

fn azure(given: RepositoryCredentials) -> AzureCredentials {
    let secret =
        given.connection_string.is_some() || given.storage_key.is_some() || given.storage_sas_token.is_some();
    AzureCredentials {
        inherit_from_azure_ad: (!secret).then_some(true),
        connection_string: given.connection_string,
        storage_account: given.storage_account,
        storage_key: given.storage_key,
        storage_sas_token: given.storage_sas_token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S0.22, S1.12, S1.13, S2.19: a place of its own, by default and where another is given.
    #[test]
    fn a_repository_is_an_object_store_of_its_own() {
        let mut repository = Repository {
            name: "repo1".into(),
            s3: Some(S3Repository {
                bucket: "bucket".into(),
                region: Some("eu-1".into()),
                endpoint: Some("http://minio:9000".into()),
                uri_style: Some(UriStyle::Path),
                ..S3Repository::default()
            }),
            ..Repository::default()
        };
        let store = repository.store("prod", "pg");
        assert_eq!(store.destination_path, "s3://bucket/prod/pg/repo1");
        assert_eq!(store.server_name_or("x"), "pg");
        assert_eq!((store.region.as_deref(), store.uri_style), (Some("eu-1"), Some(UriStyle::Path)));
        assert_eq!(store.s3_credentials.unwrap().inherit_from_iam_role, Some(true));
        repository.path = Some("/cluster/repo1/".into());
        assert_eq!(repository.store("prod", "pg").destination_path, "s3://bucket/cluster/repo1");
    }
    #[test]
    fn google_and_azure_have_their_own_words() {
        let selector = |key: &str| Some(SecretKeySelector { name: "creds".into(), key: key.into() });
        let mut repository = Repository {
            name: "repo3".into(),
            gcs: Some(GcsRepository { bucket: "bucket".into(), ..GcsRepository::default() }),
            credentials: Some(RepositoryCredentials {
                application_credentials: selector("gcs-key.json"),
                ..RepositoryCredentials::default()
            }),
            ..Repository::default()
        };
        let store = repository.store("prod", "pg");
        assert_eq!(store.destination_path, "gs://bucket/prod/pg/repo3");
        assert_eq!(store.secret_names(), ["creds"]);
        assert_eq!(store.google_credentials.unwrap().gke_environment, None);
        repository.gcs = None;
        repository.azure = Some(AzureRepository { container: "box".into(), ..AzureRepository::default() });
        repository.credentials = Some(RepositoryCredentials {
            storage_account: selector("account"),
            storage_key: selector("key"),
            ..RepositoryCredentials::default()
        });
        let store = repository.store("prod", "pg");
        assert_eq!(store.destination_path, "azure://box/prod/pg/repo3");
        let fields: Vec<_> = store.selectors().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["storageAccount", "storageKey"]);
        repository.credentials = None;
        let inherited = repository.store("prod", "pg").azure_credentials.unwrap();
        assert_eq!(inherited.inherit_from_azure_ad, Some(true));
    }
}
