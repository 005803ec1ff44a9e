//! A small HTTP service for tests: notes what it is asked, and answers as the test says.

use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A field of the query or of a form, decoded.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let form = self.body.clone();
        let query = self.uri.query().unwrap_or_default().as_bytes();
        url::form_urlencoded::parse(query)
            .chain(url::form_urlencoded::parse(&form))
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
    }
}

pub(super) struct Double {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Double {
    /// Answers on a free port of the loopback interface for as long as the runtime lives.
    pub(super) async fn start(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = seen.clone();
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let (noted, answer) = (noted.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 64 << 20).await.expect("a whole body");
                let seen = Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body };
                let answer = answer(&seen);
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
                answer
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen }
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).expect("an answer")
}
