//! Where a bucket of S3 is: its URL by the endpoint, the region and the style.

use super::options::{S3Options, UriStyle};
use crate::error::Result;
use crate::layout::normalise_endpoint;

/// Where a bucket is.
pub(super) struct BucketUrl {
    pub(super) style: UriStyle,
    /// The endpoint as the client wants it: with the bucket ahead of the host where it goes there.
    pub(super) endpoint: Option<String>,
    /// The URL that the client makes of the same settings.
    pub(super) url: String,
}

impl BucketUrl {
    pub(super) fn new(bucket: &str, options: &S3Options, region: &str) -> Result<Self> {
        let endpoint = options.endpoint.as_deref().map(normalise_endpoint).transpose()?;
        let style = options.uri_style.unwrap_or(match &endpoint {
            Some(_) => UriStyle::Path,
            // A bucket name with a dot does not match the wildcard certificate of the virtual host.
            None if bucket.contains('.') => UriStyle::Path,
            None => UriStyle::Host,
        });
        let service = endpoint.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let (scheme, host) = service.split_once("://").unwrap_or(("https", &service));
        Ok(match style {
            UriStyle::Path => Self { style, url: format!("{service}/{bucket}"), endpoint },
            UriStyle::Host if endpoint.is_none() => {
                Self { style, url: format!("https://{bucket}.{host}"), endpoint }
            }
            UriStyle::Host => {
                let url = format!("{scheme}://{bucket}.{host}");
                Self { style, endpoint: Some(url.clone()), url }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Destination;
    use crate::store::Store;
    use crate::store::double::{Double, answer};
    use rstest::rstest;

    /// S0.19, S1.18, S1.19, S1.20: an endpoint with or without scheme and port, any region, and where the bucket goes.
    #[rstest]
    #[case::aws(None, None, "b", "https://b.s3.any.amazonaws.com")]
    #[case::aws_dot(None, None, "b.c", "https://s3.any.amazonaws.com/b.c")]
    #[case::aws_path(None, Some(UriStyle::Path), "b", "https://s3.any.amazonaws.com/b")]
    #[case::own(Some("https://host:443"), None, "b", "https://host/b")]
    #[case::bare(Some("minio:9000"), Some(UriStyle::Path), "b", "https://minio:9000/b")]
    #[case::host(Some("http://host:9000"), Some(UriStyle::Host), "b", "http://b.host:9000")]
    fn buckets_are_in_the_host_or_in_the_path(
        #[case] endpoint: Option<&str>,
        #[case] style: Option<UriStyle>,
        #[case] bucket: &str,
        #[case] url: &str,
    ) {
        let mut options = S3Options::with_keys("id", "secret");
        options.endpoint = endpoint.map(str::to_owned);
        options.uri_style = style;
        assert_eq!(BucketUrl::new(bucket, &options, "any").expect("valid").url, url);
    }

    #[tokio::test]
    async fn a_bucket_in_the_host_is_asked_there() {
        let server = Double::start(|_| answer(200, &[("etag", "\"1\"")], "")).await;
        let port = server.address().rsplit(':').next().unwrap_or_default().to_owned();
        let mut options = S3Options::with_keys("id", "secret");
        options.endpoint = Some(format!("http://localhost:{port}"));
        options.uri_style = Some(UriStyle::Host);
        Store::s3(&Destination::parse("s3://b/p").expect("valid"), &options)
            .expect("valid")
            .put("k", "x".into())
            .await
            .expect("written");
        let seen = server.seen();
        assert_eq!(
            (seen[0].header("host"), seen[0].uri.path()),
            (format!("b.localhost:{port}").as_str(), "/p/k")
        );
    }
}
