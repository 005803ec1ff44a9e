//! External clusters and the one field of a Backup that may change: what the rules take and refuse.

use howdah_api::crds;
use kube_cel::{CompiledSchema, Validator, compile_schema};
use rstest::rstest;
use serde_json::{Value, json};

fn compiled(kind: &str, pointer: &str) -> CompiledSchema {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).expect("the CRD");
    let crd = serde_json::to_value(crd).expect("JSON");
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec{pointer}");
    let compiled = compile_schema(crd.pointer(&path).expect("the schema"));
    assert_compiles(&compiled);
    compiled
}

fn assert_compiles(schema: &CompiledSchema) {
    assert_eq!(schema.compilation_errors().len(), 0, "{:?}", schema.compilation_errors());
    schema.properties.values().for_each(assert_compiles);
}

fn said(schema: &CompiledSchema, new: &Value, old: Option<&Value>) -> String {
    match Validator::new().validate_compiled(schema, new, old) {
        Ok(()) => String::new(),
        Err(errors) => errors.into_vec().iter().map(|e| format!("{}\n", e.message)).collect(),
    }
}

#[rstest]
#[case::store(json!({"barmanObjectStore": {"destinationPath": "s3://bucket/x"}}), "")]
#[case::repositories(json!({"serverName": "pg", "repositories": [{"name": "repo1", "s3": {"bucket": "backups"}}]}), "")]
#[case::both(json!({
    "barmanObjectStore": {"destinationPath": "s3://bucket/x"},
    "repositories": [{"name": "repo1", "s3": {"bucket": "backups"}}],
}), "")]
#[case::nothing(json!({}), "barmanObjectStore, its repositories, or both")]
#[case::none(json!({"repositories": []}), "barmanObjectStore, its repositories, or both")]
#[case::slash(
    json!({"serverName": "a/b", "barmanObjectStore": {"destinationPath": "s3://bucket/x"}}),
    "must not contain slashes"
)]
fn external_clusters(#[case] mut external: Value, #[case] words: &str) {
    external["name"] = "origin".into();
    let said = said(&compiled("Cluster", "/properties/externalClusters/items"), &external, None);
    assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{said:?}");
}

#[rstest]
#[case::given_later(json!({}), json!({"deletionPolicy": "Delete"}), true)]
#[case::taken_back(json!({"deletionPolicy": "Delete"}), json!({"deletionPolicy": "Retain"}), true)]
#[case::type_(json!({}), json!({"type": "incremental"}), false)]
#[case::repository(json!({"repository": "repo1"}), json!({"repository": "repo2"}), false)]
#[case::repository_taken_away(json!({"repository": "repo1"}), json!({}), false)]
#[case::target(json!({"target": "primary"}), json!({"target": "prefer-standby"}), false)]
#[case::checkpoint(json!({"immediateCheckpoint": true}), json!({"immediateCheckpoint": false}), false)]
#[case::cluster(json!({}), json!({"cluster": {"name": "other"}}), false)]
fn only_the_deletion_policy_of_a_backup_may_change(
    #[case] mut old: Value,
    #[case] mut new: Value,
    #[case] allowed: bool,
) {
    for spec in [&mut old, &mut new] {
        if spec["cluster"].is_null() {
            spec["cluster"] = json!({"name": "pg"});
        }
    }
    let said = said(&compiled("Backup", ""), &new, Some(&old));
    assert_eq!(said.contains("but for deletionPolicy"), !allowed, "{said:?}");
}
