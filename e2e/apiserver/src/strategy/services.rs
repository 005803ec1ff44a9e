//! Services: defaults, checks, and the fields that follow from an address.

use serde_json::{Value, json};

use super::fill;
use crate::status::FieldError;

/// Defaults of a service.
pub fn default(service: &mut Value) {
    let spec = &mut service["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    fill(spec, "sessionAffinity", "None");
    fill(spec, "type", "ClusterIP");
    if spec["type"] != "ExternalName" {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        fill(port, "protocol", "TCP");
        let number = port["port"].clone();
        if port.get("targetPort").is_none_or(|t| *t == 0 || *t == "") {
            port["targetPort"] = number;
        }
    }
}

/// What follows once the address is known: one family, or both for a service without selector and address.
pub fn set_address(service: &mut Value, address: &str) {
    let selector = service["spec"].get("selector").is_some();
    let spec = &mut service["spec"];
    spec["clusterIP"] = address.into();
    spec["clusterIPs"] = json!([address]);
    if address == "None" && !selector {
        fill(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
        fill(spec, "ipFamilyPolicy", "RequireDualStack");
    } else {
        fill(spec, "ipFamilies", json!(["IPv4"]));
        fill(spec, "ipFamilyPolicy", "SingleStack");
    }
}

/// An update that leaves out the address keeps it.
pub fn prepare_update(old: &Value, new: &mut Value) {
    if new["spec"]["type"] == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(value) = old["spec"].get(field) {
            fill(&mut new["spec"], field, value.clone());
        }
    }
}

/// Checks a service.
pub fn validate(service: &Value, errors: &mut Vec<FieldError>) {
    let spec = &service["spec"];
    let headless = spec["clusterIP"] == "None";
    let external = spec["type"] == "ExternalName";
    let ports = spec["ports"].as_array().cloned().unwrap_or_default();
    if ports.is_empty() && !headless && !external {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let types = [json!("ClusterIP"), json!("ExternalName"), json!("LoadBalancer"), json!("NodePort")];
    if !types.contains(&spec["type"]) {
        errors.push(FieldError::not_supported("spec.type", &spec["type"], &types));
    }
    if external && spec["externalName"].as_str().is_none_or(str::is_empty) {
        errors.push(FieldError::required("spec.externalName", ""));
    }
    let mut names: Vec<&Value> = Vec::new();
    let mut seen: Vec<(&Value, &Value)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let name = &port["name"];
        if ports.len() > 1 && name.as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if name.is_string() && names.contains(&name) {
            errors.push(FieldError::duplicate(format!("{at}.name"), name));
        }
        names.push(name);
        match port["port"].as_i64() {
            Some(1..=65535) => {}
            _ => errors.push(FieldError::invalid(
                format!("{at}.port"),
                port.get("port").unwrap_or(&json!(0)),
                "must be between 1 and 65535, inclusive",
            )),
        }
        let protocols = [json!("SCTP"), json!("TCP"), json!("UDP")];
        if !protocols.contains(&port["protocol"]) {
            errors.push(FieldError::not_supported(format!("{at}.protocol"), &port["protocol"], &protocols));
        }
        let identity = (&port["protocol"], &port["port"]);
        if seen.contains(&identity) {
            errors.push(FieldError::duplicate(
                &at,
                &json!({"port": port["port"], "protocol": port["protocol"]}),
            ));
        }
        seen.push(identity);
    }
}

/// Checks a change: the address stays.
pub fn validate_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let (old, new) = (&old["spec"], &new["spec"]);
    let had = old["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty());
    if had
        && old["type"] != "ExternalName"
        && new["type"] != "ExternalName"
        && old["clusterIP"] != new["clusterIP"]
    {
        errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &json!([new["clusterIP"]]),
            "may not change once set",
        ));
    }
}
