//! The protobuf form of an OpenAPI v2 document (`openapi.v2.Document` of gnostic), written field by field: it is a
//! small, fixed schema, and old clients accept nothing else.

use serde_json::{Map, Value};

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u32, data: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(data.len() as u64);
        self.0.extend_from_slice(data);
    }

    fn text(&mut self, field: u32, value: &Value) {
        if let Some(text) = value.as_str().filter(|t| !t.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u32, message: Message) {
        self.bytes(field, &message.0);
    }

    fn double(&mut self, field: u32, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.varint(u64::from(field) << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn integer(&mut self, field: u32, value: &Value) {
        if let Some(number) = value.as_u64() {
            self.varint(u64::from(field) << 3);
            self.varint(number);
        }
    }

    fn flag(&mut self, field: u32, value: &Value) {
        if value == true {
            self.varint(u64::from(field) << 3);
            self.varint(1);
        }
    }
}

fn yaml_any(value: &Value) -> Message {
    // Any{google.protobuf.Any value = 1; string yaml = 2}; JSON is YAML.
    let mut any = Message::default();
    any.bytes(2, value.to_string().as_bytes());
    any
}

fn named(name: &str, value: Message) -> Message {
    let mut pair = Message::default();
    pair.bytes(1, name.as_bytes());
    pair.message(2, value);
    pair
}

fn extensions(map: &Map<String, Value>, field: u32, message: &mut Message) {
    for (name, value) in map.iter().filter(|(n, _)| n.starts_with("x-")) {
        message.message(field, named(name, yaml_any(value)));
    }
}

/// `openapi.v2.Schema`.
fn schema(value: &Value) -> Message {
    let mut m = Message::default();
    m.text(1, &value["$ref"]);
    m.text(2, &value["format"]);
    m.text(3, &value["title"]);
    m.text(4, &value["description"]);
    if let Some(default) = value.get("default") {
        m.message(5, yaml_any(default));
    }
    m.double(6, &value["multipleOf"]);
    m.double(7, &value["maximum"]);
    m.flag(8, &value["exclusiveMaximum"]);
    m.double(9, &value["minimum"]);
    m.flag(10, &value["exclusiveMinimum"]);
    m.integer(11, &value["maxLength"]);
    m.integer(12, &value["minLength"]);
    m.text(13, &value["pattern"]);
    m.integer(14, &value["maxItems"]);
    m.integer(15, &value["minItems"]);
    m.flag(16, &value["uniqueItems"]);
    m.integer(17, &value["maxProperties"]);
    m.integer(18, &value["minProperties"]);
    for name in value["required"].as_array().into_iter().flatten() {
        m.text(19, name);
    }
    for item in value["enum"].as_array().into_iter().flatten() {
        m.message(20, yaml_any(item));
    }
    match value.get("additionalProperties") {
        Some(form @ Value::Object(_)) => {
            // AdditionalPropertiesItem{Schema schema = 1; bool boolean = 2}.
            let mut item = Message::default();
            item.message(1, schema(form));
            m.message(21, item);
        }
        Some(Value::Bool(true)) => {
            let mut item = Message::default();
            item.flag(2, &Value::Bool(true));
            m.message(21, item);
        }
        _ => {}
    }
    if let Some(ty) = value["type"].as_str() {
        // TypeItem{repeated string value = 1}.
        let mut item = Message::default();
        item.bytes(1, ty.as_bytes());
        m.message(22, item);
    }
    if let Some(items) = value.get("items").filter(|i| i.is_object()) {
        // ItemsItem{repeated Schema schema = 1}.
        let mut item = Message::default();
        item.message(1, schema(items));
        m.message(23, item);
    }
    for part in value["allOf"].as_array().into_iter().flatten() {
        m.message(24, schema(part));
    }
    if let Some(properties) = value["properties"].as_object() {
        // Properties{repeated NamedSchema additional_properties = 1}.
        let mut all = Message::default();
        for (name, property) in properties {
            all.message(1, named(name, schema(property)));
        }
        m.message(25, all);
    }
    if let Some(map) = value.as_object() {
        extensions(map, 31, &mut m);
    }
    m
}

/// `openapi.v2.Operation`.
fn operation(value: &Value) -> Message {
    let mut m = Message::default();
    m.text(5, &value["operationId"]);
    for parameter in value["parameters"].as_array().into_iter().flatten() {
        // QueryParameterSubSchema, in NonBodyParameter(3), in Parameter(2), in ParametersItem(1).
        let mut query = Message::default();
        query.text(2, &parameter["in"]);
        query.text(4, &parameter["name"]);
        query.text(6, &parameter["type"]);
        query.flag(20, &parameter["uniqueItems"]);
        let mut non_body = Message::default();
        non_body.message(3, query);
        let mut wrapped = Message::default();
        wrapped.message(2, non_body);
        let mut item = Message::default();
        item.message(1, wrapped);
        m.message(8, item);
    }
    if let Some(responses) = value["responses"].as_object() {
        // Responses{repeated NamedResponseValue response_code = 1}; ResponseValue{Response response = 1};
        // Response{string description = 1; SchemaItem schema = 2}; SchemaItem{Schema schema = 1}.
        let mut all = Message::default();
        for (code, response) in responses {
            let mut answer = Message::default();
            answer.text(1, &response["description"]);
            if let Some(form) = response.get("schema") {
                let mut item = Message::default();
                item.message(1, schema(form));
                answer.message(2, item);
            }
            let mut answer_value = Message::default();
            answer_value.message(1, answer);
            all.message(1, named(code, answer_value));
        }
        m.message(9, all);
    }
    if let Some(map) = value.as_object() {
        extensions(map, 13, &mut m);
    }
    m
}

/// `openapi.v2.Document`.
pub fn document(value: &Value) -> Vec<u8> {
    let mut m = Message::default();
    m.text(1, &value["swagger"]);
    let mut info = Message::default();
    info.text(1, &value["info"]["title"]);
    info.text(2, &value["info"]["version"]);
    m.message(2, info);
    let mut paths = Message::default();
    for (path, item) in value["paths"].as_object().into_iter().flatten() {
        // PathItem{get = 2, put = 3, post = 4, delete = 5, options = 6, head = 7, patch = 8}.
        let mut entry = Message::default();
        for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
            if let Some(op) = item.get(method) {
                entry.message(field, operation(op));
            }
        }
        // Paths{repeated NamedAny vendor_extension = 1; repeated NamedPathItem path = 2}.
        paths.message(2, named(path, entry));
    }
    m.message(8, paths);
    let mut definitions = Message::default();
    for (name, form) in value["definitions"].as_object().into_iter().flatten() {
        definitions.message(1, named(name, schema(form)));
    }
    m.message(9, definitions);
    m.0
}
