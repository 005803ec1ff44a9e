//! Certificates that are provided: which combinations the rules of a Cluster take, and what they say of others.

use howdah_api::certificates::{CertificatesConfiguration, CertificatesStatus};
use howdah_api::{Cluster, crds};
use kube_cel::{Validator, compile_schema};
use rstest::rstest;
use serde_json::{Value, json};

fn said(certificates: &Value) -> String {
    let cluster = crds().into_iter().find(|crd| crd.spec.names.kind == "Cluster").expect("the CRD");
    let cluster = serde_json::to_value(cluster).expect("JSON");
    let spec = cluster.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").expect("the spec");
    let compiled = compile_schema(spec);
    assert_eq!(compiled.compilation_errors().len(), 0, "{:?}", compiled.compilation_errors());
    let spec = json!({"instances": 1, "storage": {"size": "5Gi"}, "certificates": certificates});
    match Validator::new().validate_compiled(&compiled, &spec, None) {
        Ok(()) => String::new(),
        Err(errors) => errors.into_vec().iter().map(|e| format!("{}\n", e.message)).collect(),
    }
}

#[rstest]
#[case::nothing(json!({}))]
#[case::the_server(json!({"serverCASecret": "a", "serverTLSSecret": "a"}))]
#[case::an_authority(json!({"serverCASecret": "a", "serverAltDNSNames": ["db.example.com", "*.db.example.com", "db1"]}))]
#[case::clients(json!({"clientCASecret": "b", "replicationTLSSecret": "c"}))]
#[case::more_names(json!({"serverAltDNSNames": ["10.example"]}))]
fn accepted(#[case] certificates: Value) {
    assert_eq!(said(&certificates), "");
}

#[rstest]
#[case::server_alone(json!({"serverTLSSecret": "a"}), "serverTLSSecret needs serverCASecret")]
#[case::replication_alone(json!({"replicationTLSSecret": "a"}), "replicationTLSSecret needs clientCASecret")]
#[case::names_of_no_use(
    json!({"serverCASecret": "a", "serverTLSSecret": "a", "serverAltDNSNames": ["db"]}),
    "put the names into the certificate in serverTLSSecret"
)]
#[case::an_address(json!({"serverAltDNSNames": ["10.0.0.1"]}), "addresses are not possible")]
#[case::upper_case(json!({"serverAltDNSNames": ["DB.example.com"]}), "in lower case")]
#[case::a_star_inside(json!({"serverAltDNSNames": ["db.*.com"]}), "must be DNS names")]
fn refused(#[case] certificates: Value, #[case] words: &str) {
    let said = said(&certificates);
    assert!(said.contains(words), "{words:?} is not in {said:?}");
}

/// The words are CloudNativePG's.
#[test]
fn fields_have_their_names() {
    let all = json!({
        "serverCASecret": "a", "serverTLSSecret": "b", "clientCASecret": "c", "replicationTLSSecret": "d",
        "serverAltDNSNames": ["e"],
    });
    let read: CertificatesConfiguration = serde_json::from_value(all.clone()).expect("a configuration");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), all);
    assert_eq!(read.secret_names().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    let status: CertificatesStatus = serde_json::from_value(all).expect("a status");
    assert!(status.server_is_given("pg") && status.client_is_given("pg"));
    let own =
        CertificatesStatus { server_tls_secret: Some("pg-server".into()), ..CertificatesStatus::default() };
    assert!(!own.server_is_given("pg") && !own.client_is_given("pg"));
}

#[test]
fn the_sample_is_a_cluster() {
    let sample = include_str!("../../config/samples/cluster-certificates.yaml");
    let sample: Value = serde_saphyr::from_str(sample).expect("YAML");
    assert_eq!(said(&sample["spec"]["certificates"]), "");
    let cluster: Cluster = serde_json::from_value(sample).expect("a Cluster");
    assert!(cluster.spec.certificates.is_some_and(|c| c.names_server() && c.names_client()));
}
