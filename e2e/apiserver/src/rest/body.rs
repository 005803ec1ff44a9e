//! Reading bodies: formats, kinds, unknown fields.

use serde_json::Value;

use super::Request;
use crate::proto;
use crate::registry::ResourceDef;
use crate::schema::{coerce, prune};
use crate::status::{ApiError, ApiResult, FieldError};
use crate::strategy;

/// How unknown fields are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// With an error.
    Strict,
    /// With a warning.
    Warn,
    /// Not at all.
    Ignore,
}

/// What the request asks for.
pub fn field_validation(request: &Request<'_>) -> ApiResult<FieldValidation> {
    match request.query.get("fieldValidation") {
        Some("Strict") => Ok(FieldValidation::Strict),
        None | Some("Warn") => Ok(FieldValidation::Warn),
        Some("Ignore") => Ok(FieldValidation::Ignore),
        Some(other) => Err(ApiError::bad_request(format!(
            "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))),
    }
}

/// Reads an optional body of options in any format.
pub fn options(request: &Request<'_>) -> ApiResult<Value> {
    if request.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(serde_json::json!({}));
    }
    let read = if request.content_type == proto::MEDIA_TYPE {
        proto::body(&request.body)
    } else {
        parse_yaml(&request.body)
    };
    read.map_err(|e| ApiError::bad_request(format!("error decoding the options: {e}")))
}

/// Reads YAML or JSON into a value.
pub fn parse_yaml(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).or_else(|_| {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        serde_saphyr::from_str::<Value>(text).map_err(|e| e.to_string())
    })
}

/// Reads the body of a request as an object.
pub fn read(request: &Request<'_>, kind: &str) -> ApiResult<Value> {
    match request.content_type.as_str() {
        "" | "application/json" => serde_json::from_slice(&request.body).map_err(|e| {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            let why = if e.is_eof() { "unexpected end of JSON input".to_owned() } else { e.to_string() };
            ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} ({text})"
            ))
        }),
        "application/yaml" => parse_yaml(&request.body)
            .map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: {e}"))),
        proto::MEDIA_TYPE => proto::body(&request.body)
            .map_err(|e| ApiError::bad_request(format!("unable to decode the body: {e}"))),
        _ => Err(ApiError::unsupported_media_type(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])),
    }
}

/// Checks that the object is of the kind of the path, and says which it is when it does not.
pub fn check_kind(def: &ResourceDef, object: &mut Value) -> ApiResult<()> {
    let Some(map) = object.as_object_mut() else {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): not an object",
            def.kind
        )));
    };
    let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (text(map.get("kind")), text(map.get("apiVersion")));
    let name = text(map.get("metadata").and_then(|m| m.get("name")));
    if def.is_custom() {
        if kind.is_empty() {
            return Err(ApiError::bad_request("Object 'Kind' is missing in the request body"));
        }
        if kind != def.kind {
            let error = FieldError::invalid("kind", &kind.as_str().into(), &format!("must be {}", def.kind));
            return Err(ApiError::invalid(&def.group, &kind, &name, &[error]));
        }
        if version != def.api_version() {
            let error = FieldError::invalid(
                "apiVersion",
                &version.as_str().into(),
                &format!("must be {}", def.api_version()),
            );
            return Err(ApiError::invalid(&def.group, &kind, &name, &[error]));
        }
    } else if (!kind.is_empty() && kind != def.kind) || (!version.is_empty() && version != def.api_version())
    {
        return Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: no kind {kind:?} is registered for version {version:?}",
            def.version, def.kind
        )));
    }
    map.insert("kind".into(), def.kind.clone().into());
    map.insert("apiVersion".into(), def.api_version().into());
    Ok(())
}

/// Brings an object into its stored form: unknown fields out, types checked, defaults in.
pub fn complete(
    def: &ResourceDef,
    object: &mut Value,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> ApiResult<()> {
    let handled = |what: String| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {what}",
            def.kind, def.version, def.kind
        ))
    };
    if !object["metadata"].is_object() {
        if !object["metadata"].is_null() {
            return Err(handled("metadata must be an object".into()));
        }
        object["metadata"] = serde_json::json!({});
    }
    let mut unknown = Vec::new();
    let keeps = def.custom.as_ref().is_some_and(|c| c.preserve_unknown);
    if !keeps {
        prune::prune(object, &def.schema, true, "", &mut unknown);
    }
    if let Some(form) = def.schema.field("metadata") {
        prune::prune(&mut object["metadata"], form, false, "metadata", &mut unknown);
    }
    unknown.sort();
    if !unknown.is_empty() {
        let list: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
        match validation {
            FieldValidation::Strict => {
                return Err(handled(format!("strict decoding error: {}", list.join(", "))));
            }
            FieldValidation::Warn => warnings.extend(list),
            FieldValidation::Ignore => {}
        }
    }
    if let Some(form) = def.schema.field("metadata") {
        coerce::coerce(&mut object["metadata"], form, "ObjectMeta", "metadata").map_err(handled)?;
    }
    if !def.is_custom() {
        coerce::coerce(object, &def.schema, &def.kind, "").map_err(handled)?;
        if let Some(map) = object.as_object_mut() {
            map.retain(|_, v| !v.is_null());
        }
    }
    strategy::default(def, object);
    Ok(())
}
