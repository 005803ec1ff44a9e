//! Destination URLs and endpoint URLs, as users write them.

use crate::error::{Error, Result};
use std::fmt;
use url::Url;

/// A bucket and a path in it: `s3://bucket[/path]`, with or without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    bucket: String,
    prefix: String,
}

impl Destination {
    /// Reads a destination. Slashes at the end and doubled ones are dropped, so that one repository has one name.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::invalid(format!("destination path {text:?} {what}"))
                .with_remedy("write it as s3://bucket/path")
        };
        let trimmed = text.trim();
        let rest = match trimmed.split_once("://") {
            Some(("s3", rest)) => rest,
            Some((scheme, _)) => {
                return Err(wrong(&format!("has the scheme {scheme}, which is not supported")));
            }
            None => return Err(wrong("is not a URL")),
        };
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let valid_bucket = !bucket.is_empty()
            && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
        if !valid_bucket {
            return Err(wrong("has no valid bucket name"));
        }
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let bad = |segment: &&str| {
            matches!(*segment, "." | "..")
                || segment.chars().any(|c| c.is_control() || matches!(c, '?' | '#'))
        };
        if let Some(segment) = segments.iter().find(|segment| bad(segment)) {
            return Err(wrong(&format!("has {segment:?} in its path")));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: segments.join("/") })
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The path in the bucket without slashes at its ends; may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix.is_empty() {
            write!(f, "s3://{}", self.bucket)
        } else {
            write!(f, "s3://{}/{}", self.bucket, self.prefix)
        }
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

    #[rstest]
    #[case("s3://bucket", "bucket", "", "s3://bucket")]
    #[case("s3://bucket/", "bucket", "", "s3://bucket")]
    #[case("s3://bucket/a/b", "bucket", "a/b", "s3://bucket/a/b")]
    #[case("s3://bucket/a/b/", "bucket", "a/b", "s3://bucket/a/b")]
    #[case(" s3://my.bucket-1//a//b// ", "my.bucket-1", "a/b", "s3://my.bucket-1/a/b")]
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
    #[case("s3://buc ket/path")]
    #[case("s3://bucket/../other")]
    #[case("s3://bucket/a?b")]
    fn bad_destinations(#[case] text: &str) {
        let error = Destination::parse(text).expect_err("not a destination");
        assert_eq!(error.exit_code(), 3);
        assert!(error.remedy().contains("s3://bucket/path"));
    }

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
