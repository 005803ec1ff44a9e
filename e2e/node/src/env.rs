//! A container's environment and command line from its spec. Pure: what it refers to is handed in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

use crate::error::Error;
use crate::quantity;

/// The contents of the Secrets and ConfigMaps that a pod refers to. Not `Debug`, for that would show them.
#[derive(Clone, Default)]
pub(crate) struct Objects {
    pub secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// What is known about a pod only once it runs somewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub pod_ip: String,
    pub host_ip: String,
}

/// The environment in order, later entries replacing earlier ones of the same name.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    image_env: &BTreeMap<String, String>,
    facts: &Facts,
    objects: &Objects,
) -> Result<BTreeMap<String, String>, Error> {
    let mut env = image_env.clone();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, found) = if let Some(reference) = &source.secret_ref {
            ("Secret", &reference.name, reference.optional, objects.secrets.get(&reference.name))
        } else if let Some(reference) = &source.config_map_ref {
            ("ConfigMap", &reference.name, reference.optional, objects.config_maps.get(&reference.name))
        } else {
            continue;
        };
        match found {
            Some(data) => {
                for (key, value) in data {
                    env.insert(format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned());
                }
            }
            None if optional == Some(true) => {}
            None => return Err(Error::pod(format!("{kind} {name:?} not found"))),
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, variable, &env, facts, objects)? {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    env: &BTreeMap<String, String>,
    facts: &Facts,
    objects: &Objects,
) -> Result<Option<String>, Error> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), env)));
    };
    let EnvVarSource { config_map_key_ref, field_ref, resource_field_ref, secret_key_ref, .. } = source;
    if let Some(field) = field_ref {
        return field_value(pod, &field.field_path, facts).map(Some);
    }
    if let Some(resource) = resource_field_ref {
        return resource_value(
            container,
            &resource.resource,
            resource.divisor.as_ref().map(|d| d.0.as_str()),
        )
        .map(Some);
    }
    let (kind, name, key, optional, data) = if let Some(reference) = secret_key_ref {
        let data = objects.secrets.get(&reference.name);
        ("Secret", &reference.name, &reference.key, reference.optional, data)
    } else if let Some(reference) = config_map_key_ref {
        let data = objects.config_maps.get(&reference.name);
        ("ConfigMap", &reference.name, &reference.key, reference.optional, data)
    } else {
        return Ok(None);
    };
    match data.map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        _ if optional == Some(true) => Ok(None),
        Some(None) => Err(Error::pod(format!("couldn't find key {key} in {kind} {name:?}"))),
        None => Err(Error::pod(format!("{kind} {name:?} not found"))),
    }
}

/// A field of the pod as the downward API spells it.
pub(crate) fn field_value(pod: &Pod, path: &str, facts: &Facts) -> Result<String, Error> {
    let meta = &pod.metadata;
    let entry = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = path.split_once("['") {
        let key = key.trim_end_matches("']");
        return match map {
            "metadata.labels" => Ok(entry(&meta.labels, key)),
            "metadata.annotations" => Ok(entry(&meta.annotations, key)),
            _ => Err(Error::pod(format!("fieldPath {path} is not supported"))),
        };
    }
    let all = |map: &Option<BTreeMap<String, String>>| {
        let lines: Vec<String> =
            map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
        lines.join("\n")
    };
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => all(&meta.labels),
        "metadata.annotations" => all(&meta.annotations),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        _ => return Err(Error::pod(format!("fieldPath {path} is not supported"))),
    })
}

/// A request or limit as the downward API spells it; what is not limited is what the machine has.
pub(crate) fn resource_value(
    container: &Container,
    resource: &str,
    divisor: Option<&str>,
) -> Result<String, Error> {
    let (kind, name) = resource
        .split_once('.')
        .ok_or_else(|| Error::pod(format!("resource {resource} is not of the form limits.memory")))?;
    let resources = container.resources.as_ref();
    let chosen = match kind {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(Error::pod(format!("resource {resource} is neither a limit nor a request"))),
    };
    let milli = match chosen.and_then(|map| map.get(name)) {
        Some(value) => quantity::milli(&value.0)
            .ok_or_else(|| Error::pod(format!("{resource}: {} is no quantity", value.0)))?,
        None if kind == "requests" => 0,
        None if name == "cpu" => i128::from(quantity::machine_cpus()) * 1000,
        None => i128::from(quantity::machine_memory()) * 1000,
    };
    let divisor = divisor.filter(|d| !d.is_empty() && *d != "0").unwrap_or("1");
    let divisor = quantity::milli(divisor)
        .filter(|d| *d > 0)
        .ok_or_else(|| Error::pod(format!("divisor {divisor} is no quantity")))?;
    Ok(((milli + divisor - 1) / divisor).to_string())
}

