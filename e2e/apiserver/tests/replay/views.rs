//! The views that transcripts show where they cut an answer down to what matters.

use serde_json::{Value, json};

fn keys(value: &Value) -> Value {
    let mut keys: Vec<&String> = value.as_object().into_iter().flatten().map(|(k, _)| k).collect();
    keys.sort();
    json!(keys)
}

fn items(body: &Value) -> &[Value] {
    body["items"].as_array().map_or(&[], Vec::as_slice)
}

/// Only the parts of `actual` that `expected` shows.
fn only(expected: &Value, actual: &Value) -> Value {
    expected
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(k, _)| actual.get(k).map(|v| (k.clone(), v.clone())))
        .collect()
}

/// The entries of a list whose `key` appears in the expected list, in that order.
fn chosen(expected: &Value, actual: &Value, key: &str) -> Value {
    let wanted = expected.as_array().into_iter().flatten();
    wanted
        .filter_map(|e| actual.as_array().into_iter().flatten().find(|a| a[key] == e[key]).cloned())
        .collect()
}

/// The event a step is about.
fn event_item<'a>(expected: &Value, body: &'a Value) -> &'a Value {
    items(body).iter().find(|i| i["message"] == expected["message"]).unwrap_or(&Value::Null)
}

fn managers(expected: &Value, body: &Value) -> Value {
    let mut rows: Vec<Value> = Vec::new();
    for (index, entry) in body["metadata"]["managedFields"].as_array().into_iter().flatten().enumerate() {
        // Some transcripts hold the fields as text.
        let fields = match &expected[index][2] {
            Value::String(text) => {
                let parsed: Value = serde_json::from_str(text).unwrap();
                if parsed == entry["fieldsV1"] { text.clone().into() } else { entry["fieldsV1"].clone() }
            }
            _ => entry["fieldsV1"].clone(),
        };
        rows.push(json!([entry["manager"], entry["operation"], fields]));
    }
    rows.into()
}

/// What an answer shows under the name of a view.
pub fn compute(view: &str, expected: &Value, all: &Value, body: &Value, before: Option<&str>) -> Value {
    let metadata = &body["metadata"];
    match view {
        "names" => items(body).iter().map(|i| i["metadata"]["name"].clone()).collect(),
        "item has kind" => items(body).first().is_some_and(|i| i.get("kind").is_some()).into(),
        "count" => items(body).len().into(),
        "managers" => managers(expected, body),
        "keys" if all.get("involvedObject").is_some() => keys(event_item(all, body)),
        "involvedObject" | "message" if body.get("items").is_some() => event_item(all, body)[view].clone(),
        "keys" => keys(body),
        "item keys" => keys(&body["items"][0]),
        "status keys" => keys(&body["status"]),
        "columns" => {
            let columns = &body["columnDefinitions"];
            if expected[0].is_string() {
                columns.as_array().into_iter().flatten().map(|c| c["name"].clone()).collect()
            } else {
                columns.clone()
            }
        }
        "row" => {
            let row = &body["rows"][0];
            json!({"cells": row["cells"], "object": {"kind": row["object"]["kind"], "keys": keys(&row["object"])}})
        }
        "resourceVersion unchanged" => (metadata["resourceVersion"].as_str() == before).into(),
        "holder" => body["spec"]["holderIdentity"].clone(),
        "containers" => body["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| json!([c["name"], c["image"]]))
            .collect(),
        "generation" | "finalizers" | "labels" | "deletionTimestamp" | "continue" => metadata[view].clone(),
        "name" => body.get("name").unwrap_or(&metadata["name"]).clone(),
        "size" | "parts" => body["spec"][view].clone(),
        "phase" => body["status"][view].clone(),
        "metadata" => only(expected, metadata),
        "status" if expected.get("acceptedNames").is_some() => definition_status(&body["status"]),
        "groups" => chosen(expected, &body["groups"], "name"),
        "resources" => chosen(expected, &body["resources"], "name"),
        "items" if all["kind"] == "APIGroupDiscoveryList" => {
            let wanted = &expected[0]["metadata"]["name"];
            let mut found: Vec<Value> =
                items(body).iter().filter(|i| i["metadata"]["name"] == *wanted).cloned().collect();
            found.iter_mut().for_each(|f| f["metadata"] = json!({"name": f["metadata"]["name"]}));
            found.into()
        }
        "paths" => only(expected, &body["paths"]),
        _ => body.get(view).cloned().unwrap_or(Value::Null),
    }
}

/// Conditions by type, without their times and texts.
fn definition_status(status: &Value) -> Value {
    let mut status = status.clone();
    let mut conditions: Vec<Value> = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| json!({"type": c["type"], "status": c["status"], "reason": c["reason"]}))
        .collect();
    conditions.sort_by_key(|c| c["type"].to_string());
    status["conditions"] = conditions.into();
    status
}

/// What a transcript shows of a watch event.
pub fn event(expected: &Value, event: &Value) -> Value {
    let object = &event["object"];
    if expected.get("object keys").is_some() {
        return json!({"type": event["type"], "object keys": keys(object),
            "metadata": only(&expected["metadata"], &object["metadata"])});
    }
    // Of the data, only the value that the steps count up.
    let data = object["data"].get("v").map_or(Value::Null, |v| json!({"v": v}));
    json!({"type": event["type"], "name": object["metadata"]["name"], "labels": object["metadata"]["labels"],
        "data": data, "deletionTimestamp": object["metadata"].get("deletionTimestamp").is_some()})
}
