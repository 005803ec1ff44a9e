//! Tables and metadata-only forms of objects, as command lines ask for them.

mod builtin;
mod columns;
mod jsonpath;

use serde_json::{Map, Value, json};

use crate::registry::ResourceDef;
use crate::status::{ApiError, ApiResult};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    Object,
    /// A table.
    Table,
    /// Its metadata.
    Metadata,
}

/// What table rows carry beside their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// The object's metadata.
    Metadata,
    /// The object.
    Object,
}

/// Reads the form out of an `Accept` header: the first that can be served.
pub fn form(accept: &str) -> ApiResult<Form> {
    if accept.trim().is_empty() {
        return Ok(Form::Object);
    }
    for option in accept.split(',') {
        let mut parts = option.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        if !matches!(media, "application/json" | "*/*" | "application/*" | "application/yaml" | "text/plain")
        {
            continue;
        }
        let parameters: Vec<&str> = parts.collect();
        let Some(kind) = parameters.iter().find_map(|p| p.strip_prefix("as=")) else {
            return Ok(Form::Object);
        };
        let version = parameters.iter().find_map(|p| p.strip_prefix("v=")).unwrap_or("v1");
        match kind {
            "Table" if matches!(version, "v1" | "v1beta1") => return Ok(Form::Table),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if matches!(version, "v1" | "v1beta1") => {
                return Ok(Form::Metadata);
            }
            _ => {}
        }
    }
    Err(ApiError::not_acceptable())
}

/// An object's metadata alone.
pub fn metadata_only(object: &Value, kind: &str) -> Value {
    json!({"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// A table of objects.
pub fn table(def: &ResourceDef, objects: &[Value], metadata: Value, include: Include) -> Value {
    let columns = columns::of(def);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = Map::new();
            row.insert("cells".into(), columns::cells(def, &columns, object).into());
            match include {
                Include::None => {}
                Include::Metadata => {
                    row.insert("object".into(), metadata_only(object, "PartialObjectMetadata"));
                }
                Include::Object => {
                    row.insert("object".into(), object.clone());
                }
            }
            Value::Object(row)
        })
        .collect();
    let definitions: Vec<Value> = columns.iter().map(columns::Column::definition).collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(form(kubectl).unwrap(), Form::Table);
        assert_eq!(form("").unwrap(), Form::Object);
        assert_eq!(form("application/vnd.kubernetes.protobuf,application/json").unwrap(), Form::Object);
        assert_eq!(
            form("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").unwrap(),
            Form::Metadata
        );
        assert!(form("application/vnd.kubernetes.protobuf").is_err());
    }
}
