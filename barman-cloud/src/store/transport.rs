//! The HTTP transport below the store: one pooled client with its own resolver and roots.
//!
//! A request fails when it stands still for too long, never because it is large: progress is each piece of body
//! taken by the connection, the answer's header, and each piece of its body.

use super::dns::Resolver;
use super::options::{ClientCertificate, Limits};
use super::protocol::Protocol;
use super::tls;
use crate::error::{Error, ErrorKind, Result};
use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Bodies are handed to the connection in pieces of this size, so that progress can be seen.
const PIECE: usize = 128 << 10;

/// Idle connections to one host that are kept: as many as the largest number of transfers at a time.
const MAX_IDLE: usize = 32;

/// Makes the clients of an object store.
#[derive(Clone)]
pub struct Transport {
    pub(super) shared: Arc<Shared>,
    /// What the store at the other end speaks.
    protocol: Arc<Protocol>,
}

/// What all clones use.
pub struct Shared {
    client: reqwest::Client,
    stall: Duration,
    throttled: Arc<AtomicU64>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("stall", &self.shared.stall).finish_non_exhaustive()
    }
}

impl Transport {
    /// A transport that trusts `extra_ca` besides the public authorities and shows `own` to servers that ask.
    pub fn new(extra_ca: &Option<Vec<u8>>, own: &Option<ClientCertificate>, limits: &Limits) -> Result<Self> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(extra_ca.as_deref(), own.as_ref())?)
            .dns_resolver(Arc::new(Resolver::new()))
            .connect_timeout(limits.connect)
            .pool_idle_timeout(limits.idle)
            .pool_max_idle_per_host(MAX_IDLE)
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_nodelay(true)
            // Large transfers in parallel need connections of their own: one HTTP/2 connection shares one window.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("howdah/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Other, "the HTTP client cannot be set up").with_source(error)
            })?;
        Ok(Self::over(Arc::new(Shared { client, stall: limits.stall, throttled: Arc::default() })))
    }

    /// The same connections, for S3.
    pub(super) fn over(shared: Arc<Shared>) -> Self {
        Self { shared, protocol: Arc::default() }
    }

    /// The same connections, for another protocol.
    pub(super) fn speaking(self, protocol: Protocol) -> Self {
        Self { protocol: Arc::new(protocol), ..self }
    }

    /// Counts the answers that asked for fewer requests, those that were retried below included.
    pub fn throttled(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.throttled)
    }
}

impl HttpConnector for Transport {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Shared { client, stall, throttled } = &*self.shared;
        let progress = Progress::new();
        let expected = self.protocol.expected(&request);
        let (parts, body) = request.into_parts();
        let url =
            parts.uri.to_string().parse().map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut outgoing = reqwest::Request::new(parts.method, url);
        *outgoing.headers_mut() = parts.headers;
        // Not `is_empty`: object_store 0.14.2 has it the wrong way round for payloads.
        if body.content_length() != 0 {
            let body = Outgoing { body, rest: Bytes::new(), progress: progress.clone() };
            *outgoing.body_mut() = Some(reqwest::Body::wrap(body));
        }
        let response = tokio::select! {
            response = client.execute(outgoing) => response.map_err(classify)?,
            () = progress.stalled(*stall) => return Err(stall_error(*stall)),
        };
        let response: http::Response<reqwest::Body> = response.into();
        let (mut parts, body) = response.into_parts();
        if matches!(parts.status.as_u16(), 429 | 503) {
            throttled.fetch_add(1, Ordering::Relaxed);
        }
        if parts.status == http::StatusCode::NOT_IMPLEMENTED {
            // The client above retries every 5xx; this one will not change its mind.
            parts.status = http::StatusCode::METHOD_NOT_ALLOWED;
        }
        let timer = Box::pin(tokio::time::sleep(*stall));
        let body = Incoming { body, stall: *stall, timer, waiting: false };
        expected.check(&self.protocol, HttpResponse::from_parts(parts, HttpResponseBody::new(body))).await
    }
}

fn stall_error(stall: Duration) -> HttpError {
    let text = format!("no progress for {} s", stall.as_secs_f32());
    HttpError::new(HttpErrorKind::Timeout, std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

/// Gives a failure the class that decides about a retry. Certificates are not going to mend themselves.
fn classify(error: reqwest::Error) -> HttpError {
    let certificate =
        |e: &rustls::Error| matches!(e, rustls::Error::InvalidCertificate(_)) || refuses_client(e);
    let kind = if in_chain(&error, certificate) {
        HttpErrorKind::Unknown
    } else if error.is_timeout() {
        if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Timeout }
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_decode() && !error.is_body() {
        HttpErrorKind::Decode
    } else {
        // Whatever else goes wrong on a connection that stood: reset, closed, broken in the middle.
        HttpErrorKind::Interrupted
    };
    // The URL of a request may carry an upload id or a signature: only its scheme, host and port are told.
    let endpoint = error.url().map(|url| url.origin().ascii_serialization());
    let source = error.without_url();
    match endpoint {
        Some(endpoint) => HttpError::new(kind, AtEndpoint { endpoint, source }),
        None => HttpError::new(kind, source),
    }
}

/// Whether the server said that it does not accept the client's certificate, or wants one.
fn refuses_client(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::DecryptError
                | Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired
        )
    )
}

/// A failure on the way to an endpoint.
#[derive(Debug, thiserror::Error)]
#[error("endpoint {endpoint}")]
struct AtEndpoint {
    endpoint: String,
    source: reqwest::Error,
}

/// Whether an error of a type that satisfies `test` is in the chain, also inside `std::io::Error`.
fn in_chain<E: std::error::Error + 'static>(
    error: &(dyn std::error::Error + 'static),
    test: impl Fn(&E) -> bool,
) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<E>().is_some_and(&test) {
            return true;
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.and_then(|inner| inner.downcast_ref::<E>()).is_some_and(&test) {
            return true;
        }
        next = error.source();
    }
    false
}

/// When the request last got on, in milliseconds since it began.
#[derive(Clone)]
struct Progress {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Progress {
    fn new() -> Self {
        Self { start: Instant::now(), last: Arc::new(AtomicU64::new(0)) }
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// Returns once nothing has happened for `stall`.
    async fn stalled(&self, stall: Duration) {
        loop {
            let last = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed));
            let deadline = last + stall;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// A request's body, cut into pieces.
struct Outgoing {
    body: HttpRequestBody,
    rest: Bytes,
    progress: Progress,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        this.progress.touch();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        let below = self.body.size_hint();
        let rest = self.rest.len() as u64;
        below.exact().map_or_else(SizeHint::default, |exact| SizeHint::with_exact(exact + rest))
    }
}

/// An answer's body that fails when it stands still.
struct Incoming {
    body: reqwest::Body,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    /// Whether the last poll found nothing: the time a slow consumer takes does not count.
    waiting: bool,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(classify)));
        }
        if !this.waiting {
            this.waiting = true;
            this.timer.as_mut().reset(Instant::now() + this.stall);
        }
        ready!(this.timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(stall_error(this.stall))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
