//! Repositories: what the schema and its rules take, and what they refuse, with which words.

use howdah_api::crds;
use kube_cel::{CompiledSchema, Validator, compile_schema};
use rstest::rstest;
use serde_json::{Value, json};

const REPOSITORY: &str =
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/backup/properties/repositories/items";

const BACKUP: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/backup";

fn compiled() -> CompiledSchema {
    let cluster = crds().into_iter().find(|crd| crd.spec.names.kind == "Cluster").expect("the CRD");
    let cluster = serde_json::to_value(cluster).expect("JSON");
    let compiled = compile_schema(cluster.pointer(REPOSITORY).expect("the repository"));
    assert_compiles(&compiled);
    compiled
}

fn assert_compiles(schema: &CompiledSchema) {
    assert_eq!(schema.compilation_errors().len(), 0, "{:?}", schema.compilation_errors());
    schema.properties.values().for_each(assert_compiles);
}

fn said(new: &Value, old: Option<&Value>) -> String {
    match Validator::new().validate_compiled(&compiled(), new, old) {
        Ok(()) => String::new(),
        Err(errors) => errors.into_vec().iter().map(|e| format!("{}\n", e.message)).collect(),
    }
}

fn repository(patch: &Value) -> Value {
    let mut repository = json!({"name": "repo1", "s3": {"bucket": "backups"}});
    for (key, value) in patch.as_object().expect("an object") {
        if value.is_null() {
            repository.as_object_mut().expect("an object").remove(key);
        } else {
            repository[key] = value.clone();
        }
    }
    repository
}

fn on_volume(patch: &Value) -> Value {
    let size = json!({"resources": {"requests": {"storage": "50Gi"}}});
    let mut repository = json!({"name": "repo1", "volume": {"volumeClaimSpec": size}});
    for (key, value) in patch.as_object().expect("an object") {
        repository[key] = value.clone();
    }
    repository
}

/// S0.14, S1.15: the volume is what the user asks for.
#[rstest]
#[case::least(json!({}))]
#[case::settings(json!({"path": "/attic", "wal": {"compression": "zstd"}, "data": {"jobs": 4}}))]
#[case::class(json!({"volume": {"volumeClaimSpec": {
    "accessModes": ["ReadWriteMany"], "storageClassName": "slow", "resources": {"requests": {"storage": "1Ti"}},
}}}))]
fn volumes_accepted(#[case] patch: Value) {
    assert_eq!(said(&on_volume(&patch), None), "");
}

#[rstest]
#[case::nothing(json!({"name": "repo1"}), "exactly one of s3, gcs, azure and volume")]
#[case::both(on_volume(&json!({"s3": {"bucket": "backups"}})), "exactly one of s3, gcs, azure and volume")]
#[case::credentials(on_volume(&json!({"credentials": keys()})), "has no credentials")]
#[case::encryption(on_volume(&json!({"wal": {"encryption": "AES256"}})), "a storage class that encrypts")]
#[case::short(on_volume(&json!({"name": "r1"})), "at least three characters")]
#[case::no_size(on_volume(&json!({"volume": {"volumeClaimSpec": {"storageClassName": "x"}}})), "needs a size")]
fn volumes_refused(#[case] repository: Value, #[case] words: &str) {
    let said = said(&repository, None);
    assert!(said.contains(words), "{words:?} is not in {said:?}");
}

#[test]
fn a_repository_does_not_move_to_a_volume() {
    let said = said(&on_volume(&json!({})), Some(&repository(&json!({}))));
    assert!(said.contains("cannot be changed"), "{said:?}");
}

fn keys() -> Value {
    let key = |key: &str| json!({"name": "creds", "key": key});
    json!({"accessKeyId": key("ID"), "secretAccessKey": key("KEY")})
}

