//! Making stores: S3, and memory for tests of logic; and what the makers of all storages share.

use super::address::BucketUrl;
use super::dialect::{Cheaper, Client};
use super::identity::{Environment, Named};
use super::options::{Credentials, Encryption, Limits, S3Options, UriStyle};
use super::raw::{Raw, Signer};
use super::tags::Tags;
use super::{Inner, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Destination, Storage};
use http::{HeaderName, HeaderValue};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider, Checksum};
use object_store::client::HttpClient;
use object_store::list::PaginatedListStore;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use std::sync::Arc;

/// The region of stores that have none.
const DEFAULT_REGION: &str = "us-east-1";

impl Store {
    /// A store on S3 or one of its relatives. Makes no request.
    ///
    /// With [`Credentials::Inherit`] the usual variables of the pod are read (`AWS_WEB_IDENTITY_TOKEN_FILE`,
    /// `AWS_ROLE_ARN`, `AWS_CONTAINER_CREDENTIALS_*`, `AWS_REGION` when no region is given); static keys are never
    /// read from the environment.
    pub fn s3(destination: &Destination, options: &S3Options) -> Result<Self> {
        Self::s3_in(destination, options, &|variable| std::env::var(variable).ok())
    }

    pub(super) fn s3_in(
        destination: &Destination,
        options: &S3Options,
        environment: Environment<'_>,
    ) -> Result<Self> {
        if *destination.storage() != Storage::S3 {
            return Err(another_storage(destination, "s3://bucket/path"));
        }
        let region = options.region.clone().filter(|region| !region.is_empty()).or_else(|| {
            let inherit = options.credentials == Credentials::Inherit;
            inherit.then(|| environment("AWS_REGION").or_else(|| environment("AWS_DEFAULT_REGION"))).flatten()
        });
        let transport =
            options.connections.transport(&options.ca_pem, &options.client_certificate, &options.limits)?;
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(destination.bucket())
            .with_region(&region)
            .with_unsigned_payload(!options.sign_payload)
            .with_http_connector(transport.clone())
            .with_retry(retry_config(&options.limits));
        let bucket = BucketUrl::new(destination.bucket(), options, &region)?;
        builder = builder.with_virtual_hosted_style_request(bucket.style == UriStyle::Host);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(true);
        }
        builder = with_credentials(builder, &options.credentials, environment)?;
        builder = with_encryption(builder, options.encryption.as_ref())?;
        let unusable = |error| unusable(destination, error);
        let made = builder.clone().build().map_err(unusable)?;
        // One that fetches temporary keys does so once for all.
        let credentials = match options.credentials {
            Credentials::Static { .. } => made.credentials().clone(),
            Credentials::Inherit => named(made.credentials().clone(), environment),
        };
        let builder = builder.with_credentials(credentials.clone());
        let store = Arc::new(builder.clone().build().map_err(unusable)?);
        let singles = builder.clone().with_disable_bulk_delete(true).build().map_err(unusable)?;
        let bucket = bucket.url;
        let pages: Arc<dyn PaginatedListStore> = store.clone();
        let mut made = Inner::new(store.clone(), store.clone(), Some(pages), destination);
        made.singles = Arc::new(singles);
        made.known = options.connections.known(&bucket);
        made.cheaper = match options.sign_payload {
            true => cheaper(&builder, bucket.starts_with("https://")).map_err(unusable)?,
            false => Cheaper { unprotected: true, ..Cheaper::default() },
        };
        made.throttled = transport.throttled();
        made.raw = Some(Raw {
            client: HttpClient::new(transport),
            signer: Signer::S3 { credentials, region },
            base: bucket,
            encryption: encryption_headers(options.encryption.as_ref())?,
            limits: options.limits.clone(),
        });
        made.tags = Tags::new(&options.tags, &options.history_tags)?;
        made.limits = options.limits.clone();
        Ok(Self { inner: Arc::new(made), cipher: None })
    }

    /// A store in memory.
    pub fn memory(destination: &Destination) -> Self {
        Self::over(Arc::new(InMemory::new()), destination)
    }

    /// A store over any backend, for tests that put failures between.
    pub fn over<S: ObjectStore + MultipartStore>(backend: Arc<S>, destination: &Destination) -> Self {
        Self { inner: Arc::new(Inner::new(backend.clone(), backend, None, destination)), cipher: None }
    }
}

