//! Synchronous replication: what the rules of a Cluster take, and what they refuse, with which words.

use howdah_api::availability::SynchronousMethod;
use howdah_api::cluster::Synchronous;
use howdah_api::{Cluster, ClusterSpec, crds};
use kube_cel::{CompiledSchema, Validator, compile_schema};
use rstest::rstest;
use serde_json::{Value, json};

fn compiled() -> CompiledSchema {
    let cluster = crds().into_iter().find(|crd| crd.spec.names.kind == "Cluster").expect("the CRD");
    let cluster = serde_json::to_value(cluster).expect("JSON");
    let spec = cluster.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").expect("the spec");
    let compiled = compile_schema(spec);
    assert_eq!(compiled.compilation_errors().len(), 0, "{:?}", compiled.compilation_errors());
    compiled
}

fn said(spec: &Value) -> String {
    match Validator::new().validate_compiled(&compiled(), spec, None) {
        Ok(()) => String::new(),
        Err(errors) => errors.into_vec().iter().map(|e| format!("{}\n", e.message)).collect(),
    }
}

fn with(patch: &Value) -> Value {
    let mut spec = json!({"instances": 3, "storage": {"size": "5Gi"}});
    for (key, value) in patch.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    spec
}

fn synchronous(settings: &Value) -> Value {
    json!({"postgresql": {"synchronous": settings}})
}

#[rstest]
#[case::asynchronous(json!({}))]
#[case::one(synchronous(&json!({"number": 1})))]
#[case::all(synchronous(&json!({"number": 2, "method": "first", "dataDurability": "preferred"})))]
#[case::bounds(json!({"minSyncReplicas": 1, "maxSyncReplicas": 2}))]
#[case::no_minimum(json!({"maxSyncReplicas": 1}))]
#[case::nothing(json!({"minSyncReplicas": 0, "maxSyncReplicas": 0}))]
fn accepted(#[case] patch: Value) {
    assert_eq!(said(&with(&patch)), "");
}

#[rstest]
#[case::too_many(synchronous(&json!({"number": 3})), "postgresql.synchronous.number must be less than instances")]
#[case::too_many_at_most(json!({"maxSyncReplicas": 3}), "maxSyncReplicas must be less than instances")]
#[case::one_instance(json!({"instances": 1, "maxSyncReplicas": 1}), "give a smaller number, or more instances")]
#[case::minimum_alone(json!({"minSyncReplicas": 1}), "give maxSyncReplicas as well")]
#[case::upside_down(json!({"minSyncReplicas": 2, "maxSyncReplicas": 1}), "minSyncReplicas must not be more than maxSyncReplicas")]
#[case::both(json!({"maxSyncReplicas": 1, "postgresql": {"synchronous": {"number": 1}}}), "not both")]
#[case::by_hand(
    json!({"postgresql": {"parameters": {"synchronous_standby_names": "*"}}}),
    "synchronous_standby_names (use postgresql.synchronous)"
)]
fn refused(#[case] patch: Value, #[case] words: &str) {
    let said = said(&with(&patch));
    assert!(said.contains(words), "{words:?} is not in {said:?}");
}

#[rstest]
#[case::asynchronous(json!({}), None)]
#[case::required(synchronous(&json!({"number": 2})), Some((2, 2, true)))]
#[case::preferred(synchronous(&json!({"number": 2, "dataDurability": "preferred"})), Some((0, 2, false)))]
#[case::bounds(json!({"minSyncReplicas": 1, "maxSyncReplicas": 2}), Some((1, 2, false)))]
#[case::nothing(json!({"minSyncReplicas": 0, "maxSyncReplicas": 0}), None)]
fn both_words_mean_the_same(#[case] patch: Value, #[case] expected: Option<(i32, i32, bool)>) {
    let spec: ClusterSpec = serde_json::from_value(with(&patch)).expect("a spec");
    let method = SynchronousMethod::Any;
    let expected = expected.map(|(minimum, maximum, waits)| Synchronous { method, minimum, maximum, waits });
    assert_eq!(spec.synchronous(), expected);
}

#[test]
fn the_sample_is_a_cluster() {
    let sample = include_str!("../../config/samples/cluster-synchronous.yaml");
    let sample: Value = serde_saphyr::from_str(sample).expect("YAML");
    assert_eq!(said(&sample["spec"]), "");
    let cluster: Cluster = serde_json::from_value(sample).expect("a Cluster");
    assert!(cluster.spec.synchronous().is_some_and(|s| s.waits && s.maximum == 1));
}
