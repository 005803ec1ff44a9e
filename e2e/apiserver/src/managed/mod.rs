//! Field ownership: who set which field, by update or by apply (`metadata.managedFields`).

pub mod compare;
pub mod merge;
pub mod set;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::schema::Schema;
use crate::status::{ApiError, ApiResult};
use set::FieldSet;

/// Who writes, and through which door.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    /// `Apply` or `Update`; first, so that appliers sort first.
    pub operation: String,
    /// Name of the manager.
    pub manager: String,
    /// API version it wrote in.
    pub api_version: String,
    /// Subresource it wrote through.
    pub subresource: String,
}

#[derive(Clone, Debug)]
struct Owned {
    set: FieldSet,
    time: String,
}

/// Owners of an object's fields.
#[derive(Clone, Debug, Default)]
pub struct Managers(BTreeMap<ManagerId, Owned>);

impl Managers {
    /// Reads `metadata.managedFields`.
    pub fn read(object: &Value) -> Self {
        let mut map = BTreeMap::new();
        for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let id = ManagerId {
                operation: text("operation"),
                manager: text("manager"),
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            };
            if id.operation.is_empty() {
                continue;
            }
            map.insert(id, Owned { set: FieldSet::from_json(&entry["fieldsV1"]), time: text("time") });
        }
        Self(map)
    }

    /// Writes `metadata.managedFields`.
    pub fn write(&self, object: &mut Value) {
        let mut entries: Vec<(&ManagerId, &Owned)> =
            self.0.iter().filter(|(_, o)| !o.set.is_empty()).collect();
        entries.sort_by(|(a, x), (b, y)| (&a.operation, &x.time, a).cmp(&(&b.operation, &y.time, b)));
        let list: Vec<Value> = entries
            .into_iter()
            .map(|(id, owned)| {
                let mut entry = json!({
                    "manager": id.manager, "operation": id.operation, "apiVersion": id.api_version,
                    "time": owned.time, "fieldsType": "FieldsV1", "fieldsV1": owned.set.to_json(),
                });
                if !id.subresource.is_empty() {
                    entry["subresource"] = id.subresource.clone().into();
                }
                entry
            })
            .collect();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            if list.is_empty() {
                metadata.remove("managedFields");
            } else {
                metadata.insert("managedFields".into(), list.into());
            }
        }
    }
}

/// Metadata fields that nobody owns.
const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Takes out what is never owned, and what this door does not write.
fn strip(set: &mut FieldSet, resets: &[&str]) {
    for field in ["f:apiVersion", "f:kind"] {
        set.children.remove(field);
    }
    if let Some(metadata) = set.children.get_mut("f:metadata") {
        metadata.member = false;
        for field in UNOWNED {
            metadata.children.remove(&format!("f:{field}"));
        }
    }
    for field in resets {
        set.children.remove(&format!("f:{field}"));
    }
    set.member = false;
    set.tidy();
}

/// Records an update from `old` (or nothing) to `new`, whose `managedFields` are set.
pub fn update(schema: &Schema, old: &Value, new: &mut Value, id: &ManagerId, resets: &[&str], now: &str) {
    // What the client sends counts; an empty list clears, an absent one keeps.
    let mut managers = if new["metadata"].get("managedFields").is_some() || old.is_null() {
        Managers::read(new)
    } else {
        Managers::read(old)
    };
    let empty = json!({});
    let before = without_managed(if old.is_null() { &empty } else { old });
    let after = without_managed(new);
    let difference = compare::compare(Some(schema), &before, &after);
    let mut taken = difference.added.clone();
    taken.union(&difference.modified);
    strip(&mut taken, resets);
    let mut removed = difference.removed.clone();
    strip_removed(&mut removed);
    for (other, owned) in &mut managers.0 {
        if other != id {
            owned.set.subtract(&taken);
        }
        owned.set.subtract(&removed);
    }
    let own =
        managers.0.entry(id.clone()).or_insert_with(|| Owned { set: FieldSet::default(), time: now.into() });
    let before = own.set.clone();
    own.set.union(&taken);
    own.set.tidy();
    if own.set != before {
        own.time = now.into();
    }
    managers.0.retain(|_, o| !o.set.is_empty());
    managers.write(new);
}

fn strip_removed(set: &mut FieldSet) {
    set.member = false;
    if let Some(metadata) = set.children.get_mut("f:metadata") {
        metadata.member = false;
    }
}

fn without_managed(object: &Value) -> Value {
    let mut copy = object.clone();
    if let Some(metadata) = copy.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    copy
}

