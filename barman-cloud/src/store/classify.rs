//! From what a store or the network said to an [`Error`] with a kind and a remedy.

use super::codes::{self, WRONG_REGION};
use super::identity::NoKeys;
use crate::error::{Error, ErrorKind};
use object_store::Error as StoreError;
use object_store::client::HttpError;
use std::error::Error as StdError;

/// Wraps an error of the object store; `doing` is a phrase as "reading", `url` names the object.
pub fn classify(doing: &str, url: &str, error: StoreError) -> Error {
    if let Some(keys) = no_keys(&error) {
        let wrapped = Error::new(keys.kind, format!("{doing} {url} failed: there are no credentials for it"));
        return wrapped.with_key(url).with_source(Cause(keys.to_string())).with_remedy(keys.remedy.clone());
    }
    let text = chain_text(&error);
    let code = code_in(&text);
    let (kind, remedy) = kind_of(&error, &text, code);
    let message = match code {
        Some(code) => format!("{doing} {url} failed: {} ({code})", kind_phrase(kind)),
        None => format!("{doing} {url} failed: {}", kind_phrase(kind)),
    };
    let mut wrapped = Error::new(kind, message).with_key(url);
    // The chain repeats itself at each level and holds whole XML documents: one short sentence is enough.
    if let Some(detail) = detail(&text) {
        wrapped = wrapped.with_source(Cause(detail));
    }
    match remedy {
        Some(remedy) => wrapped.with_remedy(remedy),
        None => wrapped,
    }
}

fn no_keys(error: &StoreError) -> Option<&NoKeys> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<NoKeys>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What a layer below said, as one sentence.
pub(super) fn detail_of(error: &StoreError) -> String {
    let text = chain_text(error);
    let code = code_in(&text).map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{}{code}", detail(&text).unwrap_or_else(|| "no reason was given".to_owned()))
}

/// What the layer below said, as one sentence.
#[derive(Debug)]
struct Cause(String);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

fn kind_phrase(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "it does not exist",
        ErrorKind::AlreadyExists => "it exists already",
        ErrorKind::Permission => "permission denied",
        ErrorKind::Credentials => "the store does not accept the credentials",
        ErrorKind::BucketMissing => "the bucket does not exist",
        ErrorKind::Network => "no connection or a broken one",
        ErrorKind::Throttled => "the store asks for fewer requests",
        ErrorKind::Unavailable => "the store reports a failure of its own",
        ErrorKind::Unsupported => "the store does not support it",
        ErrorKind::Corrupt => "the object changed while it was read",
        _ => "the store refused",
    }
}

fn kind_of(error: &StoreError, text: &str, code: Option<&str>) -> codes::Verdict {
    if let Some(verdict) = code.and_then(|code| codes::kind_of_answer(code, text)) {
        return verdict;
    }
    match error {
        StoreError::NotFound { .. } => return (ErrorKind::NotFound, None),
        StoreError::AlreadyExists { .. } => return (ErrorKind::AlreadyExists, None),
        StoreError::Precondition { .. } | StoreError::NotModified { .. } => {
            return (ErrorKind::Corrupt, None);
        }
        StoreError::PermissionDenied { .. } => return (ErrorKind::Permission, None),
        StoreError::Unauthenticated { .. } => return (ErrorKind::Credentials, None),
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => {
            return (ErrorKind::Unsupported, None);
        }
        StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => {
            return (ErrorKind::Invalid, None);
        }
        _ => {}
    }
    if text.contains("InvalidCertificate") || text.contains("invalid peer certificate") {
        let remedy =
            "give the certificate authority of the endpoint as endpointCA, or use a certificate for its name";
        return (ErrorKind::Network, Some(remedy.to_owned()));
    }
    if CERTIFICATE_ALERTS.iter().any(|alert| text.contains(&format!("fatal alert: {alert}"))) {
        let remedy = "the server does not accept the client certificate: renew it, and check that the server trusts \
                      its authority and both clocks are right";
        return (ErrorKind::Credentials, Some(remedy.to_owned()));
    }
    if has_http_error(error) {
        return (ErrorKind::Network, None);
    }
    if text.contains("non-partial response") {
        return (ErrorKind::Unsupported, Some(NO_RANGES.to_owned()));
    }
    if text.contains("redirect without LOCATION") {
        return (ErrorKind::Invalid, Some(WRONG_REGION.to_owned()));
    }
    match status_in(text) {
        Some(301 | 307 | 308) => (ErrorKind::Invalid, Some(WRONG_REGION.to_owned())),
        Some(404) => (ErrorKind::NotFound, None),
        Some(409 | 412) => (ErrorKind::AlreadyExists, None),
        Some(401) => (ErrorKind::Credentials, None),
        Some(403) => (ErrorKind::Permission, None),
        Some(408) => (ErrorKind::Network, None),
        Some(429) => (ErrorKind::Throttled, None),
        Some(405 | 501) => (ErrorKind::Unsupported, None),
        Some(507) => (ErrorKind::Other, Some(codes::FULL.to_owned())),
        Some(500..=599) => (ErrorKind::Unavailable, None),
        _ => (ErrorKind::Other, None),
    }
}