impl Inner {
    /// Backends and a place; everything else as it is where nothing is known.
    pub(super) fn new(
        objects: Arc<dyn ObjectStore>,
        multipart: Arc<dyn MultipartStore>,
        pages: Option<Arc<dyn PaginatedListStore>>,
        destination: &Destination,
    ) -> Self {
        Self {
            singles: objects.clone(),
            objects,
            multipart,
            pages,
            raw: None,
            pending: None,
            own_check: None,
            storage: destination.storage().clone(),
            url: destination.to_string(),
            prefix: destination.prefix().to_owned(),
            tags: Tags::default(),
            limits: super::Limits::default(),
            cheaper: Cheaper::default(),
            known: Arc::default(),
            throttled: Arc::default(),
        }
    }
}

/// Clients that do not hash each body for its signature.
fn cheaper(builder: &AmazonS3Builder, https: bool) -> object_store::Result<Cheaper> {
    let client = |builder: AmazonS3Builder| {
        let store = Arc::new(builder.with_unsigned_payload(true).build()?);
        Ok::<_, object_store::Error>(Client { objects: store.clone(), multipart: store })
    };
    Ok(Cheaper {
        crc: Some(client(builder.clone().with_checksum_algorithm(Checksum::CRC64NVME))?),
        transport: if https { Some(client(builder.clone())?) } else { None },
        unprotected: false,
    })
}

/// A destination on another storage than the settings are for.
pub(super) fn another_storage(destination: &Destination, form: &str) -> Error {
    let found = destination.storage().as_str();
    Error::invalid(format!("{destination} is on {found}, and the settings are for another storage"))
        .with_remedy(format!("write the destination path as {form}, or give the settings of {found}"))
}

pub(super) fn unusable(destination: &Destination, error: object_store::Error) -> Error {
    Error::new(ErrorKind::Invalid, format!("the settings of {destination} cannot be used")).with_source(error)
}

pub(super) fn retry_config(limits: &Limits) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: limits.backoff_first,
            max_backoff: limits.backoff_max,
            base: 2.0,
        },
        max_retries: limits.retries,
        retry_timeout: limits.retry_for,
    }
}

fn with_credentials(
    mut builder: AmazonS3Builder,
    credentials: &Credentials,
    environment: Environment<'_>,
) -> Result<AmazonS3Builder> {
    match credentials {
        Credentials::Static { access_key_id, secret_access_key, session_token } => {
            // A line end is what `kubectl create secret --from-file` leaves; in a header it is an error.
            let (id, secret) = (access_key_id.expose().trim(), secret_access_key.expose().trim());
            if id.is_empty() || secret.is_empty() {
                return Err(Error::new(ErrorKind::Credentials, "the access key or the secret key is empty")
                    .with_remedy("fill the keys of the Secret that s3Credentials refers to"));
            }
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = session_token {
                builder = builder.with_token(token.expose().trim());
            }
        }
        Credentials::Inherit => {
            for key in [
                AmazonS3ConfigKey::WebIdentityTokenFile,
                AmazonS3ConfigKey::RoleArn,
                AmazonS3ConfigKey::RoleSessionName,
                AmazonS3ConfigKey::StsEndpoint,
                AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
                AmazonS3ConfigKey::ContainerCredentialsFullUri,
                AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
                AmazonS3ConfigKey::MetadataEndpoint,
            ] {
                let variable = key.as_ref().to_ascii_uppercase();
                if let Some(value) = environment(&variable) {
                    builder = builder.with_config(key, value);
                }
            }
        }
    }
    Ok(builder)
}

/// Temporary keys, with words for the case that there are none.
fn named(keys: AwsCredentialProvider, environment: Environment<'_>) -> AwsCredentialProvider {
    match (environment("AWS_WEB_IDENTITY_TOKEN_FILE"), environment("AWS_ROLE_ARN")) {
        (Some(file), Some(role)) => {
            let at = environment("AWS_ENDPOINT_URL_STS").map(|url| format!(" at {url}")).unwrap_or_default();
            let who = format!("assuming the role {role} with the token in {file}{at}");
            let remedy = "check the trust policy of the role (the cluster's OIDC provider, the service account in the \
                          subject, the audience sts.amazonaws.com) and that the token is mounted";
            Named::new(keys, who, remedy, Some(file))
        }
        (Some(file), None) => {
            let who =
                format!("the node's role (AWS_WEB_IDENTITY_TOKEN_FILE is {file}, AWS_ROLE_ARN is not set)");
            let remedy = "annotate the service account with eks.amazonaws.com/role-arn";
            Named::new(keys, who, remedy, None)
        }
        _ => {
            let remedy = "give the pod's service account a role (eks.amazonaws.com/role-arn, or a pod identity \
                          association), or the node an instance profile";
            Named::new(keys, "the identity of the pod".to_owned(), remedy, None)
        }
    }
}

