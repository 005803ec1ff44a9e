//! The server against real clients: `object_store`'s and boto3.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

mod boto;
mod client;
mod durability;
mod faults;

use std::sync::Arc;

use howdah_s3::Server;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder};

/// A client as the product makes it: path style, keys given, retries as the test wants them.
fn store(server: &Server, retries: usize) -> Arc<AmazonS3> {
    store_as(server, "key", "secret", retries)
}

fn store_as(server: &Server, key: &str, secret: &str, retries: usize) -> Arc<AmazonS3> {
    install_provider();
    let retry = object_store::RetryConfig {
        max_retries: retries,
        backoff: object_store::BackoffConfig {
            init_backoff: std::time::Duration::from_millis(10),
            max_backoff: std::time::Duration::from_millis(100),
            base: 2.0,
        },
        ..Default::default()
    };
    let mut options = ClientOptions::new().with_allow_http(true);
    if let Some(pem) = server.ca_pem() {
        options = options.with_root_certificate(object_store::Certificate::from_pem(pem).unwrap());
    }
    Arc::new(
        AmazonS3Builder::new()
            .with_endpoint(server.endpoint())
            .with_bucket_name("bucket")
            .with_region("us-east-1")
            .with_access_key_id(key)
            .with_secret_access_key(secret)
            .with_virtual_hosted_style_request(false)
            .with_client_options(options)
            .with_retry(retry)
            .build()
            .unwrap(),
    )
}

/// Chooses the TLS provider of this process; later calls find it chosen.
fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn memory() -> Server {
    Server::builder().memory().credentials("key", "secret").bucket("bucket").start().await.unwrap()
}

/// Bytes that differ at every offset a test may look at.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}
