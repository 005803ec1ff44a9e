//! Merging an applied configuration into an object, and taking out what its manager no longer applies.

use serde_json::Value;

use super::set::{FieldSet, Shape, item_element, shape};
use crate::schema::{ListType, Schema};

/// Lays `applied` over `live`.
pub fn merge(schema: Option<&Schema>, live: &Value, applied: &Value) -> Value {
    match (shape(live, schema), shape(applied, schema)) {
        (Shape::Fields(ours), Shape::Fields(theirs)) => {
            let mut result = ours.clone();
            for (name, value) in theirs {
                let form = schema.and_then(|s| s.field(name));
                let merged = match ours.get(name) {
                    Some(own) => merge(form, own, value),
                    None => value.clone(),
                };
                result.insert(name.clone(), merged);
            }
            Value::Object(result)
        }
        (Shape::Items(ours, list), Shape::Items(theirs, _)) => {
            items(schema.and_then(Schema::item), ours, theirs, &list).into()
        }
        _ => applied.clone(),
    }
}

/// Items of both lists: the applied ones keep their order, the others their places.
fn items(form: Option<&Schema>, ours: &[Value], theirs: &[Value], list: &ListType) -> Vec<Value> {
    let element = |item: &Value| item_element(item, list, form);
    let own: Vec<(String, &Value)> = ours.iter().map(|i| (element(i), i)).collect();
    let applied: Vec<(String, &Value)> = theirs.iter().map(|i| (element(i), i)).collect();
    let combine = |key: &str, value: &Value| match own.iter().find(|(k, _)| k == key) {
        Some((_, live)) if matches!(list, ListType::Map(_)) => merge(form, live, value),
        _ => value.clone(),
    };
    let mut result = Vec::new();
    let mut next = applied.iter().peekable();
    for (key, value) in &own {
        if !applied.iter().any(|(k, _)| k == key) {
            result.push((*value).clone());
            continue;
        }
        // Everything applied up to this shared item comes before what follows it.
        while let Some((k, v)) = next.peek() {
            let shared = own.iter().any(|(o, _)| o == k);
            if shared && k != key {
                break;
            }
            result.push(combine(k, v));
            let reached = k == key;
            next.next();
            if reached {
                break;
            }
        }
    }
    for (key, value) in next {
        result.push(combine(key, value));
    }
    result
}

/// Removes what `last` holds and nobody keeps.
pub fn prune(schema: Option<&Schema>, value: &mut Value, last: &FieldSet, keep: &FieldSet) {
    let owned = |element: &str| keep.children.get(element).filter(|k| !k.is_empty());
    let nothing = FieldSet::default();
    match value {
        Value::Object(map) if !schema.is_some_and(|s| s.get().atomic_map) => {
            let names: Vec<String> = map.keys().cloned().collect();
            for name in names {
                let element = format!("f:{name}");
                let Some(before) = last.children.get(&element) else { continue };
                let kept = owned(&element);
                if before.member && kept.is_none() {
                    map.remove(&name);
                } else if let Some(child) = map.get_mut(&name) {
                    let was_empty = blank(child);
                    prune(schema.and_then(|s| s.field(&name)), child, before, kept.unwrap_or(&nothing));
                    if blank(child) && !was_empty && kept.is_none() {
                        map.remove(&name);
                    }
                }
            }
        }
        Value::Array(list) => {
            let Some(node) = schema.map(Schema::get) else { return };
            if node.list_type == ListType::Atomic {
                return;
            }
            let form = node.item();
            list.retain_mut(|item| {
                let element = item_element(item, &node.list_type, form);
                let Some(before) = last.children.get(&element) else { return true };
                let kept = owned(&element);
                if before.member && kept.is_none() {
                    return false;
                }
                prune(form, item, before, kept.unwrap_or(&nothing));
                true
            });
        }
        _ => {}
    }
}

fn blank(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
