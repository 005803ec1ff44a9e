//! Columns and cells of the built-in types, as `kubectl get` shows them.

use serde_json::{Value, json};

use super::columns::{Column, age_of, name_column};
use crate::registry::ResourceDef;

/// `(heading, type, priority)` after the name.
type Heading = (&'static str, &'static str, i64);

const AGE: Heading = ("Age", "string", 0);

fn headings(def: &ResourceDef) -> &'static [Heading] {
    match def.kind.as_str() {
        "Pod" => &[
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            AGE,
            ("IP", "string", 1),
            ("Node", "string", 1),
            ("Nominated Node", "string", 1),
            ("Readiness Gates", "string", 1),
        ],
        "Service" => &[
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            AGE,
            ("Selector", "string", 1),
        ],
        "PersistentVolumeClaim" => &[
            ("Status", "string", 0),
            ("Volume", "string", 0),
            ("Capacity", "string", 0),
            ("Access Modes", "string", 0),
            ("StorageClass", "string", 0),
            ("VolumeAttributesClass", "string", 0),
            AGE,
            ("VolumeMode", "string", 1),
        ],
        "PersistentVolume" => &[
            ("Capacity", "string", 0),
            ("Access Modes", "string", 0),
            ("Reclaim Policy", "string", 0),
            ("Status", "string", 0),
            ("Claim", "string", 0),
            ("StorageClass", "string", 0),
            ("VolumeAttributesClass", "string", 0),
            ("Reason", "string", 0),
            AGE,
            ("VolumeMode", "string", 1),
        ],
        "Secret" => &[("Type", "string", 0), ("Data", "string", 0), AGE],
        "ConfigMap" => &[("Data", "string", 0), AGE],
        "Namespace" => &[("Status", "string", 0), AGE],
        "ServiceAccount" => &[("Secrets", "string", 0), AGE],
        "Node" => &[
            ("Status", "string", 0),
            ("Roles", "string", 0),
            AGE,
            ("Version", "string", 0),
            ("Internal-IP", "string", 1),
            ("External-IP", "string", 1),
            ("OS-Image", "string", 1),
            ("Kernel-Version", "string", 1),
            ("Container-Runtime", "string", 1),
        ],
        "Deployment" => &[
            ("Ready", "string", 0),
            ("Up-to-date", "string", 0),
            ("Available", "string", 0),
            AGE,
            ("Containers", "string", 1),
            ("Images", "string", 1),
            ("Selector", "string", 1),
        ],
        "ReplicaSet" => &[
            ("Desired", "integer", 0),
            ("Current", "integer", 0),
            ("Ready", "integer", 0),
            AGE,
            ("Containers", "string", 1),
            ("Images", "string", 1),
            ("Selector", "string", 1),
        ],
        "StatefulSet" => &[("Ready", "string", 0), AGE, ("Containers", "string", 1), ("Images", "string", 1)],
        "Lease" => &[("Holder", "string", 0), AGE],
        "Job" => &[
            ("Status", "string", 0),
            ("Completions", "string", 0),
            ("Duration", "string", 0),
            AGE,
            ("Containers", "string", 1),
            ("Images", "string", 1),
            ("Selector", "string", 1),
        ],
        "CronJob" => &[
            ("Schedule", "string", 0),
            ("Timezone", "string", 0),
            ("Suspend", "boolean", 0),
            ("Active", "integer", 0),
            ("Last Schedule", "string", 0),
            AGE,
        ],
        "PodDisruptionBudget" => &[
            ("Min Available", "string", 0),
            ("Max Unavailable", "string", 0),
            ("Allowed Disruptions", "integer", 0),
            AGE,
        ],
        "StorageClass" => &[
            ("Provisioner", "string", 0),
            ("ReclaimPolicy", "string", 0),
            ("VolumeBindingMode", "string", 0),
            ("AllowVolumeExpansion", "string", 0),
            AGE,
        ],
        "Role" | "ClusterRole" | "CustomResourceDefinition" => &[("Created At", "date", 0)],
        "RoleBinding" | "ClusterRoleBinding" => &[
            ("Role", "string", 0),
            AGE,
            ("Users", "string", 1),
            ("Groups", "string", 1),
            ("ServiceAccounts", "string", 1),
        ],
        "Endpoints" => &[("Endpoints", "string", 0), AGE],
        "EndpointSlice" => {
            &[("AddressType", "string", 0), ("Ports", "string", 0), ("Endpoints", "string", 0), AGE]
        }
        _ => &[AGE],
    }
}

