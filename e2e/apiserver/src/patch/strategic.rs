//! Strategic merge patch: like a merge patch, but lists with a merge key are merged item by item, and directives
//! (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`) steer it.

use serde_json::{Map, Value};

use crate::schema::Schema;
use crate::status::{ApiError, ApiResult};

const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Merges a patch into an object of a built-in type.
pub fn apply(target: &mut Value, patch: &Value, schema: &Schema) -> ApiResult<()> {
    let Some(patch) = patch.as_object() else {
        return Err(ApiError::bad_request("a strategic merge patch must be an object"));
    };
    let map =
        target.as_object_mut().ok_or_else(|| ApiError::bad_request("the object patched is not a map"))?;
    merge_map(map, patch, Some(schema))
}

fn merge_map(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    schema: Option<&Schema>,
) -> ApiResult<()> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target = patch.clone();
            target.remove("$patch");
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(ApiError::bad_request(format!("unknown patch type found: {other}"))),
    }
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        target.retain(|name, _| keep.iter().any(|k| k == name));
    }
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            delete_values(target, list, value);
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        let form = schema.and_then(|s| s.field(name));
        let order = patch.get(&format!("{ELEMENT_ORDER}{name}")).and_then(Value::as_array);
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(inner) => {
                let slot = target.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Some(map) = slot.as_object_mut() {
                    merge_map(map, inner, form)?;
                }
                if inner.get("$patch").and_then(Value::as_str) == Some("delete") {
                    target.remove(name);
                }
            }
            Value::Array(items) => {
                let current = target.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
                let merged = merge_list(&current, items, form, order)?;
                target.insert(name.clone(), merged.into());
            }
            scalar => {
                target.insert(name.clone(), scalar.clone());
            }
        }
    }
    // An order without items reorders what is there.
    for (name, value) in patch {
        let (Some(list), Some(order)) = (name.strip_prefix(ELEMENT_ORDER), value.as_array()) else {
            continue;
        };
        if patch.contains_key(list) {
            continue;
        }
        let form = schema.and_then(|s| s.field(list));
        if let Some(current) = target.get(list).and_then(Value::as_array).cloned() {
            target.insert(list.to_owned(), merge_list(&current, &[], form, Some(order))?.into());
        }
    }
    Ok(())
}

fn delete_values(target: &mut Map<String, Value>, list: &str, gone: &Value) {
    let Some(gone) = gone.as_array() else { return };
    if let Some(items) = target.get_mut(list).and_then(Value::as_array_mut) {
        items.retain(|item| !gone.contains(item));
    }
}

fn merge_list(
    current: &[Value],
    patch: &[Value],
    schema: Option<&Schema>,
    order: Option<&Vec<Value>>,
) -> ApiResult<Vec<Value>> {
    let node = schema.map(Schema::get);
    let Some(key) = node.and_then(|n| n.merge_key.as_deref()) else {
        if node.is_some_and(|n| n.merge_set) {
            let mut merged = current.to_vec();
            merged.extend(patch.iter().filter(|v| !current.contains(v)).cloned());
            return Ok(ordered(merged, order.map_or(patch, |o| o), current, &|v| Some(v.clone())));
        }
        return Ok(patch.to_vec());
    };
    let identity = |item: &Value| item.get(key).cloned();
    if patch.iter().any(|i| i.get("$patch").and_then(Value::as_str) == Some("replace")) {
        return Ok(patch.iter().filter(|i| i.get("$patch").is_none()).cloned().collect());
    }
    let mut merged = current.to_vec();
    let mut plain = Vec::new();
    for item in patch {
        let id = identity(item).ok_or_else(|| {
            ApiError::bad_request(format!("map: {item} does not contain declared merge key: {key}"))
        })?;
        if item.get("$patch").and_then(Value::as_str) == Some("delete") {
            merged.retain(|m| identity(m).as_ref() != Some(&id));
            continue;
        }
        plain.push(item.clone());
        match merged.iter_mut().find(|m| identity(m).as_ref() == Some(&id)) {
            Some(Value::Object(existing)) => {
                if let Some(inner) = item.as_object() {
                    merge_map(existing, inner, node.and_then(Schema::item))?;
                }
            }
            _ => {
                let mut fresh = Map::new();
                if let Some(inner) = item.as_object() {
                    merge_map(&mut fresh, inner, node.and_then(Schema::item))?;
                }
                merged.push(Value::Object(fresh));
            }
        }
    }
    Ok(ordered(merged, order.map_or(&plain, |o| o), current, &identity))
}

