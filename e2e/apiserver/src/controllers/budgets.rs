//! The status of disruption budgets, which evictions are decided by.

use serde_json::{Value, json};

use crate::selectors::label::LabelSelector;
use crate::store::{GroupResource, Key, Store};

/// A count, or a share of the total, rounded up.
fn wanted(value: &Value, total: i64) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64(),
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            Some((total * percent + 99) / 100)
        }
        _ => None,
    }
}

/// Brings the status of all budgets up to date.
pub fn update(store: &mut Store) {
    let budgets: Vec<(Key, Value)> = store
        .list(&GroupResource::new("policy", "poddisruptionbudgets"), "")
        .map(|(k, b)| (k.clone(), (**b).clone()))
        .collect();
    for (key, mut budget) in budgets {
        let Some(selector) = budget["spec"].get("selector").map(LabelSelector::from_object) else { continue };
        let (mut expected, mut healthy) = (0, 0);
        for (_, pod) in store.list(&GroupResource::new("", "pods"), &key.namespace) {
            let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            if !selector.matches(pod) || ended {
                continue;
            }
            expected += 1;
            let going = pod["metadata"].get("deletionTimestamp").is_some();
            let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            if !going && conditions.any(|c| c["type"] == "Ready" && c["status"] == "True") {
                healthy += 1;
            }
        }
        let desired = match wanted(&budget["spec"]["maxUnavailable"], expected) {
            Some(unavailable) => expected - unavailable,
            None => wanted(&budget["spec"]["minAvailable"], expected).unwrap_or(1),
        }
        .max(0);
        let allowed = if expected == 0 { 0 } else { (healthy - desired).max(0) };
        let generation = &budget["metadata"]["generation"];
        let mut status = budget["status"].clone();
        for (field, value) in [
            ("expectedPods", expected.into()),
            ("currentHealthy", healthy.into()),
            ("desiredHealthy", desired.into()),
            ("disruptionsAllowed", allowed.into()),
            ("observedGeneration", generation.clone()),
        ] {
            if !status.is_object() {
                status = json!({});
            }
            status[field] = value;
        }
        if status != budget["status"] {
            budget["status"] = status;
            store.put(key, budget);
        }
    }
}
