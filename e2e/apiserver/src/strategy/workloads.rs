//! Deployments, replica sets, stateful sets, daemon sets, jobs and cron jobs.

use serde_json::{Value, json};

use super::{fill, pods};
use crate::selectors::label::LabelSelector;
use crate::status::FieldError;

/// Defaults by kind.
pub fn default(kind: &str, object: &mut Value) {
    if object.get("spec").is_none_or(|s| !s.is_object()) && kind != "ControllerRevision" {
        object["spec"] = json!({});
    }
    match kind {
        "Deployment" => {
            let spec = &mut object["spec"];
            fill(spec, "replicas", 1);
            fill(spec, "strategy", json!({}));
            fill(&mut spec["strategy"], "type", "RollingUpdate");
            if spec["strategy"]["type"] == "RollingUpdate" {
                fill(&mut spec["strategy"], "rollingUpdate", json!({}));
                fill(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", "25%");
                fill(&mut spec["strategy"]["rollingUpdate"], "maxSurge", "25%");
            }
            fill(spec, "revisionHistoryLimit", 10);
            fill(spec, "progressDeadlineSeconds", 600);
            template(&mut spec["template"]);
        }
        "ReplicaSet" => {
            fill(&mut object["spec"], "replicas", 1);
            template(&mut object["spec"]["template"]);
        }
        "StatefulSet" => {
            let spec = &mut object["spec"];
            fill(spec, "replicas", 1);
            fill(spec, "podManagementPolicy", "OrderedReady");
            fill(spec, "revisionHistoryLimit", 10);
            fill(spec, "updateStrategy", json!({}));
            fill(&mut spec["updateStrategy"], "type", "RollingUpdate");
            if spec["updateStrategy"]["type"] == "RollingUpdate" {
                fill(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
                fill(&mut spec["updateStrategy"]["rollingUpdate"], "partition", 0);
            }
            fill(
                spec,
                "persistentVolumeClaimRetentionPolicy",
                json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
            );
            for claim in
                spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten()
            {
                super::volumes::default_claim(claim);
            }
            template(&mut spec["template"]);
        }
        "DaemonSet" => {
            let spec = &mut object["spec"];
            fill(spec, "revisionHistoryLimit", 10);
            fill(spec, "updateStrategy", json!({}));
            fill(&mut spec["updateStrategy"], "type", "RollingUpdate");
            if spec["updateStrategy"]["type"] == "RollingUpdate" {
                fill(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
                fill(&mut spec["updateStrategy"]["rollingUpdate"], "maxUnavailable", 1);
                fill(&mut spec["updateStrategy"]["rollingUpdate"], "maxSurge", 0);
            }
            template(&mut spec["template"]);
        }
        "Job" => default_job(&mut object["spec"]),
        "CronJob" => {
            let spec = &mut object["spec"];
            fill(spec, "concurrencyPolicy", "Allow");
            fill(spec, "suspend", false);
            fill(spec, "successfulJobsHistoryLimit", 3);
            fill(spec, "failedJobsHistoryLimit", 1);
            template(&mut spec["jobTemplate"]["spec"]["template"]);
        }
        _ => {}
    }
}

fn template(template: &mut Value) {
    if template.is_object() {
        fill(template, "metadata", json!({}));
        pods::default_spec(&mut template["spec"]);
    }
}

fn default_job(spec: &mut Value) {
    // Neither given means one of each.
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        spec["completions"] = 1.into();
    }
    fill(spec, "parallelism", 1);
    fill(spec, "backoffLimit", 6);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let replacement = if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
    template(&mut spec["template"]);
}

/// Completes a new object.
pub fn prepare_create(kind: &str, object: &mut Value) {
    if kind == "Job" && object["spec"]["manualSelector"] != true {
        let uid = object["metadata"]["uid"].clone();
        let name = object["metadata"]["name"].clone();
        object["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
        let template = &mut object["spec"]["template"];
        fill(template, "metadata", json!({}));
        fill(&mut template["metadata"], "labels", json!({}));
        let labels = &mut template["metadata"]["labels"];
        for (label, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            labels[label] = value.clone();
        }
    }
}

/// Checks an object.
pub fn validate(kind: &str, object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            if spec["replicas"].as_i64().is_some_and(|r| r < 0) {
                errors.push(FieldError::invalid(
                    "spec.replicas",
                    &spec["replicas"],
                    "must be greater than or equal to 0",
                ));
            }
            match spec.get("selector") {
                None => errors.push(FieldError::required("spec.selector", "")),
                Some(selector) => {
                    let empty = selector.as_object().is_some_and(serde_json::Map::is_empty);
                    if empty {
                        errors.push(FieldError::invalid(
                            "spec.selector",
                            selector,
                            &format!("empty selector is invalid for {}", kind.to_lowercase()),
                        ));
                    } else if !LabelSelector::from_object(selector).matches(&spec["template"]) {
                        errors.push(FieldError::invalid(
                            "spec.template.metadata.labels",
                            &spec["template"]["metadata"]["labels"],
                            "`selector` does not match template `labels`",
                        ));
                    }
                }
            }
            pods::validate(&spec["template"]["spec"], "spec.template.spec", errors);
        }
        "Job" => {
            pods::validate(&spec["template"]["spec"], "spec.template.spec", errors);
            never_always(&spec["template"]["spec"], "spec.template.spec", errors);
        }
        "CronJob" => {
            schedule(&spec["schedule"], errors);
            let inner = &spec["jobTemplate"]["spec"]["template"]["spec"];
            pods::validate(inner, "spec.jobTemplate.spec.template.spec", errors);
            never_always(inner, "spec.jobTemplate.spec.template.spec", errors);
        }
        _ => {}
    }
}

fn never_always(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if spec["restartPolicy"] == "Always" {
        errors.push(FieldError::not_supported(
            format!("{path}.restartPolicy"),
            &spec["restartPolicy"],
            &[json!("OnFailure"), json!("Never")],
        ));
    }
}

fn schedule(schedule: &Value, errors: &mut Vec<FieldError>) {
    let text = schedule.as_str().unwrap_or_default();
    if text.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
        return;
    }
    if text.starts_with('@') {
        return;
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        let detail = format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "));
        errors.push(FieldError::invalid("spec.schedule", schedule, &detail));
    }
}

/// Checks a change: selectors and templates of sets stay.
pub fn validate_update(kind: &str, old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let (old, new) = (&old["spec"], &new["spec"]);
    match kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" if old["selector"] != new["selector"] => {
            errors.push(FieldError::invalid("spec.selector", &new["selector"], "field is immutable"));
        }
        "StatefulSet" => {
            let mut allowed = new.clone();
            for field in [
                "replicas",
                "template",
                "updateStrategy",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
                "ordinals",
                "revisionHistoryLimit",
            ] {
                super::restore(&mut allowed, old, field);
            }
            if allowed != *old {
                errors.push(FieldError::forbidden("spec", "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"));
            }
        }
        "Job" => {
            for field in ["template", "selector", "completions", "completionMode"] {
                if old.get(field) != new.get(field) && old["suspend"] != true {
                    errors.push(FieldError::invalid(
                        format!("spec.{field}"),
                        &new[field],
                        "field is immutable",
                    ));
                }
            }
        }
        _ => {}
    }
}
