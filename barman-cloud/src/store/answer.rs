//! Whether an answer that says "success" is one of an object store.
//!
//! A proxy, a captive portal or the web console on the next port answers 200 with a page, and S3 itself answers
//! some requests with 200 and an error document. The client above takes a page for an empty listing and a `DELETE`
//! of anything for done; so answers are looked at here, where they come in. A wrong one becomes a failure of the
//! server's, which is retried and in the end reported for what it is.

use super::classify;
use super::protocol::Protocol;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use object_store::client::{HttpError, HttpErrorKind, HttpResponse, HttpResponseBody};

/// The code, in S3's manner, of an answer that no object store gives.
pub(super) const WRONG_ANSWER: &str = "NotAnAnswerOfAStore";

/// Longest document: a page of 1000 keys has one or two megabytes.
const MAX_DOCUMENT: usize = 32 << 20;

/// Longest error document.
const MAX_ERROR: usize = 64 << 10;

/// What a successful answer has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// An XML document with this root.
    Document(&'static str),
    /// An object, or its headers.
    Object,
    /// The mark of what was written.
    Written,
    /// No content.
    Nothing,
    /// A JSON object.
    Json,
    /// A header that everything of this store has.
    Header(&'static str),
    /// Whatever the store says, as long as it is no page of HTML.
    NoPage,
    /// Not a request to a store: credentials come over the same connections.
    Anything,
}

impl Expected {
    /// Passes an answer on, or puts a failure in its place. Documents are read to their end.
    pub(super) async fn check(
        self,
        protocol: &Protocol,
        answer: HttpResponse,
    ) -> Result<HttpResponse, HttpError> {
        if self != Self::Anything || answer.status().is_client_error() {
            let status = answer.status();
            if status.is_client_error() || status.is_server_error() {
                return Ok(passing(protocol, answer).await);
            }
        }
        if !answer.status().is_success() {
            return Ok(answer);
        }
        let wrong = match self {
            Self::Document(root) => return document(|body| judge(root, body), answer).await,
            Self::Json => return document(judge_json, answer).await,
            Self::Object => no_object(answer.headers()),
            Self::Written if !answer.headers().contains_key(header::ETAG) => Some("no ETag"),
            Self::Nothing if has_body(answer.status(), answer.headers()) => Some("a body where none belongs"),
            Self::Header(name) if !answer.headers().contains_key(name) => {
                Some("without the marks of the store")
            }
            Self::NoPage if is_page(answer.headers()) => Some("a page of HTML"),
            Self::Written | Self::Nothing | Self::Header(_) | Self::NoPage | Self::Anything => None,
        };
        Ok(wrong.map_or(answer, failure))
    }
}

/// Stores give an object a version mark and a time; none of ours is a page.
fn no_object(headers: &HeaderMap) -> Option<&'static str> {
    if is_page(headers) {
        return Some("a page of HTML");
    }
    let marked = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    (!marked).then_some("neither ETag nor Last-Modified")
}

/// The type alone says nothing where no content is: some servers name it all the same.
fn has_body(status: StatusCode, headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).map(|length| length != "0");
    status != StatusCode::NO_CONTENT && length.unwrap_or_else(|| is_page(headers))
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/html")
}

/// The client above judges a refusal by its status, and 400 as final. `BadDigest` and `RequestTimeout` come with
/// that status and are an accident on the way: they get one that is tried again.
async fn passing(protocol: &Protocol, answer: HttpResponse) -> HttpResponse {
    let retried = matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        || answer.status().is_server_error();
    let length =
        answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let told_otherwise = *protocol != Protocol::S3;
    if (retried && !told_otherwise) || length.is_some_and(|length: usize| length > MAX_ERROR) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    // A refusal whose text breaks off is a refusal all the same.
    let body = Limited::new(body, MAX_ERROR).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = match protocol.error_document(&parts.headers, &body) {
        Some(told) => Bytes::from(told),
        None => body,
    };
    let code = std::str::from_utf8(&body).ok().and_then(classify::code_in);
    if !retried && code.is_some_and(classify::is_transient_code) {
        parts.status = StatusCode::SERVICE_UNAVAILABLE;
    }
    HttpResponse::from_parts(parts, body.into())
}

