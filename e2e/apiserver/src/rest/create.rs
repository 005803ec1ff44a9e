//! Create.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Reply, Request, body, random_suffix, shown, write};
use crate::managed;
use crate::state::now;
use crate::status::{ApiError, ApiResult};
use crate::store::{GroupResource, Key, Store};
use crate::strategy::{self, services};

/// Creates an object from the body.
pub fn create(request: &mut Request<'_>) -> ApiResult<Reply> {
    let mut object = body::read(request, &request.def.kind)?;
    body::check_kind(&request.def, &mut object)?;
    check_namespace(request, &mut object)?;
    let validation = body::field_validation(request)?;
    let mut warnings = Vec::new();
    body::complete(&request.def, &mut object, validation, &mut warnings)?;
    request.warnings.extend(warnings);
    // Ownership is recorded for what the client sent, with the defaults.
    let id = write::manager_id(request, "Update");
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    let resets = write::resets(&request.def, "");
    let blank = request.def.blank.clone();
    let mut tracked = object.clone();
    managed::update(&request.def.schema, &blank, &mut tracked, &id, &resets, &now());
    let stored = insert(request, tracked)?;
    Ok(Reply::Json(StatusCode::CREATED, shown(&request.def, &stored)))
}

/// The namespace of the body is that of the path.
pub fn check_namespace(request: &Request<'_>, object: &mut Value) -> ApiResult<()> {
    if !request.def.namespaced {
        return Ok(());
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match object["metadata"]["namespace"].as_str() {
        None | Some("") => object["metadata"]["namespace"] = request.info.namespace.clone().into(),
        Some(given) if given == request.info.namespace => {}
        Some(_) => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    if request.info.namespace.is_empty() {
        return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
    }
    Ok(())
}

/// Refuses what goes into a namespace that is not there, or is going.
pub fn admit_namespace(request: &Request<'_>, store: &Store, name: &str) -> ApiResult<()> {
    let namespace = &request.info.namespace;
    if !request.def.namespaced {
        return Ok(());
    }
    let key =
        Key { gr: GroupResource::new("", "namespaces"), namespace: String::new(), name: namespace.clone() };
    match store.get(&key) {
        None => Err(ApiError::not_found("", "namespaces", namespace)),
        Some(ns) if ns["metadata"].get("deletionTimestamp").is_some() => Err(ApiError::forbidden(
            &request.def.group,
            &request.def.plural,
            name,
            &format!("unable to create new content in namespace {namespace} because it is being terminated"),
        )
        .with_causes(vec![json!({
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        })])),
        Some(_) => Ok(()),
    }
}

/// Completes, checks and stores a new object whose ownership is recorded.
pub fn insert(request: &Request<'_>, mut object: Value) -> ApiResult<Value> {
    let def = request.def.clone();
    if def.group == "events.k8s.io" {
        strategy::events::to_core(&mut object);
        strategy::events::default(&mut object);
    }
    let mut guard = request.state.store();
    let store = &mut *guard;
    let given = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    admit_namespace(request, store, &given)?;
    let metadata = &mut object["metadata"];
    if given.is_empty()
        && let Some(prefix) = metadata["generateName"].as_str().filter(|p| !p.is_empty())
    {
        let room = 63 - 5;
        let prefix: String = prefix.chars().take(room).collect();
        metadata["name"] = format!("{prefix}{}", random_suffix(5)).into();
    }
    for field in
        ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
    {
        metadata.as_object_mut().map(|m| m.remove(field));
    }
    metadata["uid"] = uuid::Uuid::new_v4().to_string().into();
    metadata["creationTimestamp"] = now().into();
    if strategy::counts_generation(&def) {
        metadata["generation"] = 1.into();
    }
    strategy::prepare_create(&def, &mut object, store);
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let errors = write::check(&def, "", &object, None);
    if !errors.is_empty() {
        let group = if def.group == "events.k8s.io" { "" } else { &def.group };
        return Err(ApiError::invalid(group, &def.kind, &name, &errors));
    }
    write::check_escalation(request, store, &object)?;
    let key = request.key_of(&name);
    if store.get(&key).is_some() {
        return Err(ApiError::already_exists(&def.group, &def.plural, &name));
    }
    if def.is("", "services") {
        allocate(request, store, &mut object)?;
    }
    if request.dry_run()? {
        return Ok(object);
    }
    let stored = store.put(key.clone(), object);
    write::after_put(request.state, store, &def, &key, &stored);
    Ok((*stored).clone())
}

/// Gives a service its address.
fn allocate(request: &Request<'_>, store: &Store, service: &mut Value) -> ApiResult<()> {
    if service["spec"]["type"] == "ExternalName" {
        return Ok(());
    }
    let range = request.state.services;
    let taken: Vec<String> = store
        .list(&GroupResource::new("", "services"), "")
        .filter_map(|(_, s)| s["spec"]["clusterIP"].as_str().map(str::to_owned))
        .collect();
    let address = match service["spec"]["clusterIP"].as_str().filter(|a| !a.is_empty()) {
        Some("None") => "None".to_owned(),
        Some(wanted) => {
            let problem = match wanted.parse() {
                Err(_) => Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
                Ok(ip) if !range.contains(ip) => {
                    Some("failed to allocate IP: the provided IP is not in the valid range")
                }
                Ok(_) if taken.iter().any(|t| t == wanted) => {
                    Some("failed to allocate IP: provided IP is already allocated")
                }
                Ok(_) => None,
            };
            if let Some(problem) = problem {
                let error = crate::status::FieldError::invalid("spec.clusterIPs", &json!([wanted]), problem);
                let name = service["metadata"]["name"].as_str().unwrap_or_default();
                return Err(ApiError::invalid("", "Service", name, &[error]));
            }
            wanted.to_owned()
        }
        None => {
            // Low addresses stay free for those who ask for one.
            let mut offsets = 256..u32::MAX;
            loop {
                let offset = offsets.next().unwrap_or(u32::MAX);
                match range.address(offset).or_else(|| range.address(offset.wrapping_sub(254))) {
                    None => return Err(ApiError::internal("failed to allocate a serviceIP: range is full")),
                    Some(ip) if taken.contains(&ip.to_string()) => {}
                    Some(ip) => break ip.to_string(),
                }
            }
        }
    };
    services::set_address(service, &address);
    Ok(())
}
