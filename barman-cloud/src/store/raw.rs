//! Requests that the client library has no call for, signed with its signers.

use super::options::Limits;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::{HttpClient, HttpErrorKind, HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;
use object_store::{Error, PutPayload};

/// What it takes to send a request of our own.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) client: HttpClient,
    pub(super) signer: Signer,
    /// URL before each target, without a slash at the end: of the bucket, or of the service.
    pub(super) base: String,
    /// Headers that ask for server-side encryption, for writes.
    pub(super) encryption: Vec<(HeaderName, HeaderValue)>,
    pub(super) limits: Limits,
}

/// How a request says whose it is.
#[derive(Clone)]
pub(super) enum Signer {
    /// By a signature of the whole request.
    S3 { credentials: AwsCredentialProvider, region: String },
    /// By a signature, a shared access signature, or a token.
    Azure { credentials: AzureCredentialProvider, account: String },
    /// By a token.
    Gcs { credentials: GcpCredentialProvider },
    /// Not at all: services of the node that give tokens.
    Nobody,
}

/// A request: what follows the URL, headers, and the body, which S3's signature covers or not.
#[derive(Debug, Clone)]
pub(super) struct RawRequest {
    pub(super) method: Method,
    /// `/key` or `?query`, encoded as it is signed.
    pub(super) target: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: PutPayload,
    pub(super) sign_body: bool,
}

impl RawRequest {
    pub(super) fn new(method: Method, target: String) -> Self {
        Self { method, target, headers: Vec::new(), body: PutPayload::default(), sign_body: true }
    }

    pub(super) fn get(target: String) -> Self {
        Self::new(Method::GET, target)
    }

    #[must_use]
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub(super) fn with_body(mut self, body: PutPayload) -> Self {
        self.body = body;
        self
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Raw {
    /// Sends it once; any answer is a success.
    pub(super) async fn send(&self, ask: RawRequest) -> Result<(StatusCode, Bytes), Error> {
        let answer = self.ask(ask).await?;
        Ok((answer.status, answer.body))
    }

    async fn ask(&self, ask: RawRequest) -> Result<Answer, Error> {
        let generic = |source: BoxError| Error::Generic { store: self.name(), source };
        let mut headers = HeaderMap::new();
        headers.extend(ask.headers);
        let length = ask.body.content_length();
        let mut request = HttpRequest::new(whole(ask.body));
        let target = format!("{}{}", self.base, ask.target);
        *request.method_mut() = ask.method;
        *request.uri_mut() = target.parse().map_err(|error| generic(Box::new(error)))?;
        *request.headers_mut() = headers;
        self.sign(&mut request, length, ask.sign_body).await?;
        let answer = self.client.execute(request).await.map_err(|error| generic(Box::new(error)))?;
        let (parts, body) = answer.into_parts();
        let body = body.bytes().await.map_err(|error| generic(Box::new(error)))?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn sign(&self, request: &mut HttpRequest, length: usize, sign_body: bool) -> Result<(), Error> {
        match &self.signer {
            Signer::S3 { credentials, region } => {
                let credential = credentials.get_credential().await?;
                AwsAuthorizer::new(&credential, "s3", region)
                    .with_sign_payload(sign_body)
                    .try_authorize(request, None)
            }
            Signer::Azure { credentials, account } => {
                // The length is in what is signed.
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
                let credential = credentials.get_credential().await?;
                AzureAuthorizer::new(&credential, account).try_authorize(request)
            }
            Signer::Gcs { credentials } => {
                let credential = credentials.get_credential().await?;
                // Emulators get no token.
                if !credential.bearer.is_empty() {
                    let generic = |source: BoxError| Error::Generic { store: self.name(), source };
                    let mut value = HeaderValue::try_from(format!("Bearer {}", credential.bearer))
                        .map_err(|_| generic("the access token is no text".into()))?;
                    value.set_sensitive(true);
                    request.headers_mut().insert(AUTHORIZATION, value);
                }
                if length == 0 {
                    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
                }
                Ok(())
            }
            Signer::Nobody => Ok(()),
        }
    }

    fn name(&self) -> &'static str {
        match &self.signer {
            Signer::S3 { .. } => "S3",
            Signer::Azure { .. } => "Azure",
            Signer::Gcs { .. } => "GCS",
            Signer::Nobody => "identity service",
        }
    }

    /// Sends it until it succeeds, or the failure is none that passes. `repeatable` says that doing it twice does no
    /// harm, so that it is sent again when the answer was lost. Anything but 2xx is an error of the kind that the
    /// client library gives for that status.
    pub(super) async fn perform(&self, ask: RawRequest, repeatable: bool) -> Result<Answer, Error> {
        let begin = tokio::time::Instant::now();
        let mut pause = self.limits.backoff_first;
        let mut tries = 0;
        loop {
            let outcome = self.ask(ask.clone()).await;
            let passes = match &outcome {
                Ok(answer) if answer.status.is_success() => return outcome,
                Ok(answer) => answer.status.is_server_error() || matches!(answer.status.as_u16(), 408 | 429),
                Err(error) => lost_answer(error, repeatable),
            };
            if !passes || tries >= self.limits.retries || begin.elapsed() >= self.limits.retry_for {
                return outcome.and_then(|answer| Err(refused(self.name(), &ask.target, &answer)));
            }
            tries += 1;
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
            pause = (pause * 2).min(self.limits.backoff_max);
        }
    }
}

/// A body as the signer of S3 wants it: it covers one buffer, but not several.
fn whole(body: PutPayload) -> HttpRequestBody {
    let mut pieces = body.iter();
    let (first, more) = (pieces.next().cloned(), pieces.next().is_some());
    match first {
        None => HttpRequestBody::empty(),
        Some(only) if !more => HttpRequestBody::from(only),
        Some(_) => HttpRequestBody::from(body),
    }
}

/// Whether a request without an answer may be sent again.
fn lost_answer(error: &Error, repeatable: bool) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(http) = error.downcast_ref::<object_store::client::HttpError>() {
            return match http.kind() {
                HttpErrorKind::Connect | HttpErrorKind::Request => true,
                HttpErrorKind::Timeout | HttpErrorKind::Interrupted => repeatable,
                _ => false,
            };
        }
        next = error.source();
    }
    false
}

/// A refusal as the client library would report it.
fn refused(store: &'static str, target: &str, answer: &Answer) -> Error {
    let source: BoxError = refusal_text(answer.status, &answer.body).into();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    match answer.status.as_u16() {
        401 => Error::Unauthenticated { path, source },
        403 => Error::PermissionDenied { path, source },
        404 => Error::NotFound { path, source },
        409 => Error::AlreadyExists { path, source },
        412 => Error::Precondition { path, source },
        _ => Error::Generic { store, source },
    }
}

fn refusal_text(status: StatusCode, body: &[u8]) -> String {
    format!("refused - Server returned non-2xx status code: {status}: {}", String::from_utf8_lossy(body))
}

/// A failure in the words of the client library, so that it is classed like one of its own.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Error {
    Error::Generic { store: "S3", source: refusal_text(status, body).into() }
}

/// A header from text that we made ourselves or checked.
pub(super) fn header_value(text: impl Into<String>) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(text.into())
        .map_err(|error| Error::Generic { store: "request", source: Box::new(error) })
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
