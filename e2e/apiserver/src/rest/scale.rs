//! The scale subresource.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Reply, Request, body, update, write};
use crate::managed;
use crate::patch::{json as json_patch, merge};
use crate::registry::custom::ScalePaths;
use crate::state::now;
use crate::status::{ApiError, ApiResult, FieldError};

fn paths(request: &Request<'_>) -> ScalePaths {
    request.def.custom.as_ref().and_then(|c| c.scale.clone()).unwrap_or_else(|| ScalePaths {
        spec: ".spec.replicas".into(),
        status: ".status.replicas".into(),
        selector: None,
    })
}

fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

/// `a=b,c=d` for the labels a selector asks for.
fn selector_text(selector: &Value) -> String {
    let labels = selector.get("matchLabels").unwrap_or(selector);
    let list = labels.as_object().into_iter().flatten();
    list.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
}

fn scale_of(request: &Request<'_>, object: &Value) -> Value {
    let paths = paths(request);
    let number = |path: &str| object.pointer(&pointer(path)).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&paths.status)});
    let selector = match &paths.selector {
        Some(path) => object.pointer(&pointer(path)).and_then(Value::as_str).unwrap_or_default().to_owned(),
        None => selector_text(&object["spec"]["selector"]),
    };
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"]},
        "spec": {"replicas": number(&paths.spec)},
        "status": status,
    });
    if let Some(namespace) = metadata.get("namespace") {
        scale["metadata"]["namespace"] = namespace.clone();
    }
    scale
}

/// Reads or changes the number of replicas.
pub fn serve(request: &mut Request<'_>, verb: &str) -> ApiResult<Reply> {
    let state = request.state.clone();
    let mut store = state.store();
    let old = request.existing(&store)?;
    let current = scale_of(request, &old);
    let wanted = match verb {
        "get" => return Ok(Reply::Json(StatusCode::OK, current)),
        "update" => body::read(request, "Scale")?,
        _ => {
            let patch = body::parse_yaml(&request.body)
                .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
            let mut scale = current.clone();
            if request.content_type == "application/json-patch+json" {
                json_patch::apply(&mut scale, &patch)?;
            } else {
                merge::apply(&mut scale, &patch);
            }
            scale
        }
    };
    let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let error =
            FieldError::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
        return Err(ApiError::invalid("autoscaling", "Scale", &request.info.name, &[error]));
    }
    let given = wanted["metadata"]["resourceVersion"].as_str().filter(|v| !v.is_empty());
    if given.is_some_and(|v| old["metadata"]["resourceVersion"] != v) {
        return Err(ApiError::modified(&request.def.group, &request.def.plural, &request.info.name));
    }
    let mut new = (*old).clone();
    set(&mut new, &paths(request).spec, replicas);
    let id = write::manager_id(request, "Update");
    managed::update(&request.def.schema, &old, &mut new, &id, &["status"], &now());
    let subresource = std::mem::take(&mut request.info.subresource);
    let stored = update::finish(request, &mut store, &old, new, false);
    request.info.subresource = subresource;
    Ok(Reply::Json(StatusCode::OK, scale_of(request, &stored?)))
}

fn set(object: &mut Value, path: &str, value: i64) {
    let mut node = object;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        if !node.is_object() {
            *node = json!({});
        }
        node = &mut node[part];
    }
    *node = value.into();
}
