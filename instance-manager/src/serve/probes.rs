//! Probes: plain HTTP without data, for the kubelet.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Router, http};
use tokio::time::{Duration, timeout};

use crate::pg::sql::MAINTENANCE_DB;
use crate::run::role::Running;
use crate::run::shared::{ServerState, Shared};

/// How long PostgreSQL may take to answer a probe.
const ANSWER: Duration = Duration::from_secs(4);

/// `/startupz`, `/healthz`, `/readyz`.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/startupz", get(startup))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(shared)
}

type Answer = (StatusCode, String);

fn answer(ok: bool, message: String) -> Answer {
    (if ok { http::StatusCode::OK } else { http::StatusCode::SERVICE_UNAVAILABLE }, message + "\n")
}

/// PostgreSQL took connections once. Replaying an archive counts as starting; what is kept down, or becomes a replica again
/// however long that takes, has started.
async fn startup(State(shared): State<Arc<Shared>>) -> Answer {
    let server = shared.server();
    let waits = server.fenced || server.former_primary.is_some();
    let started =
        waits || (server.up && (server.running != Some(Running::Recovery) || server.following.is_some()));
    answer(started, server.message)
}

/// The manager itself is alive; it ends by itself when PostgreSQL does.
async fn health(State(shared): State<Arc<Shared>>) -> Answer {
    answer(true, shared.server().message)
}

async fn ready(State(shared): State<Arc<Shared>>) -> Answer {
    let server = shared.server();
    let ready = may_be_ready(&server) && takes_connections(&shared).await;
    answer(ready, server.message)
}

/// Whether the state of the server allows sessions.
#[must_use]
pub fn may_be_ready(server: &ServerState) -> bool {
    let takes_sessions = match server.running {
        Some(Running::Primary | Running::Standby) => true,
        Some(Running::Recovery) => server.following.is_some(),
        None => false,
    };
    server.up && !server.stopping && takes_sessions
}

/// Whether PostgreSQL answers now.
pub async fn takes_connections(shared: &Shared) -> bool {
    let asking = async {
        let sql = shared.local.connect(MAINTENANCE_DB).await?;
        sql.simple_query("SELECT 1").await.map_err(crate::error::Error::from)
    };
    matches!(timeout(ANSWER, asking).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_a_role_that_takes_sessions() {
        let state = |running, up, stopping| ServerState { running, up, stopping, ..ServerState::default() };
        assert!(may_be_ready(&state(Some(Running::Primary), true, false)));
        assert!(may_be_ready(&state(Some(Running::Standby), true, false)));
        let mut recovery = state(Some(Running::Recovery), true, false);
        assert!(!may_be_ready(&recovery));
        recovery.following = Some("external cluster origin".into());
        assert!(may_be_ready(&recovery), "one that follows may be read");
        assert!(!may_be_ready(&state(Some(Running::Primary), true, true)));
        assert!(!may_be_ready(&state(Some(Running::Primary), false, false)));
        assert!(!may_be_ready(&state(None, false, false)));
    }
}
