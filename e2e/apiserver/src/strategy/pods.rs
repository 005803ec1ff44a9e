//! Pods: defaults, admission and the checks that matter to their clients.

use serde_json::{Value, json};

use super::{fill, internal_form};
use crate::status::FieldError;
use crate::store::{GroupResource, Key, Store};

/// Defaults of a pod.
pub fn default(pod: &mut Value) {
    default_spec(&mut pod["spec"]);
    if pod.get("status").is_none_or(|s| s.as_object().is_some_and(serde_json::Map::is_empty)) {
        pod["status"] = json!({"phase": "Pending"});
    }
    fill(&mut pod["spec"], "enableServiceLinks", true);
    // Times of conditions are shown even when they are not known.
    let conditions = pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for time in ["lastProbeTime", "lastTransitionTime"] {
            condition.entry(time).or_insert(Value::Null);
        }
    }
}

/// Defaults of a pod's spec, in a pod or in a template.
pub fn default_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    fill(spec, "restartPolicy", "Always");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "securityContext", json!({}));
    fill(spec, "schedulerName", "default-scheduler");
    match (spec["serviceAccountName"].as_str(), spec["serviceAccount"].as_str()) {
        (Some(name), _) if !name.is_empty() => spec["serviceAccount"] = name.into(),
        (_, Some(name)) if !name.is_empty() => spec["serviceAccountName"] = name.into(),
        _ => {}
    }
    let host_network = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            default_container(container, host_network);
        }
        if spec[list].is_null() {
            spec.as_object_mut().map(|s| s.remove(list));
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        default_pod_volume(volume);
    }
}

fn default_pod_volume(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, serde_json::Map::len);
    if sources == 1 && volume.get("name").is_some() {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(inner) = volume.get_mut(source) {
            fill(inner, "defaultMode", 420);
            for item in inner.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(field) = item.get_mut("fieldRef") {
                    fill(field, "apiVersion", "v1");
                }
            }
        }
    }
    if let Some(sources) = volume.pointer_mut("/projected/sources").and_then(Value::as_array_mut) {
        for source in sources {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
            let items = source.pointer_mut("/downwardAPI/items").and_then(Value::as_array_mut);
            for item in items.into_iter().flatten() {
                if let Some(field) = item.get_mut("fieldRef") {
                    fill(field, "apiVersion", "v1");
                }
            }
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        fill(path, "type", "");
    }
}

fn default_container(container: &mut Value, host_network: bool) {
    if !container.is_object() {
        return;
    }
    let image = container["image"].as_str().unwrap_or_default().to_owned();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    fill(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    // What is limited is also asked for.
    let limits = container["resources"].get("limits").and_then(Value::as_object).cloned();
    for (name, limit) in limits.into_iter().flatten() {
        fill(&mut container["resources"], "requests", json!({}));
        fill(&mut container["resources"]["requests"], &name, limit);
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        fill(port, "protocol", "TCP");
        if host_network {
            let number = port["containerPort"].clone();
            fill(port, "hostPort", number);
        }
    }
    for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            fill(field, "apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe) else { continue };
        for (field, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            if probe.get(field).and_then(Value::as_i64).unwrap_or(0) == 0 {
                probe[field] = value.into();
            }
        }
        if let Some(http) = probe.get_mut("httpGet") {
            fill(http, "path", "/");
            fill(http, "scheme", "HTTP");
        }
        if let Some(grpc) = probe.get_mut("grpc") {
            fill(grpc, "service", "");
        }
    }
    for hook in ["/lifecycle/preStop/httpGet", "/lifecycle/postStart/httpGet"] {
        if let Some(http) = container.pointer_mut(hook) {
            fill(http, "path", "/");
            fill(http, "scheme", "HTTP");
        }
    }
}

/// Completes a new pod: service account and its token, tolerations, priority, quality of service.
pub fn prepare_create(pod: &mut Value, store: &Store) {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let spec = &mut pod["spec"];
    fill(spec, "serviceAccountName", "default");
    let account = spec["serviceAccountName"].as_str().unwrap_or("default").to_owned();
    fill(spec, "serviceAccount", account.clone());
    mount_token(spec, store, &namespace, &account);
    fill(spec, "priority", 0);
    fill(spec, "preemptionPolicy", "PreemptLowerPriority");
    let mut tolerations = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            (t["key"] == key || t["key"].is_null())
                && matches!(t["effect"].as_str(), None | Some("NoExecute" | ""))
        });
        if !tolerated {
            tolerations.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
    spec["tolerations"] = tolerations.into();
    let class = quality(spec);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

fn mount_token(spec: &mut Value, store: &Store, namespace: &str, account: &str) {
    const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let key = Key {
        gr: GroupResource::new("", "serviceaccounts"),
        namespace: namespace.into(),
        name: account.into(),
    };
    let declined = |v: &Value| v["automountServiceAccountToken"] == false;
    let wanted = match spec.get("automountServiceAccountToken").and_then(Value::as_bool) {
        Some(wanted) => wanted,
        None => store.get(&key).is_some_and(|a| !declined(a)),
    };
    if !wanted {
        return;
    }
    let suffix: String = crate::rest::random_suffix(5);
    let volume = format!("kube-api-access-{suffix}");
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = container.get("volumeMounts").and_then(Value::as_array).cloned().unwrap_or_default();
            if mounts.iter().any(|m| m["mountPath"] == MOUNT) {
                continue;
            }
            let mut mounts = mounts;
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT}));
            container["volumeMounts"] = mounts.into();
            used = true;
        }
    }
    if used {
        let mut volumes = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
        spec["volumes"] = volumes.into();
    }
}

