//! The difference that a refused change of a pod or claim shows: the API prints it in the form of its own
//! structures (exported names, every field, one space of indent), so that is how it is spelled here.

use serde_json::Value;

enum Node {
    Leaf(String),
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
}

/// How a field prints when it is absent, and what is inside when it is there.
enum Form {
    Text,
    Flag,
    Number,
    /// A pointer, list or map: `null` when absent.
    Any,
    Struct(&'static [Field]),
    Structs(&'static [Field]),
}

struct Field(&'static str, &'static str, Form);

const RESOURCES: &[Field] = &[
    Field("Limits", "limits", Form::Any),
    Field("Requests", "requests", Form::Any),
    Field("Claims", "claims", Form::Any),
];

const CLAIM_RESOURCES: &[Field] =
    &[Field("Limits", "limits", Form::Any), Field("Requests", "requests", Form::Any)];

const CLAIM: &[Field] = &[
    Field("AccessModes", "accessModes", Form::Any),
    Field("Selector", "selector", Form::Any),
    Field("Resources", "resources", Form::Struct(CLAIM_RESOURCES)),
    Field("VolumeName", "volumeName", Form::Text),
    Field("StorageClassName", "storageClassName", Form::Any),
    Field("VolumeMode", "volumeMode", Form::Any),
    Field("DataSource", "dataSource", Form::Any),
    Field("DataSourceRef", "dataSourceRef", Form::Any),
    Field("VolumeAttributesClassName", "volumeAttributesClassName", Form::Any),
];

const CLAIM_SOURCE: &[Field] =
    &[Field("ClaimName", "claimName", Form::Text), Field("ReadOnly", "readOnly", Form::Flag)];

const VOLUME: &[Field] = &[
    Field("Name", "name", Form::Text),
    Field("HostPath", "hostPath", Form::Any),
    Field("EmptyDir", "emptyDir", Form::Any),
    Field("GCEPersistentDisk", "gcePersistentDisk", Form::Any),
    Field("AWSElasticBlockStore", "awsElasticBlockStore", Form::Any),
    Field("GitRepo", "gitRepo", Form::Any),
    Field("Secret", "secret", Form::Any),
    Field("NFS", "nfs", Form::Any),
    Field("ISCSI", "iscsi", Form::Any),
    Field("Glusterfs", "glusterfs", Form::Any),
    Field("PersistentVolumeClaim", "persistentVolumeClaim", Form::Any),
    Field("RBD", "rbd", Form::Any),
    Field("Quobyte", "quobyte", Form::Any),
    Field("FlexVolume", "flexVolume", Form::Any),
    Field("Cinder", "cinder", Form::Any),
    Field("CephFS", "cephfs", Form::Any),
    Field("Flocker", "flocker", Form::Any),
    Field("DownwardAPI", "downwardAPI", Form::Any),
    Field("FC", "fc", Form::Any),
    Field("AzureFile", "azureFile", Form::Any),
    Field("ConfigMap", "configMap", Form::Any),
    Field("VsphereVolume", "vsphereVolume", Form::Any),
    Field("AzureDisk", "azureDisk", Form::Any),
    Field("PhotonPersistentDisk", "photonPersistentDisk", Form::Any),
    Field("Projected", "projected", Form::Any),
    Field("PortworxVolume", "portworxVolume", Form::Any),
    Field("ScaleIO", "scaleIO", Form::Any),
    Field("StorageOS", "storageos", Form::Any),
    Field("CSI", "csi", Form::Any),
    Field("Ephemeral", "ephemeral", Form::Any),
    Field("Image", "image", Form::Any),
];

const PORT: &[Field] = &[
    Field("Name", "name", Form::Text),
    Field("HostPort", "hostPort", Form::Number),
    Field("ContainerPort", "containerPort", Form::Number),
    Field("Protocol", "protocol", Form::Text),
    Field("HostIP", "hostIP", Form::Text),
];

const ENV: &[Field] = &[
    Field("Name", "name", Form::Text),
    Field("Value", "value", Form::Text),
    Field("ValueFrom", "valueFrom", Form::Any),
];

const CONTAINER: &[Field] = &[
    Field("Name", "name", Form::Text),
    Field("Image", "image", Form::Text),
    Field("Command", "command", Form::Any),
    Field("Args", "args", Form::Any),
    Field("WorkingDir", "workingDir", Form::Text),
    Field("Ports", "ports", Form::Structs(PORT)),
    Field("EnvFrom", "envFrom", Form::Any),
    Field("Env", "env", Form::Structs(ENV)),
    Field("Resources", "resources", Form::Struct(RESOURCES)),
    Field("ResizePolicy", "resizePolicy", Form::Any),
    Field("RestartPolicy", "restartPolicy", Form::Any),
    Field("RestartPolicyRules", "restartPolicyRules", Form::Any),
    Field("VolumeMounts", "volumeMounts", Form::Any),
    Field("VolumeDevices", "volumeDevices", Form::Any),
    Field("LivenessProbe", "livenessProbe", Form::Any),
    Field("ReadinessProbe", "readinessProbe", Form::Any),
    Field("StartupProbe", "startupProbe", Form::Any),
    Field("Lifecycle", "lifecycle", Form::Any),
    Field("TerminationMessagePath", "terminationMessagePath", Form::Text),
    Field("TerminationMessagePolicy", "terminationMessagePolicy", Form::Text),
    Field("ImagePullPolicy", "imagePullPolicy", Form::Text),
    Field("SecurityContext", "securityContext", Form::Any),
    Field("Stdin", "stdin", Form::Flag),
    Field("StdinOnce", "stdinOnce", Form::Flag),
    Field("TTY", "tty", Form::Flag),
];

const POD: &[Field] = &[
    Field("Volumes", "volumes", Form::Structs(VOLUME)),
    Field("InitContainers", "initContainers", Form::Structs(CONTAINER)),
    Field("Containers", "containers", Form::Structs(CONTAINER)),
    Field("EphemeralContainers", "ephemeralContainers", Form::Any),
    Field("RestartPolicy", "restartPolicy", Form::Text),
    Field("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", Form::Any),
    Field("ActiveDeadlineSeconds", "activeDeadlineSeconds", Form::Any),
    Field("DNSPolicy", "dnsPolicy", Form::Text),
    Field("NodeSelector", "nodeSelector", Form::Any),
    Field("ServiceAccountName", "serviceAccountName", Form::Text),
    Field("AutomountServiceAccountToken", "automountServiceAccountToken", Form::Any),
    Field("NodeName", "nodeName", Form::Text),
    Field("SecurityContext", "securityContext", Form::Any),
    Field("ImagePullSecrets", "imagePullSecrets", Form::Any),
    Field("Hostname", "hostname", Form::Text),
    Field("Subdomain", "subdomain", Form::Text),
    Field("SetHostnameAsFQDN", "setHostnameAsFQDN", Form::Any),
    Field("Affinity", "affinity", Form::Any),
    Field("SchedulerName", "schedulerName", Form::Text),
    Field("Tolerations", "tolerations", Form::Any),
    Field("HostAliases", "hostAliases", Form::Any),
    Field("PriorityClassName", "priorityClassName", Form::Text),
    Field("Priority", "priority", Form::Any),
    Field("PreemptionPolicy", "preemptionPolicy", Form::Any),
    Field("DNSConfig", "dnsConfig", Form::Any),
    Field("ReadinessGates", "readinessGates", Form::Any),
    Field("RuntimeClassName", "runtimeClassName", Form::Any),
    Field("Overhead", "overhead", Form::Any),
    Field("EnableServiceLinks", "enableServiceLinks", Form::Any),
    Field("TopologySpreadConstraints", "topologySpreadConstraints", Form::Any),
    Field("OS", "os", Form::Any),
    Field("SchedulingGates", "schedulingGates", Form::Any),
    Field("ResourceClaims", "resourceClaims", Form::Any),
    Field("Resources", "resources", Form::Any),
    Field("HostnameOverride", "hostnameOverride", Form::Any),
];

/// Lines of a pod's spec.
pub fn pod_spec(spec: &Value) -> Vec<String> {
    print(&structure(spec, POD))
}

/// Lines of a claim's spec.
pub fn claim_spec(spec: &Value) -> Vec<String> {
    print(&structure(spec, CLAIM))
}

fn structure(value: &Value, fields: &'static [Field]) -> Node {
    let list = fields.iter().map(|Field(name, key, form)| {
        let inner = value.get(*key).filter(|v| !v.is_null());
        let node = match (form, inner) {
            (Form::Text, None) => Node::Leaf("\"\"".into()),
            (Form::Flag, None) => Node::Leaf("false".into()),
            (Form::Number, None) => Node::Leaf("0".into()),
            (Form::Any | Form::Structs(_), None) => Node::Leaf("null".into()),
            (Form::Struct(fields), inner) => structure(inner.unwrap_or(&Value::Null), fields),
            (Form::Structs(fields), Some(Value::Array(items))) => {
                Node::List(items.iter().map(|i| structure(i, fields)).collect())
            }
            (_, Some(inner)) if *key == "persistentVolumeClaim" => structure(inner, CLAIM_SOURCE),
            (_, Some(inner)) => {
                generic(inner, !matches!(*key, "limits" | "requests" | "nodeSelector" | "overhead"))
            }
        };
        ((*name).to_owned(), node)
    });
    Node::Object(list.collect())
}

fn generic(value: &Value, capitalise: bool) -> Node {
    match value {
        Value::Object(map) => Node::Object(
            map.iter()
                .map(|(name, inner)| {
                    let mut letters = name.chars();
                    let name = match letters.next() {
                        Some(first) if capitalise => first.to_uppercase().chain(letters).collect(),
                        _ => name.clone(),
                    };
                    (name, generic(inner, capitalise))
                })
                .collect(),
        ),
        Value::Array(items) => Node::List(items.iter().map(|i| generic(i, capitalise)).collect()),
        other => Node::Leaf(other.to_string()),
    }
}

fn print(node: &Node) -> Vec<String> {
    let mut lines = Vec::new();
    write(node, 0, "", "", &mut lines);
    lines
}

fn write(node: &Node, depth: usize, label: &str, tail: &str, lines: &mut Vec<String>) {
    let indent = " ".repeat(depth);
    let last = |index: usize, len: usize| if index + 1 == len { "" } else { "," };
    match node {
        Node::Leaf(text) => lines.push(format!("{indent}{label}{text}{tail}")),
        Node::Object(fields) if fields.is_empty() => lines.push(format!("{indent}{label}{{}}{tail}")),
        Node::Object(fields) => {
            lines.push(format!("{indent}{label}{{"));
            for (index, (name, inner)) in fields.iter().enumerate() {
                write(inner, depth + 1, &format!("{name:?}: "), last(index, fields.len()), lines);
            }
            lines.push(format!("{indent}}}{tail}"));
        }
        Node::List(items) if items.is_empty() => lines.push(format!("{indent}{label}[]{tail}")),
        Node::List(items) => {
            lines.push(format!("{indent}{label}["));
            for (index, item) in items.iter().enumerate() {
                write(item, depth + 1, "", last(index, items.len()), lines);
            }
            lines.push(format!("{indent}]{tail}"));
        }
    }
}

/// Unified difference with three lines of context.
pub fn difference(old: &[String], new: &[String]) -> String {
    const CONTEXT: usize = 3;
    let script = script(old, new);
    let mut out = String::new();
    let mut at = 0;
    while at < script.len() {
        let Some(first) = (at..script.len()).find(|i| script[*i].0 != ' ') else { break };
        // A hunk ends where two contexts of unchanged lines follow.
        let mut last = first;
        let mut look = first;
        while look < script.len() && look - last <= 2 * CONTEXT {
            if script[look].0 != ' ' {
                last = look;
            }
            look += 1;
        }
        let start = first.saturating_sub(CONTEXT).max(at);
        let end = (last + CONTEXT + 1).min(script.len());
        let count = |marks: [char; 2], range: &[(char, &String)]| {
            range.iter().filter(|(m, _)| marks.contains(m)).count()
        };
        let (before, hunk) = (&script[..start], &script[start..end]);
        out.push_str(&format!(
            "@@ -{},{} +{},{} @@\n",
            count([' ', '-'], before) + 1,
            count([' ', '-'], hunk),
            count([' ', '+'], before) + 1,
            count([' ', '+'], hunk)
        ));
        for (mark, line) in hunk {
            out.push(*mark);
            out.push_str(line);
            out.push('\n');
        }
        at = end;
    }
    out
}

fn script<'a>(old: &'a [String], new: &'a [String]) -> Vec<(char, &'a String)> {
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push((' ', &old[i]));
            i += 1;
            j += 1;
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            out.push(('-', &old[i]));
            i += 1;
        } else {
            out.push(('+', &new[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_shows_what_changed() {
        let old = claim_spec(&json!({"accessModes": ["ReadWriteOnce"]}));
        let new = claim_spec(&json!({"accessModes": ["ReadOnlyMany"]}));
        assert_eq!(
            difference(&old, &new),
            "@@ -1,6 +1,6 @@\n {\n  \"AccessModes\": [\n-  \"ReadWriteOnce\"\n+  \"ReadOnlyMany\"\n  ],\n  \"Selector\": null,\n  \"Resources\": {\n"
        );
    }
}
