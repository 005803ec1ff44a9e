//! A server and a store on it, with limits short enough for tests.

use barman_cloud::store::Limits;
use barman_cloud::{Destination, Repository, S3Options, Store};
use howdah_s3::Server;
use std::time::Duration;

pub const BUCKET: &str = "bucket";

pub async fn server() -> Server {
    Server::builder().memory().credentials("key", "secret").bucket(BUCKET).start().await.expect("a free port")
}

/// Pauses of milliseconds; stalls are noticed after seconds.
pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(2500),
        idle: Duration::from_secs(30),
        retries: 5,
        retry_for: Duration::from_secs(60),
        backoff_first: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
    }
}

pub fn options(server: &Server) -> S3Options {
    let mut options = S3Options::with_keys("key", "secret");
    options.endpoint = Some(server.endpoint());
    options.ca_pem = server.ca_pem().map(<[u8]>::to_vec);
    options.limits = limits();
    options
}

pub fn destination() -> Destination {
    Destination::parse(&format!("s3://{BUCKET}/some/path/")).expect("valid")
}

pub fn store_with(options: &S3Options) -> Store {
    Store::s3(&destination(), options).expect("valid settings")
}

pub fn store(server: &Server) -> Store {
    store_with(&options(server))
}

pub fn repository(server: &Server) -> Repository {
    Repository::new(store(server), "srv").expect("a server name")
}

/// Bytes that do not repeat.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
