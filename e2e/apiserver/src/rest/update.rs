//! Replace.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::{Reply, Request, body, create, shown, write};
use crate::managed;
use crate::state::now;
use crate::status::{ApiError, ApiResult, FieldError};
use crate::store::Store;
use crate::strategy;

/// Replaces an object by the body.
pub fn replace(request: &mut Request<'_>) -> ApiResult<Reply> {
    let mut object = body::read(request, &request.def.kind)?;
    body::check_kind(&request.def, &mut object)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(ApiError::bad_request("name must be provided"));
    }
    if name != request.info.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            request.info.name
        )));
    }
    create::check_namespace(request, &mut object)?;
    let validation = body::field_validation(request)?;
    let mut warnings = Vec::new();
    body::complete(&request.def, &mut object, validation, &mut warnings)?;
    request.warnings.extend(warnings);
    let state = request.state.clone();
    let mut store = state.store();
    let old = match request.existing(&store) {
        Ok(old) => old,
        Err(missing) => {
            // Only leases may be made by replacing what is not there.
            if request.def.kind == "Lease" && object["metadata"].get("resourceVersion").is_none() {
                drop(store);
                return create::create(request);
            }
            return Err(missing);
        }
    };
    let stored = finish(request, &mut store, &old, object, true)?;
    Ok(Reply::Json(StatusCode::OK, shown(&request.def, &stored)))
}

/// Checks versions, completes, checks and stores a changed object. `tracked` says whether ownership is still to be
/// recorded as an update.
pub fn finish(
    request: &Request<'_>,
    store: &mut Store,
    old: &Arc<Value>,
    mut new: Value,
    tracked: bool,
) -> ApiResult<Value> {
    let def = request.def.clone();
    let (group, plural, name) = (&def.group, &def.plural, &request.info.name);
    let given = |field: &str| new["metadata"][field].as_str().filter(|v| !v.is_empty()).map(str::to_owned);
    if let Some(uid) = given("uid")
        && old["metadata"]["uid"] != uid
    {
        let own = old["metadata"]["uid"].as_str().unwrap_or_default();
        let path = if group.is_empty() { plural.clone() } else { format!("{group}/{plural}") };
        let place = if def.namespaced { format!("{}/{name}", request.info.namespace) } else { name.clone() };
        return Err(ApiError::conflict(
            group,
            plural,
            name,
            &format!(
                "StorageError: invalid object, Code: 4, Key: /registry/{path}/{place}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
            ),
        ));
    }
    match given("resourceVersion") {
        Some(version) if old["metadata"]["resourceVersion"] != version => {
            return Err(ApiError::modified(group, plural, name));
        }
        None if def.is_custom() => {
            let error =
                FieldError::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
            return Err(ApiError::invalid(group, plural, name, &[error]));
        }
        _ => {}
    }
    if def.group == "events.k8s.io" {
        strategy::events::to_core(&mut new);
        strategy::events::default(&mut new);
    }
    let subresource = request.info.subresource.clone();
    if tracked {
        let id = write::manager_id(request, "Update");
        // What this door does not write is compared as it was.
        let mut attributed = new.clone();
        strategy::prepare_update(&def, &subresource, old, &mut attributed);
        managed::update(&def.schema, old, &mut attributed, &id, &write::resets(&def, &subresource), &now());
        let managed = attributed["metadata"].get("managedFields").cloned();
        match managed {
            Some(list) => new["metadata"]["managedFields"] = list,
            None => {
                new["metadata"].as_object_mut().map(|m| m.remove("managedFields"));
            }
        }
    }
    strategy::prepare_update(&def, &subresource, old, &mut new);
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    let errors = write::check(&def, &subresource, &new, Some(old));
    if !errors.is_empty() {
        return Err(ApiError::invalid(group, &def.kind, name, &errors));
    }
    if old.get("rules") != new.get("rules") || old.get("roleRef") != new.get("roleRef") {
        write::check_escalation(request, store, &new)?;
    }
    write::store_update(request, store, old, new)
}
