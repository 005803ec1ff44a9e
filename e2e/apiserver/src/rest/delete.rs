//! Delete: preconditions, finalizers, grace and propagation.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Reply, Request, body, list, shown, success, write};
use crate::state::timestamp;
use crate::status::{ApiError, ApiResult, qualified};
use crate::store::{Key, Store};

/// What a delete asks for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    grace: Option<i64>,
    propagation: Option<String>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

fn options(request: &Request<'_>) -> ApiResult<Options> {
    let body = body::options(request)?;
    let number = |text: &str| {
        text.parse().map_err(|_| ApiError::bad_request(format!("gracePeriodSeconds: not a number: {text:?}")))
    };
    let mut grace = body["gracePeriodSeconds"].as_i64();
    if let Some(text) = request.query.get("gracePeriodSeconds") {
        grace = Some(number(text)?);
    }
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let mut propagation =
        request.query.get("propagationPolicy").map(str::to_owned).or_else(|| text("/propagationPolicy"));
    let orphan = body["orphanDependents"]
        .as_bool()
        .or_else(|| request.query.get("orphanDependents").map(|v| v == "true"));
    if let Some(orphan) = orphan {
        propagation = Some(if orphan { "Orphan" } else { "Background" }.into());
    }
    if let Some(policy) = &propagation
        && !matches!(policy.as_str(), "Orphan" | "Background" | "Foreground")
    {
        let error = crate::status::FieldError::invalid(
            "propagationPolicy",
            &policy.as_str().into(),
            "must be \"Foreground\", \"Background\", or \"Orphan\"",
        );
        return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
    }
    let dry = body["dryRun"].as_array().is_some_and(|d| !d.is_empty());
    Ok(Options {
        grace,
        propagation,
        uid: text("/preconditions/uid"),
        version: text("/preconditions/resourceVersion"),
        dry_run: dry || request.dry_run()?,
    })
}

/// Deletes one object.
pub fn delete(request: &mut Request<'_>) -> ApiResult<Reply> {
    let options = options(request)?;
    let state = request.state.clone();
    let mut store = state.store();
    let old = request.existing(&store)?;
    preconditions(request, &old, &options)?;
    let (object, gone) = remove(request, &mut store, &request.key(), &old, &options)?;
    let def = &request.def;
    let returns_object = !def.is_custom()
        && matches!(
            def.plural.as_str(),
            "pods"
                | "persistentvolumeclaims"
                | "persistentvolumes"
                | "serviceaccounts"
                | "services"
                | "resourcequotas"
                | "podtemplates"
                | "namespaces"
        );
    if gone && !returns_object {
        let mut details =
            json!({"name": request.info.name, "kind": def.plural, "uid": object["metadata"]["uid"]});
        if !def.group.is_empty() {
            details["group"] = def.group.clone().into();
        }
        return Ok(Reply::Json(StatusCode::OK, success(details)));
    }
    Ok(Reply::Json(StatusCode::OK, shown(def, &object)))
}

/// Deletes everything that a list with the same parameters shows.
pub fn collection(request: &mut Request<'_>) -> ApiResult<Reply> {
    let options = options(request)?;
    let state = request.state.clone();
    let mut store = state.store();
    let chosen = list::select(request, &store)?;
    let mut items = Vec::new();
    for (key, old) in chosen {
        // Some may go with others of the same list.
        if store.get(&key).is_some() {
            let (object, _) = remove(request, &mut store, &key, &old, &options)?;
            items.push(object);
        }
    }
    let version = store.version().to_string();
    let def = &request.def;
    let items: Vec<Value> = items.iter().map(|o| list::item(def, o)).collect();
    Ok(Reply::Json(
        StatusCode::OK,
        json!({"kind": def.list_kind, "apiVersion": def.api_version(), "metadata": {"resourceVersion": version},
            "items": items}),
    ))
}

