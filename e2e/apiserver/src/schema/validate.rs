//! Checks a value against a schema, with the message texts of the API.

use serde_json::Value;

use super::prune::join;
use super::{Additional, Schema, formats};
use crate::status::FieldError;

/// Where an error is: its field path, and the name by which its message calls the field.
#[derive(Clone)]
struct At {
    field: String,
    called: String,
}

impl At {
    fn child(&self, name: &str) -> Self {
        Self { field: join(&self.field, name), called: join(&self.called, name) }
    }
    fn item(&self, index: usize) -> Self {
        // Messages name the list, the path names the item.
        Self { field: format!("{}[{index}]", self.field), called: format!("{}[{index}]", self.called) }
    }
}

/// Checks a whole object.
pub fn object(value: &Value, schema: &Schema, errors: &mut Vec<FieldError>) {
    check(value, schema, &At { field: String::new(), called: String::new() }, true, errors);
}

/// Checks a subtree on its own: messages count from it, paths from the object.
pub fn subtree(value: &Value, schema: &Schema, field: &str, errors: &mut Vec<FieldError>) {
    check(value, schema, &At { field: field.into(), called: String::new() }, false, errors);
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

fn check(value: &Value, schema: &Schema, at: &At, root: bool, errors: &mut Vec<FieldError>) {
    let node = schema.get();
    let called = if at.called.is_empty() { String::new() } else { at.called.clone() };
    if value.is_null() && node.nullable {
        return;
    }
    if !type_fits(value, node) {
        let ty = node.ty.as_deref().unwrap_or("object");
        let shown = Value::from(type_name(value));
        let message = format!("{called} in body must be of type {ty}: {shown}");
        errors.push(FieldError::type_invalid(&at.field, &shown, &message));
        return;
    }
    if !node.enumeration.is_empty() && !node.enumeration.contains(value) {
        errors.push(FieldError::not_supported(&at.field, value, &node.enumeration));
    }
    match value {
        Value::String(text) => string(text, value, node, at, &called, errors),
        Value::Number(_) => number(value, node, at, &called, errors),
        Value::Array(items) => array(items, value, node, at, &called, errors),
        Value::Object(map) => {
            for name in &node.required {
                if !map.contains_key(name) {
                    errors.push(FieldError::required(join(&at.field, name), ""));
                }
            }
            if let Some(max) = node.max_properties
                && map.len() as u64 > max
            {
                errors.push(FieldError::too_many(&at.field, map.len(), max));
            }
            if let Some(min) = node.min_properties
                && (map.len() as u64) < min
            {
                let message = format!("{called} in body should have at least {min} properties");
                errors.push(FieldError::invalid(&at.field, &Value::from(map.len()), &message));
            }
            for (name, child) in map {
                if root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                if let Some(form) = node.properties.get(name) {
                    check(child, form, &at.child(name), false, errors);
                } else if let Additional::Typed(form) = &node.additional {
                    check(child, form, &at.child(name), false, errors);
                }
            }
        }
        _ => {}
    }
    junctors(value, node, at, &called, root, errors);
}

fn type_fits(value: &Value, node: &Schema) -> bool {
    if node.int_or_string {
        return whole(value) && value.is_number() || value.is_string();
    }
    match node.ty.as_deref() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_number() && whole(value),
        Some("number") => value.is_number(),
        _ => true,
    }
}

fn string(text: &str, value: &Value, node: &Schema, at: &At, called: &str, errors: &mut Vec<FieldError>) {
    let length = text.chars().count() as u64;
    // One failure a string is reported, in this order.
    if let Some(max) = node.max_length.filter(|max| length > *max) {
        errors.push(FieldError::too_long(&at.field, max));
    } else if let Some(min) = node.min_length.filter(|min| length < *min) {
        let message = format!("{called} in body should be at least {min} chars long");
        errors.push(FieldError::invalid(&at.field, value, &message));
    } else if let Some((pattern, regex)) = &node.pattern
        && !regex.is_match(text)
    {
        let message = format!("{called} in body should match '{pattern}'");
        errors.push(FieldError::invalid(&at.field, value, &message));
    }
    if let Some(format) = &node.format
        && !formats::matches(format, text)
    {
        let message = format!("{called} in body must be of type {format}: {value}");
        errors.push(FieldError::type_invalid(&at.field, value, &message));
    }
}

