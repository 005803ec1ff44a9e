//! Every fault, as a client meets it.

use std::time::Duration;

use howdah_s3::{Action, Operation, Rule};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::{memory, noise, store};

#[tokio::test]
async fn slow_down_until_the_count_is_spent() {
    let server = memory().await;
    let rule = server.faults().add(Rule::new(Action::slow_down()).operation(Operation::PutObject).times(2));
    let impatient = store(&server, 0);
    let error = impatient.put(&Path::from("k"), "v".into()).await.unwrap_err().to_string();
    assert!(error.contains("SlowDown"), "{error}");
    let patient = store(&server, 5);
    patient.put(&Path::from("k"), "v".into()).await.unwrap();
    assert_eq!(server.faults().hits(rule), 2);
    let statuses: Vec<_> = server.requests().iter().map(|r| r.status).collect();
    assert_eq!(statuses, [Some(503), Some(503), Some(200)]);
    server.shutdown().await;
}

#[tokio::test]
async fn keys_and_operations_select() {
    let server = memory().await;
    server.faults().add(Rule::new(Action::access_denied()).key("*/wals/*"));
    let client = store(&server, 0);
    client.put(&Path::from("c/base/1"), "v".into()).await.unwrap();
    let error = client.put(&Path::from("c/wals/1"), "v".into()).await.unwrap_err().to_string();
    assert!(error.contains("AccessDenied"), "{error}");
    server.faults().clear();
    client.put(&Path::from("c/wals/1"), "v".into()).await.unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn a_cut_upload_stores_nothing() {
    let server = memory().await;
    let client = store(&server, 0);
    server
        .faults()
        .add(Rule::new(Action::Reset { after_bytes: 1000 }).operation(Operation::PutObject).times(1));
    client.put(&Path::from("k"), PutPayload::from(noise(1_000_000))).await.unwrap_err();
    assert!(server.objects("bucket").unwrap().is_empty());
    client.put(&Path::from("k"), PutPayload::from(noise(1_000_000))).await.unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn a_cut_download_is_an_error_after_so_many_bytes() {
    let server = memory().await;
    let client = store(&server, 0);
    server.put("bucket", "k", noise(1_000_000)).await.unwrap();
    server
        .faults()
        .add(Rule::new(Action::Reset { after_bytes: 500_000 }).operation(Operation::GetObject).times(1));
    let got = client.get(&Path::from("k")).await.unwrap();
    got.bytes().await.unwrap_err();
    assert_eq!(client.get(&Path::from("k")).await.unwrap().bytes().await.unwrap(), noise(1_000_000));
    server.shutdown().await;
}

#[tokio::test]
async fn a_lost_answer_leaves_the_object() {
    let server = memory().await;
    let client = store(&server, 0);
    server.faults().add(Rule::new(Action::LoseResponse).operation(Operation::PutObject).times(1));
    client.put(&Path::from("k"), "v".into()).await.unwrap_err();
    assert_eq!(server.get("bucket", "k").await.unwrap(), "v");
    server.shutdown().await;
}

#[tokio::test]
async fn a_lost_write_was_acknowledged() {
    let server = memory().await;
    let client = store(&server, 0);
    server.faults().add(Rule::new(Action::LoseWrite).times(1));
    client.put(&Path::from("k"), "v".into()).await.unwrap();
    assert!(server.objects("bucket").unwrap().is_empty());
    server.shutdown().await;
}

#[tokio::test]
async fn wrong_bodies() {
    let server = memory().await;
    let client = store(&server, 0);
    server.put("bucket", "k", noise(300_000)).await.unwrap();
    server.faults().add(Rule::new(Action::CorruptBody { offset: 200_000 }).times(1));
    let got = client.get(&Path::from("k")).await.unwrap().bytes().await.unwrap();
    let expected = noise(300_000);
    let different: Vec<usize> = (0..expected.len()).filter(|i| got[*i] != expected[*i]).collect();
    assert_eq!(different, [200_000]);

    server.faults().add(Rule::new(Action::ReplaceBody { body: "<html>proxy</html>".into() }).times(1));
    let got = client.get_range(&Path::from("k"), 0..18).await;
    assert!(got.is_err(), "a whole body in answer to a range is noticed");
    server.faults().add(Rule::new(Action::ReplaceBody { body: "no listing".into() }).times(1));
    client.list_with_delimiter(None).await.unwrap_err();
    server.shutdown().await;
}

#[tokio::test]
async fn a_stale_listing_shows_the_past() {
    let server = memory().await;
    let client = store(&server, 0);
    server.put("bucket", "old", "").await.unwrap();
    let rule = server.faults().add(Rule::new(Action::StaleList));
    server.put("bucket", "new", "").await.unwrap();
    server.delete("bucket", "old").await.unwrap();
    let names = |listed: object_store::ListResult| -> Vec<String> {
        listed.objects.into_iter().map(|meta| meta.location.to_string()).collect()
    };
    assert_eq!(names(client.list_with_delimiter(None).await.unwrap()), ["old"]);
    server.faults().remove(rule);
    assert_eq!(names(client.list_with_delimiter(None).await.unwrap()), ["new"]);
    server.shutdown().await;
}

#[tokio::test]
async fn stalls_delay_and_then_go_on() {
    let server = memory().await;
    let client = store(&server, 0);
    server.put("bucket", "k", noise(100_000)).await.unwrap();
    for action in [Action::Stall { millis: 300 }, Action::StallBody { after_bytes: 50_000, millis: 300 }] {
        server.faults().add(Rule::new(action).times(1));
        let start = std::time::Instant::now();
        let got = client.get(&Path::from("k")).await.unwrap().bytes().await.unwrap();
        assert_eq!(got, noise(100_000));
        assert!(start.elapsed() >= Duration::from_millis(300));
    }
    server.shutdown().await;
}

#[tokio::test]
async fn an_outage_refuses_connections_and_keeps_the_address() {
    let server = memory().await;
    let client = store(&server, 0);
    client.put(&Path::from("before"), "v".into()).await.unwrap();
    server.faults().begin_outage().await;
    let refused = tokio::net::TcpStream::connect(server.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    client.put(&Path::from("during"), "v".into()).await.unwrap_err();
    server.faults().end_outage().await;
    client.put(&Path::from("after"), "v".into()).await.unwrap();
    let keys: Vec<_> = server.objects("bucket").unwrap().into_iter().map(|o| o.key).collect();
    assert_eq!(keys, ["after", "before"]);
    server.shutdown().await;
}

#[tokio::test]
async fn the_admin_port_does_it_for_other_processes() {
    crate::install_provider();
    let server = howdah_s3::Server::builder()
        .credentials("key", "secret")
        .bucket("bucket")
        .admin("127.0.0.1:0")
        .start()
        .await
        .unwrap();
    let admin = server.admin_endpoint().unwrap();
    let http = reqwest::Client::new();
    let rule = r#"{"operation":"PutObject","count":1,"action":{"kind":"error","status":500,"code":"InternalError"}}"#;
    let post = |path: &str, body: &'static str| {
        http.post(format!("{admin}{path}")).header("content-type", "application/json").body(body.to_owned())
    };
    let added = post("/faults", rule_static(rule)).send().await.unwrap().text().await.unwrap();
    assert_eq!(added, r#"{"id":1}"#);
    let client = store(&server, 0);
    client.put(&Path::from("k"), "v".into()).await.unwrap_err();
    client.put(&Path::from("k/deep"), "v".into()).await.unwrap();
    let hits = http.get(format!("{admin}/faults/1")).send().await.unwrap().text().await.unwrap();
    assert_eq!(hits, r#"{"hits":1}"#);
    let lost = http.delete(format!("{admin}/objects/bucket/k/deep")).send().await.unwrap();
    assert_eq!(lost.status(), 200);
    assert!(server.objects("bucket").unwrap().is_empty());
    assert_eq!(post("/outage", "{}").send().await.unwrap().status(), 200);
    client.put(&Path::from("k"), "v".into()).await.unwrap_err();
    assert_eq!(http.delete(format!("{admin}/outage")).send().await.unwrap().status(), 200);
    client.put(&Path::from("k"), "v".into()).await.unwrap();
    assert_eq!(post("/faults", r#"{"nonsense":1}"#).send().await.unwrap().status(), 422);
    server.shutdown().await;
}

fn rule_static(rule: &'static str) -> &'static str {
    rule
}
