//! Destination URLs and endpoint URLs, as users write them.

use crate::error::{Error, Result};
use std::fmt;
use url::Url;

/// What all destinations look like, for whoever wrote another one.
const FORMS: &str = "write it as s3://bucket/path, gs://bucket/path, \
                     https://ACCOUNT.blob.core.windows.net/container/path or azure://container/path";

/// The kind of storage that a destination is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// S3 and its relatives: `s3://bucket/path`.
    S3,
    /// Google Cloud Storage: `gs://bucket/path`.
    Gcs,
    /// Azure Blob Storage.
    Azure {
        /// Where the account is: `https://ACCOUNT.blob.core.windows.net`, or `http://host:port/ACCOUNT` of an
        /// emulator. `None` when the destination is written as `azure://container/path`.
        endpoint: Option<String>,
    },
}

impl Storage {
    /// A name for messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::S3 => "S3",
            Self::Gcs => "Google Cloud Storage",
            Self::Azure { .. } => "Azure Blob Storage",
        }
    }
}

/// A bucket (Azure: a container) and a path in it, with or without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    storage: Storage,
    bucket: String,
    prefix: String,
}

impl Destination {
    /// Reads a destination. Slashes at the end and doubled ones are dropped, so that one repository has one name.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong =
            |what: &str| Error::invalid(format!("destination path {text:?} {what}")).with_remedy(FORMS);
        let trimmed = text.trim();
        let (storage, rest) = match trimmed.split_once("://") {
            Some(("s3", rest)) => (Storage::S3, rest),
            Some(("gs", rest)) => (Storage::Gcs, rest),
            Some(("azure", rest)) => (Storage::Azure { endpoint: None }, rest),
            Some((scheme @ ("https" | "http"), rest)) => {
                if rest.contains(['?', '#', '@']) {
                    // Not echoed: a signature or a password may be in it.
                    return Err(Error::invalid("the destination path is a URL with a query or a user in it")
                        .with_remedy("put the credentials into the Secret, and the bare URL here"));
                }
                let (endpoint, rest) = account(scheme, rest).map_err(|what| wrong(&what))?;
                (Storage::Azure { endpoint: Some(endpoint) }, rest)
            }
            Some((scheme, _)) => {
                return Err(wrong(&format!("has the scheme {scheme}, which is not supported")));
            }
            None => return Err(wrong("is not a URL")),
        };
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let valid_bucket = !bucket.is_empty()
            && bucket
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'$'));
        if !valid_bucket {
            return Err(wrong(match storage {
                Storage::Azure { .. } => "has no valid container name",
                _ => "has no valid bucket name",
            }));
        }
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let bad = |segment: &&str| {
            matches!(*segment, "." | "..")
                || segment.chars().any(|c| c.is_control() || matches!(c, '?' | '#'))
        };
        if let Some(segment) = segments.iter().find(|segment| bad(segment)) {
            return Err(wrong(&format!("has {segment:?} in its path")));
        }
        Ok(Self { storage, bucket: bucket.to_owned(), prefix: segments.join("/") })
    }

    /// The kind of storage.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The bucket, or the container.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The path in the bucket without slashes at its ends; may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// Splits what follows `https://` into the URL of an Azure account and the rest, which begins with the container.
