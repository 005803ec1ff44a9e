//! Uploads in parts.

use crate::backends::{Kind, backend};
use crate::support::{BUCKET, noise, server, store};
use barman_cloud::ErrorKind;
use barman_cloud::store::{MIN_PART, part_size};
use bytes::Bytes;
use howdah_s3::{Action, Operation, Rule};
use rstest::rstest;

fn parts() -> Vec<Bytes> {
    let size = part_size(12 << 20, None).expect("fits") as usize;
    assert_eq!(size as u64, MIN_PART);
    let content = Bytes::from(noise(2 * size + 1000));
    vec![content.slice(..size), content.slice(size..2 * size), content.slice(2 * size..)]
}

#[rstest]
#[case::none(None)]
#[case::part_reset(Some(Rule::new(Action::Reset { after_bytes: 1 << 20 }).operation(Operation::UploadPart).times(2)))]
#[case::part_answer_lost(Some(Rule::new(Action::LoseResponse).operation(Operation::UploadPart).times(2)))]
#[case::part_throttled(Some(Rule::new(Action::slow_down()).operation(Operation::UploadPart).times(4)))]
#[case::part_stalled(Some(Rule::new(Action::Stall { millis: 60_000 }).operation(Operation::UploadPart).times(1)))]
#[case::begin_fails(Some(Rule::new(Action::internal_error()).operation(Operation::CreateMultipartUpload).times(2)))]
#[case::end_fails(Some(Rule::new(Action::internal_error()).operation(Operation::CompleteMultipartUpload).times(2)))]
#[case::end_answer_lost(Some(Rule::new(Action::LoseResponse).operation(Operation::CompleteMultipartUpload).times(1)))]
#[case::end_fails_with_200(Some(
    Rule::new(Action::ReplaceBody { body: "<Error><Code>InternalError</Code></Error>".into() })
        .operation(Operation::CompleteMultipartUpload)
        .times(2)
))]
#[tokio::test]
async fn parts_in_any_order_make_the_object(#[case] fault: Option<Rule>) {
    let server = server().await;
    if let Some(rule) = fault {
        server.faults().add(rule);
    }
    let store = store(&server);
    let upload = store.upload("data.tar").await.expect("begun");
    let parts = parts();
    let (two, one, zero) = tokio::join!(
        upload.put_part(2, parts[2].clone()),
        upload.put_part_pieces(1, vec![parts[1].slice(..1000), parts[1].slice(1000..)]),
        upload.put_part(0, parts[0].clone()),
    );
    assert!(store.head("data.tar").await.expect_err("not yet").is_not_found());
    upload
        .complete(vec![zero.expect("sent"), one.expect("sent"), two.expect("sent")])
        .await
        .expect("completed");
    let stored = server.get(BUCKET, "some/path/data.tar").await.expect("there");
    assert!(stored == parts.concat());
    assert!(server.uploads(BUCKET).expect("the bucket").is_empty());
}

/// Parts in any order, of which one is sent twice, on the storages that have other uploads than S3.
#[rstest]
#[case::few(3)]
#[case::more_than_one_composition_takes(70)]
#[tokio::test]
async fn parts_make_the_object_on(#[values(Kind::Gcs, Kind::Azure)] kind: Kind, #[case] count: usize) {
    let backend = backend(kind).await;
    let store = backend.store();
    let size = if count > 10 { 1000 } else { MIN_PART as usize };
    let content = Bytes::from(noise((count - 1) * size + 10));
    let part = |index: usize| content.slice(index * size..content.len().min((index + 1) * size));
    let upload = store.upload("srv/base/A/data.tar").await.expect("begun");
    upload.put_part(1, Bytes::from_static(b"another")).await.expect("sent");
    let mut parts = Vec::new();
    for index in (0..count).rev() {
        parts.push(upload.put_part(index, part(index)).await.expect("sent"));
    }
    parts.reverse();
    assert!(store.head("srv/base/A/data.tar").await.expect_err("not yet").is_not_found());
    assert!(store.list("srv/base").await.expect("listed").is_empty());
    upload.complete(parts).await.expect("completed");
    assert!(store.get("srv/base/A/data.tar", 1 << 30).await.expect("there") == content);
    assert_eq!(backend.keys().await, ["some/path/srv/base/A/data.tar"]);
    assert!(store.list_uploads("srv").await.expect("listed").is_empty());
}

