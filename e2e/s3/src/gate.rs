//! What stands between the connection and the protocol: it logs every request and carries out faults.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use s3s::service::S3Service;
use serde::Serialize;

use crate::faults::{Action, Fault, Faults};
use crate::service::{LoseWrite, StaleListing};
use crate::target::{Operation, Target};

type StdError = Box<dyn std::error::Error + Send + Sync>;
/// The body of every answer.
pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, StdError>;

/// One request as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestRecord {
    /// What was asked.
    pub operation: Operation,
    /// HTTP method.
    pub method: String,
    /// The bucket, empty when none was named.
    pub bucket: String,
    /// The key, empty when none was named.
    pub key: String,
    /// HTTP status of the answer; `None` when the connection was cut instead.
    pub status: Option<u16>,
    /// Whether a fault rule acted on it.
    pub fault: bool,
}

/// The gate of one server.
#[derive(Clone)]
pub(crate) struct Gate {
    pub service: S3Service,
    pub faults: Faults,
}

impl Gate {
    /// Answers one request. An error cuts the connection.
    pub async fn handle(self, request: Request<Incoming>) -> Result<Response<ReplyBody>, StdError> {
        let target = Target::of(&request);
        let fault = self.faults.pick(&target);
        let faulty = fault.is_some();
        let result = match fault {
            None => self.pass(request.map(s3s::Body::from)).await,
            Some(fault) => self.apply(fault, request).await,
        };
        self.faults.record(RequestRecord {
            operation: target.operation,
            method: target.method.to_string(),
            bucket: target.bucket,
            key: target.key,
            status: result.as_ref().ok().map(|response| response.status().as_u16()),
            fault: faulty,
        });
        result
    }

    async fn pass(&self, request: Request<s3s::Body>) -> Result<Response<ReplyBody>, StdError> {
        let response = self.service.call(request).await.map_err(StdError::from)?;
        Ok(response.map(|body| body.map_err(StdError::from).boxed_unsync()))
    }

    async fn apply(&self, fault: Fault, request: Request<Incoming>) -> Result<Response<ReplyBody>, StdError> {
        match fault.action {
            Action::Error { status, code, message } => {
                drain(request).await?;
                let text = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
                );
                answer(status, text)
            }
            Action::ReplaceBody { body } => {
                drain(request).await?;
                answer(200, body)
            }
            Action::Stall { millis } => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                self.pass(request.map(s3s::Body::from)).await
            }
            Action::StallBody { after_bytes, millis } => {
                let delay = Duration::from_millis(millis);
                let response = self.pass(request.map(s3s::Body::from)).await?;
                Ok(response.map(|body| Tampered::new(body, after_bytes, Tamper::Stall(delay)).boxed_unsync()))
            }
            Action::CorruptBody { offset } => {
                let response = self.pass(request.map(s3s::Body::from)).await?;
                Ok(response.map(|body| Tampered::new(body, offset, Tamper::Flip).boxed_unsync()))
            }
            Action::Reset { after_bytes } => self.reset(request, after_bytes).await,
            Action::LoseResponse => {
                let response = self.pass(request.map(s3s::Body::from)).await?;
                // Some answers do their work while they are being read.
                response.into_body().collect().await?;
                Err(cut())
            }
            Action::StaleList => {
                let mut request = request.map(s3s::Body::from);
                if let Some(snapshot) = fault.snapshot {
                    request.extensions_mut().insert(StaleListing(snapshot));
                }
                self.pass(request).await
            }
            Action::LoseWrite => {
                let mut request = request.map(s3s::Body::from);
                request.extensions_mut().insert(LoseWrite);
                self.pass(request).await
            }
        }
    }

    async fn reset(&self, request: Request<Incoming>, after: u64) -> Result<Response<ReplyBody>, StdError> {
        if request.body().is_end_stream() {
            if after == 0 {
                return Err(cut());
            }
            let response = self.pass(request.map(s3s::Body::from)).await?;
            let tripped = Arc::default();
            return Ok(response.map(|body| Tampered::new(body, after, Tamper::Cut(tripped)).boxed_unsync()));
        }
        let tripped: Arc<AtomicBool> = Arc::default();
        let flag = tripped.clone();
        let request = request.map(|body| {
            s3s::Body::http_body_unsync(Tampered::new(
                body.map_err(StdError::from).boxed_unsync(),
                after,
                Tamper::Cut(flag),
            ))
        });
        let response = self.pass(request).await?;
        if tripped.load(Ordering::Acquire) { Err(cut()) } else { Ok(response) }
    }
}

fn cut() -> StdError {
    Box::new(io::Error::new(io::ErrorKind::ConnectionReset, "a fault rule cut the connection"))
}

/// Reads a request to its end, so that the client gets to read the answer instead of a broken pipe.
async fn drain(request: Request<Incoming>) -> Result<(), StdError> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

fn answer(status: u16, text: String) -> Result<Response<ReplyBody>, StdError> {
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .body(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync())?)
}

enum Tamper {
    Cut(Arc<AtomicBool>),
    Stall(Duration),
    Flip,
    Done,
}

/// A body that something happens to at one offset.
struct Tampered {
    inner: ReplyBody,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Bytes still to go before it happens.
    left: u64,
    tamper: Tamper,
    /// What follows the bytes before the offset.
    rest: Option<Bytes>,
    /// The body ends with an error once the pause is over.
    cutting: bool,
}

impl Tampered {
    fn new(inner: ReplyBody, at: u64, tamper: Tamper) -> Self {
        Self { inner, sleep: None, left: at, tamper, rest: None, cutting: false }
    }

    /// Handles the bytes from the offset on.
    fn happen(&mut self, rest: Bytes) {
        match std::mem::replace(&mut self.tamper, Tamper::Done) {
            Tamper::Cut(tripped) => {
                tripped.store(true, Ordering::Release);
                // What came before is written to the wire only while this body has nothing to give.
                self.sleep = Some(Box::pin(tokio::time::sleep(Duration::from_millis(20))));
                self.cutting = true;
            }
            Tamper::Stall(delay) => {
                self.sleep = Some(Box::pin(tokio::time::sleep(delay)));
                self.rest = Some(rest);
            }
            Tamper::Flip => {
                let mut changed = rest.to_vec();
                if let Some(first) = changed.first_mut() {
                    *first ^= 0xFF;
                }
                self.rest = Some(changed.into());
            }
            Tamper::Done => self.rest = Some(rest),
        }
    }
}

impl Body for Tampered {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            if self.cutting {
                return Poll::Ready(Some(Err(cut())));
            }
            if let Some(rest) = self.rest.take() {
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            let mut data = match frame.map(Frame::into_data) {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(Err(other)) => return Poll::Ready(Some(Ok(other))),
                Ok(Ok(data)) => data,
            };
            let length = data.len() as u64;
            if matches!(self.tamper, Tamper::Done) || length <= self.left {
                self.left = self.left.saturating_sub(length);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            // `left` is less than the chunk's length, so it is a usize.
            let before = data.split_to(self.left as usize);
            self.left = 0;
            self.happen(data);
            if !before.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(before))));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        if let Some(exact) = self.inner.size_hint().exact() {
            hint.set_exact(exact + self.rest.as_ref().map_or(0, |rest| rest.len() as u64));
        }
        hint
    }
}