/// Applies a configuration to `live` (or an empty object) and returns the result with its `managedFields`.
pub fn apply(
    schema: &Schema,
    live: &Value,
    config: &Value,
    id: &ManagerId,
    force: bool,
    resets: &[&str],
    now: &str,
) -> ApiResult<Value> {
    let mut managers = Managers::read(live);
    let base = without_managed(live);
    // Appliers are one manager whatever version they write in.
    let own_key = managers
        .0
        .keys()
        .find(|k| k.operation == "Apply" && k.manager == id.manager && k.subresource == id.subresource)
        .cloned();
    let last = own_key.as_ref().and_then(|k| managers.0.remove(k));
    let mut set = set::applied(config, Some(schema));
    strip(&mut set, resets);
    let merged = merge::merge(Some(schema), &base, config);
    let mut result = merged;
    let last_set = last.as_ref().map(|l| l.set.clone()).unwrap_or_default();
    if !last_set.is_empty() {
        let mut keep = set.clone();
        managers.0.values().for_each(|o| keep.union(&o.set));
        merge::prune(Some(schema), &mut result, &last_set, &keep);
    }
    let difference = compare::compare(Some(schema), &base, &result);
    let mut changed = difference.added.clone();
    changed.union(&difference.modified);
    let mut conflicts: Vec<(ManagerId, FieldSet, String)> = Vec::new();
    for (other, owned) in &managers.0 {
        let common = owned.set.intersection(&changed);
        if !common.is_empty() {
            conflicts.push((other.clone(), common, owned.time.clone()));
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    for (other, common, _) in &conflicts {
        if let Some(owned) = managers.0.get_mut(other) {
            owned.set.subtract(common);
        }
    }
    let mut removed = difference.removed;
    strip_removed(&mut removed);
    managers.0.values_mut().for_each(|o| o.set.subtract(&removed));
    let time = match &last {
        Some(l) if l.set == set && own_key.as_ref() == Some(id) => l.time.clone(),
        _ => now.to_owned(),
    };
    managers.0.insert(id.clone(), Owned { set, time });
    managers.0.retain(|_, o| !o.set.is_empty());
    managers.write(&mut result);
    Ok(result)
}

fn describe(id: &ManagerId, time: &str) -> String {
    let mut text = format!("{:?}", id.manager);
    if !id.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", id.subresource));
    }
    if id.operation == "Update" {
        text.push_str(&format!(" using {}", id.api_version));
        if !time.is_empty() {
            text.push_str(&format!(" at {time}"));
        }
    }
    text
}

fn conflict(conflicts: &[(ManagerId, FieldSet, String)]) -> ApiError {
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    let mut single = String::new();
    for (id, set, time) in conflicts {
        let who = describe(id, time);
        lines.push(format!("conflicts with {who}:"));
        for path in set.paths() {
            single = format!("conflict with {who}: {path}");
            lines.push(format!("- {path}"));
            causes.push(json!({
                "reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path
            }));
        }
    }
    let message = if causes.len() == 1 {
        format!("Apply failed with 1 conflict: {single}")
    } else {
        format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n"))
    };
    ApiError::apply_conflict(message, causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::parse(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string"}, "b": {"type": "string"},
            "whole": {"type": "array", "items": {"type": "string"}},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        }}}}))
        .unwrap()
    }

    fn id(manager: &str, operation: &str) -> ManagerId {
        ManagerId {
            operation: operation.into(),
            manager: manager.into(),
            api_version: "v1".into(),
            subresource: String::new(),
        }
    }

    fn applied(live: &Value, spec: Value, who: &str) -> ApiResult<Value> {
        let config = json!({"metadata": {"name": "x"}, "spec": spec});
        apply(&schema(), live, &config, &id(who, "Apply"), false, &[], "t")
    }

    #[test]
    fn shared_fields_outlive_one_of_their_owners() {
        let live = applied(&json!({"metadata": {}}), json!({"a": "1", "b": "1"}), "one").unwrap();
        let live = applied(&live, json!({"a": "1"}), "two").unwrap();
        let live = applied(&live, json!({}), "one").unwrap();
        assert_eq!(live["spec"], json!({"a": "1"}));
        let live = applied(&live, json!({}), "two").unwrap();
        // Both still apply an empty spec.
        assert_eq!(live["spec"], json!({}));
        assert_eq!(live["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {}}));
    }

    #[test]
    fn items_keep_their_order_and_atomic_lists_their_unity() {
        let live =
            applied(&json!({"metadata": {}}), json!({"list": [{"k": "a", "v": 1}, {"k": "b"}]}), "one")
                .unwrap();
        let live = applied(&live, json!({"list": [{"k": "c"}, {"k": "b"}], "whole": ["x"]}), "two").unwrap();
        assert_eq!(live["spec"]["list"], json!([{"k": "a", "v": 1}, {"k": "c"}, {"k": "b"}]));
        let error = applied(&live, json!({"whole": ["y"]}), "one").unwrap_err();
        assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"two\": .spec.whole");
    }

    #[test]
    fn an_update_takes_what_it_changes_and_forgets_what_it_removes() {
        let live = applied(&json!({"metadata": {}}), json!({"a": "1", "list": [{"k": "a", "v": 1}]}), "one")
            .unwrap();
        let mut next = live.clone();
        next["spec"] = json!({"a": "2"});
        update(&schema(), &live, &mut next, &id("hand", "Update"), &[], "u");
        let owners: Vec<(Value, Value)> = next["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| (e["manager"].clone(), e["fieldsV1"].clone()))
            .collect();
        assert_eq!(owners, [(json!("hand"), json!({"f:spec": {"f:a": {}}}))]);
    }
}
