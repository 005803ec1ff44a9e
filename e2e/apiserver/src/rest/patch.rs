//! Patch, in its four formats.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Reply, Request, body, create, shown, update, write};
use crate::managed;
use crate::patch::{json as json_patch, merge, strategic};
use crate::state::now;
use crate::status::{ApiError, ApiResult, FieldError};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Patches an object.
pub fn patch(request: &mut Request<'_>) -> ApiResult<Reply> {
    let custom = request.def.is_custom();
    let accepted: &[&str] = if custom { &[JSON, MERGE, APPLY] } else { &[JSON, MERGE, STRATEGIC, APPLY] };
    let kind = request.content_type.clone();
    if !accepted.contains(&kind.as_str()) {
        return Err(ApiError::unsupported_media_type(accepted));
    }
    if kind == APPLY {
        return apply(request);
    }
    let patch: Value = serde_json::from_slice(&request.body)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    let state = request.state.clone();
    let mut store = state.store();
    let old = request.existing(&store)?;
    let mut object = shown(&request.def, &old);
    match kind.as_str() {
        JSON => json_patch::apply(&mut object, &patch)?,
        STRATEGIC => strategic::apply(&mut object, &patch, &request.def.schema)?,
        _ => merge::apply(&mut object, &patch),
    }
    if !object.is_object() {
        return Err(ApiError::bad_request("the patched object is not an object"));
    }
    body::check_kind(&request.def, &mut object)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if name != request.info.name {
        let error = FieldError::invalid("metadata.name", &name.into(), "field is immutable");
        return Err(ApiError::invalid(&request.def.group, &request.def.kind, &request.info.name, &[error]));
    }
    let validation = body::field_validation(request)?;
    let mut warnings = Vec::new();
    body::complete(&request.def, &mut object, validation, &mut warnings)?;
    request.warnings.extend(warnings);
    if object["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty) {
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    }
    let stored = update::finish(request, &mut store, &old, object, true)?;
    Ok(Reply::Json(StatusCode::OK, shown(&request.def, &stored)))
}

fn apply(request: &mut Request<'_>) -> ApiResult<Reply> {
    let def = request.def.clone();
    if request.query.get("fieldManager").is_none() {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let mut config = body::parse_yaml(&request.body)
        .map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
    check_config(request, &mut config)?;
    let validation = body::field_validation(request)?;
    let mut warnings = Vec::new();
    let config = reduce(&def, config, validation, &mut warnings)?;
    request.warnings.extend(warnings);
    let id = write::manager_id(request, "Apply");
    let force = request.query.flag("force") && request.query.given("force").is_some();
    let resets = write::resets(&def, &request.info.subresource);
    let state = request.state.clone();
    let mut store = state.store();
    let Some(old) = store.get(&request.key()).cloned() else {
        drop(store);
        if !request.info.subresource.is_empty() {
            return Err(request.not_found(&request.info.name));
        }
        if config["metadata"].get("resourceVersion").is_some() {
            return Err(ApiError::conflict(
                &def.group,
                &def.plural,
                &request.info.name,
                "resourceVersion specified for an object that does not exist",
            ));
        }
        let mut blank = json!({"apiVersion": def.api_version(), "kind": def.kind, "metadata": {}});
        if def.namespaced {
            blank["metadata"]["namespace"] = request.info.namespace.clone().into();
        }
        let mut object = managed::apply(&def.schema, &blank, &config, &id, force, &resets, &now())?;
        create::check_namespace(request, &mut object)?;
        body::complete(&def, &mut object, body::FieldValidation::Ignore, &mut Vec::new())?;
        let stored = create::insert(request, object)?;
        return Ok(Reply::Json(StatusCode::CREATED, shown(&def, &stored)));
    };
    if let Some(version) = config["metadata"]["resourceVersion"].as_str()
        && old["metadata"]["resourceVersion"] != version
    {
        return Err(ApiError::modified(&def.group, &def.plural, &request.info.name));
    }
    let live = shown(&def, &old);
    let mut object = managed::apply(&def.schema, &live, &config, &id, force, &resets, &now())?;
    body::complete(&def, &mut object, body::FieldValidation::Ignore, &mut Vec::new())?;
    object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    let stored = update::finish(request, &mut store, &old, object, false)?;
    Ok(Reply::Json(StatusCode::OK, shown(&def, &stored)))
}

fn check_config(request: &Request<'_>, config: &mut Value) -> ApiResult<()> {
    let def = &request.def;
    if !config.is_object() {
        return Err(ApiError::bad_request("error decoding YAML: the applied configuration is not an object"));
    }
    for field in ["apiVersion", "kind"] {
        if config[field].as_str().is_none_or(str::is_empty) {
            return Err(ApiError::bad_request(format!(
                "invalid object type: {field} is missing in the applied configuration"
            )));
        }
    }
    if config["kind"] != def.kind || config["apiVersion"] != def.api_version() {
        return Err(ApiError::bad_request(format!(
            "invalid object type: {}, Kind={}",
            config["apiVersion"].as_str().unwrap_or_default(),
            config["kind"].as_str().unwrap_or_default()
        )));
    }
    if !config["metadata"].is_object() {
        config["metadata"] = json!({});
    }
    let metadata = &config["metadata"];
    if metadata["managedFields"].as_array().is_some_and(|m| !m.is_empty()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    match metadata["name"].as_str() {
        Some(name) if name == request.info.name => {}
        Some(name) if !name.is_empty() => {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                request.info.name
            )));
        }
        _ => config["metadata"]["name"] = request.info.name.clone().into(),
    }
    create::check_namespace(request, config)
}

/// The configuration without unknown fields and without what says nothing.
fn reduce(
    def: &crate::registry::ResourceDef,
    mut config: Value,
    validation: body::FieldValidation,
    warnings: &mut Vec<String>,
) -> ApiResult<Value> {
    // Defaults must not count as applied, so only fields of the configuration itself are kept.
    let mut unknown = Vec::new();
    crate::schema::prune::prune(&mut config, &def.schema, true, "", &mut unknown);
    unknown.sort();
    if !unknown.is_empty() {
        let list: Vec<String> =
            unknown.iter().map(|path| format!(".{path}: field not declared in schema")).collect();
        // Applying needs a typed configuration: unknown fields fail whatever the client asked for, but where the
        // schema is custom they are dropped with a warning.
        if !def.is_custom() || validation == body::FieldValidation::Strict {
            return Err(ApiError::bad_request(format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): {}",
                config["metadata"]["namespace"].as_str().unwrap_or_default(),
                config["metadata"]["name"].as_str().unwrap_or_default(),
                def.api_version(),
                def.kind,
                list.join(", ")
            )));
        }
        if validation == body::FieldValidation::Warn {
            warnings.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
        }
    }
    if !def.is_custom() {
        crate::schema::coerce::coerce(&mut config, &def.schema, &def.kind, "")
            .map_err(|e| ApiError::bad_request(format!("failed to create typed patch object: {e}")))?;
    }
    for field in ["managedFields", "creationTimestamp", "uid", "generation", "selfLink"] {
        config["metadata"].as_object_mut().map(|m| m.remove(field));
    }
    if def.kind == "Secret" {
        // Text data is not stored, so it is owned as the data it becomes.
        let had_type = config.get("type").is_some();
        crate::strategy::default(def, &mut config);
        if !had_type {
            config.as_object_mut().map(|c| c.remove("type"));
        }
    }
    Ok(config)
}
