//! Sets and keyed lists: the identity of their items and the check that none stands twice.

use serde_json::{Map, Value};

use super::prune::join;
use super::{Additional, ListType, Schema};
use crate::status::FieldError;

/// The key of an item of a keyed list: the key fields it has, with the schema's defaults for those it lacks.
pub fn item_key(item: &Value, keys: &[String], schema: Option<&Schema>) -> Map<String, Value> {
    let mut map = Map::new();
    for key in keys {
        let value = match item.get(key) {
            Some(value) if !value.is_null() => Some(value.clone()),
            _ => schema.and_then(|s| s.field(key)).and_then(|s| s.default.clone()).or_else(|| {
                // The one default among the keys of built-in lists.
                (key == "protocol").then(|| "TCP".into())
            }),
        };
        if let Some(value) = value {
            map.insert(key.clone(), value);
        }
    }
    map
}

/// Reports items of sets and keyed lists that stand twice.
pub fn duplicates(value: &Value, schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let node = schema.get();
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                let form = node.properties.get(name).map(|s| &**s).or(match &node.additional {
                    Additional::Typed(form) => Some(form),
                    _ => None,
                });
                if let Some(form) = form {
                    duplicates(child, form, &join(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            let mut seen: Vec<Value> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let identity = match &node.list_type {
                    ListType::Atomic => None,
                    ListType::Set => Some(item.clone()),
                    ListType::Map(keys) => Some(Value::Object(item_key(item, keys, node.item()))),
                };
                if let Some(identity) = identity {
                    if seen.contains(&identity) {
                        errors.push(FieldError::duplicate(format!("{path}[{index}]"), &identity));
                    } else {
                        seen.push(identity);
                    }
                }
                if let Some(form) = node.item() {
                    duplicates(item, form, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}
