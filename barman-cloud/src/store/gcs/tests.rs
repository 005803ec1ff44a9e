//! Uploads in parts by the XML API of Google, which no server for tests has: against a double of our own, which keeps
//! to Google's documentation and checks each part as Google would.

use super::{GcsOptions, gcs_in};
use crate::layout::Destination;
use crate::store::double::{Double, answer};
use crate::store::{Limits, Store};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
struct Bucket {
    uploads: BTreeMap<String, BTreeMap<usize, Bytes>>,
    objects: BTreeMap<String, Bytes>,
    /// Parts that arrive damaged.
    damage: usize,
}

const NO_KEY: &str = r#"{"type":"service_account","client_email":"a@b","private_key":"","private_key_id":"","disable_oauth":true}"#;

fn error(status: u16, code: &str) -> Response {
    answer(status, &[], format!("<Error><Code>{code}</Code><Message>no</Message></Error>"))
}

fn serve(bucket: &mut Bucket, seen: &crate::store::double::Seen) -> Response {
    let key = seen.uri.path().trim_start_matches("/bucket").trim_start_matches('/').replace("%2F", "/");
    let (method, id) = (seen.method.as_str(), seen.field("uploadId"));
    let has = |name: &str| seen.uri.query().unwrap_or_default().contains(name);
    match (method, id) {
        ("GET", _) if has("uploads") => {
            let listed: String = bucket
                .uploads
                .keys()
                .map(|id| {
                    let key = id.split_once('-').map_or("", |(_, key)| key);
                    format!(
                        "<Upload><Key>{key}</Key><UploadId>{id}</UploadId>\
                         <Initiated>2026-11-21T01:02:03.000Z</Initiated></Upload>"
                    )
                })
                .collect();
            let body = format!(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{listed}</ListMultipartUploadsResult>"
            );
            answer(200, &[], body)
        }
        ("POST", None) if has("uploads") => {
            let id = format!("{}-{key}", bucket.uploads.len());
            bucket.uploads.insert(id.clone(), BTreeMap::new());
            let body = format!(
                "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            );
            answer(200, &[], body)
        }
        ("PUT", Some(id)) => {
            let Some(parts) = bucket.uploads.get_mut(&id) else { return error(404, "NoSuchUpload") };
            let mut content = seen.body.to_vec();
            if bucket.damage > 0 {
                bucket.damage -= 1;
                content[0] ^= 1;
            }
            let sum = BASE64_STANDARD.encode(crc32c::crc32c(&content).to_be_bytes());
            if seen.header("x-goog-hash") != format!("crc32c={sum}") {
                return error(400, "BadDigest");
            }
            let number = seen.field("partNumber").and_then(|number| number.parse().ok()).expect("a number");
            parts.insert(number, content.into());
            answer(200, &[("etag", "\"part\"")], "")
        }
        ("POST", Some(id)) => {
            let Some(parts) = bucket.uploads.remove(&id) else { return error(404, "NoSuchUpload") };
            let content: Vec<u8> = parts.into_values().flatten().collect();
            bucket.objects.insert(key.clone(), content.into());
            let body = format!(
                "<CompleteMultipartUploadResult><Key>{key}</Key><ETag>\"whole\"</ETag>\
                 </CompleteMultipartUploadResult>"
            );
            answer(200, &[], body)
        }
        ("DELETE", Some(id)) => match bucket.uploads.remove(&id) {
            Some(_) => answer(204, &[], ""),
            None => error(404, "NoSuchUpload"),
        },
        _ => error(400, "NotThisDouble"),
    }
}

async fn google() -> (Store, Double, Arc<Mutex<Bucket>>) {
    let bucket: Arc<Mutex<Bucket>> = Arc::default();
    let behind = bucket.clone();
    let double =
        Double::start(move |seen| serve(&mut behind.lock().unwrap_or_else(PoisonError::into_inner), seen))
            .await;
    let mut options = GcsOptions::with_key(NO_KEY);
    options.endpoint = Some(double.url());
    options.limits = Limits {
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..Limits::default()
    };
    let store = gcs_in(&Destination::parse("gs://bucket/p").expect("valid"), &options, &|_| None);
    (store.expect("valid"), double, bucket)
}

#[tokio::test]
async fn parts_go_by_the_xml_api_where_there_is_one() {
    let (store, double, bucket) = google().await;
    let upload = store.upload("srv/k").await.expect("begun");
    assert_eq!(store.list_uploads("srv").await.expect("listed")[0].key, "srv/k");
    bucket.lock().expect("whole").damage = 2;
    let second = upload.put_part(1, "world".into()).await.expect("sent in the end");
    let first = upload.put_part(0, "hello ".into()).await.expect("sent");
    upload.complete(vec![first, second]).await.expect("completed");
    assert_eq!(bucket.lock().expect("whole").objects["p/srv/k"], "hello world");
    assert!(store.list_uploads("srv").await.expect("listed").is_empty());
    // What the store knows was asked once.
    let asked = double
        .seen()
        .iter()
        .filter(|seen| seen.uri.query().is_some_and(|q| q.contains("max-uploads=1&")))
        .count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn an_upload_is_given_up_and_does_not_come_back() {
    let (store, _double, bucket) = google().await;
    let upload = store.upload("srv/k").await.expect("begun");
    let part = upload.put_part(0, "x".into()).await.expect("sent");
    upload.abort().await.expect("aborted");
    upload.abort().await.expect("aborted already");
    assert!(bucket.lock().expect("whole").uploads.is_empty());
    let error = upload.put_part(1, "y".into()).await.expect_err("gone");
    assert!(error.remedy().contains("start again"), "{}", error.report());
    assert!(upload.complete(vec![part]).await.expect_err("gone").remedy().contains("start again"));
}
