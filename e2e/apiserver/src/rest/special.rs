//! Subresources and resources that do something instead of storing something.

use chrono::{TimeDelta, Utc};
use http::StatusCode;
use serde_json::json;

use super::{Reply, Request, body, create, delete};
use crate::auth::reviews;
use crate::auth::tokens::{Grant, ISSUER};
use crate::selectors::label::LabelSelector;
use crate::state::{now, timestamp};
use crate::status::{ApiError, ApiResult, FieldError};
use crate::store::{GroupResource, Key};

/// Answers a review.
pub fn review(request: &mut Request<'_>) -> ApiResult<Reply> {
    if request.def.kind == "Binding" {
        return bind(request);
    }
    let mut object = body::read(request, &request.def.kind)?;
    body::check_kind(&request.def, &mut object)?;
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let store = request.state.store();
    let answer = reviews::answer(
        request.state,
        &store,
        &request.user,
        &request.def.kind,
        object,
        &request.info.namespace,
    )?;
    Ok(Reply::Json(StatusCode::CREATED, answer))
}

/// Binds a pod to a node.
pub fn bind(request: &mut Request<'_>) -> ApiResult<Reply> {
    let binding = body::read(request, "Binding")?;
    let name = if request.info.name.is_empty() {
        binding["metadata"]["name"].as_str().unwrap_or_default().to_owned()
    } else {
        request.info.name.clone()
    };
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    if node.is_empty() {
        let error = FieldError::required("target.name", "");
        return Err(ApiError::invalid("", "Binding", &name, &[error]));
    }
    let state = request.state.clone();
    let mut store = state.store();
    let key = Key {
        gr: GroupResource::new("", "pods"),
        namespace: request.info.namespace.clone(),
        name: name.clone(),
    };
    let old = store.get(&key).cloned().ok_or_else(|| ApiError::not_found("", "pods", &name))?;
    if old["metadata"].get("deletionTimestamp").is_some() {
        return Err(ApiError::conflict(
            "",
            "pods/binding",
            &name,
            &format!("pod {name} is being deleted, cannot be assigned to a host"),
        ));
    }
    if let Some(current) = old["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return Err(ApiError::conflict(
            "",
            "pods/binding",
            &name,
            &format!("pod {name} is already assigned to node {current:?}"),
        ));
    }
    let mut pod = (*old).clone();
    pod["spec"]["nodeName"] = node.into();
    for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
        if !pod["metadata"]["annotations"].is_object() {
            pod["metadata"]["annotations"] = json!({});
        }
        pod["metadata"]["annotations"][key] = value.clone();
    }
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|c| c["type"] != "PodScheduled");
    conditions.push(
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now()}),
    );
    pod["status"]["conditions"] = conditions.into();
    if !request.dry_run()? {
        store.put(key, pod);
    }
    let answer =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Reply::Json(StatusCode::CREATED, answer))
}

/// Deletes a pod if its disruption budgets allow it.
pub fn evict(request: &mut Request<'_>) -> ApiResult<Reply> {
    let eviction = body::options(request)?;
    let state = request.state.clone();
    {
        let mut store = state.store();
        let pod = request.existing(&store)?;
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
        let budgets: Vec<_> = store
            .list(&GroupResource::new("policy", "poddisruptionbudgets"), &request.info.namespace)
            .filter(|(_, b)| {
                b["spec"].get("selector").is_some_and(|s| LabelSelector::from_object(s).matches(&pod))
            })
            .map(|(k, b)| (k.clone(), b.clone()))
            .collect();
        if budgets.len() > 1 {
            return Err(ApiError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        if let (Some((key, budget)), false) = (budgets.first(), ended) {
            let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
            if allowed < 1 {
                let (healthy, wanted) =
                    (&budget["status"]["currentHealthy"], &budget["status"]["desiredHealthy"]);
                return Err(ApiError::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
                    .with_causes(vec![json!({"reason": "DisruptionBudget", "message": format!(
                        "The disruption budget {} needs {wanted} healthy pods and has {healthy} currently", key.name)})]));
            }
            let mut next = (**budget).clone();
            next["status"]["disruptionsAllowed"] = (allowed - 1).into();
            store.put(key.clone(), next);
        }
    }
    request.body = eviction.get("deleteOptions").map(|o| o.to_string().into()).unwrap_or_default();
    request.content_type = "application/json".into();
    request.info.subresource.clear();
    delete::delete(request)?;
    let answer =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Reply::Json(StatusCode::CREATED, answer))
}

/// Issues a token for a service account.
pub fn token(request: &mut Request<'_>) -> ApiResult<Reply> {
    let mut object = body::read(request, "TokenRequest")?;
    let store = request.state.store();
    let account = request.existing(&store)?;
    create::admit_namespace(request, &store, &request.info.name)?;
    let spec = object["spec"].clone();
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
    if seconds < 600 {
        let error = FieldError::invalid(
            "spec.expirationSeconds",
            &seconds.into(),
            "may not specify a duration less than 10 minutes",
        );
        return Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
    }
    let audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let bound = match spec.get("boundObjectRef").filter(|r| !r.is_null()) {
        None => None,
        Some(reference) => {
            let text = |k: &str| reference[k].as_str().unwrap_or_default().to_owned();
            let kind = text("kind");
            let resource = match kind.as_str() {
                "Pod" => "pods",
                "Secret" => "secrets",
                other => {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token to object of type {other}"
                    )));
                }
            };
            let key = Key {
                gr: GroupResource::new("", resource),
                namespace: request.info.namespace.clone(),
                name: text("name"),
            };
            let target = store.get(&key).ok_or_else(|| ApiError::not_found("", resource, &key.name))?;
            let uid = target["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if !text("uid").is_empty() && text("uid") != uid {
                return Err(ApiError::conflict(
                    "",
                    resource,
                    &key.name,
                    "the UID in the bound object reference does not match the UID in record",
                ));
            }
            if kind == "Pod" && target["spec"]["serviceAccountName"] != request.info.name {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    request.info.name
                )));
            }
            Some((kind, key.name, uid))
        }
    };
    let grant = Grant {
        namespace: &request.info.namespace,
        account: &account,
        audiences: &audiences,
        bound,
        seconds,
    };
    let issued = Utc::now();
    let token = request.state.tokens.issue(&grant, issued.timestamp());
    object["kind"] = "TokenRequest".into();
    object["apiVersion"] = "authentication.k8s.io/v1".into();
    object["metadata"] = json!({"name": request.info.name, "namespace": request.info.namespace, "creationTimestamp": timestamp(issued)});
    object["spec"]["expirationSeconds"] = seconds.into();
    if audiences.is_empty() {
        object["spec"]["audiences"] = json!([ISSUER]);
    }
    object["status"] =
        json!({"token": token, "expirationTimestamp": timestamp(issued + TimeDelta::seconds(seconds))});
    Ok(Reply::Json(StatusCode::CREATED, object))
}