#[rstest]
#[tokio::test]
async fn an_aborted_upload_leaves_nothing(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store();
    let upload = store.upload("srv/data.tar").await.expect("begun");
    upload.put_part(0, parts()[0].clone()).await.expect("sent");
    assert_eq!(store.list_uploads("srv").await.expect("listed").len(), 1);
    upload.abort().await.expect("aborted");
    upload.abort().await.expect("aborted already");
    assert!(store.list_uploads("srv").await.expect("listed").is_empty());
    assert!(backend.keys().await.is_empty());
}

#[tokio::test]
async fn a_lost_upload_says_so() {
    let server = server().await;
    let store = store(&server);
    let upload = store.upload("data.tar").await.expect("begun");
    store.resume_upload("data.tar", upload.id()).expect("known").abort().await.expect("aborted");
    let error = upload.put_part(0, parts()[0].clone()).await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.remedy().contains("start again"), "{}", error.report());
}

/// A lifecycle rule took it between the parts and the end; the object under the key, if any, is another's.
#[rstest]
#[case::nothing_there(None)]
#[case::an_older_object(Some(7))]
#[tokio::test]
async fn an_upload_lost_before_its_end_says_so(#[case] older: Option<usize>) {
    let server = server().await;
    let store = store(&server);
    if let Some(size) = older {
        store.put("data.tar", noise(size).into()).await.expect("written");
    }
    let upload = store.upload("data.tar").await.expect("begun");
    let part = upload.put_part(0, parts()[0].clone()).await.expect("sent");
    let gone = Action::error(404, "NoSuchUpload", "The specified upload does not exist.");
    server.faults().add(Rule::new(gone).operation(Operation::CompleteMultipartUpload));
    let error = upload.complete(vec![part]).await.expect_err("gone");
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Other, false));
    let report = error.report();
    assert!(report.contains("some/path/data.tar") && error.remedy().contains("start again"), "{report}");
}

#[rstest]
#[tokio::test]
async fn an_upload_that_somebody_gave_up_says_so_on(#[values(Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store();
    let upload = store.upload("srv/data.tar").await.expect("begun");
    let part = upload.put_part(0, parts()[0].clone()).await.expect("sent");
    store.resume_upload("srv/data.tar", upload.id()).expect("known").abort().await.expect("aborted");
    let error = upload.complete(vec![part]).await.expect_err("gone");
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Other, false), "{}", error.report());
    let report = error.report();
    assert!(report.contains("some/path/srv/data.tar") && error.remedy().contains("start again"), "{report}");
}

#[tokio::test]
async fn another_object_is_no_completed_upload() {
    let server = server().await;
    let store = store(&server);
    let upload = store.upload("data.tar").await.expect("begun");
    let part = upload.put_part(0, parts()[0].clone()).await.expect("sent");
    upload.abort().await.expect("aborted");
    store.put("data.tar", Bytes::from_static(b"something else")).await.expect("written");
    assert!(upload.complete(vec![part]).await.is_err());
}

#[tokio::test]
async fn a_nonsense_answer_is_no_success() {
    let server = server().await;
    let store = store(&server);
    let upload = store.upload("data.tar").await.expect("begun");
    let part = upload.put_part(0, parts()[0].clone()).await.expect("sent");
    let action = Action::ReplaceBody { body: "<html>gateway</html>".into() };
    server.faults().add(Rule::new(action).operation(Operation::CompleteMultipartUpload));
    assert!(upload.complete(vec![part]).await.is_err());
}

#[rstest]
#[tokio::test]
async fn an_upload_is_taken_up_again(#[values(Kind::S3, Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store();
    let parts = parts();
    let upload = store.upload("data.tar").await.expect("begun");
    let first = upload.put_part(0, parts[0].clone()).await.expect("sent");
    let again = store.resume_upload("data.tar", upload.id()).expect("a key");
    let second = again.put_part(1, parts[2].clone()).await.expect("sent");
    again.complete(vec![first, second]).await.expect("completed");
    assert_eq!(store.head("data.tar").await.expect("there").size, (parts[0].len() + parts[2].len()) as u64);
}

