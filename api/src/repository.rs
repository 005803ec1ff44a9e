//! `spec.backup.repositories`: several places for backups and WAL.
//!
//! A repository is the same thing as `barmanObjectStore`, said in other words: [`Repository::store`] translates it, and
//! nothing behind that call knows which of the two a user wrote.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{BackupType, SecretKeySelector};
use crate::object_store::{BarmanObjectStore, DataConfiguration, S3Credentials, UriStyle, WalConfiguration};
use crate::retention::Retention;

/// Name of the repository that `barmanObjectStore` describes.
pub const DEFAULT: &str = "default";

/// A place for base backups and WAL. WAL goes to every repository that archives it; each Backup goes to one.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name != 'default'")
    .message("default is the name of the repository in barmanObjectStore: use another, for example repo1"))]
#[x_kube(validation = Rule::new("has(self.path) == has(oldSelf.path) && (!has(self.path) || self.path == oldSelf.path) && self.s3.bucket == oldSelf.s3.bucket")
    .message("bucket and path of a repository cannot be changed, its backups would be left behind: add another repository, and remove this one later"))]
pub struct Repository {
    /// Name by which Backups and schedules refer to it, for example `repo1`. `default` is the one in
    /// `barmanObjectStore`.
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a repository is lower-case letters, digits and hyphens, beginning with a letter, for example repo1"))]
    pub name: String,

    /// A bucket of Amazon S3 or of a service that speaks its protocol.
    pub s3: S3Repository,

    /// Folder in the bucket. Default: `/<namespace>/<cluster>/<name>`, so that clusters never share one.
    /// Below it is a folder with the name of the cluster, in the Barman Cloud layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^/?[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?$') && !self.split('/').exists(p, p == '.' || p == '..')")
        .message("path is folder names of letters, digits, dots, hyphens and underscores between slashes, for example /backups/prod"))]
    pub path: Option<String>,

    /// Credentials. Default: the identity of the pod, as with `inheritFromIAMRole: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<RepositoryCredentials>,

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

    /// Tags set on every object, at most ten. Example: `{"retention": "default"}`.
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

/// Credentials of a repository: a key pair from Secrets, or the identity of the pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.accessKeyId) == has(self.secretAccessKey)")
    .message("accessKeyId and secretAccessKey must be given together"))]
#[x_kube(validation = Rule::new("(has(self.inheritFromIAMRole) && self.inheritFromIAMRole) != has(self.accessKeyId)")
    .message("give either accessKeyId and secretAccessKey, or inheritFromIAMRole: true"))]
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
    /// Whether all WAL goes here.
    #[must_use]
    pub fn archives_wal(&self) -> bool {
        self.archive_wal.unwrap_or(true)
    }

    /// The same place in the words of `barmanObjectStore`.
    #[must_use]
    pub fn store(&self, namespace: &str, cluster: &str) -> BarmanObjectStore {
        let default = format!("{namespace}/{cluster}/{}", self.name);
        let path = self.path.as_deref().unwrap_or(&default).trim_matches('/');
        let given = self.credentials.clone().unwrap_or_else(|| RepositoryCredentials {
            inherit_from_iam_role: Some(true),
            ..RepositoryCredentials::default()
        });
        BarmanObjectStore {
            destination_path: format!("s3://{}/{path}", self.s3.bucket),
            endpoint_url: self.s3.endpoint.clone(),
            endpoint_ca: self.s3.endpoint_ca.clone(),
            uri_style: self.s3.uri_style,
            region: self.s3.region.clone(),
            server_name: Some(cluster.to_owned()),
            s3_credentials: Some(S3Credentials {
                access_key_id: given.access_key_id,
                secret_access_key: given.secret_access_key,
                session_token: given.session_token,
                region: None,
                inherit_from_iam_role: given.inherit_from_iam_role,
            }),
            wal: self.wal.clone(),
            data: self.data.clone(),
            tags: self.tags.clone(),
            history_tags: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_an_object_store_of_its_own() {
        let mut repository = Repository {
            name: "repo1".into(),
            s3: S3Repository {
                bucket: "bucket".into(),
                region: Some("eu-1".into()),
                endpoint: Some("http://minio:9000".into()),
                uri_style: Some(UriStyle::Path),
                ..S3Repository::default()
            },
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
}
