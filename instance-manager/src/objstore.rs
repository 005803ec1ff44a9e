//! From API types and Secret values to a repository: the only file that knows both.

use std::num::NonZeroU64;
use std::sync::LazyLock;

use barman_cloud::store::{
    ClientCertificate, Connections, Credentials, Encryption as StoreEncryption, Secret,
    UriStyle as StoreUriStyle,
};
use barman_cloud::{Compression, Destination, S3Options, Storage, Store};
use howdah_api::object_store::{
    BadPagePolicy, BarmanObjectStore, DataCompression, DataConfiguration, Encryption, IoClass, UriStyle,
    WalCompression,
};
use howdah_api::quantity;
use howdah_engine::{BackupRequest, IoPriority, Priority, Repository};

use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;

mod cloud;
mod encryption;

/// What the store is used for: WAL and base backups may ask for different encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// WAL files.
    Wal,
    /// Base backups.
    Data,
}

/// Files archived or restored at the same time when the Cluster does not say.
const DEFAULT_WAL_PARALLEL: usize = 4;
/// Parts written or read at the same time when the Cluster does not say.
const DEFAULT_JOBS: usize = 2;
/// Level of best-effort I/O when the Cluster does not say: who asks for this class wants a backup that gives way.
const LEAST_IO_LEVEL: u8 = 7;

/// Signs requests to stores that a client certificate gives access to, such as the repository host. It protects the
/// bodies of requests and is no secret.
pub(crate) const SIGNED_BY: &str = "repo-host";

/// Base backups, WAL and catalogue go over the same connections, and what one learns about a store the others know.
pub(crate) static CONNECTIONS: LazyLock<Connections> = LazyLock::new(Connections::default);

/// The repository of one server in `store`; `cluster` is the default of `serverName`.
///
/// # Errors
/// When a Secret or a key is missing, or a setting cannot be used. No request is made.
pub fn repository(
    store: &BarmanObjectStore,
    cluster: &str,
    secrets: &SecretValues,
    purpose: Purpose,
) -> Result<Repository> {
    let destination = Destination::parse(&store.destination_path)?;
    let opened = match destination.storage() {
        Storage::Gcs => Store::gcs(&destination, &cloud::gcs(store, secrets)?)?,
        Storage::Azure { .. } => Store::azure(&destination, &cloud::azure(store, secrets)?)?,
        _ => Store::s3(&destination, &options(store, secrets, purpose)?)?,
    };
    let opened = match &store.encryption {
        Some(wanted) => opened.with_cipher(&encryption::cipher(wanted, secrets)?),
        None => opened,
    };
    Ok(Repository::new(opened, store.server_name_or(cluster))?)
}

/// The options of the S3 client.
///
/// # Errors
/// When a Secret or a key is missing.
pub fn options(store: &BarmanObjectStore, secrets: &SecretValues, purpose: Purpose) -> Result<S3Options> {
    let mut options = S3Options::new(credentials(store, secrets)?);
    options.connections = CONNECTIONS.clone();
    options.endpoint = store.endpoint_url.clone();
    options.region = match store.s3_credentials.as_ref().and_then(|c| c.region.as_ref()) {
        _ if store.region.is_some() => store.region.clone(),
        Some(region) => Some(secrets.selected(region)?.to_owned()),
        None => None,
    };
    options.uri_style = store.uri_style.map(uri_style);
    if let Some(ca) = &store.endpoint_ca {
        options.ca_pem = Some(secrets.selected(ca)?.as_bytes().to_vec());
    }
    if let Some(own) = &store.client_certificate {
        let pem = |key| secrets.bytes(&own.name, key);
        options.client_certificate = Some(ClientCertificate::pem(pem("tls.crt")?, pem("tls.key")?));
    }
    let encryption = match purpose {
        Purpose::Wal => store.wal.as_ref().and_then(|w| w.encryption),
        Purpose::Data => store.data.as_ref().and_then(|d| d.encryption),
    };
    options.encryption = encryption.map(|e| match e {
        Encryption::AES256 => StoreEncryption::Aes256,
        Encryption::AwsKms => StoreEncryption::AwsKms { key_id: None },
    });
    options.tags = pairs(&store.tags);
    options.history_tags = pairs(&store.history_tags);
    Ok(options)
}

fn uri_style(style: UriStyle) -> StoreUriStyle {
    match style {
        UriStyle::Host => StoreUriStyle::Host,
        UriStyle::Path => StoreUriStyle::Path,
    }
}

