//! Sets of field paths, in the tree form of `FieldsV1`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::schema::lists::item_key;
use crate::schema::{ListType, Schema};

/// A set of field paths: each node says whether the path to it is a member, and holds longer paths.
///
/// Children are keyed by path elements as `FieldsV1` spells them: `f:name`, `k:{"name":"x"}`, `v:"x"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the path to this node is in the set.
    pub member: bool,
    /// Longer paths.
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(FieldSet::is_empty)
    }

    /// The node of a child, made when it is not there.
    pub fn child(&mut self, element: &str) -> &mut FieldSet {
        self.children.entry(element.to_owned()).or_default()
    }

    /// Drops nodes that hold nothing.
    pub fn tidy(&mut self) {
        self.children.values_mut().for_each(FieldSet::tidy);
        self.children.retain(|_, c| !c.is_empty());
    }

    /// Adds the paths of another set.
    pub fn union(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, child) in &other.children {
            self.child(element).union(child);
        }
    }

    /// Removes the paths of another set.
    pub fn subtract(&mut self, other: &FieldSet) {
        if other.member {
            self.member = false;
        }
        for (element, child) in &other.children {
            if let Some(own) = self.children.get_mut(element) {
                own.subtract(child);
            }
        }
        self.children.retain(|_, c| !c.is_empty());
    }

    /// Paths in both sets.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut result = FieldSet { member: self.member && other.member, children: BTreeMap::new() };
        for (element, child) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                let common = child.intersection(theirs);
                if !common.is_empty() {
                    result.children.insert(element.clone(), common);
                }
            }
        }
        result
    }

    /// The paths as people read them: `.spec.parts[name="x"].weight`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.walk("", &mut out);
        out
    }

    fn walk(&self, prefix: &str, out: &mut Vec<String>) {
        if self.member {
            out.push(prefix.to_owned());
        }
        for (element, child) in &self.children {
            child.walk(&format!("{prefix}{}", readable(element)), out);
        }
    }

    /// The `fieldsV1` form.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            map.insert(element.clone(), child.to_json());
        }
        Value::Object(map)
    }

    /// Reads the `fieldsV1` form.
    pub fn from_json(value: &Value) -> Self {
        let mut set = FieldSet::default();
        let Some(map) = value.as_object() else { return set };
        for (element, child) in map {
            if element == "." {
                set.member = true;
            } else {
                let mut node = FieldSet::from_json(child);
                if node.children.is_empty() {
                    node.member = true;
                }
                set.children.insert(element.clone(), node);
            }
        }
        set
    }
}

fn readable(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let inner = keys.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
            format!("[{inner}]")
        }
        Some(("v", value)) => format!("[={value}]"),
        Some(("i", index)) => format!("[{index}]"),
        _ => format!(".{element}"),
    }
}

/// The path element of an item of a set or keyed list.
pub fn item_element(item: &Value, list: &ListType, item_schema: Option<&Schema>) -> String {
    match list {
        ListType::Map(keys) => {
            let map = item_key(item, keys, item_schema);
            // Sorted, whatever order the map keeps.
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let inner = sorted
                .iter()
                .map(|(k, v)| format!("{}:{v}", Value::from(k.as_str())))
                .collect::<Vec<_>>()
                .join(",");
            format!("k:{{{inner}}}")
        }
        _ => format!("v:{item}"),
    }
}

/// How a value is owned under its schema.
pub enum Shape<'a> {
    /// As a whole.
    Leaf,
    /// Field by field.
    Fields(&'a Map<String, Value>),
    /// Item by item.
    Items(&'a [Value], ListType),
}

/// How a value is owned: by its schema, or where that is silent, maps by field and lists as a whole.
pub fn shape<'a>(value: &'a Value, schema: Option<&Schema>) -> Shape<'a> {
    let node = schema.map(Schema::get);
    match value {
        Value::Object(_) if node.is_some_and(|n| n.atomic_map) => Shape::Leaf,
        Value::Object(map) => Shape::Fields(map),
        Value::Array(items) => match node.map(|n| n.list_type.clone()) {
            None | Some(ListType::Atomic) => Shape::Leaf,
            Some(list) => Shape::Items(items, list),
        },
        _ => Shape::Leaf,
    }
}

/// The paths that an applied configuration sets.
pub fn applied(value: &Value, schema: Option<&Schema>) -> FieldSet {
    let mut set = FieldSet::default();
    collect(value, schema, &mut set);
    set
}

fn collect(value: &Value, schema: Option<&Schema>, set: &mut FieldSet) {
    match shape(value, schema) {
        Shape::Fields(map) if !map.is_empty() => {
            for (name, child) in map {
                collect(child, schema.and_then(|s| s.field(name)), set.child(&format!("f:{name}")));
            }
        }
        Shape::Items(items, list) if !items.is_empty() => {
            let form = schema.and_then(Schema::item);
            for item in items {
                let node = set.child(&item_element(item, &list, form));
                node.member = true;
                if matches!(list, ListType::Map(_)) {
                    collect(item, form, node);
                }
            }
            // An item whose whole content is its key stays a member only.
        }
        _ => set.member = true,
    }
}