/// Items that the patch orders come in its order; the others keep their places among those of the old list.
fn ordered(
    merged: Vec<Value>,
    order: &[Value],
    server: &[Value],
    identity: &dyn Fn(&Value) -> Option<Value>,
) -> Vec<Value> {
    let position = |list: &[Value], item: &Value| {
        let id = identity(item);
        list.iter().position(|other| identity(other) == id)
    };
    let (mut named, rest): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|i| position(order, i).is_some());
    named.sort_by_key(|item| position(order, item));
    let (mut named, mut rest) = (named.into_iter().peekable(), rest.into_iter().peekable());
    let mut result = Vec::new();
    loop {
        match (rest.peek(), named.peek()) {
            (None, None) => return result,
            (Some(_), None) => result.extend(rest.next()),
            (None, Some(_)) => result.extend(named.next()),
            (Some(left), Some(right)) => {
                let first = match (position(server, left), position(server, right)) {
                    (Some(l), Some(r)) => l < r,
                    _ => false,
                };
                result.extend(if first { rest.next() } else { named.next() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin::definition;
    use serde_json::json;

    fn patched(kind: &str, mut target: Value, patch: Value) -> Value {
        apply(&mut target, &patch, definition(kind).unwrap()).unwrap();
        target
    }

    const POD: &str = "io.k8s.api.core.v1.Pod";

    #[test]
    fn lists_are_merged_by_their_keys() {
        let target =
            json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]}});
        let patch = json!({"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "c"}]}});
        assert_eq!(
            patched(POD, target, patch),
            json!({"spec": {"containers": [{"name": "a", "image": "2", "args": ["x"]}, {"name": "c"}, {"name": "b"}]}})
        );
    }

    #[test]
    fn directives_delete_replace_and_order() {
        let target = || json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
        let delete = json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}]}});
        assert_eq!(
            patched(POD, target(), delete),
            json!({"spec": {"containers": [{"name": "a"}, {"name": "c"}]}})
        );
        let replace = json!({"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}});
        assert_eq!(patched(POD, target(), replace), json!({"spec": {"containers": [{"name": "z"}]}}));
        let order =
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}});
        assert_eq!(
            patched(POD, target(), order),
            json!({"spec": {"containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}})
        );
        let map = json!({"metadata": {"labels": {"$patch": "replace", "n": "1"}}});
        let labelled = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        assert_eq!(patched(POD, labelled, map), json!({"metadata": {"labels": {"n": "1"}}}));
    }

    #[test]
    fn plain_values_are_added_and_deleted() {
        let target = || json!({"metadata": {"finalizers": ["a/x", "b/x"]}});
        let add = json!({"metadata": {"finalizers": ["c/x"]}});
        let merged = patched(POD, target(), add);
        let list = merged["metadata"]["finalizers"].as_array().unwrap();
        assert!(list.len() == 3 && list.contains(&json!("c/x")));
        let delete = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/x"]}});
        assert_eq!(patched(POD, target(), delete), json!({"metadata": {"finalizers": ["b/x"]}}));
    }

    #[test]
    fn what_is_not_kept_goes() {
        let target =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let kind = "io.k8s.api.apps.v1.Deployment";
        assert_eq!(patched(kind, target, patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
    }

    #[test]
    fn an_item_without_its_key_is_refused() {
        let mut target = json!({"spec": {}});
        let patch = json!({"spec": {"containers": [{"image": "x"}]}});
        assert!(apply(&mut target, &patch, definition(POD).unwrap()).is_err());
    }
}
