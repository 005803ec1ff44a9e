//! One request: who, what, whether, and the answer on the wire.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use futures::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::Value;

use super::paths;
use crate::auth::User;
use crate::auth::rbac::{Attributes, allowed, refusal};
use crate::path::{self, Query, RequestInfo};
use crate::rest::{self, Reply, Request};
use crate::state::State;
use crate::status::{ApiError, ApiResult};

/// Body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Largest body that is read, in bytes.
const MAX_BODY: usize = 8 * 1024 * 1024;

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json_response(status: StatusCode, value: &Value, yaml: bool) -> Response<Body> {
    if yaml && let Ok(text) = serde_saphyr::to_string(value) {
        return response(status, "application/yaml", full(text.into()));
    }
    response(status, "application/json", full(Bytes::from(value.to_string() + "\n")))
}

fn failure(error: &ApiError) -> Response<Body> {
    let mut response = if error.reason.is_empty() {
        response(error.code, "text/plain; charset=utf-8", full(Bytes::from(error.message.clone())))
    } else {
        json_response(error.code, &error.body(), false)
    };
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.code == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kubernetes\""));
    }
    response
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// The owner of a bearer token, of the certificate, or nobody.
fn authenticate(state: &State, certificate: Option<User>, headers: &HeaderMap) -> ApiResult<User> {
    let given = header(headers, "authorization");
    if let Some(token) = given.strip_prefix("Bearer ").or_else(|| given.strip_prefix("bearer ")) {
        let store = state.store();
        let checked = state.tokens.check(token.trim(), &store, Utc::now().timestamp());
        let own = checked.filter(|(_, audiences)| audiences.iter().any(|a| a == crate::auth::tokens::ISSUER));
        return own.map(|(user, _)| user).ok_or_else(ApiError::unauthorized);
    }
    Ok(certificate.unwrap_or_else(User::anonymous))
}

/// The user that an allowed caller wants to be taken for.
fn impersonate(state: &State, user: User, headers: &HeaderMap) -> ApiResult<User> {
    let name = header(headers, "impersonate-user");
    if name.is_empty() {
        return Ok(user);
    }
    let ask = Attributes {
        verb: "impersonate".into(),
        resource: "users".into(),
        name: name.into(),
        ..Attributes::default()
    };
    if !allowed(&state.store(), &user, &ask) {
        return Err(ApiError::forbidden("", "users", name, &refusal(&user, &ask)));
    }
    let mut groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok().map(str::to_owned))
        .collect();
    if let Some((namespace, account)) =
        name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
        && groups.is_empty()
    {
        return Ok(User::service_account(namespace, account, ""));
    }
    groups.push("system:authenticated".into());
    Ok(User { name: name.into(), groups, ..User::default() })
}

/// Serves one request.
pub async fn handle(
    state: Arc<State>,
    certificate: Option<User>,
    address: SocketAddr,
    request: hyper::Request<Incoming>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let user = match authenticate(&state, certificate, &parts.headers)
        .and_then(|user| impersonate(&state, user, &parts.headers))
    {
        Ok(user) => user,
        Err(error) => return failure(&error),
    };
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => {
            return failure(&ApiError {
                code: StatusCode::PAYLOAD_TOO_LARGE,
                reason: "RequestEntityTooLarge",
                message: format!("Request entity too large: limit is {MAX_BODY}"),
                details: None,
            });
        }
    };
    let query = Query::parse(parts.uri.query());
    let target = parts.uri.path();
    let Some(info) = path::parse(&parts.method, target, &query) else {
        let other = paths::Other {
            state: &state,
            user: &user,
            method: &parts.method,
            path: target,
            headers: &parts.headers,
            body: &body,
            address,
        };
        return match paths::serve(&other) {
            Ok(answer) => raw(answer, header(&parts.headers, "if-none-match")),
            Err(error) => failure(&error),
        };
    };
    tracing::debug!(verb = info.verb, path = target, user = %user.name, "request");
    let yaml = header(&parts.headers, "accept").starts_with("application/yaml");
    let (reply, warnings) = resource(&state, user, info, query, &parts.headers, body).await;
    let mut response = match reply {
        Ok(Reply::Json(status, value)) => json_response(status, &value, yaml),
        Ok(Reply::Watch(stream)) => {
            let lines = futures::stream::unfold(stream, |mut stream| async move {
                stream.next().await.map(|line| (Ok(Frame::data(line)), stream))
            });
            response(StatusCode::OK, "application/json", StreamBody::new(lines).boxed_unsync())
        }
        Ok(Reply::Stream(kind, bytes)) => {
            let frames = bytes.map(|part| part.map(Frame::data));
            response(StatusCode::OK, kind, StreamBody::new(frames).boxed_unsync())
        }
        Err(error) => failure(&error),
    };
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append("warning", value);
        }
    }
    response
}

