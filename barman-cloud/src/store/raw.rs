//! Requests that the client library has no call for, signed with its signer.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use object_store::Error;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};

/// What it takes to send a request of our own.
pub(super) struct Raw {
    pub(super) client: HttpClient,
    pub(super) credentials: AwsCredentialProvider,
    pub(super) region: String,
    /// URL of the bucket, without a slash at the end.
    pub(super) bucket: String,
    /// Headers that ask for server-side encryption, for writes.
    pub(super) encryption: Vec<(HeaderName, HeaderValue)>,
}

/// A request: what follows the bucket's URL, headers, and the body, which the signature covers or not.
pub(super) struct RawRequest {
    pub(super) method: Method,
    /// `/key` or `?query`, encoded as it is signed.
    pub(super) target: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    pub(super) sign_body: bool,
}

impl RawRequest {
    pub(super) fn get(target: String) -> Self {
        Self { method: Method::GET, target, headers: Vec::new(), body: Bytes::new(), sign_body: true }
    }
}

impl Raw {
    /// Sends it once; any answer is a success.
    pub(super) async fn send(&self, ask: RawRequest) -> Result<(StatusCode, Bytes), Error> {
        let generic =
            |source: Box<dyn std::error::Error + Send + Sync>| Error::Generic { store: "S3", source };
        let mut request = HttpRequest::new(HttpRequestBody::from(ask.body));
        *request.method_mut() = ask.method;
        *request.uri_mut() =
            format!("{}{}", self.bucket, ask.target).parse().map_err(|error| generic(Box::new(error)))?;
        request.headers_mut().extend(ask.headers);
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(ask.sign_body)
            .try_authorize(&mut request, None)?;
        let answer = self.client.execute(request).await.map_err(|error| generic(Box::new(error)))?;
        let status = answer.status();
        let body = answer.into_body().bytes().await.map_err(|error| generic(Box::new(error)))?;
        Ok((status, body))
    }
}

/// A failure in the words of the client library, so that it is classed like one of its own.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let text = format!("Server returned non-2xx status code: {status}: {}", String::from_utf8_lossy(body));
    Error::Generic { store: "S3", source: text.into() }
}

/// Percent-encoding of everything but what a signature leaves as it is.
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// A key as the path of a URL, with a slash ahead.
pub(super) fn encoded_key(key: &str) -> String {
    key.split('/').map(|part| format!("/{}", encoded(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_keys_are_encoded_as_they_are_signed() {
        assert_eq!(encoded("a/b c+é~"), "a%2Fb%20c%2B%C3%A9~");
        assert_eq!(encoded_key("a/b c"), "/a/b%20c");
    }
}