/// An account is the first label of `ACCOUNT.blob.…`; elsewhere (an emulator) it is the first segment of the path.
fn account<'a>(scheme: &str, rest: &'a str) -> Result<(String, &'a str), String> {
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut labels = host.split('.');
    let (name, service) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    if scheme == "https" && service == "blob" && !name.is_empty() && labels.next().is_some() {
        return Ok((format!("{scheme}://{host}"), path.trim_start_matches('/')));
    }
    // A name without a port is more likely a bucket that somebody wrote as a URL.
    let emulator = !host.is_empty() && (host.contains(':') || host == "localhost");
    match path.trim_start_matches('/').split_once('/') {
        Some((name, rest)) if emulator && !name.is_empty() => {
            Ok((format!("{scheme}://{host}/{name}"), rest.trim_start_matches('/')))
        }
        _ if emulator => Err("names no account and container after the host".to_owned()),
        _ => Err(format!("is on {host}, which is no address of Azure Blob Storage")),
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.storage {
            Storage::S3 => write!(f, "s3://{}", self.bucket)?,
            Storage::Gcs => write!(f, "gs://{}", self.bucket)?,
            Storage::Azure { endpoint: None } => write!(f, "azure://{}", self.bucket)?,
            Storage::Azure { endpoint: Some(endpoint) } => write!(f, "{endpoint}/{}", self.bucket)?,
        }
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// An endpoint as a URL without a slash at the end. Without a scheme it is https.
pub fn normalise_endpoint(text: &str) -> Result<String> {
    let wrong = |what: String| {
        Error::invalid(format!("endpoint URL {what}"))
            .with_remedy("write it as https://host[:port], or http://host[:port] for a store without TLS")
    };
    let trimmed = text.trim();
    let with_scheme = if trimmed.contains("://") { trimmed.to_owned() } else { format!("https://{trimmed}") };
    let url = Url::parse(&with_scheme)
        .map_err(|error| wrong(format!("{text:?} is not valid")).with_source(error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("{text:?} has the scheme {}, not https or http", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not echoed: it holds a secret.
        return Err(wrong("contains a user name or a password".to_owned())
            .with_remedy("put the credentials into the Secret that s3Credentials refers to"));
    }
    if url.host_str().is_none_or(str::is_empty) || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(format!("{text:?} is not a host with an optional port and path")));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// S2.9, S3.5: any folder, whatever slashes.
    #[rstest]
    #[case("s3://bucket", "bucket", "", "s3://bucket")]
    #[case("s3://bucket/", "bucket", "", "s3://bucket")]
    #[case("s3://bucket/a/b", "bucket", "a/b", "s3://bucket/a/b")]
    #[case("s3://bucket/a/b/", "bucket", "a/b", "s3://bucket/a/b")]
    #[case(" s3://my.bucket-1//a//b// ", "my.bucket-1", "a/b", "s3://my.bucket-1/a/b")]
    #[case("gs://bucket/a/", "bucket", "a", "gs://bucket/a")]
    #[case("azure://container/a", "container", "a", "azure://container/a")]
    #[case(
        "https://acct.blob.core.windows.net/container/a/b/",
        "container",
        "a/b",
        "https://acct.blob.core.windows.net/container/a/b"
    )]
    #[case(
        "https://acct.blob.core.usgovcloudapi.net/$root",
        "$root",
        "",
        "https://acct.blob.core.usgovcloudapi.net/$root"
    )]
    #[case(
        "http://127.0.0.1:10000/devstoreaccount1/container/a",
        "container",
        "a",
        "http://127.0.0.1:10000/devstoreaccount1/container/a"
    )]
    fn destinations(#[case] text: &str, #[case] bucket: &str, #[case] prefix: &str, #[case] shown: &str) {
        let destination = Destination::parse(text).expect("valid");
        assert_eq!((destination.bucket(), destination.prefix()), (bucket, prefix));
        assert_eq!(destination.to_string(), shown);
    }

    #[rstest]
    #[case("")]
    #[case("bucket/path")]
    #[case("s3:/bucket")]
    #[case("s3:///path")]
    #[case("https://bucket/path")]
    #[case("https://acct.blob.core.windows.net/")]
    #[case("http://acct.blob.core.windows.net/container")]
    #[case("http://127.0.0.1:10000/devstoreaccount1")]
    #[case("gs://")]
    #[case("gcs://bucket/path")]
    #[case("azure:///path")]
    #[case("s3://buc ket/path")]
    #[case("s3://bucket/../other")]
    #[case("s3://bucket/a?b")]
    fn bad_destinations(#[case] text: &str) {
        let error = Destination::parse(text).expect_err("not a destination");
        assert_eq!(error.exit_code(), 3);
        let remedy = error.remedy();
        assert!(
            ["s3://bucket/path", "gs://", "blob.core.windows.net/", "azure://"]
                .iter()
                .all(|f| remedy.contains(f))
        );
    }

    /// S0.7: the storages are told apart by what the user wrote.
    #[rstest]
    #[case("s3://b/p", Storage::S3)]
    #[case("gs://b/p", Storage::Gcs)]
    #[case("azure://c/p", Storage::Azure { endpoint: None })]
    #[case(
        "https://acct.blob.core.windows.net/c/p",
        Storage::Azure { endpoint: Some("https://acct.blob.core.windows.net".into()) }
    )]
    #[case(
        "http://localhost/acct/c/p",
        Storage::Azure { endpoint: Some("http://localhost/acct".into()) }
    )]
    fn storages(#[case] text: &str, #[case] storage: Storage) {
        assert_eq!(Destination::parse(text).expect("valid").storage(), &storage);
    }

    #[test]
    fn a_signature_in_a_url_is_not_echoed() {
        let text = "https://acct.blob.core.windows.net/c/p?sv=2023&sig=sesame";
        assert!(!Destination::parse(text).expect_err("a query").report().contains("sesame"));
    }

    /// S2.11: with a scheme and without.
    #[rstest]
    #[case("https://s3.example.com", "https://s3.example.com")]
    #[case("https://s3.example.com/", "https://s3.example.com")]
    #[case("s3.example.com", "https://s3.example.com")]
    #[case("s3.example.com:9000", "https://s3.example.com:9000")]
    #[case("http://127.0.0.1:9000", "http://127.0.0.1:9000")]
    #[case("http://[::1]:9000/", "http://[::1]:9000")]
    #[case("https://host/path/", "https://host/path")]
    fn endpoints(#[case] text: &str, #[case] normal: &str) {
        assert_eq!(normalise_endpoint(text).expect("valid"), normal);
    }

    #[rstest]
    #[case("")]
    #[case("ftp://host")]
    #[case("https://")]
    #[case("https://host?x=1")]
    #[case("https://bad host")]
    fn bad_endpoints(#[case] text: &str) {
        assert_eq!(normalise_endpoint(text).expect_err("not an endpoint").exit_code(), 3);
    }

    #[test]
    fn a_password_is_not_echoed() {
        let error = normalise_endpoint("https://user:sesame@host").expect_err("credentials");
        assert!(!error.report().contains("sesame"));
    }
}
