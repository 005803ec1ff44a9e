//! Resources served for a custom resource definition: one for each served version.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{ResourceDef, Subresource};
use crate::schema::Schema;
use crate::schema::cel::Rules;
use crate::store::GroupResource;

const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const GPU: &[&str] = &["get", "patch", "update"];

/// Paths of the scale subresource.
#[derive(Clone, Debug)]
pub struct ScalePaths {
    /// Where the wanted replicas are.
    pub spec: String,
    /// Where the actual replicas are.
    pub status: String,
    /// Where the selector is, if anywhere.
    pub selector: Option<String>,
}

/// What a version of a custom resource has beside its schema.
pub struct CustomVersion {
    /// The schema as written.
    pub raw: Value,
    /// Compiled rules.
    pub rules: Rules,
    /// `additionalPrinterColumns`.
    pub columns: Vec<Value>,
    /// The scale subresource.
    pub scale: Option<ScalePaths>,
    /// Fields that selectors may use.
    pub selectable: Vec<String>,
    /// Warning sent with every answer, for a deprecated version.
    pub deprecation: Option<String>,
    /// Unknown fields stay, by the definition as a whole.
    pub preserve_unknown: bool,
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// The resources of a definition (which passed validation).
pub fn resources(crd: &Value) -> Result<Vec<ResourceDef>, Vec<String>> {
    let spec = &crd["spec"];
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let group = text(&spec["group"]);
    let names = &spec["names"];
    let kind = text(&names["kind"]);
    let mut defs = Vec::new();
    for version in spec["versions"].as_array().into_iter().flatten() {
        if version["served"] != true {
            continue;
        }
        let name = text(&version["name"]);
        let raw = version["schema"]["openAPIV3Schema"].clone();
        let schema = Schema::parse(&raw).map_err(|e| vec![e])?;
        let rules = Rules::compile(&raw, &group, &name, &kind)?;
        let subs = &version["subresources"];
        let sub = |sub_name: &str, kind: &str, gv: Option<(String, String)>| Subresource {
            name: sub_name.into(),
            group_version: gv,
            kind: kind.into(),
            verbs: GPU.to_vec(),
        };
        let mut subresources = Vec::new();
        if subs["status"].is_object() {
            subresources.push(sub("status", &kind, None));
        }
        let scale = subs["scale"].as_object().map(|s| ScalePaths {
            spec: s.get("specReplicasPath").map(text).unwrap_or_default(),
            status: s.get("statusReplicasPath").map(text).unwrap_or_default(),
            selector: s.get("labelSelectorPath").map(text).filter(|p| !p.is_empty()),
        });
        if scale.is_some() {
            subresources.push(sub("scale", "Scale", Some(("autoscaling".into(), "v1".into()))));
        }
        let mut columns = version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
        if columns.is_empty() {
            columns = vec![json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
                "description": "CreationTimestamp is a timestamp representing the server time when this object was created."})];
        }
        let plural = text(&names["plural"]);
        let deprecation = (version["deprecated"] == true).then(|| {
            version["deprecationWarning"]
                .as_str()
                .map_or_else(|| format!("{group}/{name} {kind} is deprecated"), str::to_owned)
        });
        let selectable = version["selectableFields"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|f| f["jsonPath"].as_str().map(|p| p.trim_start_matches('.').to_owned()))
            .collect();
        let mut reversed: Vec<&str> = group.split('.').collect();
        reversed.reverse();
        defs.push(ResourceDef {
            definition: format!("{}.{name}.{kind}", reversed.join(".")),
            group: group.clone(),
            version: name,
            storage: GroupResource::new(&group, &plural),
            singular: names["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned),
            list_kind: names["listKind"].as_str().map_or_else(|| format!("{kind}List"), str::to_owned),
            plural,
            kind: kind.clone(),
            short_names: strings(&names["shortNames"]),
            categories: strings(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            verbs: VERBS.to_vec(),
            subresources,
            schema: Arc::new(with_metadata(schema)),
            blank: json!({}),
            custom: Some(Arc::new(CustomVersion {
                raw,
                rules,
                columns,
                scale,
                selectable,
                deprecation,
                preserve_unknown: spec["preserveUnknownFields"] == true,
            })),
        });
    }
    Ok(defs)
}

/// Metadata has its usual form whatever the definition says about it.
fn with_metadata(mut schema: Schema) -> Schema {
    let metadata = Schema {
        reference: Some("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta".into()),
        ..Schema::default()
    };
    schema.properties.insert("metadata".into(), Arc::new(metadata));
    schema
}
