//! The CRDs as a whole: structural, complete, documented.

use howdah_api::crds;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, child) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), child, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        walk(&format!("{path}[]"), item, visit);
    }
}

/// S2.8: group, version and kinds.
#[test]
fn three_definitions_with_the_seeds_group_and_version() {
    let names: Vec<String> = crds()
        .iter()
        .map(|c| {
            format!(
                "{} {} {}",
                c.metadata.name.clone().unwrap_or_default(),
                c.spec.names.kind,
                c.spec.versions[0].name
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            "backups.postgresql.k8s.enterprisedb.io Backup v1alpha1",
            "clusters.postgresql.k8s.enterprisedb.io Cluster v1alpha1",
            "scheduledbackups.postgresql.k8s.enterprisedb.io ScheduledBackup v1alpha1",
        ]
    );
    for crd in crds() {
        assert!(crd.spec.versions[0].subresources.as_ref().is_some_and(|s| s.status.is_some()));
    }
}

#[test]
fn every_field_of_ours_is_described() {
    let mut undocumented = Vec::new();
    for crd in crds() {
        let schema =
            crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema).expect("a schema");
        walk(&crd.spec.names.kind, &schema, &mut |path, s| {
            let foreign =
                ["resources", "nodeAffinity", "tolerations", "conditions"].iter().any(|f| path.contains(f));
            let named = !path.ends_with("[]") && path.contains('.');
            if named
                && !foreign
                && s.description.is_none()
                && !path.ends_with(".metadata")
                && !path.ends_with(".spec")
                && !path.ends_with(".status")
            {
                undocumented.push(path.to_owned());
            }
        });
    }
    assert_eq!(undocumented, Vec::<String>::new());
}

#[test]
fn conditions_merge_by_type() {
    for crd in crds() {
        let schema =
            crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema).expect("a schema");
        let mut seen = 0;
        walk(&crd.spec.names.kind, &schema, &mut |path, s| {
            if path.ends_with(".status.conditions") {
                seen += 1;
                assert_eq!(s.x_kubernetes_list_type.as_deref(), Some("map"), "{path}");
                assert_eq!(s.x_kubernetes_list_map_keys.as_deref(), Some(&["type".to_owned()][..]), "{path}");
            }
        });
        assert_eq!(seen, 1);
    }
}
