//! Reviews: who is this, and may they do that.

use chrono::Utc;
use serde_json::{Value, json};

use super::User;
use super::rbac::{Attributes, allowed, rules_for};
use crate::auth::tokens::ISSUER;
use crate::state::State;
use crate::status::{ApiError, ApiResult};
use crate::store::Store;

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn attributes(spec: &Value) -> Attributes {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    if let Some(path) = spec.get("nonResourceAttributes") {
        return Attributes {
            verb: text(&path["verb"]),
            path: Some(text(&path["path"])),
            ..Attributes::default()
        };
    }
    let resource = &spec["resourceAttributes"];
    let sub = text(&resource["subresource"]);
    let plural = text(&resource["resource"]);
    Attributes {
        verb: text(&resource["verb"]),
        group: text(&resource["group"]),
        resource: if sub.is_empty() { plural } else { format!("{plural}/{sub}") },
        namespace: text(&resource["namespace"]),
        name: text(&resource["name"]),
        path: None,
    }
}

/// Fills in the status of a review.
pub fn answer(
    state: &State,
    store: &Store,
    caller: &User,
    kind: &str,
    mut review: Value,
    namespace: &str,
) -> ApiResult<Value> {
    let spec = review["spec"].clone();
    let access = |user: &User| json!({"allowed": allowed(store, user, &attributes(&spec))});
    review["status"] = match kind {
        "SelfSubjectAccessReview" => access(caller),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let asked = attributes(&spec).namespace;
            if kind == "LocalSubjectAccessReview" && asked != namespace {
                return Err(ApiError::bad_request(
                    "spec.resourceAttributes.namespace must match metadata.namespace",
                ));
            }
            let mut groups = strings(&spec["groups"]);
            groups.push("system:authenticated".into());
            access(&User {
                name: spec["user"].as_str().unwrap_or_default().into(),
                groups,
                ..User::default()
            })
        }
        "SelfSubjectRulesReview" => {
            let mut rules = rules_for(store, caller, spec["namespace"].as_str().unwrap_or_default());
            if caller.in_group("system:masters") {
                rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
                rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
            }
            let (paths, resources): (Vec<Value>, Vec<Value>) =
                rules.into_iter().partition(|r| r.get("nonResourceURLs").is_some());
            json!({"incomplete": false, "resourceRules": resources, "nonResourceRules": paths})
        }
        "SelfSubjectReview" => json!({"userInfo": caller.to_json()}),
        "TokenReview" => {
            let token = spec["token"].as_str().unwrap_or_default();
            let wanted = strings(&spec["audiences"]);
            let wanted = if wanted.is_empty() { vec![ISSUER.to_owned()] } else { wanted };
            match state.tokens.check(token, store, Utc::now().timestamp()) {
                Some((user, audiences)) => {
                    let common: Vec<&String> = wanted.iter().filter(|a| audiences.contains(a)).collect();
                    if common.is_empty() {
                        json!({"authenticated": false, "error": "the token is not valid for any of the audiences"})
                    } else {
                        json!({"authenticated": true, "user": user.to_json(), "audiences": common})
                    }
                }
                None => json!({"authenticated": false, "error": "the token is not valid"}),
            }
        }
        _ => return Err(ApiError::method_not_allowed()),
    };
    Ok(review)
}