fn quality(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            for resource in ["cpu", "memory"] {
                let request = container["resources"]["requests"].get(resource);
                let limit = container["resources"]["limits"].get(resource);
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && request == limit;
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Checks a pod's spec, in a pod or in a template; `path` leads to it.
pub fn validate(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut volumes: Vec<&str> = Vec::new();
    for (index, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.volumes[{index}]");
        match volume["name"].as_str() {
            None | Some("") => errors.push(FieldError::required(format!("{at}.name"), "")),
            Some(name) => {
                if volumes.contains(&name) {
                    errors.push(FieldError::duplicate(format!("{at}.name"), &volume["name"]));
                }
                volumes.push(name);
            }
        }
        if volume.as_object().is_some_and(|v| v.len() > 2) {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
        }
    }
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for list in ["containers", "initContainers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("{path}.{list}[{index}]");
            match container["name"].as_str() {
                None | Some("") => errors.push(FieldError::required(format!("{at}.name"), "")),
                Some(name) => {
                    if names.contains(&name) {
                        errors.push(FieldError::duplicate(format!("{at}.name"), &container["name"]));
                    }
                    names.push(name);
                }
            }
            if container["image"].as_str().is_none_or(str::is_empty) {
                errors.push(FieldError::required(format!("{at}.image"), ""));
            }
            validate_container(container, &at, &volumes, errors);
        }
    }
    let policy = &spec["restartPolicy"];
    let policies = [json!("Always"), json!("OnFailure"), json!("Never")];
    if !policies.contains(policy) {
        errors.push(FieldError::not_supported(format!("{path}.restartPolicy"), policy, &policies));
    }
}

fn validate_container(container: &Value, at: &str, volumes: &[&str], errors: &mut Vec<FieldError>) {
    let mut paths: Vec<&Value> = Vec::new();
    for (index, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let name = mount["name"].as_str().unwrap_or_default();
        if !volumes.contains(&name) {
            errors.push(FieldError::not_found(format!("{at}.volumeMounts[{index}].name"), &mount["name"]));
        }
        let path = &mount["mountPath"];
        if path.as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(format!("{at}.volumeMounts[{index}].mountPath"), ""));
        } else if paths.contains(&path) {
            errors.push(FieldError::invalid(
                format!("{at}.volumeMounts[{index}].mountPath"),
                path,
                "must be unique",
            ));
        }
        paths.push(path);
    }
    for (index, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        if variable["name"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(format!("{at}.env[{index}].name"), ""));
        }
    }
    for (index, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
        let number = &port["containerPort"];
        match number.as_i64() {
            None => errors.push(FieldError::required(format!("{at}.ports[{index}].containerPort"), "")),
            Some(1..=65535) => {}
            Some(_) => errors.push(FieldError::invalid(
                format!("{at}.ports[{index}].containerPort"),
                number,
                "must be between 1 and 65535, inclusive",
            )),
        }
    }
    let resources = &container["resources"];
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = resources["limits"].get(name).and_then(Value::as_str).and_then(crate::quantity::value);
        let asked = request.as_str().and_then(crate::quantity::value);
        if let (Some(limit), Some(asked)) = (limit, asked)
            && asked > limit
        {
            errors.push(FieldError::invalid(
                format!("{at}.resources.requests"),
                request,
                &format!(
                    "must be less than or equal to {name} limit of {}",
                    resources["limits"][name].as_str().unwrap_or_default()
                ),
            ));
        }
    }
}

/// Checks a change: a pod is mostly immutable.
pub fn validate_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let (old, new) = (&old["spec"], &new["spec"]);
    let mut allowed = new.clone();
    for list in ["containers", "initContainers"] {
        let before = old[list].as_array().cloned().unwrap_or_default();
        for (index, container) in
            allowed.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            if let Some(image) = before.get(index).and_then(|c| c.get("image")) {
                container["image"] = image.clone();
            }
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        super::restore(&mut allowed, old, field);
    }
    if old["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0)
        && new["terminationGracePeriodSeconds"] == 1
    {
        super::restore(&mut allowed, old, "terminationGracePeriodSeconds");
    }
    if allowed != *old {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        let diff =
            internal_form::difference(&internal_form::pod_spec(old), &internal_form::pod_spec(&allowed));
        errors.push(FieldError::forbidden("spec", &format!("{detail}\n{diff}")));
    }
    let before = old["tolerations"].as_array().cloned().unwrap_or_default();
    let after = new["tolerations"].as_array().cloned().unwrap_or_default();
    if before.iter().any(|t| !after.contains(t)) {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
}