fn pairs(map: &std::collections::BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn credentials(store: &BarmanObjectStore, secrets: &SecretValues) -> Result<Credentials> {
    let Some(given) = &store.s3_credentials else {
        return Ok(match store.client_certificate {
            Some(_) => Credentials::Static {
                access_key_id: Secret::new(SIGNED_BY),
                secret_access_key: Secret::new(SIGNED_BY),
                session_token: None,
            },
            None => Credentials::Inherit,
        });
    };
    let (Some(id), Some(key)) = (&given.access_key_id, &given.secret_access_key) else {
        return Ok(Credentials::Inherit);
    };
    let session_token = match &given.session_token {
        Some(token) => Some(Secret::new(secrets.selected(token)?)),
        None => None,
    };
    Ok(Credentials::Static {
        access_key_id: Secret::new(secrets.selected(id)?),
        secret_access_key: Secret::new(secrets.selected(key)?),
        session_token,
    })
}

/// Codec of WAL files.
#[must_use]
pub fn wal_compression(store: &BarmanObjectStore) -> Compression {
    match store.wal.as_ref().and_then(|w| w.compression) {
        None => Compression::None,
        Some(WalCompression::Gzip) => Compression::Gzip,
        Some(WalCompression::Bzip2) => Compression::Bzip2,
        Some(WalCompression::Snappy) => Compression::Snappy,
        Some(WalCompression::Lz4) => Compression::Lz4,
        Some(WalCompression::Zstd) => Compression::Zstd,
        Some(WalCompression::Xz) => Compression::Xz,
    }
}

/// Level of the codec of WAL files.
#[must_use]
pub fn wal_compression_level(store: &BarmanObjectStore) -> Option<i32> {
    store.wal.as_ref().and_then(|w| w.compression_level)
}

/// Codec of base backups.
#[must_use]
pub fn data_compression(store: &BarmanObjectStore) -> Compression {
    match store.data.as_ref().and_then(|d| d.compression) {
        None => Compression::None,
        Some(DataCompression::Gzip) => Compression::Gzip,
        Some(DataCompression::Bzip2) => Compression::Bzip2,
        Some(DataCompression::Snappy) => Compression::Snappy,
        Some(DataCompression::Lz4) => Compression::Lz4,
        Some(DataCompression::Zstd) => Compression::Zstd,
    }
}

/// WAL files archived or restored at the same time.
#[must_use]
pub fn wal_parallel(store: &BarmanObjectStore) -> usize {
    let given = store.wal.as_ref().and_then(|w| w.max_parallel);
    given.and_then(|n| usize::try_from(n).ok()).unwrap_or(DEFAULT_WAL_PARALLEL).clamp(1, 32)
}

/// Parts written or read at the same time.
#[must_use]
pub fn jobs(store: &BarmanObjectStore) -> usize {
    let given = store.data.as_ref().and_then(|d| d.jobs);
    given.and_then(|n| usize::try_from(n).ok()).unwrap_or(DEFAULT_JOBS).clamp(1, 32)
}

/// Settings of `store.data` that say how a backup is taken.
///
/// # Errors
/// When a rate cannot be read; the schema lets none of these through.
pub fn tune(request: &mut BackupRequest, store: &BarmanObjectStore) -> Result<()> {
    request.compression = data_compression(store);
    request.jobs = jobs(store);
    let Some(data) = &store.data else { return Ok(()) };
    request.compression_level = data.compression_level;
    request.immediate_checkpoint = data.immediate_checkpoint.unwrap_or(false);
    request.part_size.max_upload_parts = data.max_upload_parts.and_then(|n| u32::try_from(n).ok());
    request.limits.read = rate("readRateLimit", data.read_rate_limit.as_deref())?;
    request.limits.upload = rate("uploadRateLimit", data.upload_rate_limit.as_deref())?;
    request.priority = priority(data);
    request.bad_pages = match data.bad_pages {
        None | Some(BadPagePolicy::Warn) => howdah_engine::BadPagePolicy::Warn,
        Some(BadPagePolicy::Fail) => howdah_engine::BadPagePolicy::Fail,
    };
    Ok(())
}

/// Bytes per second.
fn rate(field: &str, text: Option<&str>) -> Result<Option<NonZeroU64>> {
    let Some(text) = text else { return Ok(None) };
    let bytes = quantity::bytes(text).map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
    bytes.and_then(NonZeroU64::new).map(Some).ok_or_else(|| {
        Error::permanent(format!(
            "spec.backup.barmanObjectStore.data.{field}: {text:?} is no rate; give bytes per second, for example 50Mi"
        ))
    })
}

/// How urgent the threads of a backup are.
fn priority(data: &DataConfiguration) -> Priority {
    let small = |n: Option<i32>| n.and_then(|n| u8::try_from(n).ok());
    Priority {
        niceness: small(data.niceness),
        io: data.io_priority.map(|io| match io.class {
            IoClass::Idle => IoPriority::Idle,
            IoClass::BestEffort => IoPriority::BestEffort(small(io.level).unwrap_or(LEAST_IO_LEVEL)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::common::SecretKeySelector;
    use howdah_api::object_store::{
        DataConfiguration, IoPriority as IoSetting, S3Credentials, WalConfiguration,
    };
    use howdah_engine::ServerAccess;

    fn selector(key: &str) -> Option<SecretKeySelector> {
        Some(SecretKeySelector { name: "aws-creds".into(), key: key.into() })
    }

    fn store() -> BarmanObjectStore {
        BarmanObjectStore {
            destination_path: "s3://bucket/folder/".into(),
            endpoint_url: Some("minio:9000".into()),
            endpoint_ca: selector("CA"),
            s3_credentials: Some(S3Credentials {
                access_key_id: selector("ID"),
                secret_access_key: selector("KEY"),
                session_token: selector("TOKEN"),
                region: selector("REGION"),
                inherit_from_iam_role: None,
            }),
            wal: Some(WalConfiguration {
                compression: Some(WalCompression::Zstd),
                compression_level: Some(-3),
                encryption: Some(Encryption::AES256),
                max_parallel: Some(9),
            }),
            data: Some(DataConfiguration {
                compression: Some(DataCompression::Snappy),
                encryption: Some(Encryption::AwsKms),
                ..DataConfiguration::default()
            }),
            tags: [("retention".to_owned(), "default".to_owned())].into(),
            ..BarmanObjectStore::default()
        }
    }

    fn secrets() -> SecretValues {
        let mut values = SecretValues::default();
        let pairs = [("ID", "id"), ("KEY", "key"), ("TOKEN", "token"), ("REGION", "eu-1"), ("CA", "pem")];
        values.insert("aws-creds", pairs.map(|(k, v)| (k.to_owned(), v.into())).into());
        values
    }

    /// S2.6, S2.7, S2.10, S3.6: keys of any name, the session token, and the region too.
    #[test]
    fn everything_of_the_store_reaches_its_client() {
        let wal = options(&store(), &secrets(), Purpose::Wal).unwrap();
        assert_eq!(wal.endpoint.as_deref(), Some("minio:9000"));
        assert_eq!((wal.region.as_deref(), wal.uri_style), (Some("eu-1"), None));
        let given =
            BarmanObjectStore { region: Some("eu-2".into()), uri_style: Some(UriStyle::Host), ..store() };
        let wal_given = options(&given, &secrets(), Purpose::Wal).unwrap();
        assert_eq!(
            (wal_given.region.as_deref(), wal_given.uri_style),
            (Some("eu-2"), Some(StoreUriStyle::Host))
        );
        assert_eq!(wal.ca_pem.as_deref(), Some(b"pem".as_slice()));
        assert_eq!(wal.encryption, Some(StoreEncryption::Aes256));
        assert_eq!(wal.tags, [("retention".to_owned(), "default".to_owned())]);
        assert_eq!(
            wal.credentials,
            Credentials::Static {
                access_key_id: "id".into(),
                secret_access_key: "key".into(),
                session_token: Some("token".into()),
            }
        );
        let data = options(&store(), &secrets(), Purpose::Data).unwrap();
        assert_eq!(data.encryption, Some(StoreEncryption::AwsKms { key_id: None }));
        assert_eq!((wal_parallel(&store()), wal_compression_level(&store())), (9, Some(-3)));
        assert_eq!(
            (wal_compression(&store()), data_compression(&store())),
            (Compression::Zstd, Compression::Snappy)
        );
    }

    fn request() -> BackupRequest {
        let server = ServerAccess {
            socket_dir: "/s".into(),
            port: 5432,
            user: "postgres".into(),
            database: "postgres".into(),
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = BarmanObjectStore { endpoint_ca: None, ..store() };
        let repository = repository(&plain, "pg", &secrets(), Purpose::Data).unwrap();
        BackupRequest::new(server, "/d", repository)
    }

    /// S1.9: every setting of how a backup is taken.
    #[test]
    fn everything_of_data_reaches_the_backup() {
        let mut s = store();
        s.data = Some(DataConfiguration {
            compression: Some(DataCompression::Zstd),
            compression_level: Some(9),
            jobs: Some(3),
            immediate_checkpoint: Some(true),
            max_upload_parts: Some(1000),
            read_rate_limit: Some("50Mi".into()),
            upload_rate_limit: Some("20M".into()),
            niceness: Some(10),
            io_priority: Some(IoSetting { class: IoClass::BestEffort, level: Some(5) }),
            bad_pages: Some(BadPagePolicy::Fail),
            ..DataConfiguration::default()
        });
        let mut r = request();
        tune(&mut r, &s).unwrap();
        assert_eq!((r.compression, r.compression_level), (Compression::Zstd, Some(9)));
        assert_eq!((r.jobs, r.immediate_checkpoint), (3, true));
        assert_eq!(r.part_size.max_upload_parts, Some(1000));
        assert_eq!(r.limits.read.map(NonZeroU64::get), Some(50 << 20));
        assert_eq!(r.limits.upload.map(NonZeroU64::get), Some(20_000_000));
        assert_eq!(r.priority, Priority { niceness: Some(10), io: Some(IoPriority::BestEffort(5)) });
        assert_eq!(r.bad_pages, howdah_engine::BadPagePolicy::Fail);
    }

    #[test]
    fn nothing_said_is_nothing_changed() {
        let usual = request();
        for data in [None, Some(DataConfiguration::default())] {
            let mut r = request();
            tune(&mut r, &BarmanObjectStore { data, ..store() }).unwrap();
            assert_eq!((r.compression, r.compression_level, r.jobs), (Compression::None, None, DEFAULT_JOBS));
            assert_eq!((r.part_size, r.priority), (usual.part_size, usual.priority));
            assert_eq!((r.limits.read, r.limits.upload), (None, None));
            assert_eq!((r.bad_pages, r.immediate_checkpoint), (usual.bad_pages, false));
        }
    }

    #[test]
    fn classes_of_io_and_rates_that_are_none() {
        let data = |class| DataConfiguration {
            io_priority: Some(IoSetting { class, level: None }),
            ..DataConfiguration::default()
        };
        assert_eq!(priority(&data(IoClass::Idle)).io, Some(IoPriority::Idle));
        assert_eq!(priority(&data(IoClass::BestEffort)).io, Some(IoPriority::BestEffort(7)));
        for text in ["", "0", "fast", "-1Mi"] {
            let error = rate("readRateLimit", Some(text)).unwrap_err().report();
            assert!(error.contains("data.readRateLimit") && error.contains("50Mi"), "{error}");
        }
        assert_eq!(rate("x", Some("1e30")).unwrap(), NonZeroU64::new(u64::MAX));
    }

    /// S0.20: the Secret, and nothing of its values.
    #[test]
    fn a_missing_key_is_named_and_nothing_else_is_told() {
        let mut s = store();
        s.s3_credentials.as_mut().unwrap().secret_access_key = selector("NOPE");
        let text = options(&s, &secrets(), Purpose::Wal).unwrap_err().report();
        assert!(text.contains("aws-creds") && text.contains("NOPE") && !text.contains("token"), "{text}");
    }

    /// S1.16: the role of the pod, when no keys are given.
    #[test]
    fn a_volume_is_opened_with_the_certificate_of_the_cluster() {
        let spec: howdah_api::ClusterSpec = serde_json::from_value(serde_json::json!({
            "storage": {"size": "1Gi"},
            "backup": {"repositories": [{"name": "repo1", "volume": {"volumeClaimSpec": {}}}]},
        }))
        .unwrap();
        let store = &spec.stores("prod", "pg")[0].store;
        let mut secrets = SecretValues::default();
        let error = options(store, &secrets, Purpose::Wal).unwrap_err().report();
        assert!(error.contains("Secret pg-replication does not exist"), "{error}");
        let data = [("ca.crt", "authority"), ("tls.crt", "chain"), ("tls.key", "key")];
        secrets.insert("pg-replication", data.map(|(k, v)| (k.to_owned(), v.into())).into());
        let options = options(store, &secrets, Purpose::Wal).unwrap();
        assert_eq!(options.endpoint.as_deref(), Some("https://pg-repo-host:8432"));
        assert_eq!(options.ca_pem.as_deref(), Some(b"authority".as_slice()));
        assert_eq!(options.client_certificate, Some(ClientCertificate::pem("chain", "key")));
        assert!(matches!(options.credentials, Credentials::Static { .. }));
    }

    #[test]
    fn the_identity_of_the_pod() {
        let mut s = store();
        s.s3_credentials =
            Some(S3Credentials { inherit_from_iam_role: Some(true), ..S3Credentials::default() });
        assert_eq!(options(&s, &secrets(), Purpose::Wal).unwrap().credentials, Credentials::Inherit);
    }
}
