//! The difference of two states of an object, as sets of field paths.

use serde_json::Value;

use super::set::{FieldSet, Shape, item_element, shape};
use crate::schema::{ListType, Schema};

/// What differs.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Only in the new state.
    pub added: FieldSet,
    /// In both, with another value.
    pub modified: FieldSet,
    /// Only in the old state.
    pub removed: FieldSet,
}

/// Compares two states of an object under its schema.
pub fn compare(schema: Option<&Schema>, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference::default();
    walk(schema, Some(old), Some(new), &[], &mut difference);
    difference
}

fn node<'a>(set: &'a mut FieldSet, path: &[String]) -> &'a mut FieldSet {
    path.iter().fold(set, |n, e| n.child(e))
}

fn parts<'a>(value: &'a Value, schema: Option<&'a Schema>) -> Vec<(String, &'a Value, Option<&'a Schema>)> {
    match shape(value, schema) {
        Shape::Leaf => Vec::new(),
        Shape::Fields(map) => map
            .iter()
            .map(|(name, child)| (format!("f:{name}"), child, schema.and_then(|s| s.field(name))))
            .collect(),
        Shape::Items(items, list) => {
            let form = schema.and_then(Schema::item);
            items
                .iter()
                .map(|item| {
                    let inner = if matches!(list, ListType::Map(_)) { form } else { None };
                    (item_element(item, &list, form), item, inner)
                })
                .collect()
        }
    }
}

fn granular(value: &Value, schema: Option<&Schema>) -> bool {
    !matches!(shape(value, schema), Shape::Leaf)
}

fn walk(
    schema: Option<&Schema>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &[String],
    difference: &mut Difference,
) {
    let (old_granular, new_granular) =
        (old.is_some_and(|v| granular(v, schema)), new.is_some_and(|v| granular(v, schema)));
    // A null beside a container is that container, empty.
    let old_granular = old_granular || (new_granular && old.is_some_and(Value::is_null));
    let new_granular = new_granular || (old_granular && new.is_some_and(Value::is_null));
    match (old, new) {
        (None, None) => {}
        (None, Some(value)) => {
            if !path.is_empty() {
                node(&mut difference.added, path).member = true;
            }
            for (element, child, form) in parts(value, schema) {
                walk(form, None, Some(child), &longer(path, element), difference);
            }
        }
        (Some(value), None) => {
            if !path.is_empty() {
                node(&mut difference.removed, path).member = true;
            }
            for (element, child, form) in parts(value, schema) {
                walk(form, Some(child), None, &longer(path, element), difference);
            }
        }
        (Some(before), Some(after)) if old_granular && new_granular => {
            let before = parts(before, schema);
            let after = parts(after, schema);
            for (element, child, form) in &before {
                let counterpart = after.iter().find(|(e, _, _)| e == element).map(|(_, v, _)| *v);
                walk(*form, Some(child), counterpart, &longer(path, element.clone()), difference);
            }
            for (element, child, form) in &after {
                if !before.iter().any(|(e, _, _)| e == element) {
                    walk(*form, None, Some(child), &longer(path, element.clone()), difference);
                }
            }
        }
        (Some(before), Some(after)) => {
            if before != after {
                node(&mut difference.modified, path).member = true;
                for (element, child, form) in parts(after, schema) {
                    walk(form, None, Some(child), &longer(path, element), difference);
                }
            }
        }
    }
}

fn longer(path: &[String], element: String) -> Vec<String> {
    let mut longer = path.to_vec();
    longer.push(element);
    longer
}