fn raw(answer: paths::Answer, known: &str) -> Response<Body> {
    let mut response = match &answer.etag {
        Some(etag) if known.trim_matches('"') == etag => {
            response(StatusCode::NOT_MODIFIED, answer.kind, full(Bytes::new()))
        }
        _ => response(answer.status, answer.kind, full(answer.body)),
    };
    if let Some(etag) = answer.etag
        && let Ok(value) = HeaderValue::from_str(&format!("\"{etag}\""))
    {
        response.headers_mut().insert("etag", value);
        response.headers_mut().insert("vary", HeaderValue::from_static("Accept"));
    }
    response
}

async fn resource(
    state: &Arc<State>,
    user: User,
    info: RequestInfo,
    query: Query,
    headers: &HeaderMap,
    body: Bytes,
) -> (ApiResult<Reply>, Vec<String>) {
    state.tally.count(&info, &user.name);
    if let Err(error) = authorise(state, &user, &info, &query) {
        return (Err(error), Vec::new());
    }
    let verdict = state.faults.judge(&info, &user.name);
    if !verdict.delay.is_zero() {
        tokio::time::sleep(verdict.delay).await;
    }
    if let Some(error) = verdict.failure {
        return (Err(error), Vec::new());
    }
    let Some(def) = state.registry().find(&info.group, &info.version, &info.resource).cloned() else {
        return (Err(ApiError::no_such_path()), Vec::new());
    };
    let agent = header(headers, "user-agent").split('/').next().unwrap_or_default().trim();
    let content_type = header(headers, "content-type").split(';').next().unwrap_or_default().trim();
    let mut request = Request {
        state,
        def,
        info,
        query,
        user,
        agent: if agent.is_empty() { "unknown".into() } else { agent.into() },
        content_type: content_type.into(),
        accept: header(headers, "accept").into(),
        body,
        warnings: Vec::new(),
    };
    let mut reply = rest::serve(&mut request).await;
    if verdict.lose_answer && reply.is_ok() {
        reply = Err(ApiError::internal("injected fault: the request was carried out, its answer is lost"));
    }
    (reply, request.warnings)
}

/// A list or watch that asks for one name by field selector counts as a request for that name, as in a real server:
/// a rule with `resourceNames` allows it.
fn name_asked_for(info: &RequestInfo, query: &Query) -> String {
    if !info.name.is_empty() || !matches!(info.verb, "list" | "watch" | "deletecollection") {
        return info.name.clone();
    }
    let selector = query.get("fieldSelector").unwrap_or_default();
    let name = selector.split(',').find_map(|part| {
        let (field, value) = part.split_once('=')?;
        (field.trim() == "metadata.name").then(|| value.trim_start_matches('=').trim().to_owned())
    });
    name.unwrap_or_default()
}

fn authorise(state: &State, user: &User, info: &RequestInfo, query: &Query) -> ApiResult<()> {
    let resource = if info.subresource.is_empty() {
        info.resource.clone()
    } else {
        format!("{}/{}", info.resource, info.subresource)
    };
    let ask = Attributes {
        verb: info.verb.into(),
        group: info.group.clone(),
        resource,
        namespace: if info.resource == "namespaces" { info.name.clone() } else { info.namespace.clone() },
        name: name_asked_for(info, query),
        path: None,
    };
    if allowed(&state.store(), user, &ask) {
        return Ok(());
    }
    Err(ApiError::forbidden(&info.group, &info.resource, &info.name, &refusal(user, &ask)))
}