fn number(value: &Value, node: &Schema, at: &At, called: &str, errors: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let mut fail = |message: String| errors.push(FieldError::invalid(&at.field, value, &message));
    if let Some((min, exclusive)) = node.minimum
        && (number < min || (exclusive && number <= min))
    {
        let or = if exclusive { "" } else { " or equal to" };
        fail(format!("{called} in body should be greater than{or} {min}"));
    }
    if let Some((max, exclusive)) = node.maximum
        && (number > max || (exclusive && number >= max))
    {
        let or = if exclusive { "" } else { " or equal to" };
        fail(format!("{called} in body should be less than{or} {max}"));
    }
    if let Some(of) = node.multiple_of
        && (number / of).fract() != 0.0
    {
        fail(format!("{called} in body should be a multiple of {of}"));
    }
    let range = match node.format.as_deref() {
        Some("int32") => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        _ => None,
    };
    if let Some((low, high)) = range
        && !(low..=high).contains(&number)
    {
        fail(format!("{called} in body must be of type int32: {value}"));
    }
}

fn array(items: &[Value], value: &Value, node: &Schema, at: &At, called: &str, errors: &mut Vec<FieldError>) {
    let count = items.len() as u64;
    if let Some(max) = node.max_items.filter(|max| count > *max) {
        errors.push(FieldError::too_many(&at.field, items.len(), max));
    }
    if let Some(min) = node.min_items.filter(|min| count < *min) {
        let message = format!("{called} in body should have at least {min} items");
        errors.push(FieldError::invalid(&at.field, &Value::from(count), &message));
    }
    if node.unique_items && (1..items.len()).any(|i| items[..i].contains(&items[i])) {
        errors.push(FieldError::invalid(
            &at.field,
            value,
            &format!("{called} in body shouldn't contain duplicates"),
        ));
    }
    if let Some(form) = node.item() {
        for (index, item) in items.iter().enumerate() {
            check(item, form, &at.item(index), false, errors);
        }
    }
}

fn holds(value: &Value, schema: &Schema, at: &At, root: bool) -> bool {
    let mut errors = Vec::new();
    check(value, schema, at, root, &mut errors);
    errors.is_empty()
}

fn junctors(value: &Value, node: &Schema, at: &At, called: &str, root: bool, errors: &mut Vec<FieldError>) {
    for part in &node.all_of {
        check(value, part, at, root, errors);
    }
    let mut fail = |message: String| {
        let field = if at.field.is_empty() { "<nil>" } else { &at.field };
        let shown = if value.is_object() || value.is_array() { Value::from("") } else { value.clone() };
        errors.push(FieldError::invalid(field, &shown, &message));
    };
    let name = if called.is_empty() { "\"\"".to_owned() } else { format!("\"{called}\"") };
    if !node.any_of.is_empty() && !node.any_of.iter().any(|s| holds(value, s, at, root)) {
        fail(format!("{name} must validate at least one schema (anyOf)"));
    }
    if !node.one_of.is_empty() {
        let valid = node.one_of.iter().filter(|s| holds(value, s, at, root)).count();
        if valid != 1 {
            let found = if valid == 0 {
                "Found none valid".to_owned()
            } else {
                format!("Found {valid} valid alternatives")
            };
            fail(format!("{name} must validate one and only one schema (oneOf). {found}"));
        }
    }
    if let Some(not) = &node.not
        && holds(value, not, at, root)
    {
        fail(format!("{name} must not validate the schema (not)"));
    }
}