fn preconditions(request: &Request<'_>, old: &Value, options: &Options) -> ApiResult<()> {
    let def = &request.def;
    let name = &request.info.name;
    let conflict = |why: String| ApiError::conflict(&def.group, &def.kind, name, &why);
    if let Some(uid) = &options.uid
        && old["metadata"]["uid"] != *uid
    {
        let own = old["metadata"]["uid"].as_str().unwrap_or_default();
        return Err(conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({own}). The object might have been deleted and then recreated"
        )));
    }
    if let Some(version) = &options.version
        && old["metadata"]["resourceVersion"] != *version
    {
        let own = old["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        return Err(conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({own}). The object might have been modified"
        )));
    }
    Ok(())
}

/// Seconds a pod gets to end; 0 for everything else.
fn grace(request: &Request<'_>, old: &Value, asked: Option<i64>) -> i64 {
    if !request.def.is("", "pods") {
        return 0;
    }
    let unscheduled = old["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let ended = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || ended {
        return 0;
    }
    let own = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    asked.unwrap_or(own).max(0)
}

/// Marks an object or removes it; the flag says whether it is gone.
pub fn remove(
    request: &Request<'_>,
    store: &mut Store,
    key: &Key,
    old: &Arc<Value>,
    options: &Options,
) -> ApiResult<(Value, bool)> {
    let def = &request.def;
    if def.is("", "namespaces") && matches!(key.name.as_str(), "default" | "kube-system" | "kube-public") {
        return Err(ApiError::forbidden("", "namespaces", &key.name, "this namespace may not be deleted"));
    }
    let mut object = (**old).clone();
    let mut finalizers: Vec<Value> = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let before = finalizers.clone();
    let policy = options.propagation.as_deref();
    if policy.is_some() {
        finalizers.retain(|f| f != "orphan" && f != "foregroundDeletion");
        match policy {
            Some("Orphan") => finalizers.push("orphan".into()),
            Some("Foreground") => finalizers.push("foregroundDeletion".into()),
            _ => {}
        }
    }
    let seconds = grace(request, old, options.grace);
    let namespace =
        def.is("", "namespaces") && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let deleting = object["metadata"].get("deletionTimestamp").is_some();
    let current = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    if finalizers.is_empty() && !namespace && seconds == 0 {
        if options.dry_run {
            return Ok((object, true));
        }
        let last = store.remove(key).map_or_else(|| object.clone(), |o| (*o).clone());
        write::after_remove(request.state, store, def, key);
        return Ok((last, true));
    }
    let shorter = deleting && def.is("", "pods") && seconds < current;
    if deleting && !shorter && finalizers == before {
        return Ok((object, false));
    }
    if finalizers.is_empty() {
        object["metadata"].as_object_mut().map(|m| m.remove("finalizers"));
    } else {
        object["metadata"]["finalizers"] = finalizers.into();
    }
    if !deleting || shorter {
        let end = Utc::now() + TimeDelta::seconds(seconds);
        object["metadata"]["deletionTimestamp"] = timestamp(end).into();
        if !namespace {
            object["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
        }
        if let Some(generation) = object["metadata"]["generation"].as_i64() {
            object["metadata"]["generation"] = (generation + 1).into();
        }
    }
    if namespace {
        object["status"]["phase"] = "Terminating".into();
    }
    if options.dry_run {
        return Ok((object, false));
    }
    let stored = store.put(key.clone(), object);
    Ok(((*stored).clone(), false))
}

/// Deletes an object on behalf of the server itself, in the background; says whether that changed anything.
pub fn by_server(state: &Arc<crate::state::State>, store: &mut Store, key: &Key) -> bool {
    let registry = state.registry();
    let (Some(def), Some(old)) = (registry.by_storage(&key.gr).cloned(), store.get(key).cloned()) else {
        return false;
    };
    let request = Request {
        state,
        def,
        info: crate::path::RequestInfo {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            ..Default::default()
        },
        query: crate::path::Query::default(),
        user: crate::auth::User::default(),
        agent: "kube-controller-manager".into(),
        content_type: String::new(),
        accept: String::new(),
        body: bytes::Bytes::new(),
        warnings: Vec::new(),
    };
    let version = store.version();
    if let Err(error) = remove(&request, store, key, &old, &Options::default()) {
        let resource = qualified(&key.gr.group, &key.gr.resource);
        tracing::warn!(
            resource,
            namespace = key.namespace,
            name = key.name,
            error = error.message,
            "the server could not delete an object"
        );
    }
    store.version() != version
}