/// S0.19, S1.18: what each setting may be.
#[rstest]
#[case::least(json!({}))]
#[case::path(json!({"path": "/cluster/repo1/"}))]
#[case::deep_path(json!({"path": "a/b_c/d-e/f.g"}))]
#[case::hidden_folder(json!({"path": "/.backups/..x"}))]
#[case::endpoint_with_scheme_and_port(json!({"s3": {"bucket": "b-1", "endpoint": "https://s3.example.com:443"}}))]
#[case::endpoint_without_scheme(json!({"s3": {"bucket": "b.1", "endpoint": "minio:9000", "uriStyle": "path"}}))]
#[case::keys(json!({"credentials": keys()}))]
#[case::role(json!({"credentials": {"inheritFromIAMRole": true}}))]
#[case::schedules(json!({"schedules": {"full": "30 2 * * *", "incremental": "*/30 * * * *"}}))]
fn accepted(#[case] patch: Value) {
    assert_eq!(said(&repository(&patch), None), "");
}

/// S1.10, S1.11, S1.14: a name, one storage, and what that storage requires.
#[rstest]
#[case::reserved(json!({"name": "default"}), "the repository in barmanObjectStore")]
#[case::capitals(json!({"name": "Repo1"}), "lower-case letters")]
#[case::digit_first(json!({"name": "1repo"}), "beginning with a letter")]
#[case::bucket(json!({"s3": {"bucket": "My_Bucket"}}), "3 to 63 lower-case letters")]
#[case::endpoint(json!({"s3": {"bucket": "b-1", "endpoint": "http://x/path"}}), "endpoint must be a host")]
#[case::upwards(json!({"path": "/a/../b"}), "path is folder names")]
#[case::empty_folder(json!({"path": "/a//b"}), "path is folder names")]
#[case::blank(json!({"path": "/a b"}), "path is folder names")]
#[case::no_storage(json!({"s3": null}), "exactly one of")]
#[case::two_storages(json!({"gcs": {"bucket": "others"}}), "exactly one of")]
#[case::three_storages(json!({"gcs": {"bucket": "others"}, "azure": {"container": "others"}}), "exactly one of")]
#[case::keys_of_another_storage(
    json!({"credentials": {"storageKey": {"name": "c", "key": "k"}}}),
    "are credentials of azure"
)]
#[case::half_a_pair(json!({"credentials": {"accessKeyId": {"name": "c", "key": "k"}}}), "given together")]
#[case::nothing(json!({"credentials": {}}), "give one kind of credentials")]
#[case::both(
    json!({"credentials": {
        "accessKeyId": {"name": "c", "key": "k"}, "secretAccessKey": {"name": "c", "key": "k"},
        "inheritFromIAMRole": true,
    }}),
    "give one kind of credentials"
)]
#[case::lone_token(
    json!({"credentials": {"inheritFromIAMRole": true, "sessionToken": {"name": "c", "key": "k"}}}),
    "sessionToken belongs to"
)]
fn refused(#[case] patch: Value, #[case] words: &str) {
    let said = said(&repository(&patch), None);
    assert!(said.contains(words), "{words:?} is not in {said:?}");
}

/// What a filled repository is found by does not change.
#[rstest]
#[case::path(json!({"path": "/a"}), json!({"path": "/b"}))]
#[case::path_given_later(json!({}), json!({"path": "/b"}))]
#[case::bucket(json!({}), json!({"s3": {"bucket": "others"}}))]
fn the_place_of_a_repository_is_fixed(#[case] old: Value, #[case] new: Value) {
    let said = said(&repository(&new), Some(&repository(&old)));
    assert!(said.contains("cannot be changed"), "{said:?}");
}

#[test]
fn credentials_and_codecs_of_a_repository_may_change() {
    let new = repository(&json!({"credentials": keys(), "wal": {"compression": "zstd"}}));
    assert_eq!(said(&new, Some(&repository(&json!({})))), "");
}

fn said_of_backup(backup: &Value) -> String {
    let cluster = crds().into_iter().find(|crd| crd.spec.names.kind == "Cluster").expect("the CRD");
    let cluster = serde_json::to_value(cluster).expect("JSON");
    let compiled = compile_schema(cluster.pointer(BACKUP).expect("spec.backup"));
    assert_compiles(&compiled);
    match Validator::new().validate_compiled(&compiled, backup, None) {
        Ok(()) => String::new(),
        Err(errors) => errors.into_vec().iter().map(|e| format!("{}\n", e.message)).collect(),
    }
}