fn column(heading: &Heading) -> Column {
    Column {
        name: heading.0.into(),
        ty: heading.1.into(),
        format: String::new(),
        description: String::new(),
        priority: heading.2,
        path: None,
    }
}

/// The columns of a built-in type.
pub fn columns(def: &ResourceDef) -> Vec<Column> {
    if def.kind == "Event" {
        let mut columns: Vec<Column> = [
            ("Last Seen", "string", 0),
            ("Type", "string", 0),
            ("Reason", "string", 0),
            ("Object", "string", 0),
            ("Subobject", "string", 1),
            ("Source", "string", 1),
            ("Message", "string", 0),
            ("First Seen", "string", 1),
            ("Count", "string", 1),
        ]
        .iter()
        .map(column)
        .collect();
        let mut name = name_column();
        name.priority = 1;
        columns.push(name);
        return columns;
    }
    std::iter::once(name_column()).chain(headings(def).iter().map(column)).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn or(value: &Value, otherwise: &str) -> Value {
    let text = text(value);
    if text.is_empty() { otherwise.into() } else { text.into() }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn size(value: &Value) -> usize {
    value.as_array().map_or_else(|| value.as_object().map_or(0, serde_json::Map::len), Vec::len)
}

fn age(value: &Value) -> Value {
    value.as_str().map_or_else(|| "<unknown>".to_owned(), age_of).into()
}

fn labels(map: &Value) -> String {
    let list: Vec<String> =
        map.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", text(v))).collect();
    if list.is_empty() { "<none>".into() } else { list.join(",") }
}

fn joined<'a>(items: impl Iterator<Item = &'a Value>) -> String {
    items.map(text).collect::<Vec<_>>().join(",")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn template(spec: &Value) -> [Value; 2] {
    let containers = &spec["template"]["spec"]["containers"];
    [
        joined(list(containers).map(|c| &c["name"])).into(),
        joined(list(containers).map(|c| &c["image"])).into(),
    ]
}

fn modes(value: &Value) -> String {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    list(value).map(short).collect::<Vec<_>>().join(",")
}

/// The cells of a row of a built-in type.
pub fn cells(def: &ResourceDef, object: &Value) -> Vec<Value> {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let name = metadata["name"].clone();
    let created = age(&metadata["creationTimestamp"]);
    match def.kind.as_str() {
        "Pod" => pod(object),
        "Service" => {
            let ports = list(&spec["ports"]).map(|p| {
                let node = p["nodePort"].as_i64().map(|n| format!(":{n}")).unwrap_or_default();
                format!("{}{node}/{}", text(&p["port"]), text(&p["protocol"]))
            });
            let ports = ports.collect::<Vec<_>>().join(",");
            let external = if spec["type"] == "ExternalName" {
                or(&spec["externalName"], "<none>")
            } else {
                "<none>".into()
            };
            let ports = if ports.is_empty() { "<none>".to_owned() } else { ports };
            vec![
                name,
                or(&spec["type"], ""),
                or(&spec["clusterIP"], "<none>"),
                external,
                ports.into(),
                created,
                labels(&spec["selector"]).into(),
            ]
        }
        "PersistentVolumeClaim" => {
            let phase = if metadata.get("deletionTimestamp").is_some() {
                "Terminating".into()
            } else {
                or(&status["phase"], "")
            };
            let bound = spec["volumeName"].as_str().is_some_and(|v| !v.is_empty());
            let (capacity, modes) = if bound {
                (or(&status["capacity"]["storage"], ""), modes(&status["accessModes"]))
            } else {
                ("".into(), String::new())
            };
            vec![
                name,
                phase,
                or(&spec["volumeName"], ""),
                capacity,
                modes.into(),
                or(&spec["storageClassName"], ""),
                or(&spec["volumeAttributesClassName"], "<unset>"),
                created,
                or(&spec["volumeMode"], "<unset>"),
            ]
        }
        "PersistentVolume" => {
            let claim = &spec["claimRef"];
            let claim = if claim.is_object() {
                format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]))
            } else {
                String::new()
            };
            let phase = if metadata.get("deletionTimestamp").is_some() {
                "Terminating".into()
            } else {
                or(&status["phase"], "")
            };
            vec![
                name,
                or(&spec["capacity"]["storage"], ""),
                modes(&spec["accessModes"]).into(),
                or(&spec["persistentVolumeReclaimPolicy"], ""),
                phase,
                claim.into(),
                or(&spec["storageClassName"], ""),
                or(&spec["volumeAttributesClassName"], "<unset>"),
                or(&status["reason"], ""),
                created,
                or(&spec["volumeMode"], "<unset>"),
            ]
        }
        "Secret" => vec![name, or(&object["type"], ""), size(&object["data"]).into(), created],
        "ConfigMap" => vec![name, (size(&object["data"]) + size(&object["binaryData"])).into(), created],
        "Namespace" => vec![name, or(&status["phase"], ""), created],
        "ServiceAccount" => vec![name, size(&object["secrets"]).into(), created],
        "Node" => node(object),
        "Deployment" => {
            let ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
            let [containers, images] = template(spec);
            vec![
                name,
                ready.into(),
                number(&status["updatedReplicas"]).into(),
                number(&status["availableReplicas"]).into(),
                created,
                containers,
                images,
                labels(&spec["selector"]["matchLabels"]).into(),
            ]
        }
        "ReplicaSet" => {
            let [containers, images] = template(spec);
            vec![
                name,
                number(&spec["replicas"]).into(),
                number(&status["replicas"]).into(),
                number(&status["readyReplicas"]).into(),
                created,
                containers,
                images,
                labels(&spec["selector"]["matchLabels"]).into(),
            ]
        }
        "StatefulSet" => {
            let ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
            let [containers, images] = template(spec);
            vec![name, ready.into(), created, containers, images]
        }
        "Lease" => vec![name, or(&spec["holderIdentity"], ""), created],
        "Job" => job(object),
        "CronJob" => {
            let last = status["lastScheduleTime"].as_str().map_or_else(|| "<none>".to_owned(), age_of);
            vec![
                name,
                or(&spec["schedule"], ""),
                or(&spec["timeZone"], "<none>"),
                text(&spec["suspend"]).replace("true", "True").replace("false", "False").into(),
                size(&status["active"]).into(),
                last.into(),
                created,
            ]
        }
        "PodDisruptionBudget" => vec![
            name,
            or(&spec["minAvailable"], "N/A"),
            or(&spec["maxUnavailable"], "N/A"),
            number(&status["disruptionsAllowed"]).into(),
            created,
        ],
        "StorageClass" => {
            let default = metadata["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
            let name = if default { format!("{} (default)", text(&name)).into() } else { name };
            let grows = object["allowVolumeExpansion"] == true;
            vec![
                name,
                or(&object["provisioner"], ""),
                or(&object["reclaimPolicy"], ""),
                or(&object["volumeBindingMode"], ""),
                grows.into(),
                created,
            ]
        }
        "Role" | "ClusterRole" | "CustomResourceDefinition" => {
            vec![name, metadata["creationTimestamp"].clone()]
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            let role = &object["roleRef"];
            let subjects = |kind: &str| {
                let chosen = list(&object["subjects"]).filter(|s| s["kind"] == kind);
                let names = chosen.map(|s| {
                    if kind == "ServiceAccount" {
                        format!("{}/{}", text(&s["namespace"]), text(&s["name"]))
                    } else {
                        text(&s["name"])
                    }
                });
                Value::from(names.collect::<Vec<_>>().join(", "))
            };
            vec![
                name,
                format!("{}/{}", text(&role["kind"]), text(&role["name"])).into(),
                created,
                subjects("User"),
                subjects("Group"),
                subjects("ServiceAccount"),
            ]
        }
        "Event" => event(object),
        "Endpoints" => {
            let mut all = Vec::new();
            for subset in list(&object["subsets"]) {
                for address in list(&subset["addresses"]) {
                    for port in list(&subset["ports"]) {
                        all.push(format!("{}:{}", text(&address["ip"]), text(&port["port"])));
                    }
                }
            }
            vec![name, if all.is_empty() { "<none>".into() } else { all.join(",").into() }, created]
        }
        "EndpointSlice" => {
            let ports = joined(list(&object["ports"]).map(|p| &p["port"]));
            let all = joined(list(&object["endpoints"]).flat_map(|e| list(&e["addresses"])));
            let or_unset = |t: String| Value::from(if t.is_empty() { "<unset>".to_owned() } else { t });
            vec![name, or(&object["addressType"], ""), or_unset(ports), or_unset(all), created]
        }
        _ => vec![name, created],
    }
}

