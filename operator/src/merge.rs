//! The difference of two JSON documents as a merge patch (RFC 7386), so that a status write names only what
//! changes and nothing is sent when nothing does.

use serde_json::{Map, Value};

/// The patch that turns `old` into `new`, or `None` when they are equal.
#[must_use]
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in new {
                let change = match old.get(key) {
                    Some(before) => difference(before, value),
                    None => Some(value.clone()),
                };
                if let Some(change) = change {
                    patch.insert(key.clone(), change);
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) if old == new => None,
        (_, new) => Some(new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// RFC 7386, section 2.
    fn apply(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut target = match target {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                let before = target.remove(key).unwrap_or(Value::Null);
                target.insert(key.clone(), apply(before, value));
            }
        }
        Value::Object(target)
    }

    #[test]
    fn names_only_what_changes() {
        let old = json!({"phase": "pending", "a": {"x": 1, "y": 2}, "gone": 1, "same": [1, 2]});
        let new = json!({"phase": "started", "a": {"x": 1, "y": 3}, "same": [1, 2]});
        assert_eq!(difference(&old, &new), Some(json!({"phase": "started", "a": {"y": 3}, "gone": null})));
        assert_eq!(difference(&new, &new), None);
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), any::<i32>().prop_map(Value::from),];
        let tree = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[abc]", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        });
        prop::collection::hash_map("[abc]", tree, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_new_document(old in document(), new in document()) {
            let patched = match difference(&old, &new) {
                Some(patch) => apply(old, &patch),
                None => old,
            };
            prop_assert_eq!(patched, new);
        }
    }
}
