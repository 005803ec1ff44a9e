//! Custom resource definitions beyond what the transcripts show.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use support::{Lab, refusal, request, request_as};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/lab.example.com/v1/namespaces/default/things";

/// A definition of things whose spec has these properties and rules.
fn definition(spec: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.lab.example.com"},
        "spec": {"group": "lab.example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "categories": ["all"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": spec,
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

fn thing(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "lab.example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

async fn lab(spec: Value) -> Lab {
    let lab = Lab::start().await;
    request(&lab.client, "POST", CRDS, definition(spec)).await.unwrap();
    lab
}

async fn create(lab: &Lab, name: &str, spec: Value) -> Result<Value, kube::Error> {
    request(&lab.client, "POST", THINGS, thing(name, spec)).await
}

#[tokio::test]
async fn rules_say_what_they_were_told_to_say() {
    let lab = lab(json!({"type": "object",
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "kind": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "kind is immutable", "reason": "FieldValueForbidden"}]},
            "names": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20,
                "x-kubernetes-validations": [{"rule": "self.startsWith('n')", "message": "names start with n"}]}},
            "size": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "until": {"type": "string", "format": "date-time"},
        },
        "x-kubernetes-validations": [
            {"rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "fieldPath": ".min",
                "messageExpression": "'min %d is above max %d'.format([self.min, self.max])"},
            {"rule": "!has(self.until) || self.until > timestamp('2020-01-01T00:00:00Z')", "message": "until is long gone"},
        ]}))
    .await;
    create(&lab, "good", json!({"min": 1, "max": 2, "kind": "a", "names": ["n1"], "size": "5Gi"}))
        .await
        .unwrap();
    let message = |r| refusal(r).1;
    assert_eq!(
        message(create(&lab, "b", json!({"min": 3, "max": 2})).await),
        "Thing.lab.example.com \"b\" is invalid: spec.min: Invalid value: min 3 is above max 2"
    );
    assert_eq!(
        message(create(&lab, "b", json!({"names": ["n", "x"]})).await),
        "Thing.lab.example.com \"b\" is invalid: spec.names[1]: Invalid value: names start with n"
    );
    assert_eq!(
        message(create(&lab, "b", json!({"until": "2019-01-01T00:00:00Z"})).await),
        "Thing.lab.example.com \"b\" is invalid: spec: Invalid value: until is long gone"
    );
    let patch = json!({"spec": {"kind": "b"}});
    let changed =
        request_as(&lab.client, "PATCH", &format!("{THINGS}/good"), "application/merge-patch+json", patch)
            .await;
    assert_eq!(
        message(changed),
        "Thing.lab.example.com \"good\" is invalid: spec.kind: Forbidden: kind is immutable"
    );
    assert!(message(create(&lab, "b", json!({"size": true})).await).contains("spec.size"));
    lab.server.shutdown().await;
}

#[tokio::test]
async fn old_objects_stay_writable_under_a_stricter_schema() {
    let lab =
        lab(json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}))
            .await;
    create(&lab, "old", json!({"a": "long enough", "b": "1"})).await.unwrap();
    let stricter = definition(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 3}, "b": {"type": "string"}}}));
    let path = format!("{CRDS}/things.lab.example.com");
    request_as(&lab.client, "PATCH", &path, "application/merge-patch+json", stricter).await.unwrap();
    let patch = |spec: Value| {
        let client = lab.client.clone();
        async move {
            request_as(
                &client,
                "PATCH",
                &format!("{THINGS}/old"),
                "application/merge-patch+json",
                json!({"spec": spec}),
            )
            .await
        }
    };
    assert_eq!(patch(json!({"b": "2"})).await.unwrap()["spec"]["b"], "2");
    assert_eq!(refusal(patch(json!({"a": "also long"})).await).0, 422);
    assert_eq!(refusal(create(&lab, "new", json!({"a": "too long"})).await).0, 422);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn rules_that_got_stricter_do_not_bind_what_is_left_alone() {
    let lab = lab(json!({"type": "object", "properties": {"a": {"type": "integer"}}})).await;
    create(&lab, "old", json!({"a": 9})).await.unwrap();
    let stricter = definition(json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.a < 5", "message": "a is too great"}]}));
    let path = format!("{CRDS}/things.lab.example.com");
    request_as(&lab.client, "PATCH", &path, "application/merge-patch+json", stricter).await.unwrap();
    let patch = async |patch: Value| {
        request_as(&lab.client, "PATCH", &format!("{THINGS}/old"), "application/merge-patch+json", patch)
            .await
    };
    patch(json!({"metadata": {"labels": {"x": "y"}}})).await.unwrap();
    assert!(refusal(patch(json!({"spec": {"a": 8}})).await).1.contains("a is too great"));
    lab.server.shutdown().await;
}

#[tokio::test]
async fn null_is_a_value_only_where_it_may_be() {
    let lab = lab(json!({"type": "object", "properties": {
        "maybe": {"type": "string", "nullable": true}, "never": {"type": "string"},
        "filled": {"type": "string", "default": "x"}}}))
    .await;
    let made = create(&lab, "n", json!({"maybe": null, "filled": null})).await.unwrap();
    assert_eq!(made["spec"], json!({"maybe": null, "filled": "x"}));
    let (_, message) = refusal(create(&lab, "m", json!({"never": null})).await);
    assert!(
        message.contains(
            "spec.never: Invalid value: \"null\": spec.never in body must be of type string: \"null\""
        ),
        "{message}"
    );
    lab.server.shutdown().await;
}

#[tokio::test]
async fn definitions_that_are_no_use_are_refused() {
    let lab = Lab::start().await;
    let refuse = async |spec: Value, part: &str| {
        let (code, message) = refusal(request(&lab.client, "POST", CRDS, definition(spec)).await);
        assert!(code == 422 && message.contains(part), "{code} {message}");
    };
    refuse(
        json!({"type": "object", "properties": {"a": {"description": "no type"}}}),
        "must not be empty for specified object fields",
    )
    .await;
    refuse(
        json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.a =="}]}),
        "compilation failed",
    )
    .await;
    refuse(json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}), "must have a default or be a required property").await;
    refuse(
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
        "must be a valid regular expression",
    )
    .await;
    refuse(json!({"type": "object", "properties": {"a": {"type": "object", "properties": {}, "additionalProperties": false}}}), "additionalProperties cannot be set to false").await;
    lab.server.shutdown().await;
}

