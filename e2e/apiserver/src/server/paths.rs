//! Paths that are no resources: health, version, discovery, OpenAPI, and the faults of the lab.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::auth::User;
use crate::auth::rbac::{Attributes, allowed};
use crate::discovery;
use crate::faults::{Fault, Matcher};
use crate::openapi::{v2, v3};
use crate::state::State;
use crate::status::{ApiError, ApiResult};

/// A request for such a path.
pub struct Other<'a> {
    /// The server.
    pub state: &'a Arc<State>,
    /// Who asks.
    pub user: &'a User,
    /// Method.
    pub method: &'a Method,
    /// Path.
    pub path: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Body.
    pub body: &'a Bytes,
    /// Where the server listens.
    pub address: SocketAddr,
}

/// An answer.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Content type.
    pub kind: &'static str,
    /// Body.
    pub body: Bytes,
    /// Hash of the body, where clients cache it.
    pub etag: Option<String>,
}

fn json_answer(value: &Value) -> Answer {
    Answer {
        status: StatusCode::OK,
        kind: "application/json",
        body: Bytes::from(value.to_string() + "\n"),
        etag: None,
    }
}

fn text(body: &str) -> Answer {
    Answer {
        status: StatusCode::OK,
        kind: "text/plain; charset=utf-8",
        body: Bytes::copy_from_slice(body.as_bytes()),
        etag: None,
    }
}

/// The aggregated form a client accepts: stable, beta, or none.
fn aggregated(headers: &HeaderMap) -> Option<bool> {
    let accept = headers.get("accept").and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.split(',').find_map(|option| {
        let is = option.contains("as=APIGroupDiscoveryList") && option.trim().starts_with("application/json");
        match (is, option.contains("v=v2beta1")) {
            (true, true) => Some(false),
            (true, false) if option.contains("v=v2") => Some(true),
            _ => None,
        }
    })
}

/// Serves the path.
pub fn serve(ask: &Other<'_>) -> ApiResult<Answer> {
    authorise(ask)?;
    let registry = ask.state.registry();
    let parts: Vec<&str> = ask.path.split('/').filter(|p| !p.is_empty()).collect();
    if parts.first() == Some(&"lab") {
        return lab(ask, &parts[1..]);
    }
    if ask.method != Method::GET && ask.method != Method::HEAD {
        return Err(ApiError::method_not_allowed());
    }
    let found = match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => return Ok(text("ok")),
        ["version"] => Some(discovery::version()),
        [] => Some(
            json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]}),
        ),
        ["api" | "apis"] if aggregated(ask.headers).is_some() => {
            let stable = aggregated(ask.headers).unwrap_or(true);
            let mut answer = json_answer(&discovery::aggregated(&registry, parts[0] == "api", stable));
            answer.kind = if stable {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            } else {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            };
            return Ok(answer);
        }
        ["api"] => Some(discovery::core_versions(&ask.address.to_string())),
        ["api", version] => discovery::resources(&registry, "", version),
        ["apis"] => Some(discovery::groups(&registry)),
        ["apis", group] => discovery::one_group(&registry, group),
        ["apis", group, version] => discovery::resources(&registry, group, version),
        ["openapi", "v2"] => return Ok(openapi_v2(ask)),
        ["openapi", "v3"] => Some(openapi_index(ask)),
        ["openapi", "v3", rest @ ..] => return openapi_v3(ask, &rest.join("/")),
        _ => None,
    };
    found.map(|value| json_answer(&value)).ok_or_else(ApiError::no_such_path)
}

fn authorise(ask: &Other<'_>) -> ApiResult<()> {
    let verb = ask.method.as_str().to_lowercase();
    let attributes =
        Attributes { verb: verb.clone(), path: Some(ask.path.to_owned()), ..Attributes::default() };
    if allowed(&ask.state.store(), ask.user, &attributes) {
        return Ok(());
    }
    Err(ApiError::forbidden_path(&ask.user.name, &verb, ask.path))
}

fn openapi_v2(ask: &Other<'_>) -> Answer {
    let accept = ask.headers.get("accept").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let registry = ask.state.registry();
    let encoded = accept.contains("proto-openapi.spec.v2@v1.0+protobuf");
    let (kind, document) = if encoded {
        let document = ask.state.documents.get("v2.pb", || v2::encoded(&registry));
        ("application/com.github.proto-openapi.spec.v2.v1.0+protobuf", document)
    } else {
        (
            "application/json",
            ask.state.documents.get("v2", || v2::document(&registry).to_string().into_bytes()),
        )
    };
    Answer { status: StatusCode::OK, kind, body: document.body.clone(), etag: Some(document.hash.clone()) }
}

fn openapi_index(ask: &Other<'_>) -> Value {
    let registry = ask.state.registry();
    let mut paths = serde_json::Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = v3::path_of(&group, &version);
            let document = ask.state.documents.get(&format!("v3/{path}"), || {
                v3::document(&registry, &group, &version).to_string().into_bytes()
            });
            let url = format!("/openapi/v3/{path}?hash={}", document.hash);
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn openapi_v3(ask: &Other<'_>, path: &str) -> ApiResult<Answer> {
    let registry = ask.state.registry();
    let (group, version) = v3::parse(&registry, path).ok_or_else(ApiError::no_such_path)?;
    let document = ask
        .state
        .documents
        .get(&format!("v3/{path}"), || v3::document(&registry, &group, &version).to_string().into_bytes());
    Ok(Answer {
        status: StatusCode::OK,
        kind: "application/json",
        body: document.body.clone(),
        etag: Some(document.hash.clone()),
    })
}

/// `/lab/faults`: GET lists, POST adds one, DELETE clears. `/lab/faults/watches` POST ends watches,
/// `/lab/faults/versions` POST expires versions, `/lab/faults/outage` POST `{"seconds": n}` cuts all connections.
fn lab(ask: &Other<'_>, parts: &[&str]) -> ApiResult<Answer> {
    let faults = &ask.state.faults;
    let body = || -> ApiResult<Value> {
        if ask.body.is_empty() {
            return Ok(json!({}));
        }
        serde_json::from_slice(ask.body)
            .map_err(|e| ApiError::bad_request(format!("the body is not JSON: {e}")))
    };
    match (ask.method, parts) {
        (&Method::GET, ["faults"]) => return Ok(json_answer(&json!(faults.active()))),
        (&Method::DELETE, ["faults"]) => faults.clear(),
        (&Method::POST, ["faults"]) => {
            let fault: Fault = serde_json::from_value(body()?)
                .map_err(|e| ApiError::bad_request(format!("the fault is not understood: {e}")))?;
            faults.inject(fault);
        }
        (&Method::POST, ["faults", "watches"]) => {
            let matcher: Matcher = serde_json::from_value(body()?)
                .map_err(|e| ApiError::bad_request(format!("the matcher is not understood: {e}")))?;
            faults.drop_watches(matcher);
        }
        (&Method::POST, ["faults", "versions"]) => ask.state.store().compact(),
        (&Method::POST, ["faults", "outage"]) => {
            let seconds = body()?["seconds"].as_f64().unwrap_or(5.0);
            if !(0.0..=3600.0).contains(&seconds) {
                return Err(ApiError::bad_request("seconds must be between 0 and 3600"));
            }
            let state = ask.state.clone();
            tokio::spawn(async move {
                // The answer to this request still gets out.
                tokio::time::sleep(Duration::from_millis(50)).await;
                state.faults.set_outage(true);
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                state.faults.set_outage(false);
            });
        }
        _ => return Err(ApiError::no_such_path()),
    }
    Ok(json_answer(&json!({"ok": true})))
}