fn backup(default: bool, archiving: &[bool], acknowledgement: &Value) -> Value {
    let one = |(at, archives): (usize, &bool)| {
        let mut one = repository(&json!({"name": format!("repo{at}")}));
        if !archives {
            one["archiveWAL"] = json!(false);
        }
        one
    };
    let repositories: Vec<Value> = archiving.iter().enumerate().map(one).collect();
    let mut backup = json!({"repositories": repositories});
    if default {
        backup["barmanObjectStore"] = json!({"destinationPath": "s3://backups/"});
    }
    if !acknowledgement.is_null() {
        backup["walAcknowledgement"] = acknowledgement.clone();
    }
    backup
}

#[rstest]
#[case::not_said(true, &[true], json!(null))]
#[case::all(true, &[true], json!("all"))]
#[case::one(false, &[true, true], json!(1))]
#[case::as_many_as_there_are(true, &[true, false], json!(2))]
#[case::number_as_a_word(true, &[true], json!("2"))]
#[case::base_backups_only_beside_the_default(true, &[false], json!(null))]
#[case::none_yet(false, &[], json!("all"))]
fn an_acknowledgement_that_can_be_met(
    #[case] default: bool,
    #[case] archiving: &[bool],
    #[case] acknowledgement: Value,
) {
    assert_eq!(said_of_backup(&backup(default, archiving, &acknowledgement)), "");
}

#[rstest]
#[case::zero(true, &[true], json!(0), "all or a number of repositories from 1 on")]
#[case::word(true, &[true], json!("most"), "all or a number of repositories from 1 on")]
#[case::too_many(true, &[true], json!(3), "more than the number of repositories that archive WAL")]
#[case::too_many_archiving(true, &[false], json!(2), "more than the number of repositories that archive WAL")]
#[case::nobody(false, &[false, false], json!(null), "one repository at least must archive WAL")]
fn an_acknowledgement_that_cannot_be_met(
    #[case] default: bool,
    #[case] archiving: &[bool],
    #[case] acknowledgement: Value,
    #[case] words: &str,
) {
    let said = said_of_backup(&backup(default, archiving, &acknowledgement));
    assert!(said.contains(words), "{words:?} is not in {said:?}");
}

#[rstest]
#[case::nothing(json!({}))]
#[case::all(json!({"policy": "Drop", "reserve": "15%", "warnMinutes": 30}))]
#[case::a_size(json!({"policy": "Drop", "reserve": "2Gi"}))]
fn overflow_accepted(#[case] overflow: Value) {
    let mut backup = backup(true, &[], &Value::Null);
    backup["walOverflow"] = overflow;
    assert_eq!(said_of_backup(&backup), "");
}

#[rstest]
#[case::nowhere(json!({"walOverflow": {"policy": "Drop"}}), "walOverflow.policy Drop needs a repository")]
#[case::no_repository(json!({"repositories": [], "walOverflow": {"policy": "Drop"}}), "give barmanObjectStore or repositories")]
#[case::nothing_left(json!({"walOverflow": {"reserve": "0%"}}), "reserve is a part of the volume from 1% to 90%")]
#[case::too_much(json!({"walOverflow": {"reserve": "91%"}}), "reserve is a part of the volume from 1% to 90%")]
#[case::no_size(json!({"walOverflow": {"reserve": "much"}}), "or a size such as 2Gi")]
fn overflow_refused(#[case] backup: Value, #[case] words: &str) {
    let said = said_of_backup(&backup);
    assert!(said.contains(words), "{said}");
}

/// The condition can be asked for without a repository: a slot may hold WAL as well.
#[test]
fn a_limit_for_the_warning_needs_no_repository() {
    assert_eq!(said_of_backup(&json!({"walOverflow": {"warnMinutes": 30}})), "");
}