#[tokio::test]
async fn several_versions_show_one_object() {
    let lab = Lab::start().await;
    let mut crd = definition(json!({"type": "object", "properties": {"a": {"type": "string"}}}));
    let mut old = crd["spec"]["versions"][0].clone();
    old["name"] = "v1beta1".into();
    old["storage"] = false.into();
    old["deprecated"] = true.into();
    crd["spec"]["versions"].as_array_mut().unwrap().push(old);
    request(&lab.client, "POST", CRDS, crd).await.unwrap();
    create(&lab, "x", json!({"a": "1"})).await.unwrap();
    let path = "/apis/lab.example.com/v1beta1/namespaces/default/things/x";
    let other = request(&lab.client, "GET", path, Value::Null).await.unwrap();
    assert_eq!(
        (other["apiVersion"].as_str(), &other["spec"]),
        (Some("lab.example.com/v1beta1"), &json!({"a": "1"}))
    );
    let group = request(&lab.client, "GET", "/apis/lab.example.com", Value::Null).await.unwrap();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert_eq!(group["versions"].as_array().unwrap().len(), 2);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn replicas_are_scaled_through_their_own_door() {
    let lab = Lab::start().await;
    let mut crd =
        definition(json!({"type": "object", "properties": {"copies": {"type": "integer", "maximum": 5}}}));
    crd["spec"]["versions"][0]["subresources"]["scale"] = json!({"specReplicasPath": ".spec.copies", "statusReplicasPath": ".status.copies", "labelSelectorPath": ".status.selector"});
    request(&lab.client, "POST", CRDS, crd).await.unwrap();
    create(&lab, "x", json!({"copies": 1})).await.unwrap();
    let status = json!({"status": {"copies": 1, "selector": "a=b"}});
    request_as(&lab.client, "PATCH", &format!("{THINGS}/x/status"), "application/merge-patch+json", status)
        .await
        .unwrap();
    let scale = request(&lab.client, "GET", &format!("{THINGS}/x/scale"), Value::Null).await.unwrap();
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 1, "selector": "a=b"}))
    );
    let patch = |n: i64| json!({"spec": {"replicas": n}});
    let path = format!("{THINGS}/x/scale");
    request_as(&lab.client, "PATCH", &path, "application/merge-patch+json", patch(3)).await.unwrap();
    let object = request(&lab.client, "GET", &format!("{THINGS}/x"), Value::Null).await.unwrap();
    assert_eq!(object["spec"]["copies"], 3);
    assert_eq!(
        refusal(request_as(&lab.client, "PATCH", &path, "application/merge-patch+json", patch(9)).await).0,
        422
    );
    lab.server.shutdown().await;
}

#[tokio::test]
async fn objects_go_with_their_definition() {
    let lab = lab(json!({"type": "object"})).await;
    create(&lab, "x", json!({})).await.unwrap();
    request(&lab.client, "DELETE", &format!("{CRDS}/things.lab.example.com"), Value::Null).await.unwrap();
    assert_eq!(refusal(request(&lab.client, "GET", THINGS, Value::Null).await).0, 404);
    request(&lab.client, "POST", CRDS, definition(json!({"type": "object"}))).await.unwrap();
    let list = request(&lab.client, "GET", THINGS, Value::Null).await.unwrap();
    assert_eq!(list["items"], json!([]));
    lab.server.shutdown().await;
}
