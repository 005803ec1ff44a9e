//! Role based access: what roles and bindings allow.

use serde_json::{Value, json};

use super::User;
use crate::store::{GroupResource, Key, Store};

const GROUP: &str = "rbac.authorization.k8s.io";

/// One thing somebody wants to do.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// The verb.
    pub verb: String,
    /// API group.
    pub group: String,
    /// Resource, with the subresource after a slash.
    pub resource: String,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Name, empty for a collection.
    pub name: String,
    /// Path, for what is no resource.
    pub path: Option<String>,
}

fn has(list: &Value, wanted: &str) -> bool {
    list.as_array().into_iter().flatten().any(|v| v == wanted || v == "*")
}

/// Whether one rule allows it.
pub fn rule_allows(rule: &Value, ask: &Attributes) -> bool {
    if !has(&rule["verbs"], &ask.verb) {
        return false;
    }
    if let Some(path) = &ask.path {
        return rule["nonResourceURLs"].as_array().into_iter().flatten().any(|v| {
            let pattern = v.as_str().unwrap_or_default();
            pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
        });
    }
    let sub = ask.resource.split_once('/').map(|(_, sub)| sub);
    let resource = rule["resources"].as_array().into_iter().flatten().any(|v| {
        let pattern = v.as_str().unwrap_or_default();
        pattern == "*"
            || pattern == ask.resource
            || sub.is_some_and(|sub| pattern.strip_prefix("*/").is_some_and(|p| p == sub))
    });
    let names = rule["resourceNames"].as_array().filter(|n| !n.is_empty());
    has(&rule["apiGroups"], &ask.group)
        && resource
        && names.is_none_or(|names| !ask.name.is_empty() && names.iter().any(|n| *n == ask.name))
}

fn subject_is(subject: &Value, user: &User, binding_namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.in_group(name),
        Some("ServiceAccount") => {
            let namespace =
                subject["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or(binding_namespace);
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

/// The rules of a role, those collected by an aggregating one included.
pub fn role_rules(store: &Store, role_ref: &Value, namespace: &str) -> Vec<Value> {
    let cluster = role_ref["kind"] == "ClusterRole";
    let key = Key {
        gr: GroupResource::new(GROUP, if cluster { "clusterroles" } else { "roles" }),
        namespace: if cluster { String::new() } else { namespace.into() },
        name: role_ref["name"].as_str().unwrap_or_default().into(),
    };
    let Some(role) = store.get(&key) else { return Vec::new() };
    let mut rules = role["rules"].as_array().cloned().unwrap_or_default();
    for selector in role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten() {
        let selector = crate::selectors::label::LabelSelector::from_object(selector);
        for (_, other) in store.list(&GroupResource::new(GROUP, "clusterroles"), "") {
            if selector.matches(other) {
                rules.extend(other["rules"].as_array().into_iter().flatten().cloned());
            }
        }
    }
    rules
}

/// All rules that hold for a user in a namespace.
pub fn rules_for(store: &Store, user: &User, namespace: &str) -> Vec<Value> {
    let mut rules = Vec::new();
    let mut add = |binding: &Value, binding_namespace: &str| {
        let subjects = binding["subjects"].as_array();
        if subjects.into_iter().flatten().any(|s| subject_is(s, user, binding_namespace)) {
            rules.extend(role_rules(store, &binding["roleRef"], binding_namespace));
        }
    };
    for (_, binding) in store.list(&GroupResource::new(GROUP, "clusterrolebindings"), "") {
        add(binding, "");
    }
    if !namespace.is_empty() {
        for (_, binding) in store.list(&GroupResource::new(GROUP, "rolebindings"), namespace) {
            add(binding, namespace);
        }
    }
    rules
}

/// Whether a user may do something.
pub fn allowed(store: &Store, user: &User, ask: &Attributes) -> bool {
    user.in_group("system:masters")
        || rules_for(store, user, &ask.namespace).iter().any(|r| rule_allows(r, ask))
}

/// Why a refusal reads as it does.
pub fn refusal(user: &User, ask: &Attributes) -> String {
    let (verb, resource, group) = (&ask.verb, &ask.resource, &ask.group);
    let scope = if ask.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", ask.namespace)
    };
    format!("User {:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}", user.name)
}

/// The rules of a role that its writer does not hold: nobody may grant more than they have.
pub fn missing_rules(store: &Store, user: &User, namespace: &str, rules: &[Value]) -> Vec<Value> {
    if user.in_group("system:masters") {
        return Vec::new();
    }
    let held = rules_for(store, user, namespace);
    let mut missing = Vec::new();
    for rule in rules {
        for ask in single_requests(rule) {
            let covered = held.iter().any(|own| {
                // A rule limited to names covers only the same names.
                let names_fit =
                    own["resourceNames"].as_array().is_none_or(Vec::is_empty) || !ask.name.is_empty();
                names_fit && rule_allows(own, &ask)
            });
            if !covered {
                missing.push(describe(&ask));
            }
        }
    }
    missing
}

fn single_requests(rule: &Value) -> Vec<Attributes> {
    let list = |key: &str| -> Vec<String> {
        rule[key].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let mut out = Vec::new();
    for verb in list("verbs") {
        for path in list("nonResourceURLs") {
            out.push(Attributes { verb: verb.clone(), path: Some(path), ..Attributes::default() });
        }
        for group in list("apiGroups") {
            for resource in list("resources") {
                let mut names = list("resourceNames");
                if names.is_empty() {
                    names.push(String::new());
                }
                for name in names {
                    out.push(Attributes {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        name,
                        ..Attributes::default()
                    });
                }
            }
        }
    }
    out
}

fn describe(ask: &Attributes) -> Value {
    if let Some(path) = &ask.path {
        return json!({"nonResourceURLs": [path], "verbs": [ask.verb]});
    }
    let mut rule = json!({"apiGroups": [ask.group], "resources": [ask.resource], "verbs": [ask.verb]});
    if !ask.name.is_empty() {
        rule["resourceNames"] = json!([ask.name]);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(verb: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            verb: verb.into(),
            resource: resource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules() {
        let rule = json!({"apiGroups": [""], "resources": ["pods", "*/scale"], "verbs": ["get"]});
        assert!(rule_allows(&rule, &ask("get", "pods", "x")));
        assert!(!rule_allows(&rule, &ask("get", "pods/status", "x")));
        assert!(rule_allows(&rule, &ask("get", "deployments/scale", "x")));
        assert!(!rule_allows(&rule, &ask("list", "pods", "")));
        let named = json!({"apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"], "verbs": ["*"]});
        assert!(rule_allows(&named, &ask("get", "pods", "a")));
        assert!(!rule_allows(&named, &ask("list", "pods", "")));
    }
}
