//! Making stores: S3, and memory for tests of logic.

use super::dialect::{Cheaper, Client};
use super::options::{Credentials, Encryption, S3Options};
use super::raw::Raw;
use super::{Inner, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Destination, normalise_endpoint};
use http::{HeaderName, HeaderValue};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::client::HttpClient;
use object_store::list::PaginatedListStore;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig, TagSet};
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
        Self::s3_in(destination, options, |variable| std::env::var(variable).ok())
    }

    fn s3_in(
        destination: &Destination,
        options: &S3Options,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let region = options.region.clone().filter(|region| !region.is_empty()).or_else(|| {
            let inherit = options.credentials == Credentials::Inherit;
            inherit.then(|| environment("AWS_REGION").or_else(|| environment("AWS_DEFAULT_REGION"))).flatten()
        });
        let transport = options.connections.transport(options)?;
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(destination.bucket())
            .with_region(&region)
            .with_unsigned_payload(!options.sign_payload)
            .with_http_connector(transport.clone())
            .with_retry(retry_config(options));
        let virtual_host = virtual_host(destination.bucket(), options);
        let bucket = bucket_url(destination.bucket(), options.endpoint.as_deref(), &region, virtual_host)?;
        builder = builder.with_virtual_hosted_style_request(virtual_host);
        builder = match &options.endpoint {
            // The client takes it as it is then: the bucket is in it.
            Some(_) if virtual_host => builder.with_endpoint(bucket.clone()).with_allow_http(true),
            Some(endpoint) => builder.with_endpoint(normalise_endpoint(endpoint)?).with_allow_http(true),
            None => builder,
        };
        builder = with_credentials(builder, &options.credentials, &environment)?;
        builder = with_encryption(builder, options.encryption.as_ref())?;
        let unusable = |error| {
            Error::new(ErrorKind::Invalid, format!("the settings of {destination} cannot be used"))
                .with_source(error)
        };
        let store = Arc::new(builder.clone().build().map_err(unusable)?);
        // One that fetches temporary keys does so once for all.
        let builder = builder.with_credentials(store.credentials().clone());
        let singles = builder.clone().with_disable_bulk_delete(true).build().map_err(unusable)?;
        let pages: Arc<dyn PaginatedListStore> = store.clone();
        let mut made = Self::assemble(store.clone(), store.clone(), Some(pages), destination);
        made.singles = Arc::new(singles);
        made.known = options.connections.known(&bucket);
        made.cheaper = match options.sign_payload {
            true => cheaper(&builder, bucket.starts_with("https://")).map_err(unusable)?,
            false => Cheaper { unprotected: true, ..Cheaper::default() },
        };
        made.throttled = transport.throttled();
        made.raw = Some(Raw {
            client: HttpClient::new(transport),
            credentials: store.credentials().clone(),
            bucket,
            region,
            encryption: encryption_headers(options.encryption.as_ref())?,
        });
        made.tags = tag_set(&options.tags)?;
        made.history_tags =
            if options.history_tags.is_empty() { made.tags.clone() } else { tag_set(&options.history_tags)? };
        made.limits = options.limits.clone();
        Ok(Self { inner: Arc::new(made) })
    }

    /// A store in memory.
    pub fn memory(destination: &Destination) -> Self {
        Self::over(Arc::new(InMemory::new()), destination)
    }

    /// A store over any backend, for tests that put failures between.
    pub fn over<S: ObjectStore + MultipartStore>(backend: Arc<S>, destination: &Destination) -> Self {
        Self { inner: Arc::new(Self::assemble(backend.clone(), backend, None, destination)) }
    }

    fn assemble(
        objects: Arc<dyn ObjectStore>,
        multipart: Arc<dyn MultipartStore>,
        pages: Option<Arc<dyn PaginatedListStore>>,
        destination: &Destination,
    ) -> Inner {
        Inner {
            singles: objects.clone(),
            objects,
            multipart,
            pages,
            raw: None,
            url: destination.to_string(),
            prefix: destination.prefix().to_owned(),
            tags: TagSet::default(),
            history_tags: TagSet::default(),
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

/// Whether the bucket is a label of the host. A name with a dot does not match the wildcard certificate of AWS.
fn virtual_host(bucket: &str, options: &S3Options) -> bool {
    options.virtual_host.unwrap_or(options.endpoint.is_none() && !bucket.contains('.'))
}

/// The URL that the client makes of the same settings.
fn bucket_url(bucket: &str, endpoint: Option<&str>, region: &str, virtual_host: bool) -> Result<String> {
    let endpoint = match endpoint {
        Some(endpoint) => normalise_endpoint(endpoint)?,
        None => format!("https://s3.{region}.amazonaws.com"),
    };
    Ok(match endpoint.split_once("://") {
        Some((scheme, host)) if virtual_host => format!("{scheme}://{bucket}.{host}"),
        _ => format!("{endpoint}/{bucket}"),
    })
}

fn retry_config(options: &S3Options) -> RetryConfig {
    let limits = &options.limits;
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
    environment: &impl Fn(&str) -> Option<String>,
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

/// Checks tags by the rules of S3, so that a wrong one is found before the first upload.
fn tag_set(tags: &[(String, String)]) -> Result<TagSet> {
    let wrong = |what: String| {
        Error::invalid(what).with_remedy(
            "use at most 10 tags; keys of 1 to 128 and values of up to 256 letters, digits, spaces or + - = . _ : / @",
        )
    };
    let allowed = |text: &str| {
        text.chars()
            .all(|c| c.is_alphanumeric() || matches!(c, ' ' | '+' | '-' | '=' | '.' | '_' | ':' | '/' | '@'))
    };
    if tags.len() > 10 {
        return Err(wrong(format!("{} tags are too many", tags.len())));
    }
    let mut set = TagSet::default();
    for (index, (key, value)) in tags.iter().enumerate() {
        let key_ok = (1..=128).contains(&key.chars().count()) && allowed(key) && !key.starts_with("aws:");
        if !key_ok || value.chars().count() > 256 || !allowed(value) {
            return Err(wrong(format!("tag {key:?} = {value:?} is not valid")));
        }
        if tags[..index].iter().any(|(other, _)| other == key) {
            return Err(wrong(format!("tag {key:?} is there twice")));
        }
        set.push(key, value);
    }
    Ok(set)
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

    #[rstest]
    #[case::aws("b", None, None, "https://b.s3.eu-1.amazonaws.com")]
    #[case::aws_dotted("b.c", None, None, "https://s3.eu-1.amazonaws.com/b.c")]
    #[case::aws_path("b", None, Some(false), "https://s3.eu-1.amazonaws.com/b")]
    #[case::other("b", Some("http://minio:9000"), None, "http://minio:9000/b")]
    #[case::other_host("b", Some("s3.example.com:443"), Some(true), "https://b.s3.example.com")]
    fn where_the_bucket_stands(
        #[case] bucket: &str,
        #[case] endpoint: Option<&str>,
        #[case] style: Option<bool>,
        #[case] expected: &str,
    ) {
        let mut options = S3Options::with_keys("id", "secret");
        (options.endpoint, options.virtual_host) = (endpoint.map(str::to_owned), style);
        let virtual_host = virtual_host(bucket, &options);
        assert_eq!(bucket_url(bucket, endpoint, "eu-1", virtual_host).expect("valid"), expected);
        let destination = Destination::parse(&format!("s3://{bucket}/p")).expect("valid");
        assert!(Store::s3(&destination, &options).is_ok());
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
        let environment = |variable: &str| match variable {
            "AWS_METADATA_ENDPOINT" => Some(metadata.clone()),
            "AWS_REGION" => Some("eu-west-1".to_owned()),
            _ => None,
        };
        let store = Store::s3_in(&Destination::parse("s3://bucket/p").expect("valid"), &options, environment)
            .expect("valid");
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

    #[rstest]
    #[case::reserved(&[("aws:x", "v")])]
    #[case::empty(&[("", "v")])]
    #[case::charset(&[("k", "a?b")])]
    #[case::twice(&[("k", "1"), ("k", "2")])]
    fn wrong_tags_are_refused(#[case] tags: &[(&str, &str)]) {
        let tags: Vec<_> = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(tag_set(&tags).expect_err("wrong").exit_code(), 3);
    }
}
