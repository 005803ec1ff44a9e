//! What stands between the connection and the protocol: it logs every request and carries out faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use howdah_s3_server::IgnoreChecksums;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use s3s::service::S3Service;
use serde::Serialize;

use crate::faults::{Action, Fault, Faults};
use crate::store::{EFFECT, Effect};
use crate::tamper::{Tamper, Tampered, cut};
use crate::target::{Operation, Target};

pub(crate) type StdError = Box<dyn std::error::Error + Send + Sync>;
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
                answer(status, "application/xml", text)
            }
            Action::ReplaceBody { body } => {
                drain(request).await?;
                answer(200, "application/xml", body)
            }
            Action::Answer { status, content_type, body } => {
                drain(request).await?;
                answer(status, &content_type, body)
            }
            Action::SetHeader { name, value } => {
                let mut response = self.pass(request.map(s3s::Body::from)).await?;
                let name = http::HeaderName::try_from(name)?;
                response.headers_mut().insert(name, http::HeaderValue::try_from(value)?);
                Ok(response)
            }
            Action::TruncateBody { bytes } => {
                let (mut parts, body) = self.pass(request.map(s3s::Body::from)).await?.into_parts();
                let mut whole = body.collect().await?.to_bytes();
                whole.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
                parts.headers.insert(http::header::CONTENT_LENGTH, whole.len().into());
                Ok(Response::from_parts(parts, full(whole)))
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
            Action::StallUpload { after_bytes, millis } => {
                self.pass(tampered(request, after_bytes, Tamper::Stall(Duration::from_millis(millis)))).await
            }
            Action::Drip { piece, millis } => {
                let tamper = Tamper::Drip { piece, pause: Duration::from_millis(millis) };
                let response = self.pass(request.map(s3s::Body::from)).await?;
                Ok(response.map(|body| Tampered::new(body, 0, tamper).boxed_unsync()))
            }
            Action::DripUpload { piece, millis } => {
                let tamper = Tamper::Drip { piece, pause: Duration::from_millis(millis) };
                self.pass(tampered(request, 0, tamper)).await
            }
            Action::CorruptUpload { offset } => self.pass(tampered(request, offset, Tamper::Flip)).await,
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
            Action::StaleList => match fault.snapshot {
                Some(snapshot) => self.pass_with(Effect::StaleListing(snapshot), request).await,
                None => self.pass(request.map(s3s::Body::from)).await,
            },
            Action::IgnoreChecksums => {
                let mut request = request.map(s3s::Body::from);
                request.extensions_mut().insert(IgnoreChecksums);
                self.pass(request).await
            }
            Action::LoseWrite => self.pass_with(Effect::LoseWrite, request).await,
        }
    }

    /// Carries a request out with something wrong with the store.
    async fn pass_with(
        &self,
        effect: Effect,
        request: Request<Incoming>,
    ) -> Result<Response<ReplyBody>, StdError> {
        EFFECT.scope(effect, self.pass(request.map(s3s::Body::from))).await
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
        let response = self.pass(tampered(request, after, Tamper::Cut(tripped.clone()))).await?;
        if tripped.load(Ordering::Acquire) { Err(cut()) } else { Ok(response) }
    }
}

/// Reads a request to its end, so that the client gets to read the answer instead of a broken pipe.
async fn drain(request: Request<Incoming>) -> Result<(), StdError> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// A request whose body something happens to at one offset.
fn tampered(request: Request<Incoming>, at: u64, tamper: Tamper) -> Request<s3s::Body> {
    request.map(|body| {
        let body = body.map_err(StdError::from).boxed_unsync();
        s3s::Body::http_body_unsync(Tampered::new(body, at, tamper))
    })
}

fn answer(status: u16, content_type: &str, text: String) -> Result<Response<ReplyBody>, StdError> {
    Ok(Response::builder().status(status).header("content-type", content_type).body(full(text.into()))?)
}

fn full(body: Bytes) -> ReplyBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
