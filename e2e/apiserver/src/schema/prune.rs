//! Drops what a schema does not know, and says what it dropped.

use serde_json::Value;

use super::Schema;

/// Fields every object has beside what its schema names.
const OBJECT_FIELDS: &[&str] = &["apiVersion", "kind", "metadata"];

/// Removes unknown fields; `unknown` gets their paths. `root` marks a node with object metadata, which is pruned
/// elsewhere.
pub fn prune(value: &mut Value, schema: &Schema, root: bool, path: &str, unknown: &mut Vec<String>) {
    let node = schema.get();
    let root = root || node.embedded;
    match value {
        // Nothing is known of it, so nothing in it is unknown.
        Value::Object(_) if schema.open() && node.properties.is_empty() => {}
        Value::Object(map) => {
            let open = schema.open();
            let names: Vec<String> = map.keys().cloned().collect();
            for name in names {
                let inner = join(path, &name);
                if root && OBJECT_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                match node.field(&name) {
                    Some(form) => {
                        if let Some(child) = map.get_mut(&name) {
                            prune(child, form, false, &inner, unknown);
                        }
                    }
                    None if open => {}
                    None => {
                        map.remove(&name);
                        unknown.push(inner);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(form) = node.item() {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(item, form, false, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

/// A path one field longer.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_go_free_ones_stay() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b": {"type": "string"}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"type": "object", "properties": {}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {}}}
        }}))
        .unwrap();
        let mut value = json!({"kind": "K", "a": {"b": "1", "c": 2}, "free": {"x": {"y": 1}, "known": {"z": 1}},
            "list": [{"x": "", "y": ""}], "map": {"k": {"v": 1}}});
        let mut unknown = Vec::new();
        prune(&mut value, &schema, true, "", &mut unknown);
        assert_eq!(
            value,
            json!({"kind": "K", "a": {"b": "1"}, "free": {"x": {"y": 1}, "known": {}}, "list": [{"x": ""}],
                "map": {"k": {}}})
        );
        unknown.sort();
        assert_eq!(unknown, ["a.c", "free.known.z", "list[0].y", "map.k.v"]);
    }
}
