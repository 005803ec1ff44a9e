//! A kube client as operators use it: watches that recover, apply, status, faults.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use howdah_lab_apiserver::ApiServer;
use howdah_lab_apiserver::faults::{Effect, Matcher};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use serde_json::{Value, json};
use support::{LONG, Lab, eventually, refusal, request, widget, widgets};

fn map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"v": value}})).unwrap()
}

fn maps(lab: &Lab) -> Api<ConfigMap> {
    Api::namespaced(lab.client.clone(), "default")
}

async fn write(api: &Api<ConfigMap>, name: &str, value: &str) {
    let patch = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"v": value}}));
    api.patch(name, &PatchParams::apply("test").force(), &patch).await.unwrap();
}

/// Runs a reflector and checks that it follows through whatever `trouble` does.
async fn reflector_survives(lab: &Lab, config: watcher::Config, trouble: impl AsyncFn(&Lab)) {
    let api = maps(lab);
    let (reader, writer) = reflector::store::<ConfigMap>();
    let stream = reflector::reflector(writer, watcher(api.clone(), config).default_backoff());
    let follower = tokio::spawn(async move {
        let mut stream = pin!(stream);
        while stream.next().await.is_some() {}
    });
    reader.wait_until_ready().await.unwrap();
    let sees = async |name: &str, value: &str| {
        eventually(&format!("the reflector sees {name}={value}"), || async {
            reader.state().iter().any(|m| {
                m.metadata.name.as_deref() == Some(name)
                    && m.data.as_ref().and_then(|d| d.get("v")).map(String::as_str) == Some(value)
            })
        })
        .await;
    };
    write(&api, "a", "1").await;
    sees("a", "1").await;
    trouble(lab).await;
    write(&api, "a", "2").await;
    write(&api, "b", "1").await;
    sees("a", "2").await;
    sees("b", "1").await;
    api.delete("a", &DeleteParams::default()).await.unwrap();
    eventually("the reflector sees the deletion", || async {
        !reader.state().iter().any(|m| m.metadata.name.as_deref() == Some("a"))
    })
    .await;
    follower.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_survives_expired_versions() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let lab = Lab::start().await;
        reflector_survives(&lab, config, async |lab| {
            // The client comes back with a version that is no longer known.
            lab.server.expire_versions();
            lab.server.faults().drop_watches(Matcher::default());
        })
        .await;
        lab.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_survives_dropped_watches_and_errors() {
    let lab = Lab::start().await;
    reflector_survives(&lab, watcher::Config::default(), async |lab| {
        let faults = lab.server.faults();
        let watches = Matcher::resource("configmaps").verbs(&["watch"]);
        faults.inject_times(watches.clone(), Effect::InternalError, 1);
        faults.inject_times(watches.clone(), Effect::TooManyRequests { retry_after_seconds: 1 }, 1);
        faults.inject_times(watches, Effect::Latency { milliseconds: 50 }, 1);
        faults.drop_watches(Matcher::resource("configmaps"));
    })
    .await;
    lab.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_survives_an_outage() {
    let lab = Lab::start().await;
    reflector_survives(&lab, watcher::Config::default(), async |lab| {
        lab.server.faults().set_outage(true);
        let api = maps(lab);
        let failed = api.get("a").await;
        assert!(matches!(failed, Err(kube::Error::HyperError(_) | kube::Error::Service(_))), "{failed:?}");
        lab.server.faults().set_outage(false);
        eventually("the server is back", || async { api.list(&ListParams::default()).await.is_ok() }).await;
    })
    .await;
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_short_history_expires() {
    let lab = Lab::with(ApiServer::builder().history(20)).await;
    let api = maps(&lab);
    let start = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    for value in 0..25 {
        write(&api, "a", &value.to_string()).await;
    }
    let stream = api.watch(&WatchParams::default(), &start).await.unwrap();
    let first = pin!(stream).try_next().await.unwrap().unwrap();
    assert!(matches!(&first, WatchEvent::Error(status) if status.code == 410), "{first:?}");
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_continued_list_shows_what_was_there_when_it_began() {
    let lab = Lab::start().await;
    let api = maps(&lab);
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &map(name, "1")).await.unwrap();
    }
    let selection = ListParams::default().fields("metadata.name!=kube-root-ca.crt");
    let page = api.list(&selection.clone().limit(2)).await.unwrap();
    api.delete("c", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &map("d", "1")).await.unwrap();
    let token = page.metadata.continue_.clone().unwrap();
    let rest = api.list(&selection.clone().limit(2).continue_token(&token)).await.unwrap();
    let names: Vec<_> =
        page.items.iter().chain(&rest.items).map(|m| m.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(rest.metadata.resource_version, page.metadata.resource_version);
    lab.server.expire_versions();
    let expired = api.list(&selection.limit(2).continue_token(&token)).await;
    assert_eq!(refusal(expired).0, 410);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_lost_answer_was_carried_out_all_the_same() {
    let lab = Lab::start().await;
    let api = maps(&lab);
    let matcher = Matcher::resource("configmaps").verbs(&["create"]);
    lab.server.faults().inject_times(matcher, Effect::LostAnswer, 1);
    assert_eq!(refusal(api.create(&PostParams::default(), &map("a", "1")).await).0, 500);
    assert_eq!(refusal(api.create(&PostParams::default(), &map("a", "1")).await).0, 409);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn injected_conflicts_and_the_admin_path() {
    let lab = Lab::start().await;
    let fault = json!({"match": {"verbs": ["get"], "resource": "configmaps", "name": "kube-root-ca.crt"},
        "effect": {"type": "conflict"}, "count": 1});
    request(&lab.client, "POST", "/lab/faults", fault).await.unwrap();
    let api = maps(&lab);
    assert_eq!(refusal(api.get("kube-root-ca.crt").await).0, 409);
    api.get("kube-root-ca.crt").await.unwrap();
    let unclear = request(&lab.client, "POST", "/lab/faults", json!({"effect": {"type": "nonsense"}})).await;
    assert_eq!(refusal(unclear).0, 400);
    let expiry = json!({"effect": {"type": "expired"}});
    request(&lab.client, "POST", "/lab/faults", expiry).await.unwrap();
    assert_eq!(refusal(api.list(&ListParams::default()).await).0, 410);
    request(&lab.client, "DELETE", "/lab/faults", Value::Null).await.unwrap();
    api.list(&ListParams::default()).await.unwrap();
    lab.server.shutdown().await;
}

#[tokio::test]
async fn appliers_share_an_object() {
    let lab = Lab::start().await;
    request(&lab.client, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", widgets())
        .await
        .unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("lab.example.com", "v1", "Widget"));
    let api: Api<DynamicObject> = Api::namespaced_with(lab.client.clone(), "default", &resource);
    let apply = async |who: &str, force: bool, spec: Value| {
        let mut parameters = PatchParams::apply(who);
        parameters.force = force;
        api.patch("w", &parameters, &Patch::Apply(widget("w", spec))).await
    };
    let first = apply("one", false, json!({"size": 1, "labels": {"a": "1"}, "parts": [{"name": "x"}]}))
        .await
        .unwrap();
    let again = apply("one", false, json!({"size": 1, "labels": {"a": "1"}, "parts": [{"name": "x"}]}))
        .await
        .unwrap();
    assert_eq!(
        first.metadata.resource_version, again.metadata.resource_version,
        "applying again changes nothing"
    );
    let both = apply("two", false, json!({"labels": {"b": "2"}, "parts": [{"name": "y", "weight": 4}]}))
        .await
        .unwrap();
    assert_eq!(both.data["spec"]["labels"], json!({"a": "1", "b": "2"}));
    assert_eq!(both.data["spec"]["parts"], json!([{"name": "x", "weight": 1}, {"name": "y", "weight": 4}]));
    let (code, message) = refusal(apply("two", false, json!({"size": 2, "labels": {"a": "9"}})).await);
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.labels.a\n- .spec.size"
    );
    let less = apply("two", false, json!({})).await.unwrap();
    assert_eq!(less.data["spec"]["labels"], json!({"a": "1"}));
    assert_eq!(less.data["spec"]["parts"], json!([{"name": "x", "weight": 1}]));

    // An update takes fields over, and an applier then has to force.
    let patch = Patch::Merge(json!({"spec": {"size": 5}}));
    api.patch("w", &PatchParams { field_manager: Some("hand".into()), ..PatchParams::default() }, &patch)
        .await
        .unwrap();
    let (_, message) = refusal(apply("one", false, json!({"size": 1})).await);
    assert!(
        message.starts_with(
            "Apply failed with 1 conflict: conflict with \"hand\" using lab.example.com/v1 at 2"
        ),
        "{message}"
    );
    let forced = apply("one", true, json!({"size": 1})).await.unwrap();
    assert_eq!(forced.data["spec"]["size"], 1);
    assert_eq!(forced.data["spec"].get("labels"), None);
    lab.server.shutdown().await;
}

#[tokio::test]
async fn status_and_object_are_written_apart() {
    let lab = Lab::start().await;
    request(&lab.client, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", widgets())
        .await
        .unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("lab.example.com", "v1", "Widget"));
    let api: Api<DynamicObject> = Api::namespaced_with(lab.client.clone(), "default", &resource);
    let made: DynamicObject = serde_json::from_value(widget("w", json!({"size": 1}))).unwrap();
    let made = api.create(&PostParams::default(), &made).await.unwrap();
    let stale =
        json!({"metadata": {"resourceVersion": made.metadata.resource_version}, "status": {"phase": "One"}});
    let first = api.patch_status("w", &PatchParams::default(), &Patch::Merge(&stale)).await.unwrap();
    assert_eq!(first.data["status"]["phase"], "One");
    assert_eq!(first.metadata.generation, Some(1));
    // The same decision again was made on an older object.
    assert_eq!(refusal(api.patch_status("w", &PatchParams::default(), &Patch::Merge(&stale)).await).0, 409);
    let both = Patch::Merge(json!({"spec": {"size": 2}, "status": {"phase": "No"}}));
    let rest = api.patch("w", &PatchParams::default(), &both).await.unwrap();
    assert_eq!((rest.data["status"]["phase"].as_str(), rest.metadata.generation), (Some("One"), Some(2)));
    lab.server.shutdown().await;
}

#[tokio::test]
async fn bookmarks_come_to_those_who_ask() {
    let lab = Lab::start().await;
    let api = maps(&lab);
    let parameters = WatchParams::default().timeout(290);
    let stream = api.watch(&parameters, "0").await.unwrap();
    let mut stream = pin!(stream);
    let added = tokio::time::timeout(LONG, stream.try_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(added, WatchEvent::Added(_)), "{added:?}");
    let marked = tokio::time::timeout(LONG, stream.try_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(marked, WatchEvent::Bookmark(_)), "{marked:?}");
    lab.server.shutdown().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_its_watches() {
    let lab = Lab::start().await;
    let stream = maps(&lab).watch(&WatchParams::default(), "0").await.unwrap();
    let mut stream = pin!(stream);
    stream.try_next().await.unwrap();
    tokio::time::timeout(LONG, lab.server.shutdown()).await.expect("the server stops with watches open");
    let end = tokio::time::timeout(Duration::from_secs(30), stream.next()).await.expect("the watch ends");
    assert!(end.is_none_or(|e| e.is_err()), "nothing more is told");
}
