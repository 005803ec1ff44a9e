//! Comparing answers: placeholders match what they stand for, sets in any order, everything else exactly.

use regex::Regex;
use serde_json::Value;

use super::{Answer, views};

/// Names that the recorded server's vendor added.
const VENDOR: &[&str] = &["openshift-service-ca.crt"];

/// Compares one answer with its transcript; `before` is the object's version before the step.
pub fn answer(step: &Value, actual: &Answer, before: Option<&str>) -> Result<(), String> {
    let response = &step["response"];
    let expected = without_vendor(&response["body"]);
    if response["status"] != actual.status {
        return Err(format!("status {} instead of {}: {}", actual.status, response["status"], actual.body));
    }
    let warnings: Vec<&str> =
        response["warning"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if warnings != actual.warnings {
        return Err(format!("warnings {:?} instead of {warnings:?}", actual.warnings));
    }
    let whole = !expected.is_object()
        || expected["metadata"].get("uid").is_some()
        || (expected["kind"] == "Status" && expected["status"].is_string());
    if whole {
        return same(&expected, &actual.body, "");
    }
    for (view, value) in expected.as_object().into_iter().flatten() {
        let own = views::compute(view, value, &expected, &actual.body, before);
        same(value, &own, view).map_err(|e| format!("{e}\n  in {}", actual.body))?;
    }
    Ok(())
}

/// Compares the events of a watch.
pub fn stream(expected: &Value, status: u16, events: &[Value]) -> Result<(), String> {
    let expected: Vec<&Value> = expected
        .as_array()
        .into_iter()
        .flatten()
        .filter(|e| !VENDOR.iter().any(|name| e["name"] == *name))
        .collect();
    if expected[0]["http status"] != status {
        return Err(format!("status {status} instead of {}: {events:?}", expected[0]["http status"]));
    }
    let expected = &expected[1..];
    if expected.len() != events.len() {
        return Err(format!("{} events instead of {}: {events:?}", events.len(), expected.len()));
    }
    for (index, (expected, event)) in expected.iter().zip(events).enumerate() {
        same(expected, &views::event(expected, event), &format!("event {index}"))?;
    }
    Ok(())
}

fn without_vendor(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            items.iter().filter(|i| !VENDOR.iter().any(|name| *i == name)).map(without_vendor).collect()
        }
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), without_vendor(v))).collect(),
        other => other.clone(),
    }
}

/// Numbers and names that the recording left as they were that day.
fn leave_open(text: &str) -> String {
    let mut text =
        Regex::new(r"in record \(\d+\)").unwrap().replace_all(text, "in record (<rv>)").into_owned();
    text = Regex::new(r"\be-[a-z0-9]{5}\b").unwrap().replace_all(&text, "e-<5>").into_owned();
    text
}

fn text_matches(expected: &str, actual: &str) -> bool {
    let expected = leave_open(expected);
    if !expected.contains('<') {
        return expected == actual;
    }
    let mut pattern = regex::escape(&expected);
    for (placeholder, form) in [
        ("<uid>", "[0-9a-f-]{36}"),
        ("<rv>", "[0-9]+"),
        ("<time>", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
        ("<ip>", r"\d+\.\d+\.\d+\.\d+"),
        ("<token>", "[A-Za-z0-9_.-]+"),
        ("<continue>", ".+"),
        ("<5>", "[a-z0-9]{5}"),
        ("<age>", r"(\d+[smhdy])+"),
        ("<hash>", "[0-9A-F]{16,}"),
    ] {
        pattern = pattern.replace(&regex::escape(placeholder), &format!("(?:{form})"));
    }
    Regex::new(&format!("^(?s:{pattern})$")).unwrap().is_match(actual)
}

/// Compares two values.
pub fn same(expected: &Value, actual: &Value, at: &str) -> Result<(), String> {
    let differ = || Err(format!("{at}: {actual} instead of {expected}"));
    match (expected, actual) {
        (Value::String(e), Value::String(a)) => {
            let list = at.ends_with("message") && e.contains(" is invalid: [");
            if (list && same_errors(e, a)) || text_matches(e, a) { Ok(()) } else { differ() }
        }
        (Value::Array(e), Value::Array(a)) => {
            if e.len() != a.len() {
                return differ();
            }
            let (mut e, mut a) = (e.clone(), a.clone());
            if let Some(key) = unordered(at) {
                e.sort_by_key(&key);
                a.sort_by_key(&key);
            }
            for (index, (e, a)) in e.iter().zip(&a).enumerate() {
                same(e, a, &format!("{at}[{index}]"))?;
            }
            Ok(())
        }
        (Value::Object(e), Value::Object(a)) => {
            for name in e.keys().chain(a.keys()) {
                let inner = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                match (e.get(name), a.get(name)) {
                    (Some(e), Some(a)) => same(e, a, &inner)?,
                    (Some(e), None) => return Err(format!("{inner}: missing, should be {e}")),
                    (None, Some(a)) => return Err(format!("{inner}: {a} should not be there")),
                    (None, None) => {}
                }
            }
            Ok(())
        }
        (e, a) if e == a => Ok(()),
        _ => differ(),
    }
}

/// Lists that come in any order.
fn unordered(at: &str) -> Option<impl Fn(&Value) -> String + use<>> {
    let managed = at.ends_with("managedFields");
    (managed || at.ends_with("causes")).then_some(move |v: &Value| {
        if managed {
            format!("{} {} {}", v["operation"], v["manager"], v["subresource"])
        } else {
            format!("{} {}", v["field"], v["message"])
        }
    })
}

/// Several errors in one message come in any order.
fn same_errors(expected: &str, actual: &str) -> bool {
    let split = |text: &str| {
        let (head, list) = text.split_once(": [")?;
        let mut parts: Vec<String> = list.strip_suffix(']')?.split(", ").map(leave_open).collect();
        parts.sort();
        Some((leave_open(head), parts))
    };
    match (split(expected), split(actual)) {
        (Some(expected), Some(actual)) => expected == actual,
        _ => false,
    }
}
