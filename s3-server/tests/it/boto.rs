//! boto3, the client inside Barman's tools, over mutual TLS.

use howdah_s3::WRITER;

use crate::host::Host;

const SCRIPT: &str = include_str!("../../../e2e/s3/tests/it/boto.py");

/// Another implementation of the client side finds a volume to be an S3 store.
#[tokio::test(flavor = "multi_thread")]
async fn boto3_does_all_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("volume")).await;
    let own = host.client(WRITER);
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let output = tokio::process::Command::new("python3")
        .args(["-c", SCRIPT, "everything"])
        .env("ENDPOINT", host.0.endpoint())
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_CA_BUNDLE", write("ca.pem", host.0.authority.pem()))
        .env("CLIENT_CERT", write("own.pem", &own.chain))
        .env("CLIENT_KEY", write("own.key", &own.key))
        .output()
        .await
        .expect("python3 is needed: apt-get install python3 python3-pip");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !stderr.contains("No module named 'boto3'"),
        "boto3 is needed: pip install boto3 (or pip install 'barman[cloud]')"
    );
    assert!(output.status.success(), "{}{stderr}", String::from_utf8_lossy(&output.stdout));
    host.end().await;
}