async fn document(judge: impl Fn(&[u8]) -> Verdict, answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = answer.into_parts();
    let body = match Limited::new(body, MAX_DOCUMENT).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            return Err(match error.downcast::<HttpError>() {
                Ok(own) => *own,
                Err(other) => HttpError::new(HttpErrorKind::Decode, std::io::Error::other(other)),
            });
        }
    };
    Ok(match judge(&body) {
        Verdict::Good => HttpResponse::from_parts(parts, body.into()),
        Verdict::Error(status) => answer_with(status, body),
        Verdict::Wrong(what) => failure(what),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// An error document of the store, and the status that it would have had.
    Error(StatusCode),
    Wrong(&'static str),
}

fn judge(root: &str, body: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(body) else { return Verdict::Wrong("something that is no text") };
    match root_of(text) {
        Some("Error") => {
            let transient = classify::code_in(text).is_some_and(classify::is_transient_code);
            Verdict::Error(if transient { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST })
        }
        Some(found) if found == root => {
            let end = text.trim_end();
            let whole = end.strip_suffix('>').map(str::trim_end).is_some_and(|end| {
                end.ends_with('/') || end.rsplit(['/', ':']).next().is_some_and(|name| name == root)
            });
            if whole { Verdict::Good } else { Verdict::Wrong("a document that breaks off") }
        }
        Some(found) if found.eq_ignore_ascii_case("html") => Verdict::Wrong("a page of HTML"),
        Some(_) => Verdict::Wrong("a document of another kind"),
        None if text.trim().is_empty() => Verdict::Wrong("an empty body"),
        None => Verdict::Wrong("something that is no XML"),
    }
}

fn judge_json(body: &[u8]) -> Verdict {
    let begins = body.iter().find(|byte| !byte.is_ascii_whitespace());
    match begins {
        Some(b'{') if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => Verdict::Good,
        Some(b'{') => Verdict::Wrong("a document that breaks off"),
        Some(_) => Verdict::Wrong("something that is no JSON"),
        None => Verdict::Wrong("an empty body"),
    }
}

/// Name of the first element, without its namespace. Stores send blanks ahead of it while they are busy.
fn root_of(text: &str) -> Option<&str> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        let inner = rest.strip_prefix('<')?;
        let end = match inner.as_bytes().first()? {
            b'?' => inner.find("?>")? + 2,
            b'!' if inner.starts_with("!--") => inner.find("-->")? + 3,
            b'!' => inner.find('>')? + 1,
            _ => {
                let name = inner.split([' ', '\t', '\r', '\n', '>', '/']).next()?;
                return Some(name.rsplit(':').next().unwrap_or(name));
            }
        };
        rest = inner[end..].trim_start();
    }
}

fn failure(what: &str) -> HttpResponse {
    let text = format!("<Error><Code>{WRONG_ANSWER}</Code><Message>status 200 and {what}</Message></Error>");
    answer_with(StatusCode::BAD_GATEWAY, text.into())
}

fn answer_with(status: StatusCode, body: Bytes) -> HttpResponse {
    let mut answer = HttpResponse::new(HttpResponseBody::from(body));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::good("<?xml version=\"1.0\"?>\n<R xmlns=\"x\"><A>1</A></R>\n", Verdict::Good)]
    #[case::busy("   \n <?xml version=\"1.0\"?><R></R >", Verdict::Good)]
    #[case::empty_root("<R/>", Verdict::Good)]
    #[case::prefixed("<s3:R xmlns:s3=\"x\"></s3:R>", Verdict::Good)]
    #[case::comment("<!-- a > b --><R></R>", Verdict::Good)]
    #[case::cut("<R><A>1</A>", Verdict::Wrong("a document that breaks off"))]
    #[case::cut_in_a_name("<R><A>1</A></", Verdict::Wrong("a document that breaks off"))]
    #[case::page("<!DOCTYPE html><html><body></body></html>", Verdict::Wrong("a page of HTML"))]
    #[case::other("<ListAllMyBucketsResult/>", Verdict::Wrong("a document of another kind"))]
    #[case::nothing(" ", Verdict::Wrong("an empty body"))]
    #[case::text("It works!", Verdict::Wrong("something that is no XML"))]
    #[case::open("<", Verdict::Wrong("something that is no XML"))]
    #[case::busy_error(
        "<Error><Code>SlowDown</Code></Error>",
        Verdict::Error(StatusCode::SERVICE_UNAVAILABLE)
    )]
    #[case::lost("<Error><Code>NoSuchUpload</Code></Error>", Verdict::Error(StatusCode::BAD_REQUEST))]
    fn documents_are_judged(#[case] body: &str, #[case] verdict: Verdict) {
        assert_eq!(judge("R", body.as_bytes()), verdict);
    }

    #[rstest]
    #[case::good("{\"items\": []}", Verdict::Good)]
    #[case::cut("{\"items\": [", Verdict::Wrong("a document that breaks off"))]
    #[case::page("<html></html>", Verdict::Wrong("something that is no JSON"))]
    #[case::nothing("", Verdict::Wrong("an empty body"))]
    fn json_is_judged(#[case] body: &str, #[case] verdict: Verdict) {
        assert_eq!(judge_json(body.as_bytes()), verdict);
    }
}