/// What TLS calls a refused client certificate.
const CERTIFICATE_ALERTS: [&str; 10] = [
    // Its signature is another authority's of the same name.
    "DecryptError",
    "NoCertificate",
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateRevoked",
    "CertificateExpired",
    "CertificateUnknown",
    "UnknownCA",
    "AccessDenied",
    "CertificateRequired",
];

/// The error code in an answer of the store.
pub(super) fn code_in(text: &str) -> Option<&str> {
    xml_value(text, "Code")
}

/// Whether what a code says may pass.
pub(super) fn is_transient_code(code: &str) -> bool {
    codes::kind_of_answer(code, "").is_some_and(|(kind, _)| kind.is_transient())
}

/// Reads are resumed by ranges.
const NO_RANGES: &str =
    "the store, or a proxy before it, ignores ranges of bytes: let it pass the Range header";

pub(super) fn chain_text(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

pub(super) fn has_http_error(error: &StoreError) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<HttpError>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn xml_value<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let begin = text.find(&format!("<{tag}>"))? + tag.len() + 2;
    let rest = &text[begin..];
    let value = &rest[..rest.find("</")?];
    (!value.is_empty()).then_some(value)
}

fn status_in(text: &str) -> Option<u16> {
    let begin = text.find("status code: ")? + "status code: ".len();
    text.get(begin..begin + 3)?.parse().ok()
}

/// The message of the store, or what the network said; without URLs of requests and XML.
fn detail(text: &str) -> Option<String> {
    if let Some(message) = xml_value(text, "Message") {
        let clocks = (xml_value(text, "ServerTime"), xml_value(text, "RequestTime"));
        return Some(match clocks {
            (Some(theirs), Some(ours)) => {
                format!("{message} The clock of the store shows {theirs}, that of this node {ours}.")
            }
            _ => message.to_owned(),
        });
    }
    let tail = match text.find("HTTP error: ") {
        Some(at) => &text[at + "HTTP error: ".len()..],
        None => text.rsplit(" - ").next()?,
    };
    let tail = tail.split('<').next()?.trim().trim_end_matches(':').trim();
    (!tail.is_empty()).then(|| tail.chars().take(400).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn generic(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn the_code_decides_and_the_message_is_kept() {
        let body = "Server returned non-2xx status code: 400 Bad Request: \
                    <Error><Code>SlowDown</Code><Message>Because.</Message></Error>";
        let error = classify("reading", "s3://b/k", generic(body));
        assert_eq!(error.kind(), ErrorKind::Throttled);
        let report = error.report();
        assert!(report.starts_with("reading s3://b/k failed: ") && report.contains("Because."), "{report}");
        assert!(report.contains("(SlowDown)") && !report.contains('<'), "{report}");
    }

    #[test]
    fn two_clocks_that_differ_are_both_shown() {
        let body = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>RequestTimeTooSkewed</Code>\
                    <Message>Too large.</Message><RequestTime>20261125T120000Z</RequestTime>\
                    <ServerTime>2026-11-25T13:00:00Z</ServerTime></Error>";
        let report = classify("reading", "s3://b/k", generic(body)).report();
        assert!(report.contains("the store shows 2026-11-25T13:00:00Z"), "{report}");
        assert!(report.contains("this node 20261125T120000Z"), "{report}");
    }

    #[rstest]
    #[case(404, ErrorKind::NotFound)]
    #[case(403, ErrorKind::Permission)]
    #[case(429, ErrorKind::Throttled)]
    #[case(408, ErrorKind::Network)]
    #[case(412, ErrorKind::AlreadyExists)]
    #[case(501, ErrorKind::Unsupported)]
    #[case(502, ErrorKind::Unavailable)]
    #[case(504, ErrorKind::Unavailable)]
    #[case(507, ErrorKind::Other)]
    #[case(503, ErrorKind::Unavailable)]
    fn without_a_code_the_status_decides(#[case] status: u16, #[case] kind: ErrorKind) {
        let text = format!(
            "Error performing HEAD https://h/b/k in 1ms - Server returned non-2xx status code: {status} X: "
        );
        let error = classify("looking at", "s3://b/k", generic(&text));
        assert_eq!(error.kind(), kind);
        assert!(!error.report().contains("https://h"), "{}", error.report());
    }
}