/// Replaces `$(NAME)` by the value of a known variable; `$$` is a dollar sign, anything unknown stays.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The command line: the container's `command` and `args` over the image's, as Kubernetes combines them.
pub(crate) fn command_line(
    container: &Container,
    entrypoint: &[String],
    cmd: &[String],
    env: &BTreeMap<String, String>,
) -> Result<Vec<String>, Error> {
    let given = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    let (command, args) = match (given(&container.command), given(&container.args)) {
        (Some(command), args) => (command, args.unwrap_or_default()),
        (None, Some(args)) => (entrypoint.to_vec(), args),
        (None, None) => (entrypoint.to_vec(), cmd.to_vec()),
    };
    let line: Vec<String> = command.iter().chain(&args).map(|word| expand(word, env)).collect();
    if line.is_empty() {
        return Err(Error::pod(format!(
            "container {}: neither the container nor its image names a command",
            container.name
        )));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn expansion() {
        let env = map(&[("A", "1"), ("B", "$(A)")]);
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)z", "x1y$(A)z"),
            ("$$(A)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$(A", "$(A"),
            ("100$", "100$"),
            ("$A", "$A"),
        ] {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn sources_of_variables() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app.x/y": "z"}},
            "spec": {"containers": []},
        }))
        .unwrap();
        let container = container(json!({
            "name": "c",
            "resources": {"limits": {"memory": "256Mi", "cpu": "500m"}},
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "none", "optional": true}}],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.x/y']"}}},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": true}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "URL", "value": "http://$(NAME).$(UNKNOWN)"},
            ],
        }));
        let mut objects = Objects::default();
        objects.secrets.insert("s".into(), [("password".to_owned(), b"pw".to_vec())].into());
        objects.config_maps.insert("cm".into(), [("k".to_owned(), b"v".to_vec())].into());
        let facts = Facts { pod_ip: "127.80.0.1".into(), ..Default::default() };
        let env = environment(&pod, &container, &map(&[("PATH", "/bin")]), &facts, &objects).unwrap();
        let expected = map(&[
            ("PATH", "/bin"),
            ("P_k", "v"),
            ("NAME", "p"),
            ("IP", "127.80.0.1"),
            ("LABEL", "z"),
            ("PASSWORD", "pw"),
            ("MEM", "256"),
            ("CPU", "1"),
            ("URL", "http://p.$(UNKNOWN)"),
        ]);
        assert_eq!(env, expected);
    }

    #[test]
    fn missing_references_are_named() {
        let pod = Pod::default();
        let c = container(json!({"name": "c", "env": [
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}));
        let resolve = |objects: &Objects| {
            environment(&pod, &c, &BTreeMap::new(), &Facts::default(), objects).unwrap_err().to_string()
        };
        assert_eq!(resolve(&Objects::default()), "Secret \"s\" not found");
        let mut objects = Objects::default();
        objects.secrets.insert("s".into(), BTreeMap::new());
        assert_eq!(resolve(&objects), "couldn't find key k in Secret \"s\"");
    }

    #[test]
    fn command_and_args_over_the_image() {
        let entry = ["/entry".to_owned()];
        let cmd = ["default".to_owned()];
        let env = map(&[("X", "1")]);
        for (spec, expected) in [
            (json!({"name": "c"}), vec!["/entry", "default"]),
            (json!({"name": "c", "args": ["a$(X)"]}), vec!["/entry", "a1"]),
            (json!({"name": "c", "command": ["/c"]}), vec!["/c"]),
            (json!({"name": "c", "command": ["/c"], "args": ["a"]}), vec!["/c", "a"]),
        ] {
            assert_eq!(command_line(&container(spec), &entry, &cmd, &env).unwrap(), expected);
        }
        assert!(command_line(&container(json!({"name": "c"})), &[], &[], &env).is_err());
    }
}
