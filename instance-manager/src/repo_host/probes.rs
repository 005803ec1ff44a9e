//! Probes of the repository host: plain HTTP without data, for the kubelet.

use axum::Router;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;

/// What the host does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    serving: bool,
    /// In words.
    pub message: String,
}

impl State {
    pub fn waiting(why: &str) -> Self {
        Self { serving: false, message: why.to_owned() }
    }

    pub fn serving(names: &[&str]) -> Self {
        Self { serving: true, message: format!("serving {}", names.join(", ")) }
    }
}

/// `/startupz`, `/healthz`, `/readyz`.
pub(super) fn router(state: watch::Receiver<State>) -> Router {
    Router::new()
        .route("/startupz", get(ready))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(state)
}

type Answer = (StatusCode, String);

/// It answers, so it lives: waiting for a volume or a certificate is no reason to begin anew.
async fn health(Extract(state): Extract<watch::Receiver<State>>) -> Answer {
    (StatusCode::OK, state.borrow().message.clone() + "\n")
}

async fn ready(Extract(state): Extract<watch::Receiver<State>>) -> Answer {
    let state = state.borrow();
    let code = if state.serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, state.message.clone() + "\n")
}
