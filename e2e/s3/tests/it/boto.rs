//! boto3, the client inside Barman's tools: checksums in trailers, transfers in parts, tags, encryption.

use howdah_s3::{Action, Operation, Rule, Server};

const SCRIPT: &str = include_str!("boto.py");

async fn run(server: &Server, part: &str) {
    let (endpoint, part) = (server.endpoint(), part.to_owned());
    let output = tokio::process::Command::new("python3")
        .args(["-c", SCRIPT, &part])
        .env("ENDPOINT", endpoint)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .output()
        .await
        .expect("python3 is needed: apt-get install python3 python3-pip");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !stderr.contains("No module named 'boto3'"),
        "boto3 is needed: pip install boto3 (or pip install 'barman[cloud]')"
    );
    assert!(output.status.success(), "{part}: {}{stderr}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn boto3_does_all_it_does() {
    let server = crate::memory().await;
    run(&server, "everything").await;
    let objects = server.objects("bucket").unwrap();
    let big = objects.iter().find(|object| object.key == "big").unwrap();
    assert_eq!(big.sse.as_deref(), Some("AES256"));
    assert_eq!(big.tags["team"], "a b");
    assert!(big.parts.len() > 1);
    let small = objects.iter().find(|object| object.key == "dir/small key+1").unwrap();
    assert_eq!(small.sse.as_deref(), Some("aws:kms"));
    assert_eq!(small.sse_kms_key_id.as_deref(), Some("arn:aws:kms:x"));
    assert!(small.checksums.contains_key("crc32"), "{small:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn boto3_retries_through_faults() {
    let server = crate::memory().await;
    let slow = server.faults().add(Rule::new(Action::slow_down()).operation(Operation::UploadPart).times(2));
    let lost = server
        .faults()
        .add(Rule::new(Action::LoseResponse).operation(Operation::CompleteMultipartUpload).times(1));
    run(&server, "upload").await;
    assert_eq!((server.faults().hits(slow), server.faults().hits(lost)), (2, 1));
    assert_eq!(server.objects("bucket").unwrap()[0].size, 12 * 1024 * 1024);
    server.shutdown().await;
}
