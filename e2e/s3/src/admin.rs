//! The admin port: faults, outages, objects and the request log for other processes. JSON over plain HTTP.
//!
//! | call | what |
//! |---|---|
//! | `GET /faults`, `POST /faults`, `DELETE /faults` | rules that are not spent; add a [`Rule`]; remove all |
//! | `GET /faults/{id}`, `DELETE /faults/{id}` | `{"hits":N}`; remove one |
//! | `POST /outage` with `{"seconds":N}` or `{}`, `DELETE /outage` | begin (for so long, or until ended), end |
//! | `GET /objects/{bucket}`, `GET /uploads/{bucket}` | what is stored |
//! | `DELETE /objects/{bucket}/{key}` | lose an object |
//! | `GET /requests`, `DELETE /requests` | the log; forget it |

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use howdah_s3_server::Store as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::faults::{Rule, RuleId};
use crate::server::Handle;

type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    #[serde(default)]
    seconds: Option<u64>,
}

/// Serves the admin port until the server stops.
pub(crate) fn spawn(listener: TcpListener, handle: Handle) -> JoinHandle<()> {
    let stop = handle.stop.clone();
    let router = Router::new()
        .route("/faults", get(list_faults).post(add_fault).delete(clear_faults))
        .route("/faults/{id}", get(hits).delete(remove_fault))
        .route("/outage", axum::routing::post(begin_outage).delete(end_outage))
        .route("/objects/{bucket}", get(objects))
        .route("/objects/{bucket}/{*key}", axum::routing::delete(lose_object))
        .route("/uploads/{bucket}", get(uploads))
        .route("/requests", get(requests).delete(forget_requests))
        .with_state(handle);
    tokio::spawn(async move {
        tokio::select! {
            // Not gracefully: an idle client must not hold the server up.
            () = stop.cancelled() => {}
            served = axum::serve(listener, router) => {
                if let Err(error) = served {
                    tracing::error!(%error, "the admin port failed");
                }
            }
        }
    })
}

fn not_found(what: String) -> (StatusCode, Json<Value>) {
    (StatusCode::NOT_FOUND, Json(json!({ "error": what })))
}

async fn list_faults(State(handle): State<Handle>) -> Json<Value> {
    let rules: Vec<Value> =
        handle.faults.list().into_iter().map(|(id, rule)| json!({ "id": id, "rule": rule })).collect();
    Json(json!(rules))
}

async fn add_fault(State(handle): State<Handle>, Json(rule): Json<Rule>) -> Json<Value> {
    Json(json!({ "id": handle.faults.add(rule) }))
}

async fn clear_faults(State(handle): State<Handle>) -> Json<Value> {
    handle.faults.clear();
    Json(json!({}))
}

async fn hits(State(handle): State<Handle>, Path(id): Path<RuleId>) -> Json<Value> {
    Json(json!({ "hits": handle.faults.hits(id) }))
}

async fn remove_fault(State(handle): State<Handle>, Path(id): Path<RuleId>) -> Answer {
    if handle.faults.remove(id) {
        Ok(Json(json!({ "hits": handle.faults.hits(id) })))
    } else {
        Err(not_found(format!("rule {id} is spent or was never there")))
    }
}

async fn begin_outage(State(handle): State<Handle>, Json(outage): Json<Outage>) -> Json<Value> {
    match outage.seconds {
        Some(seconds) => handle.faults.outage_for(Duration::from_secs(seconds)).await,
        None => handle.faults.begin_outage().await,
    }
    Json(json!({}))
}

async fn end_outage(State(handle): State<Handle>) -> Json<Value> {
    handle.faults.end_outage().await;
    Json(json!({}))
}

async fn objects(State(handle): State<Handle>, Path(bucket): Path<String>) -> Answer {
    let snapshot = handle.store.snapshot(&bucket).ok_or_else(|| not_found(format!("no bucket {bucket}")))?;
    Ok(Json(json!(snapshot.infos().map(AsRef::as_ref).collect::<Vec<_>>())))
}

async fn uploads(State(handle): State<Handle>, Path(bucket): Path<String>) -> Answer {
    let list = handle.store.pending(&bucket).map_err(|_| not_found(format!("no bucket {bucket}")))?;
    let list: Vec<Value> = list
        .into_iter()
        .map(|upload| json!({ "id": upload.id, "key": upload.key, "parts": upload.parts.len() }))
        .collect();
    Ok(Json(json!(list)))
}

async fn lose_object(State(handle): State<Handle>, Path((bucket, key)): Path<(String, String)>) -> Answer {
    let failed = |error: s3s::S3Error| not_found(error.message().unwrap_or_default().to_owned());
    let info = handle.store.head(&bucket, &key).await.map_err(failed)?;
    handle.store.delete(&bucket, &key).await.map_err(failed)?;
    Ok(Json(json!(info.as_ref())))
}

async fn requests(State(handle): State<Handle>) -> Json<Value> {
    Json(json!(handle.faults.records()))
}

async fn forget_requests(State(handle): State<Handle>) -> Json<Value> {
    handle.faults.forget_records();
    Json(json!({}))
}
