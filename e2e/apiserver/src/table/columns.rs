//! Columns of tables and how their cells are read.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{builtin, jsonpath};
use crate::registry::ResourceDef;
use crate::schema::builtin::definition;

/// One column.
pub struct Column {
    /// Heading.
    pub name: String,
    /// Type of the cells.
    pub ty: String,
    /// Format of the cells.
    pub format: String,
    /// What it shows.
    pub description: String,
    /// 0 is always shown, more only in wide output.
    pub priority: i64,
    /// Where a custom column reads.
    pub path: Option<String>,
}

impl Column {
    /// The form in answers.
    pub fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.ty, "format": self.format, "description": self.description,
            "priority": self.priority})
    }
}

/// The first column of every table.
pub fn name_column() -> Column {
    let description = definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .and_then(|d| d.properties.get("name").map(|p| p.description.clone()))
        .unwrap_or_default();
    Column {
        name: "Name".into(),
        ty: "string".into(),
        format: "name".into(),
        description,
        priority: 0,
        path: None,
    }
}

/// The columns of a resource.
pub fn of(def: &ResourceDef) -> Vec<Column> {
    let Some(custom) = &def.custom else { return builtin::columns(def) };
    let mut columns = vec![name_column()];
    for column in &custom.columns {
        let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
        let path = text("jsonPath");
        let description = match text("description") {
            empty if empty.is_empty() => {
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            given => given,
        };
        columns.push(Column {
            name: text("name"),
            ty: text("type"),
            format: text("format"),
            description,
            priority: column["priority"].as_i64().unwrap_or(0),
            path: Some(path),
        });
    }
    columns
}

/// The cells of one row.
pub fn cells(def: &ResourceDef, columns: &[Column], object: &Value) -> Vec<Value> {
    if def.custom.is_none() {
        return builtin::cells(def, object);
    }
    columns
        .iter()
        .map(|column| match &column.path {
            None => object["metadata"]["name"].clone(),
            Some(path) => custom_cell(column, object, path),
        })
        .collect()
}

fn custom_cell(column: &Column, object: &Value, path: &str) -> Value {
    let found = jsonpath::find(object, path);
    let Some(first) = found.first().filter(|v| !v.is_null()) else { return Value::Null };
    match column.ty.as_str() {
        "integer" => first.as_i64().map_or(Value::Null, Value::from),
        "number" => first.as_f64().map_or(Value::Null, Value::from),
        "boolean" => first.as_bool().map_or(Value::Null, Value::from),
        "date" => first.as_str().map_or("<invalid>".into(), |t| age_of(t).into()),
        _ => {
            let texts: Vec<String> = found
                .iter()
                .map(|v| match v {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
                .collect();
            texts.join(",").into()
        }
    }
}

/// Age of a time, as tables show it.
pub fn age_of(time: &str) -> String {
    match DateTime::parse_from_rfc3339(time) {
        Ok(time) => duration((Utc::now() - time.with_timezone(&Utc)).num_seconds()),
        Err(_) => "<unknown>".into(),
    }
}

/// A duration in at most two units.
pub fn duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        two(days, "d", hours % 24, "h")
    } else if days < 365 * 2 {
        format!("{days}d")
    } else if days < 365 * 8 {
        two(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (10 * 3600, "10h"),
            (50 * 3600, "2d2h"),
            (10 * 86400, "10d"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