fn pod(pod: &Value) -> Vec<Value> {
    let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    let mut reason = text(&status["reason"]);
    if reason.is_empty() {
        reason = text(&status["phase"]);
    }
    let mut restarts = 0;
    let inits = size(&spec["initContainers"]);
    let mut initialising = false;
    for (index, container) in list(&status["initContainerStatuses"]).enumerate() {
        restarts += number(&container["restartCount"]);
        let (ended, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
        if ended.is_object() && number(&ended["exitCode"]) == 0 {
            continue;
        }
        initialising = true;
        reason = if ended.is_object() {
            match ended["reason"].as_str().filter(|r| !r.is_empty()) {
                Some(why) => format!("Init:{why}"),
                None => format!("Init:ExitCode:{}", number(&ended["exitCode"])),
            }
        } else if waiting["reason"].as_str().is_some_and(|r| !r.is_empty() && r != "PodInitializing") {
            format!("Init:{}", text(&waiting["reason"]))
        } else {
            format!("Init:{index}/{inits}")
        };
        break;
    }
    let mut ready = 0;
    if !initialising {
        restarts = 0;
        let mut running = false;
        for container in list(&status["containerStatuses"]).collect::<Vec<_>>().into_iter().rev() {
            restarts += number(&container["restartCount"]);
            let state = &container["state"];
            if let Some(why) = state["waiting"]["reason"].as_str().filter(|r| !r.is_empty()) {
                reason = why.to_owned();
            } else if let Some(why) = state["terminated"]["reason"].as_str().filter(|r| !r.is_empty()) {
                reason = why.to_owned();
            } else if state["terminated"].is_object() {
                reason = format!("ExitCode:{}", number(&state["terminated"]["exitCode"]));
            } else if container["ready"] == true && state["running"].is_object() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            reason = "Running".into();
        }
    }
    if metadata.get("deletionTimestamp").is_some() {
        reason = if status["reason"] == "NodeLost" { "Unknown".into() } else { "Terminating".into() };
    }
    let gates = size(&spec["readinessGates"]);
    let passed = list(&spec["readinessGates"])
        .filter(|g| {
            list(&status["conditions"]).any(|c| c["type"] == g["conditionType"] && c["status"] == "True")
        })
        .count();
    let gates = if gates == 0 { "<none>".to_owned() } else { format!("{passed}/{gates}") };
    vec![
        metadata["name"].clone(),
        format!("{ready}/{}", size(&spec["containers"])).into(),
        reason.into(),
        restarts.to_string().into(),
        age(&metadata["creationTimestamp"]),
        or(&status["podIP"], "<none>"),
        or(&spec["nodeName"], "<none>"),
        or(&status["nominatedNodeName"], "<none>"),
        gates.into(),
    ]
}

fn node(node: &Value) -> Vec<Value> {
    let (metadata, status) = (&node["metadata"], &node["status"]);
    let ready = list(&status["conditions"]).find(|c| c["type"] == "Ready");
    let mut state = match ready.map(|c| text(&c["status"])) {
        Some(s) if s == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node["spec"]["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let roles: Vec<&str> = metadata["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(k, _)| k.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let address = |kind: &str| {
        let found = list(&status["addresses"]).find(|a| a["type"] == kind);
        found.map_or_else(|| "<none>".into(), |a| a["address"].clone())
    };
    let info = &status["nodeInfo"];
    vec![
        metadata["name"].clone(),
        state.into(),
        roles.into(),
        age(&metadata["creationTimestamp"]),
        or(&info["kubeletVersion"], ""),
        address("InternalIP"),
        address("ExternalIP"),
        or(&info["osImage"], "<unknown>"),
        or(&info["kernelVersion"], "<unknown>"),
        or(&info["containerRuntimeVersion"], "<unknown>"),
    ]
}

fn job(job: &Value) -> Vec<Value> {
    let (metadata, spec, status) = (&job["metadata"], &job["spec"], &job["status"]);
    let has = |kind: &str| list(&status["conditions"]).any(|c| c["type"] == kind && c["status"] == "True");
    let state = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if metadata.get("deletionTimestamp").is_some() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else {
        "Running"
    };
    let wanted = spec["completions"].as_i64().unwrap_or(1);
    let seconds = |v: &Value| v.as_str().and_then(|t| chrono::DateTime::parse_from_rfc3339(t).ok());
    let length = match (seconds(&status["startTime"]), seconds(&status["completionTime"])) {
        (Some(start), Some(end)) => super::columns::duration((end - start).num_seconds()),
        (Some(_), None) => age_of(status["startTime"].as_str().unwrap_or_default()),
        _ => String::new(),
    };
    let [containers, images] = template(spec);
    vec![
        metadata["name"].clone(),
        state.into(),
        format!("{}/{wanted}", number(&status["succeeded"])).into(),
        length.into(),
        age(&metadata["creationTimestamp"]),
        containers,
        images,
        labels(&spec["selector"]["matchLabels"]).into(),
    ]
}

fn event(event: &Value) -> Vec<Value> {
    // Either form: the names differ.
    let pick = |core: &str, other: &str| {
        if event.get(core).is_some() { event[core].clone() } else { event[other].clone() }
    };
    let about = pick("involvedObject", "regarding");
    let (first, last) = (
        pick("firstTimestamp", "deprecatedFirstTimestamp"),
        pick("lastTimestamp", "deprecatedLastTimestamp"),
    );
    let created = if event["eventTime"].is_string() {
        &event["eventTime"]
    } else {
        &event["metadata"]["creationTimestamp"]
    };
    let shown = |time: &Value| if time.is_string() { age(time) } else { age(created) };
    let seen =
        event["series"]["lastObservedTime"].as_str().map_or_else(|| shown(&last), |t| age_of(t).into());
    let kind = text(&about["kind"]).to_lowercase();
    let source = pick("source", "deprecatedSource");
    let mut from = text(&source["component"]);
    if from.is_empty() {
        from = text(&pick("reportingComponent", "reportingController"));
    }
    if let Some(host) = source["host"].as_str() {
        from = format!("{from}, {host}");
    }
    let count =
        pick("count", "deprecatedCount").as_i64().or_else(|| event["series"]["count"].as_i64()).unwrap_or(1);
    vec![
        seen,
        or(&event["type"], ""),
        or(&event["reason"], ""),
        format!("{kind}/{}", text(&about["name"])).into(),
        or(&about["fieldPath"], ""),
        from.into(),
        json!(text(&pick("message", "note")).trim()),
        shown(&first),
        count.to_string().into(),
        event["metadata"]["name"].clone(),
    ]
}
