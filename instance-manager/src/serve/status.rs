//! The HTTPS API and most of its calls, for holders of the cluster's certificates.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use howdah_api::instance::{ErrorBody, InstanceStatus, RepositoryState};
use howdah_api::naming::{OPERATOR_CN, REPLICATION_USER};
use serde::Deserialize;

use super::manager;
use super::probes::may_be_ready;
use super::sample::{Sample, sample};
use super::tls::ClientName;
use crate::backup::catalogue::together;
use crate::config::recovery::parse_lsn;
use crate::error::{Error, Result};
use crate::pg::sql::MAINTENANCE_DB;
use crate::pg::switch::switch;
use crate::run::role::Running;
use crate::run::runway::gaps::Gaps;
use crate::run::shared::{ServerState, Shared};

/// The routes.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/wal/switch", post(wal_switch))
        .route("/v1/primary", get(confirm_primary))
        .route("/v1/restart", post(restart))
        .route("/v1/manager", put(manager::replace))
        .with_state(shared)
}

/// An answer that says what was wrong.
pub(super) fn refuse(code: StatusCode, error: impl Into<String>) -> Response {
    (code, Json(ErrorBody { error: error.into() })).into_response()
}

/// Whether the client's certificate bears one of these names.
pub(super) fn authorised(name: &ClientName, allowed: &[&str]) -> Result<(), Box<Response>> {
    match &name.0 {
        Some(cn) if allowed.contains(&cn.as_str()) => Ok(()),
        Some(cn) => Err(Box::new(refuse(
            StatusCode::FORBIDDEN,
            format!(
                "the certificate of {cn:?} does not allow this call; it takes one of {}",
                allowed.join(", ")
            ),
        ))),
        None => {
            Err(Box::new(refuse(StatusCode::UNAUTHORIZED, "a client certificate of the cluster is needed")))
        }
    }
}

async fn status(State(shared): State<Arc<Shared>>, Extension(name): Extension<ClientName>) -> Response {
    match authorised(&name, &[OPERATOR_CN]) {
        Ok(()) => Json(collect(&shared).await).into_response(),
        Err(refused) => *refused,
    }
}

/// Who asks.
#[derive(Deserialize)]
struct PrimaryQuery {
    name: String,
}

async fn confirm_primary(
    State(shared): State<Arc<Shared>>,
    Extension(name): Extension<ClientName>,
    Query(query): Query<PrimaryQuery>,
) -> Response {
    match authorised(&name, &[REPLICATION_USER]) {
        Ok(()) => Json(shared.authority.confirm(&shared, &query.name).await).into_response(),
        Err(refused) => *refused,
    }
}

async fn restart(State(shared): State<Arc<Shared>>, Extension(name): Extension<ClientName>) -> Response {
    if let Err(refused) = authorised(&name, &[OPERATOR_CN]) {
        return *refused;
    }
    // One that is on its way already is what was asked for.
    let begins = shared.server.send_if_modified(|server| {
        let begins = server.running.is_some() && !server.stopping;
        server.stopping |= begins;
        begins
    });
    if begins {
        shared.restart.notify_one();
    }
    StatusCode::ACCEPTED.into_response()
}

/// Position that shall be in a closed segment; without it the current segment is closed.
#[derive(Deserialize)]
struct SwitchQuery {
    lsn: Option<String>,
}

async fn wal_switch(
    State(shared): State<Arc<Shared>>,
    Extension(name): Extension<ClientName>,
    Query(query): Query<SwitchQuery>,
) -> Response {
    if let Err(refused) = authorised(&name, &[OPERATOR_CN, REPLICATION_USER]) {
        return *refused;
    }
    let wanted = match query.lsn.as_deref().map(|text| (text, parse_lsn(text))) {
        Some((text, None)) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                format!("lsn {text:?} is not a position such as 0/3000060"),
            );
        }
        Some((_, lsn)) => lsn,
        None => None,
    };
    if shared.server.borrow().running != Some(Running::Primary) {
        return refuse(StatusCode::CONFLICT, "this instance is not the primary: ask the primary");
    }
    let switched = async {
        let sql = shared.local.connect(MAINTENANCE_DB).await?;
        switch(&sql, wanted).await
    };
    match switched.await {
        Ok(done) => Json(done).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, error.report()),
    }
}

