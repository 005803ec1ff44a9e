//! Replica clusters: what the rules of a Cluster take, and what they refuse, with which words.

use howdah_api::{Cluster, ClusterSpec, crds};
use kube_cel::{Validator, compile_schema};
use rstest::rstest;
use serde_json::{Value, json};

fn said(new: &Value, old: Option<&Value>) -> String {
    let cluster = crds().into_iter().find(|crd| crd.spec.names.kind == "Cluster").expect("the CRD");
    let cluster = serde_json::to_value(cluster).expect("JSON");
    let spec = cluster.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").expect("the spec");
    let compiled = compile_schema(spec);
    assert_eq!(compiled.compilation_errors().len(), 0, "{:?}", compiled.compilation_errors());
    match Validator::new().validate_compiled(&compiled, new, old) {
        Ok(()) => String::new(),
        Err(errors) => errors.into_vec().iter().map(|e| format!("{}\n", e.message)).collect(),
    }
}

fn spec(bootstrap: &Value, replica: &Value) -> Value {
    json!({
        "instances": 1,
        "storage": {"size": "5Gi"},
        "bootstrap": bootstrap,
        "externalClusters": [{"name": "origin", "barmanObjectStore": {"destinationPath": "s3://bucket/x"}}],
        "replica": replica,
    })
}

fn follows() -> Value {
    json!({"enabled": true, "source": "origin"})
}

#[rstest]
#[case::full_recovery(json!({"fullRecovery": {"source": "origin"}}), follows(), "")]
#[case::recovery(json!({"recovery": {"source": "origin"}}), follows(), "")]
#[case::promoted(json!({"recovery": {"backup": {"name": "b"}}}), json!({"enabled": false, "source": "origin"}), "")]
#[case::another_source(json!({"recovery": {"source": "origin"}}), json!({"enabled": true, "source": "other"}), "must be the external cluster that bootstrap.fullRecovery.source names")]
#[case::no_source(json!({"recovery": {"backup": {"name": "b"}}}), follows(), "must be the external cluster")]
#[case::initdb(json!({"initdb": {}}), follows(), "must be the external cluster")]
#[case::an_end(json!({"recovery": {"source": "origin", "recoveryTarget": {"targetImmediate": true}}}), follows(), "take recoveryTarget away")]
fn made(#[case] bootstrap: Value, #[case] replica: Value, #[case] words: &str) {
    let said = said(&spec(&bootstrap, &replica), None);
    assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{said:?}");
}

#[rstest]
#[case::promotion(follows(), json!({"enabled": false, "source": "origin"}), true)]
#[case::the_same(follows(), follows(), true)]
#[case::back(json!({"enabled": false, "source": "origin"}), follows(), false)]
fn there_is_no_way_back(#[case] old: Value, #[case] new: Value, #[case] allowed: bool) {
    let bootstrap = json!({"recovery": {"source": "origin"}});
    let said = said(&spec(&bootstrap, &new), Some(&spec(&bootstrap, &old)));
    assert_eq!(said.contains("cannot become true later"), !allowed, "{said:?}");
}

#[test]
fn a_cluster_does_not_become_a_replica() {
    let new = spec(&json!({"recovery": {"source": "origin"}}), &follows());
    let mut old = new.clone();
    old.as_object_mut().expect("an object").remove("replica");
    assert!(said(&new, Some(&old)).contains("create a new Cluster with replica"));
    assert_eq!(said(&old, Some(&new)), "", "taking it away promotes");
}

#[test]
fn the_sample_follows() {
    let sample = include_str!("../../config/samples/cluster-replica.yaml");
    let sample: Value = serde_saphyr::from_str(sample).expect("YAML");
    assert_eq!(said(&sample["spec"], None), "");
    let cluster: Cluster = serde_json::from_value(sample).expect("a Cluster");
    assert_eq!(cluster.spec.follows(), Some("cluster-example"));
    let promoted = ClusterSpec { replica: None, ..cluster.spec };
    assert_eq!(promoted.follows(), None);
}
