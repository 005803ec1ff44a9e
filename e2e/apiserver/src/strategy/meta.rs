//! Checks of object metadata.

use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use crate::registry::ResourceDef;
use crate::status::FieldError;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn regex(cell: &'static OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    cell.get_or_init(|| Regex::new(pattern).ok()).as_ref().is_some_and(|r| r.is_match(text))
}

/// Whether a text is a DNS subdomain in lower case.
pub fn is_subdomain(text: &str) -> bool {
    static CELL: OnceLock<Option<Regex>> = OnceLock::new();
    text.len() <= 253
        && regex(&CELL, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", text)
}

/// Whether a text is a DNS label in lower case.
pub fn is_label(text: &str) -> bool {
    static CELL: OnceLock<Option<Regex>> = OnceLock::new();
    text.len() <= 63 && regex(&CELL, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", text)
}

fn is_1035(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_qualified(text: &str) -> bool {
    static CELL: OnceLock<Option<Regex>> = OnceLock::new();
    let (prefix, name) = match text.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_subdomain)
        && name.len() <= 63
        && regex(&CELL, "^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$", name)
}

fn is_label_value(text: &str) -> bool {
    static CELL: OnceLock<Option<Regex>> = OnceLock::new();
    text.len() <= 63 && regex(&CELL, "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", text)
}

/// What is wrong with the name of an object of this type.
pub fn name_problem(def: &ResourceDef, name: &str) -> Option<String> {
    let too_long = |max: usize| (name.len() > max).then(|| format!("must be no more than {max} characters"));
    match (def.group.as_str(), def.kind.as_str()) {
        ("rbac.authorization.k8s.io", _) => match name {
            "." | ".." => Some(format!("may not be '{name}'")),
            _ => name.contains(['/', '%']).then(|| "may not contain '/' or '%'".to_owned()),
        },
        ("", "Service") => too_long(63).or_else(|| (!is_1035(name)).then(|| DNS1035.to_owned())),
        ("", "Namespace") => too_long(63).or_else(|| (!is_label(name)).then(|| LABEL.to_owned())),
        ("batch", "CronJob") if name.len() > 52 => Some("must be no more than 52 characters".into()),
        _ => too_long(253).or_else(|| (!is_subdomain(name)).then(|| SUBDOMAIN.to_owned())),
    }
}

/// Checks the metadata of any object.
pub fn validate_metadata(def: &ResourceDef, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    let generate = &metadata["generateName"];
    if let Some(prefix) = generate.as_str().filter(|p| !p.is_empty()) {
        // The prefix is judged as if something followed it.
        if let Some(problem) = name_problem(def, &format!("{}a", prefix.trim_end_matches(['-', '.']))) {
            errors.push(FieldError::invalid("metadata.generateName", generate, &problem));
        }
    }
    match metadata["name"].as_str().filter(|n| !n.is_empty()) {
        None => errors.push(FieldError::required("metadata.name", "name or generateName is required")),
        Some(name) => {
            if let Some(problem) = name_problem(def, name) {
                errors.push(FieldError::invalid("metadata.name", &metadata["name"], &problem));
            }
        }
    }
    if !def.namespaced && metadata["namespace"].as_str().is_some_and(|n| !n.is_empty()) {
        errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified(key) {
            errors.push(FieldError::invalid("metadata.labels", &key.as_str().into(), QUALIFIED));
        }
        match value.as_str() {
            Some(text) if is_label_value(text) => {}
            _ => errors.push(FieldError::invalid("metadata.labels", value, LABEL_VALUE)),
        }
    }
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &key.as_str().into(), QUALIFIED));
        }
    }
    if size > 256 * 1024 {
        errors.push(FieldError::too_long("metadata.annotations", 262_144));
    }
    owners(metadata, &mut errors);
    for finalizer in metadata["finalizers"].as_array().into_iter().flatten() {
        let name = finalizer.as_str().unwrap_or_default();
        let own = matches!(name, "orphan" | "foregroundDeletion" | "kubernetes");
        if !is_qualified(name) {
            errors.push(FieldError::invalid("metadata.finalizers", finalizer, QUALIFIED));
        } else if !name.contains('/') && !own && !def.is_custom() {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    errors
}

fn owners(metadata: &Value, errors: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        for (field, name) in
            [("apiVersion", "apiVersion"), ("kind", "kind"), ("name", "name"), ("uid", "uid")]
        {
            if owner[field].as_str().is_none_or(str::is_empty) {
                errors.push(FieldError::invalid(
                    format!("metadata.ownerReferences.{name}"),
                    &"".into(),
                    "must not be empty",
                ));
            }
        }
        if owner["controller"] == true {
            controllers += 1;
        }
    }
    if controllers > 1 {
        errors.push(FieldError::invalid(
            "metadata.ownerReferences",
            &metadata["ownerReferences"],
            "Only one reference can have Controller set to true",
        ));
    }
}

/// Checks a change of metadata.
pub fn validate_metadata_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (old, new) = (&old["metadata"], &new["metadata"]);
    if old.get("deletionTimestamp").is_some() {
        let before = old["finalizers"].as_array().cloned().unwrap_or_default();
        let fresh: Vec<String> = new["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|f| !before.contains(f))
            .map(Value::to_string)
            .collect();
        if !fresh.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                fresh.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_subdomain("a.b-c") && !is_subdomain("A") && !is_subdomain("a_b") && !is_subdomain("-a"));
        assert!(is_label("a-1") && !is_label("a.b"));
        assert!(is_1035("a1") && !is_1035("1a"));
        assert!(is_qualified("a.io/B_c") && !is_qualified("a.io/") && !is_qualified("_a"));
        assert!(is_label_value("") && !is_label_value("a/b"));
    }
}
