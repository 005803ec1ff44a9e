//! One schema form for built-in and custom types: what a field is, what it is pruned, defaulted, merged and
//! validated by. Built-in types come from the published OpenAPI definitions, custom ones from their definition.

pub mod builtin;
pub mod cel;
pub mod coerce;
pub mod defaults;
mod formats;
pub mod lists;
mod listtypes;
pub mod prune;
pub mod structural;
pub mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

/// How a list is merged and owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// As a whole.
    #[default]
    Atomic,
    /// By value.
    Set,
    /// By these keys of each item.
    Map(Vec<String>),
}

/// What further properties an object may have.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// None that the schema does not name.
    #[default]
    No,
    /// Any.
    Any,
    /// Of this form.
    Typed(Arc<Schema>),
}

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Name of a built-in definition this node stands for.
    pub reference: Option<String>,
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; none where anything goes.
    pub ty: Option<String>,
    /// Format of a string or number.
    pub format: Option<String>,
    /// Named properties.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// Other properties.
    pub additional: Additional,
    /// Form of list items.
    pub items: Option<Arc<Schema>>,
    /// Properties that must be there.
    pub required: Vec<String>,
    /// Value of an absent property.
    pub default: Option<Value>,
    /// Whether null is a value.
    pub nullable: bool,
    /// Unknown fields stay.
    pub preserve_unknown: bool,
    /// An integer or a string.
    pub int_or_string: bool,
    /// Holds `apiVersion`, `kind` and `metadata` of its own.
    pub embedded: bool,
    /// How a list is merged.
    pub list_type: ListType,
    /// The list is merged by this key in a strategic merge patch.
    pub merge_key: Option<String>,
    /// The list of plain values is merged in a strategic merge patch.
    pub merge_set: bool,
    /// An object that is owned and applied as a whole.
    pub atomic_map: bool,
    /// Permitted values.
    pub enumeration: Vec<Value>,
    /// Smallest value, and whether it is itself excluded.
    pub minimum: Option<(f64, bool)>,
    /// Greatest value, and whether it is itself excluded.
    pub maximum: Option<(f64, bool)>,
    /// The value is a multiple of this.
    pub multiple_of: Option<f64>,
    /// Shortest text, in characters.
    pub min_length: Option<u64>,
    /// Longest text, in characters.
    pub max_length: Option<u64>,
    /// Fewest items.
    pub min_items: Option<u64>,
    /// Most items.
    pub max_items: Option<u64>,
    /// No two items are equal.
    pub unique_items: bool,
    /// Fewest properties.
    pub min_properties: Option<u64>,
    /// Most properties.
    pub max_properties: Option<u64>,
    /// What a text must match, as written and compiled.
    pub pattern: Option<(String, Regex)>,
    /// All of these hold as well.
    pub all_of: Vec<Schema>,
    /// At least one of these holds.
    pub any_of: Vec<Schema>,
    /// Exactly one of these holds.
    pub one_of: Vec<Schema>,
    /// This does not hold.
    pub not: Option<Box<Schema>>,
    /// The text of the node, for documentation.
    pub description: String,
}

impl Schema {
    /// Reads the JSON form. Errors name the offending keyword.
    pub fn parse(raw: &Value) -> Result<Self, String> {
        let text = |key: &str| raw.get(key).and_then(Value::as_str).map(str::to_owned);
        let flag = |key: &str| raw.get(key).and_then(Value::as_bool).unwrap_or(false);
        let count = |key: &str| raw.get(key).and_then(Value::as_u64);
        let list = |key: &str| -> Result<Vec<Schema>, String> {
            raw.get(key).and_then(Value::as_array).into_iter().flatten().map(Self::parse).collect()
        };
        let bound =
            |key: &str, exclusive: &str| raw.get(key).and_then(Value::as_f64).map(|v| (v, flag(exclusive)));
        let mut schema = Schema {
            reference: text("$ref").map(|r| r.rsplit('/').next().unwrap_or_default().to_owned()),
            ty: text("type"),
            format: text("format"),
            required: raw
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect(),
            default: raw.get("default").filter(|v| !v.is_null()).cloned(),
            nullable: flag("nullable"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            embedded: flag("x-kubernetes-embedded-resource"),
            atomic_map: raw.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
            enumeration: raw.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: raw.get("multipleOf").and_then(Value::as_f64),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of: list("allOf")?,
            any_of: list("anyOf")?,
            one_of: list("oneOf")?,
            description: text("description").unwrap_or_default(),
            ..Schema::default()
        };
        if let Some(properties) = raw.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                schema.properties.insert(name.clone(), Arc::new(Self::parse(property)?));
            }
        }
        schema.additional = match raw.get("additionalProperties") {
            Some(Value::Bool(true)) => Additional::Any,
            Some(form @ Value::Object(_)) => Additional::Typed(Arc::new(Self::parse(form)?)),
            _ => Additional::No,
        };
        if let Some(items) = raw.get("items").filter(|v| v.is_object()) {
            schema.items = Some(Arc::new(Self::parse(items)?));
        }
        if let Some(not) = raw.get("not").filter(|v| v.is_object()) {
            schema.not = Some(Box::new(Self::parse(not)?));
        }
        schema.list_type = match raw.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(
                raw.get("x-kubernetes-list-map-keys")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|v| v.as_str().map(str::to_owned))
                    .collect(),
            ),
            _ => ListType::Atomic,
        };
        if let Some(pattern) = text("pattern") {
            let regex = Regex::new(&pattern).map_err(|e| format!("pattern {pattern:?}: {e}"))?;
            schema.pattern = Some((pattern, regex));
        }
        Ok(schema)
    }

    /// The node itself, or the definition it stands for.
    pub fn get(&self) -> &Schema {
        match &self.reference {
            Some(name) => builtin::definition(name).unwrap_or(self),
            None => self,
        }
    }

    /// The form of a named field; `None` when the schema does not know it.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        let this = self.get();
        if let Some(property) = this.properties.get(name) {
            return Some(property);
        }
        match &this.additional {
            Additional::Typed(form) => Some(form),
            _ => None,
        }
    }

    /// The form of list items.
    pub fn item(&self) -> Option<&Schema> {
        self.get().items.as_deref()
    }

    /// Whether unknown fields of this node stay.
    pub fn open(&self) -> bool {
        let this = self.get();
        this.preserve_unknown
            || matches!(this.additional, Additional::Any)
            || (this.ty.is_none() && this.properties.is_empty() && matches!(this.additional, Additional::No))
            || (this.reference.is_some())
    }
}
