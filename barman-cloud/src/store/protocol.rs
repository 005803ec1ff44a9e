//! Whose language is spoken on a connection: what an answer has to look like depends on it.

use super::answer::Expected;
use http::{HeaderMap, Method, Uri};
use object_store::client::HttpRequest;

/// The protocol of a store's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Protocol {
    /// S3 and its relatives.
    #[default]
    S3,
    /// Google Cloud Storage, JSON and XML, at this host and port; tokens come from other hosts.
    Gcs { authority: String },
    /// Azure Blob Storage.
    Azure,
}

impl Protocol {
    /// What the answer to a request has to be. Credentials come over the same connections, and are not judged.
    pub(super) fn expected(&self, request: &HttpRequest) -> Expected {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        match self {
            Self::S3 if headers.contains_key("x-amz-content-sha256") => s3(method, uri),
            Self::Gcs { authority } if uri.authority().is_some_and(|found| found == authority.as_str()) => {
                gcs(method, uri)
            }
            Self::Azure if headers.contains_key("x-ms-version") => azure(method, uri),
            _ => Expected::Anything,
        }
    }

    /// The document of an error, in S3's form, where the store told it otherwise.
    pub(super) fn error_document(&self, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        match self {
            // The answer to HEAD has no body; the code is in a header.
            Self::Azure if body.is_empty() => {
                let code = headers.get("x-ms-error-code")?.to_str().ok()?;
                Some(document(code, ""))
            }
            Self::Gcs { .. } => {
                let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
                let error = answer.get("error")?;
                let text = |value: Option<&serde_json::Value>| {
                    value.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
                };
                let message = text(error.get("message"));
                let reason = text(error.pointer("/errors/0/reason"));
                let missing = reason == "notFound" && message.contains("bucket does not exist");
                Some(document(if missing { "NoSuchBucket" } else { &reason }, &message))
            }
            _ => None,
        }
    }
}

fn document(code: &str, message: &str) -> String {
    let plain = |text: &str| text.replace(['<', '>', '&'], " ");
    format!("<Error><Code>{}</Code><Message>{}</Message></Error>", plain(code), plain(message))
}

fn has(uri: &Uri, name: &str) -> bool {
    uri.query().unwrap_or_default().split('&').any(|pair| pair.split('=').next() == Some(name))
}

fn s3(method: &Method, uri: &Uri) -> Expected {
    match method.as_str() {
        "GET" if has(uri, "list-type") => Expected::Document("ListBucketResult"),
        "GET" if has(uri, "uploads") => Expected::Document("ListMultipartUploadsResult"),
        "POST" if has(uri, "uploads") => Expected::Document("InitiateMultipartUploadResult"),
        "POST" if has(uri, "uploadId") => Expected::Document("CompleteMultipartUploadResult"),
        "POST" if has(uri, "delete") => Expected::Document("DeleteResult"),
        "GET" | "HEAD" => Expected::Object,
        "PUT" => Expected::Written,
        "DELETE" => Expected::Nothing,
        _ => Expected::Anything,
    }
}

fn gcs(method: &Method, uri: &Uri) -> Expected {
    let json = ["/storage/v1/", "/upload/storage/v1/"].iter().any(|path| uri.path().starts_with(path));
    match method.as_str() {
        // Emulators answer 200 and `null`.
        "DELETE" => Expected::NoPage,
        _ if json => Expected::Json,
        // A store without such uploads answers with something else: that is how it is known.
        "GET" if has(uri, "uploads") => Expected::NoPage,
        _ => s3(method, uri),
    }
}

fn azure(method: &Method, uri: &Uri) -> Expected {
    let comp = |value: &str| {
        uri.query().unwrap_or_default().split('&').any(|pair| pair.strip_prefix("comp=") == Some(value))
    };
    match method.as_str() {
        "GET" if comp("list") => Expected::Document("EnumerationResults"),
        "GET" | "HEAD" if uri.query().is_none_or(|query| !query.contains("comp=")) => Expected::Object,
        _ => Expected::Header("x-ms-request-id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("GET", "/b?list-type=2&prefix=x", Expected::Document("ListBucketResult"))]
    #[case("GET", "/b?max-uploads=1&uploads=", Expected::Document("ListMultipartUploadsResult"))]
    #[case("POST", "/b/k?uploads=", Expected::Document("InitiateMultipartUploadResult"))]
    #[case("POST", "/b/k?uploadId=u", Expected::Document("CompleteMultipartUploadResult"))]
    #[case("POST", "/b?delete", Expected::Document("DeleteResult"))]
    #[case("GET", "/b/uploads", Expected::Object)]
    #[case("HEAD", "/b/k", Expected::Object)]
    #[case("PUT", "/b/k?partNumber=1&uploadId=u", Expected::Written)]
    #[case("DELETE", "/b/k?uploadId=u", Expected::Nothing)]
    fn requests_to_s3(#[case] method: &str, #[case] uri: &str, #[case] expected: Expected) {
        let (method, uri) = (method.parse().expect("a method"), uri.parse().expect("a URI"));
        assert_eq!(s3(&method, &uri), expected);
    }

    #[rstest]
    #[case("GET", "/c?comp=list&restype=container", Expected::Document("EnumerationResults"))]
    #[case("GET", "/c/k?sig=x", Expected::Object)]
    #[case("HEAD", "/c/k", Expected::Object)]
    #[case("PUT", "/c/k?comp=block&blockid=x", Expected::Header("x-ms-request-id"))]
    #[case("DELETE", "/c/k", Expected::Header("x-ms-request-id"))]
    fn requests_to_azure(#[case] method: &str, #[case] uri: &str, #[case] expected: Expected) {
        let (method, uri) = (method.parse().expect("a method"), uri.parse().expect("a URI"));
        assert_eq!(azure(&method, &uri), expected);
    }

    #[rstest]
    #[case("GET", "/storage/v1/b/b/o?prefix=x", Expected::Json)]
    #[case("POST", "/upload/storage/v1/b/b/o?uploadType=multipart", Expected::Json)]
    #[case("GET", "/b/k", Expected::Object)]
    #[case("DELETE", "/storage/v1/b/b/o/k", Expected::NoPage)]
    #[case("GET", "/b?uploads", Expected::NoPage)]
    #[case("PUT", "/b/k?partNumber=1&uploadId=u", Expected::Written)]
    fn requests_to_google(#[case] method: &str, #[case] uri: &str, #[case] expected: Expected) {
        let (method, uri) = (method.parse().expect("a method"), uri.parse().expect("a URI"));
        assert_eq!(gcs(&method, &uri), expected);
    }

    #[test]
    fn errors_are_told_in_one_form() {
        let google = Protocol::Gcs { authority: "h".into() };
        let body = br#"{"error":{"code":404,"message":"The specified bucket does not exist.",
            "errors":[{"reason":"notFound"}]}}"#;
        let told = google.error_document(&HeaderMap::new(), body).expect("an error");
        assert!(told.contains("<Code>NoSuchBucket</Code>"), "{told}");
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-error-code", http::HeaderValue::from_static("ContainerNotFound"));
        let told = Protocol::Azure.error_document(&headers, b"").expect("an error");
        assert!(told.contains("<Code>ContainerNotFound</Code>"), "{told}");
        assert!(google.error_document(&HeaderMap::new(), b"<html>").is_none());
    }
}
