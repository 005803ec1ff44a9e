//! Claims, volumes and storage classes.

use serde_json::{Value, json};

use super::{fill, internal_form};
use crate::quantity;
use crate::status::FieldError;
use crate::store::{GroupResource, Store};

const PVC_FINALIZER: &str = "kubernetes.io/pvc-protection";

/// Defaults of a claim.
pub fn default_claim(claim: &mut Value) {
    if !claim["spec"].is_object() {
        claim["spec"] = json!({});
    }
    fill(&mut claim["spec"], "volumeMode", "Filesystem");
    fill(&mut claim["spec"], "resources", json!({}));
    if !claim["status"].is_object() {
        claim["status"] = json!({});
    }
    fill(&mut claim["status"], "phase", "Pending");
}

/// Defaults of a volume.
pub fn default_volume(volume: &mut Value) {
    if !volume["spec"].is_object() {
        volume["spec"] = json!({});
    }
    fill(&mut volume["spec"], "volumeMode", "Filesystem");
    fill(&mut volume["spec"], "persistentVolumeReclaimPolicy", "Retain");
    if !volume["status"].is_object() {
        volume["status"] = json!({});
    }
    fill(&mut volume["status"], "phase", "Pending");
}

/// Defaults of a storage class.
pub fn default_class(class: &mut Value) {
    fill(class, "reclaimPolicy", "Delete");
    fill(class, "volumeBindingMode", "Immediate");
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let mut list = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !list.iter().any(|f| f == finalizer) {
        list.push(finalizer.into());
    }
    object["metadata"]["finalizers"] = list.into();
}

/// Completes a new claim: protection while in use, and the default storage class.
pub fn prepare_claim(claim: &mut Value, store: &Store) {
    claim["status"] = json!({"phase": "Pending"});
    add_finalizer(claim, PVC_FINALIZER);
    if claim["spec"].get("storageClassName").is_none() {
        let default =
            store.list(&GroupResource::new("storage.k8s.io", "storageclasses"), "").find(|(_, class)| {
                class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
            });
        if let Some((key, _)) = default {
            claim["spec"]["storageClassName"] = key.name.clone().into();
        }
    }
}

/// Completes a new volume.
pub fn prepare_volume(volume: &mut Value) {
    volume["status"] = json!({"phase": "Pending"});
    add_finalizer(volume, "kubernetes.io/pv-protection");
}

/// Checks a claim.
pub fn validate_claim(claim: &Value, errors: &mut Vec<FieldError>) {
    let spec = &claim["spec"];
    let modes = spec["accessModes"].as_array();
    if modes.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required("spec.accessModes", "at least 1 access mode is required"));
    }
    let supported = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"].map(Value::from);
    for mode in modes.into_iter().flatten() {
        if !supported.contains(mode) {
            errors.push(FieldError::not_supported("spec.accessModes", mode, &supported));
        }
    }
    match spec["resources"]["requests"]["storage"].as_str() {
        None => errors.push(FieldError::required("spec.resources[storage]", "")),
        Some(text) => {
            if quantity::value(text).is_none_or(|v| v <= 0) {
                errors.push(FieldError::invalid(
                    "spec.resources[storage]",
                    &text.into(),
                    "must be greater than zero",
                ));
            }
        }
    }
}

/// Checks a change of a claim: it may grow once bound, and nothing else.
pub fn validate_claim_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let bound = old["status"]["phase"] == "Bound";
    let mut allowed = new["spec"].clone();
    let before = &old["spec"];
    // The binder sets the volume, once.
    if before["volumeName"].as_str().is_none_or(str::is_empty) {
        super::restore(&mut allowed, before, "volumeName");
    }
    if before.get("storageClassName").is_none() {
        super::restore(&mut allowed, before, "storageClassName");
    }
    if bound {
        let requests = before["resources"].get("requests").cloned().unwrap_or_default();
        if requests.is_object() {
            allowed["resources"]["requests"] = requests;
        }
        super::restore(&mut allowed, before, "volumeAttributesClassName");
    }
    if allowed != *before {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        let diff = internal_form::difference(
            &internal_form::claim_spec(before),
            &internal_form::claim_spec(&allowed),
        );
        errors.push(FieldError::forbidden("spec", &format!("{detail}\n{diff}")));
    }
    let size = |v: &Value| v["spec"]["resources"]["requests"]["storage"].as_str().and_then(quantity::value);
    if let (Some(was), Some(is)) = (size(old), size(new))
        && bound
        && is < was
    {
        errors.push(FieldError::forbidden(
            "spec.resources.requests.storage",
            "field can not be less than status.capacity",
        ));
    }
}

/// Checks a storage class.
pub fn validate_class(class: &Value, errors: &mut Vec<FieldError>) {
    if class["provisioner"].as_str().is_none_or(str::is_empty) {
        errors.push(FieldError::required("provisioner", ""));
    }
}

/// Checks a change of a storage class.
pub fn validate_class_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    for (field, message) in [
        ("parameters", "updates to parameters are forbidden."),
        ("provisioner", "updates to provisioner are forbidden."),
        ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
        ("volumeBindingMode", "updates to volumeBindingMode are forbidden."),
    ] {
        if old.get(field) != new.get(field) {
            errors.push(FieldError::forbidden(field, message));
        }
    }
}