/// The status now.
pub async fn collect(shared: &Shared) -> InstanceStatus {
    let server = shared.server();
    // No session during a shutdown: it would wait for its own end.
    let sampled =
        if server.running.is_some() && !server.stopping { Some(sample(shared).await) } else { None };
    let mut status = fold(&server, sampled);
    shared.env.pod.clone_into(&mut status.pod_name);
    shared.session.clone_into(&mut status.session_id);
    env!("CARGO_PKG_VERSION").clone_into(&mut status.manager_version);
    status.manager_sha256 = shared.replacer.own().map(str::to_owned);
    status.manager_architecture = Some(std::env::consts::ARCH.to_owned());
    status.holds_lease = shared.authority.holds();
    status.archiver = shared.wal.status();
    let known = shared.recoverability();
    status.recoverability = together(&known);
    status.repositories = shared
        .wal
        .repositories()
        .into_iter()
        .map(|state| {
            let care = shared.care(&state.name);
            let mut recoverability = known.get(&state.name).cloned();
            // Behind a gap that the window does not know of yet nothing counts.
            let gap = shared.gaps(|gaps| gaps.unseen(&state.name));
            if let Some(window) = recoverability.as_mut().and_then(|known| known.window.as_mut())
                && !gap
            {
                window.archived_until(state.archiver.last_archived_time.as_ref());
            }
            RepositoryState {
                recoverability,
                retention: shared.retention(&state.name),
                probe: care.probe,
                encryption: care.encryption,
                encryption_error: care.encryption_error,
                ..state
            }
        })
        .collect();
    status.restored.clone_from(&shared.restored);
    status.wal_runway = shared.wal_runway();
    status.dropped_wal = shared.gaps(Gaps::told);
    status.running_backup_uid = shared.backup().map(|b| b.uid);
    status
}

/// State and sample together: pure.
fn fold(server: &ServerState, sampled: Option<Result<Sample, Error>>) -> InstanceStatus {
    let mut status = InstanceStatus {
        recovering: server.running == Some(Running::Recovery),
        following: server.following.clone(),
        message: server.message.clone(),
        fatal: server.fatal.clone(),
        fenced: server.fenced,
        server_running: server.running.is_some(),
        ..InstanceStatus::default()
    };
    if let Some(former) = &server.former_primary {
        status.former_primary = true;
        status.timeline_id = Some(former.timeline);
        status.received_lsn = Some(former.lsn.clone());
    }
    match sampled {
        Some(Ok(sample)) => {
            status.ready = may_be_ready(server);
            status.role = Some(sample.role);
            status.server_version = sample.server_version;
            status.system_id = sample.system_id;
            status.timeline_id = sample.timeline;
            status.received_lsn = sample.received_lsn;
            status.replayed_lsn = sample.replayed_lsn;
            status.replayed_time = sample.replayed_time.filter(|_| server.following.is_some());
            status.streaming = sample.streaming;
            status.pending_restart = sample.pending_restart;
            status.pending_restart_lowers = sample.pending_restart_lowers;
            status.synchronous_standby_names = sample.synchronous_standby_names;
            status.replicas = sample.replicas;
        }
        Some(Err(error)) => status.message = format!("{}: {}", server.message, error.report()),
        None => {}
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::instance::{InstanceRole, ReplicaState};

    fn sample() -> Sample {
        Sample {
            role: InstanceRole::Primary,
            server_version: Some(150_018),
            system_id: Some("7".into()),
            timeline: Some(2),
            received_lsn: Some("0/3000060".into()),
            replayed_lsn: None,
            replayed_time: None,
            streaming: false,
            pending_restart: true,
            pending_restart_lowers: false,
            synchronous_standby_names: Some("ANY 1 (\"pg-2\")".into()),
            replicas: vec![ReplicaState {
                name: "pg-2".into(),
                state: "streaming".into(),
                sync_state: "quorum".into(),
                flush_lsn: Some("0/3000060".into()),
            }],
        }
    }

    #[test]
    fn a_server_that_answers_is_ready_unless_it_recovers() {
        let mut server = ServerState { running: Some(Running::Primary), up: true, ..ServerState::default() };
        insta::assert_yaml_snapshot!(fold(&server, Some(Ok(sample()))));
        server.running = Some(Running::Recovery);
        let status = fold(&server, Some(Ok(sample())));
        assert!(!status.ready && status.recovering);
    }

    #[test]
    fn a_server_that_does_not_answer_has_no_role() {
        let server = ServerState {
            running: Some(Running::Primary),
            up: true,
            message: "PostgreSQL takes connections".into(),
            ..ServerState::default()
        };
        let status = fold(&server, Some(Err(Error::transient("too many clients"))));
        assert!(!status.ready && status.role.is_none() && status.server_running);
        assert_eq!(status.message, "PostgreSQL takes connections: too many clients");
    }

    #[test]
    fn only_the_names_that_were_given() {
        let name = |n: &str| ClientName(Some(n.to_owned()));
        assert!(authorised(&name("howdah-operator"), &[OPERATOR_CN]).is_ok());
        let status = |r: Result<(), Box<Response>>| r.unwrap_err().status();
        assert_eq!(status(authorised(&name("streaming_replica"), &[OPERATOR_CN])), StatusCode::FORBIDDEN);
        assert_eq!(status(authorised(&ClientName(None), &[OPERATOR_CN])), StatusCode::UNAUTHORIZED);
    }
}
