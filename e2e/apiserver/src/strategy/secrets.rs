//! Secrets and config maps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fill;
use crate::status::FieldError;

/// Defaults of a secret: text data becomes data.
pub fn default_secret(secret: &mut Value) {
    if let Some(Value::Object(text)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) {
        if !secret["data"].is_object() {
            secret["data"] = json!({});
        }
        for (name, value) in text {
            secret["data"][name] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
        }
    }
    fill(secret, "type", "Opaque");
}

/// The type stays when an update leaves it out.
pub fn prepare_update(old: &Value, new: &mut Value) {
    if let Some(kind) = old.get("type") {
        fill(new, "type", kind.clone());
    }
}

fn keys(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (name, _) in object[field].as_object().into_iter().flatten() {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if name.is_empty() || name.len() > 253 || !plain || name == "." || name.starts_with("..") {
            errors.push(FieldError::invalid(
                format!("{field}[{name}]"),
                &name.as_str().into(),
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            ));
        }
    }
}

/// Checks a secret.
pub fn validate_secret(secret: &Value, errors: &mut Vec<FieldError>) {
    keys(secret, "data", errors);
    let size: usize = secret["data"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, v)| v.as_str().map_or(0, str::len) / 4 * 3)
        .sum();
    if size > 1024 * 1024 {
        errors.push(FieldError::too_long("data", 1_048_576));
    }
    let required: &[&str] = match secret["type"].as_str() {
        Some("kubernetes.io/tls") => &["tls.crt", "tls.key"],
        Some("kubernetes.io/dockerconfigjson") => &[".dockerconfigjson"],
        Some("kubernetes.io/ssh-auth") => &["ssh-privatekey"],
        _ => &[],
    };
    for name in required {
        if secret["data"].get(name).is_none() {
            errors.push(FieldError::required(format!("data[{name}]"), ""));
        }
    }
    if secret["type"] == "kubernetes.io/basic-auth"
        && secret["data"].get("username").is_none()
        && secret["data"].get("password").is_none()
    {
        errors.push(FieldError::required("data[username]", ""));
        errors.push(FieldError::required("data[password]", ""));
    }
}

/// Checks a config map.
pub fn validate_config_map(map: &Value, errors: &mut Vec<FieldError>) {
    keys(map, "data", errors);
    keys(map, "binaryData", errors);
}

/// Checks a change of a secret.
pub fn validate_secret_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    if old["type"] != new["type"] {
        errors.push(FieldError::invalid("type", &new["type"], "field is immutable"));
    }
    immutable(old, new, &["data"], errors);
}

/// Checks a change of a config map.
pub fn validate_config_map_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    immutable(old, new, &["data", "binaryData"], errors);
}

fn immutable(old: &Value, new: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    if old["immutable"] != true {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        errors.push(FieldError::forbidden("immutable", detail));
    }
    for field in fields {
        if old.get(*field) != new.get(*field) {
            errors.push(FieldError::forbidden(*field, detail));
        }
    }
}