#[tokio::test]
async fn there_are_at_most_ten_thousand_parts() {
    let server = server().await;
    let upload = store(&server).upload("data.tar").await.expect("begun");
    let error = upload.put_part(10_000, Bytes::from_static(b"x")).await.expect_err("too many");
    assert_eq!(error.exit_code(), 3);
}

#[tokio::test]
async fn abandoned_uploads_are_found_and_aborted() {
    let server = server().await;
    let store = store(&server);
    for key in ["srv/base/A/data.tar", "srv/base/A/16384.tar.gz", "srv/wals/X & Y", "other/base/B/data.tar"] {
        store.upload(key).await.expect("begun").put_part(0, Bytes::from_static(b"x")).await.expect("sent");
    }
    server.faults().add(Rule::new(Action::slow_down()).operation(Operation::ListMultipartUploads).times(2));
    let mut keys: Vec<String> =
        store.list_uploads("srv").await.expect("listed").into_iter().map(|u| u.key).collect();
    keys.sort();
    assert_eq!(keys, ["srv/base/A/16384.tar.gz", "srv/base/A/data.tar", "srv/wals/X & Y"]);
    let now = chrono::Utc::now();
    let day = chrono::Duration::days(1);
    assert_eq!(store.abort_uploads("srv/base", now - day).await.expect("none is that old"), 0);
    assert_eq!(store.abort_uploads("srv/base", now + day).await.expect("aborted"), 2);
    let mut left: Vec<String> =
        server.uploads(BUCKET).expect("the bucket").into_iter().map(|u| u.key).collect();
    left.sort();
    assert_eq!(left, ["some/path/other/base/B/data.tar", "some/path/srv/wals/X & Y"]);
    server.faults().add(
        Rule::new(Action::error(501, "NotImplemented", "no")).operation(Operation::ListMultipartUploads),
    );
    assert_eq!(store.list_uploads("srv").await.expect_err("no list").kind(), ErrorKind::Unsupported);
    assert_eq!(store.abort_uploads("srv", now + day).await.expect("nothing to do"), 0);
}

#[rstest]
#[tokio::test]
async fn what_killed_runs_left_is_found_and_aborted_on(#[values(Kind::Gcs, Kind::Azure)] kind: Kind) {
    let backend = backend(kind).await;
    let store = backend.store();
    for key in ["srv/base/A/data.tar", "srv/base/A/16384.tar.gz", "srv/wals/X & Y", "other/base/B/data.tar"] {
        store.upload(key).await.expect("begun").put_part(0, Bytes::from_static(b"x")).await.expect("sent");
    }
    let keys = async |dir: &str| {
        let found = store.list_uploads(dir).await.expect("listed");
        let mut keys: Vec<String> = found.into_iter().map(|upload| upload.key).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys("srv").await, ["srv/base/A/16384.tar.gz", "srv/base/A/data.tar", "srv/wals/X & Y"]);
    let (now, day) = (chrono::Utc::now(), chrono::Duration::days(1));
    assert_eq!(store.abort_uploads("srv/base", now - day).await.expect("none is that old"), 0);
    assert_eq!(store.abort_uploads("srv/base", now + day).await.expect("aborted"), 2);
    assert_eq!(keys("srv").await, ["srv/wals/X & Y"]);
    assert_eq!(keys("other").await, ["other/base/B/data.tar"]);
}

#[tokio::test]
async fn many_abandoned_uploads_are_found() {
    let server = server().await;
    let store = store(&server);
    let begun = (0..1010).map(|index| {
        let store = store.clone();
        async move { store.upload(&format!("srv/base/A/{index}")).await.map(|_| ()) }
    });
    for outcome in futures::future::join_all(begun).await {
        outcome.expect("begun");
    }
    assert_eq!(store.list_uploads("srv/base").await.expect("listed").len(), 1010);
}
