//! Schemas of the built-in types, from their published OpenAPI definitions, with the merge keys added that the
//! definitions carry only as extensions.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use k8s_openapi::schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{ListType, Schema, listtypes};

/// All definitions by name, for example `io.k8s.api.core.v1.Pod`, in JSON form.
pub fn raw_definitions() -> &'static Map<String, Value> {
    static RAW: OnceLock<Map<String, Value>> = OnceLock::new();
    RAW.get_or_init(collect)
}

/// A definition by name.
pub fn definition(name: &str) -> Option<&'static Schema> {
    static PARSED: OnceLock<HashMap<String, Schema>> = OnceLock::new();
    PARSED
        .get_or_init(|| {
            raw_definitions()
                .iter()
                .filter_map(|(name, raw)| {
                    let mut schema = Schema::parse(raw).ok()?;
                    adjust(name, &mut schema);
                    Some((name.clone(), schema))
                })
                .collect()
        })
        .get(name)
}

/// A definition as a schema of its own.
pub fn shared(name: &str) -> Option<Arc<Schema>> {
    definition(name).map(|s| Arc::new(s.clone()))
}

macro_rules! register {
    ($generator:ident: $($ty:ty),+ $(,)?) => { $( let _ = $generator.subschema_for::<$ty>(); )+ };
}

fn collect() -> Map<String, Value> {
    use k8s_openapi::api::autoscaling::v1 as autoscaling;
    use k8s_openapi::api::{
        apps::v1 as apps, authentication::v1 as authn, authorization::v1 as authz, batch::v1 as batch,
        coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, events::v1 as events,
        networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac, scheduling::v1 as scheduling,
        storage::v1 as storage,
    };
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as ext;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as registration;
    let mut generator = SchemaSettings::openapi3().into_generator();
    register!(generator:
        core::Pod, core::Service, core::Secret, core::ConfigMap, core::Namespace, core::Node, core::Event,
        core::PersistentVolume, core::PersistentVolumeClaim, core::ServiceAccount, core::Endpoints,
        core::Binding, core::ResourceQuota, core::LimitRange, core::PodTemplate, core::ReplicationController,
        apps::Deployment, apps::ReplicaSet, apps::StatefulSet, apps::DaemonSet, apps::ControllerRevision,
        batch::Job, batch::CronJob, coordination::Lease, discovery::EndpointSlice, events::Event,
        networking::NetworkPolicy, networking::Ingress, networking::IngressClass,
        policy::PodDisruptionBudget, policy::Eviction,
        rbac::Role, rbac::RoleBinding, rbac::ClusterRole, rbac::ClusterRoleBinding,
        scheduling::PriorityClass, storage::StorageClass, storage::VolumeAttachment, storage::CSINode,
        storage::CSIDriver, autoscaling::Scale, autoscaling::HorizontalPodAutoscaler,
        authn::TokenReview, authn::TokenRequest, authn::SelfSubjectReview,
        authz::SubjectAccessReview, authz::SelfSubjectAccessReview, authz::SelfSubjectRulesReview,
        authz::LocalSubjectAccessReview,
        ext::CustomResourceDefinition, registration::APIService,
        meta::DeleteOptions, meta::Status, meta::ListMeta, meta::APIGroup, meta::APIGroupList,
        meta::APIResourceList, meta::APIVersions,
    );
    let mut definitions = Map::new();
    for (name, schema) in generator.take_definitions(true) {
        definitions.insert(name, schema);
    }
    for (name, definition) in &mut definitions {
        unwrap_references(definition);
        extensions(name, definition);
    }
    definitions
}

/// The generator wraps a described reference in `allOf`; here it stands beside its description.
fn unwrap_references(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let reference = match map.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
                Some([only]) => only.get("$ref").cloned(),
                _ => None,
            };
            if let Some(reference) = reference {
                map.remove("allOf");
                map.insert("$ref".into(), reference);
            }
            map.values_mut().for_each(unwrap_references);
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_references),
        _ => {}
    }
}

/// Adds the merge extensions to the JSON form, so that clients which merge by themselves see them too.
fn extensions(name: &str, definition: &mut Value) {
    // `metadata` is optional on the wire whatever the definition says.
    if let Some(required) = definition.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|v| v != "metadata");
        if required.is_empty() {
            definition.as_object_mut().map(|d| d.remove("required"));
        }
    }
    // Anything may stand there.
    if name.ends_with(".v1.JSON") || name.contains(".JSONSchemaPropsOr") {
        *definition = json!({"description": definition.get("description")});
    }
    if name.ends_with(".IntOrString") {
        *definition = json!({"description": definition.get("description"), "format": "int-or-string",
            "x-kubernetes-int-or-string": true});
    }
    let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (field, property) in properties {
        let Some(entry) = listtypes::find(name, field) else { continue };
        let Some(property) = property.as_object_mut() else { continue };
        match &entry.list_type {
            ListType::Set => {
                property.insert("x-kubernetes-list-type".into(), "set".into());
            }
            ListType::Map(keys) => {
                property.insert("x-kubernetes-list-type".into(), "map".into());
                property.insert("x-kubernetes-list-map-keys".into(), json!(keys));
            }
            ListType::Atomic if entry.atomic_map => {
                property.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
            ListType::Atomic => {}
        }
        if let Some(key) = &entry.merge_key {
            property.insert("x-kubernetes-patch-merge-key".into(), (*key).into());
            let strategy = if entry.retain_keys { "merge,retainKeys" } else { "merge" };
            property.insert("x-kubernetes-patch-strategy".into(), strategy.into());
        } else if entry.merge_set {
            property.insert("x-kubernetes-patch-strategy".into(), "merge".into());
        } else if entry.retain_keys {
            property.insert("x-kubernetes-patch-strategy".into(), "retainKeys".into());
        }
    }
}

fn adjust(name: &str, schema: &mut Schema) {
    for (field, property) in &mut schema.properties {
        let Some(entry) = listtypes::find(name, field) else { continue };
        let property = Arc::make_mut(property);
        property.merge_key = entry.merge_key.map(str::to_owned);
        property.merge_set = entry.merge_set;
    }
    if listtypes::ATOMIC_STRUCTS.contains(&name) {
        schema.atomic_map = true;
    }
    // Free-form by nature.
    if name.ends_with(".RawExtension") || name.ends_with(".FieldsV1") || name.ends_with(".JSON") {
        schema.preserve_unknown = true;
        schema.ty = None;
    }
    if name.ends_with("JSONSchemaPropsOrBool")
        || name.ends_with("JSONSchemaPropsOrArray")
        || name.ends_with("JSONSchemaPropsOrStringArray")
    {
        schema.preserve_unknown = true;
    }
}
