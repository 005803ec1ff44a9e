//! The protocol for the requests of one connection: each is marked with its client's name.

use std::pin::Pin;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use s3s::service::S3Service;

use super::ClientName;

/// A request that could not be answered at all; the connection is cut.
#[derive(Debug, thiserror::Error)]
#[error("a request could not be answered")]
pub(super) struct Unanswered(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Answers the requests of one client.
pub(super) struct Answering {
    pub service: S3Service,
    pub name: ClientName,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<s3s::Body>;
    type Error = Unanswered;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.name.clone());
        let service = self.service.clone();
        Box::pin(async move {
            let answer = service.call(request.map(s3s::Body::from)).await;
            answer.map_err(|error| Unanswered(error.into()))
        })
    }
}
