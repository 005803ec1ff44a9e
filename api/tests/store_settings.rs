//! Settings of an object store: what the schema and its rules take, and what they refuse, with which words.

use howdah_api::crds;
use kube_cel::{CompiledSchema, Validator, compile_schema};
use rstest::rstest;
use serde_json::{Value, json};

const STORE: &str =
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/backup/properties/barmanObjectStore";

/// Schema of `spec.backup.barmanObjectStore`.
fn schema() -> Value {
    let cluster = crds().into_iter().find(|crd| crd.spec.names.kind == "Cluster").expect("the CRD");
    let cluster = serde_json::to_value(cluster).expect("JSON");
    cluster.pointer(STORE).expect("the store").clone()
}

fn assert_compiles(schema: &CompiledSchema) {
    assert_eq!(schema.compilation_errors().len(), 0, "{:?}", schema.compilation_errors());
    schema.properties.values().for_each(assert_compiles);
}

/// What the rules say about a store with this section.
fn rules(section: &str, settings: &Value) -> String {
    let compiled = compile_schema(&schema());
    assert_compiles(&compiled);
    let mut store = json!({ "destinationPath": "s3://backups/" });
    store[section] = settings.clone();
    match Validator::new().validate_compiled(&compiled, &store, None) {
        Ok(()) => String::new(),
        Err(errors) => errors.into_vec().iter().map(|e| format!("{}\n", e.message)).collect(),
    }
}

#[rstest]
#[case::level_of_gzip("wal", json!({"compression": "gzip", "compressionLevel": 0}))]
#[case::level_of_xz("wal", json!({"compression": "xz", "compressionLevel": 9}))]
#[case::level_of_bzip2("data", json!({"compression": "bzip2", "compressionLevel": 1}))]
#[case::fast_zstd("data", json!({"compression": "zstd", "compressionLevel": -7}))]
#[case::small_zstd("wal", json!({"compression": "zstd", "compressionLevel": 22}))]
#[case::codec_without_a_level("data", json!({"compression": "lz4"}))]
#[case::binary_rate("data", json!({"readRateLimit": "50Mi", "uploadRateLimit": "1Gi"}))]
#[case::plain_rate("data", json!({"readRateLimit": "52428800"}))]
#[case::least_rate("data", json!({"readRateLimit": "1M", "uploadRateLimit": "1e6"}))]
#[case::idle("data", json!({"ioPriority": {"class": "idle"}}))]
#[case::best_effort("data", json!({"ioPriority": {"class": "best-effort"}}))]
#[case::best_effort_with_a_level("data", json!({"ioPriority": {"class": "best-effort", "level": 0}}))]
fn accepted(#[case] section: &str, #[case] settings: Value) {
    assert_eq!(rules(section, &settings), "");
}

#[rstest]
#[case::level_of_nothing("wal", json!({"compressionLevel": 3}), "needs a compression that has levels")]
#[case::level_of_lz4("data", json!({"compression": "lz4", "compressionLevel": 1}), "needs a compression")]
#[case::level_of_snappy("wal", json!({"compression": "snappy", "compressionLevel": 1}), "needs a compression")]
#[case::too_much_gzip("wal", json!({"compression": "gzip", "compressionLevel": 10}), "gzip (0 to 9)")]
#[case::too_little_bzip2("data", json!({"compression": "bzip2", "compressionLevel": 0}), "bzip2 (1 to 9)")]
#[case::too_much_zstd("data", json!({"compression": "zstd", "compressionLevel": 23}), "zstd (-7 to 22)")]
#[case::too_little_xz("wal", json!({"compression": "xz", "compressionLevel": -1}), "xz (0 to 9)")]
#[case::word_for_a_rate("data", json!({"readRateLimit": "fast"}), "such as 50Mi")]
#[case::rate_per_second("data", json!({"uploadRateLimit": "20MB/s"}), "such as 20Mi")]
#[case::rate_of_nothing("data", json!({"readRateLimit": "0"}), "at least 1M")]
#[case::rate_below_nothing("data", json!({"uploadRateLimit": "-5Mi"}), "at least 1M")]
#[case::rate_in_milli("data", json!({"uploadRateLimit": "50m"}), "at least 1M")]
#[case::idle_with_a_level("data", json!({"ioPriority": {"class": "idle", "level": 3}}), "best-effort")]
fn refused(#[case] section: &str, #[case] settings: Value, #[case] words: &str) {
    let said = rules(section, &settings);
    assert!(said.contains(words), "{words:?} is not in {said:?}");
}

/// What needs no rule, because the type says it.
#[rstest]
#[case("data/properties/maxUploadParts", json!({"minimum": 1.0, "maximum": 10000.0}))]
#[case("data/properties/niceness", json!({"minimum": 0.0, "maximum": 19.0}))]
#[case("data/properties/ioPriority/properties/level", json!({"minimum": 0.0, "maximum": 7.0}))]
#[case("data/properties/ioPriority/properties/class", json!({"enum": ["idle", "best-effort"]}))]
#[case("data/properties/badPages", json!({"enum": ["warn", "fail"]}))]
#[case("data/properties/jobs", json!({"minimum": 1.0, "maximum": 32.0}))]
#[case("wal/properties/maxParallel", json!({"minimum": 1.0, "maximum": 32.0}))]
fn bounds_of_types(#[case] field: &str, #[case] bounds: Value) {
    let schema = schema();
    let field = schema.pointer(&format!("/properties/{field}")).expect("the field");
    for (name, bound) in bounds.as_object().expect("bounds") {
        let found: Vec<&Value> = match &field[name] {
            Value::Array(all) => all.iter().filter(|v| !v.is_null()).collect(),
            one => vec![one],
        };
        let wanted: Vec<&Value> = match bound {
            Value::Array(all) => all.iter().collect(),
            one => vec![one],
        };
        assert_eq!(found, wanted, "{name}");
    }
}

/// S1.9: every setting, as a user writes it.
#[test]
fn the_sample_shows_how_backups_are_tuned() {
    let sample = include_str!("../../config/samples/cluster-backup-tuning.yaml");
    let sample: Value = serde_saphyr::from_str(sample).expect("YAML");
    let cluster: howdah_api::Cluster = serde_json::from_value(sample.clone()).expect("a Cluster");
    assert!(cluster.spec.has_stores());
    let data = &sample["spec"]["backup"]["barmanObjectStore"]["data"];
    assert_eq!(rules("data", data), "");
    let schema = schema();
    let known = schema.pointer("/properties/data/properties").and_then(Value::as_object).expect("fields");
    // Two belong to other samples.
    let elsewhere = ["encryption", "immediateCheckpoint"];
    let missing: Vec<&String> = known
        .keys()
        .filter(|name| !elsewhere.contains(&name.as_str()) && data[name.as_str()].is_null())
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}
