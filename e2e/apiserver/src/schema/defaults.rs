//! Fills in the defaults of a schema, and drops nulls where a default stands or null is no value.

use serde_json::Value;

use super::{Additional, Schema};

/// Applies the defaults of a custom resource's schema.
pub fn apply(value: &mut Value, schema: &Schema) {
    let node = schema.get();
    match value {
        Value::Object(map) => {
            for (name, property) in &node.properties {
                if let Some(default) = &property.default {
                    // A null that is no value counts as absent.
                    let absent = match map.get(name) {
                        None => true,
                        Some(Value::Null) => !property.nullable,
                        Some(_) => false,
                    };
                    if absent {
                        map.insert(name.clone(), default.clone());
                    }
                }
                if let Some(child) = map.get_mut(name) {
                    apply(child, property);
                }
            }
            if let Additional::Typed(form) = &node.additional {
                for (name, child) in map.iter_mut() {
                    if !node.properties.contains_key(name) {
                        apply(child, form);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(form) = node.item() {
                items.iter_mut().for_each(|item| apply(item, form));
            }
        }
        _ => {}
    }
}