fn with_encryption(builder: AmazonS3Builder, encryption: Option<&Encryption>) -> Result<AmazonS3Builder> {
    let algorithm = match encryption {
        None => return Ok(builder),
        Some(Encryption::Aes256) => "AES256",
        Some(Encryption::AwsKms { .. }) => "aws:kms",
    };
    let key = |name: &str| {
        name.parse::<AmazonS3ConfigKey>()
            .map_err(|error| Error::new(ErrorKind::Unsupported, format!("setting {name}")).with_source(error))
    };
    let mut builder = builder.with_config(key("aws_server_side_encryption")?, algorithm);
    if let Some(Encryption::AwsKms { key_id: Some(id) }) = encryption {
        builder = builder.with_config(key("aws_sse_kms_key_id")?, id);
    }
    Ok(builder)
}

/// The same as headers, for requests of our own.
fn encryption_headers(encryption: Option<&Encryption>) -> Result<Vec<(HeaderName, HeaderValue)>> {
    const ALGORITHM: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
    const KEY: HeaderName = HeaderName::from_static("x-amz-server-side-encryption-aws-kms-key-id");
    let wrong = |error| Error::invalid("the id of the encryption key cannot be sent").with_source(error);
    Ok(match encryption {
        None => Vec::new(),
        Some(Encryption::Aes256) => vec![(ALGORITHM, HeaderValue::from_static("AES256"))],
        Some(Encryption::AwsKms { key_id }) => {
            let mut headers = vec![(ALGORITHM, HeaderValue::from_static("aws:kms"))];
            if let Some(id) = key_id {
                headers.push((KEY, HeaderValue::try_from(id).map_err(wrong)?));
            }
            headers
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn destination() -> Destination {
        Destination::parse("s3://b/p").expect("valid")
    }

    #[rstest]
    #[case::aws(None, None)]
    #[case::plain(Some("http://127.0.0.1:9000"), None)]
    #[case::no_scheme(Some("s3.example.com"), Some("eu-west-1"))]
    fn settings_are_accepted(#[case] endpoint: Option<&str>, #[case] region: Option<&str>) {
        let mut options = S3Options::with_keys("id", "secret");
        options.endpoint = endpoint.map(str::to_owned);
        options.region = region.map(str::to_owned);
        options.encryption = Some(Encryption::AwsKms { key_id: Some("k".into()) });
        options.tags = vec![("team".into(), "db one".into())];
        let store = Store::s3(&destination(), &options).expect("valid");
        assert_eq!(store.url_of("srv/x"), "s3://b/p/srv/x");
    }

    /// A stand-in for the instance metadata service: a token, a role, its keys.
    async fn metadata_service() -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = connection.read(&mut request).await.unwrap_or(0);
                let line =
                    String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or("").to_owned();
                let body = match line.split(' ').nth(1).unwrap_or("") {
                    "/latest/api/token" => "metadata-token",
                    "/latest/meta-data/iam/security-credentials/" => "the-role",
                    "/latest/meta-data/iam/security-credentials/the-role" => concat!(
                        r#"{"AccessKeyId": "role-key", "SecretAccessKey": "role-secret", "Token": "role-token","#,
                        r#" "Expiration": "2099-01-01T00:00:00Z"}"#
                    ),
                    _ => "",
                };
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                // The client may have gone; its test fails then.
                let _ = connection.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn the_pods_role_signs_requests() {
        let server = howdah_s3::Server::builder()
            .session_credentials("role-key", "role-secret", "role-token")
            .bucket("bucket")
            .start()
            .await
            .expect("a port");
        let metadata = metadata_service().await;
        let mut options = S3Options::new(Credentials::Inherit);
        options.endpoint = Some(server.endpoint());
        let environment = &|variable: &str| match variable {
            "AWS_METADATA_ENDPOINT" => Some(metadata.clone()),
            "AWS_REGION" => Some("eu-west-1".to_owned()),
            _ => None,
        };
        let destination = Destination::parse("s3://bucket/p").expect("valid");
        let store = Store::s3_in(&destination, &options, environment).expect("valid");
        store.put("k", "x".into()).await.expect("accepted");
        assert_eq!(server.get("bucket", "p/k").await.expect("there"), "x");
    }

    #[rstest]
    #[case("", "secret")]
    #[case("id", " \n")]
    fn empty_keys_are_refused(#[case] id: &str, #[case] secret: &str) {
        let error = Store::s3(&destination(), &S3Options::with_keys(id, secret)).expect_err("no keys");
        assert_eq!(error.kind(), ErrorKind::Credentials);
    }
}
