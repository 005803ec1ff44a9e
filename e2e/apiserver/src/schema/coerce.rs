//! Brings the JSON of a built-in type into the form in which it is stored: types are checked, quantities become
//! text, nulls and empty optional lists and maps go away.

use base64::Engine as _;
use serde_json::Value;

use super::prune::join;
use super::{Additional, Schema};
use crate::quantity;

/// Normalises a value; the error is the message of a body that does not decode.
pub fn coerce(value: &mut Value, schema: &Schema, kind: &str, path: &str) -> Result<(), String> {
    let node = schema.get();
    if node.open() && node.properties.is_empty() && !node.int_or_string {
        return Ok(());
    }
    let reference = schema.reference.as_deref().unwrap_or_default();
    if reference.ends_with("resource.Quantity") {
        return self::quantity(value);
    }
    if node.int_or_string {
        return match value {
            Value::String(_) => Ok(()),
            Value::Number(n) if n.is_i64() => Ok(()),
            other => mismatch(other, kind, path, "intstr.IntOrString"),
        };
    }
    match (node.ty.as_deref(), &mut *value) {
        (Some("object"), Value::Object(map)) => {
            map.retain(|_, v| !v.is_null());
            let names: Vec<String> = map.keys().cloned().collect();
            for name in names {
                let Some(form) = node.field(&name) else { continue };
                let Some(child) = map.get_mut(&name) else { continue };
                coerce(child, form, kind, &join(path, &name))?;
                if droppable(child, form) && !node.required.contains(&name) && name != "rules" {
                    map.remove(&name);
                }
            }
            Ok(())
        }
        (Some("array"), Value::Array(items)) => {
            if let Some(form) = node.item() {
                for item in items {
                    coerce(item, form, kind, path)?;
                }
            }
            Ok(())
        }
        (Some("string"), Value::String(text)) => string(text, node),
        (Some("boolean"), Value::Bool(_)) => Ok(()),
        (Some("integer"), Value::Number(n)) => {
            if n.is_i64() || n.is_u64() {
                return Ok(());
            }
            match n.as_f64().filter(|f| f.fract() == 0.0) {
                Some(f) => {
                    *value = Value::from(f as i64);
                    Ok(())
                }
                None => Err(format!(
                    "json: cannot unmarshal number {n} into Go struct field {kind}.{path} of type int64"
                )),
            }
        }
        (Some("number"), Value::Number(_)) | (None, _) => Ok(()),
        (Some(ty), other) => {
            let wanted = match ty {
                "integer" => node.format.as_deref().unwrap_or("int32"),
                "boolean" => "bool",
                "array" => "[]",
                "object" if node.properties.is_empty() => "map[string]string",
                other => other,
            };
            mismatch(other, kind, path, wanted)
        }
    }
}

fn mismatch(value: &Value, kind: &str, path: &str, wanted: &str) -> Result<(), String> {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Err(format!("json: cannot unmarshal {found} into Go struct field {kind}.{path} of type {wanted}"))
}

/// An empty list or map that says nothing; an empty structure does say something.
fn droppable(value: &Value, form: &Schema) -> bool {
    let node = form.get();
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => {
            map.is_empty() && node.properties.is_empty() && matches!(node.additional, Additional::Typed(_))
        }
        _ => false,
    }
}

fn quantity(value: &mut Value) -> Result<(), String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(quantity::FORMAT_ERROR.into()),
    };
    *value = quantity::canonical(&text).ok_or(quantity::FORMAT_ERROR)?.into();
    Ok(())
}

fn string(text: &mut String, node: &Schema) -> Result<(), String> {
    match node.format.as_deref() {
        Some("byte") => {
            // kubectl breaks what it generates into lines; Go's decoder does not mind, and what is kept has none.
            text.retain(|c| !matches!(c, '\r' | '\n'));
            bytes(text)
        }
        Some("date-time") if chrono::DateTime::parse_from_rfc3339(text).is_err() => Err(format!(
            "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
        )),
        _ => Ok(()),
    }
}

fn bytes(text: &str) -> Result<(), String> {
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("illegal base64 data at input byte {}", bad_base64_at(text))),
    }
}

fn bad_base64_at(text: &str) -> usize {
    text.bytes()
        .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')))
        .unwrap_or(text.len() / 4 * 4)
}
