//! What can go wrong while a server starts or while a test reaches into its store.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A failure of the server itself, never of a client's request (clients get S3 error answers).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The builder was not told something it needs.
    #[error("S3 server cannot start: {what}: {remedy}")]
    Configuration {
        /// What is missing or wrong.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The address is taken or not ours.
    #[error("S3 server cannot listen on {address}: choose a free local address, port 0 picks one")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why the system refused.
        #[source]
        source: std::io::Error,
    },
    /// The disk store cannot read or write its directory.
    #[error("S3 store cannot {action} {}: check the directory's permissions and free space", path.display())]
    Disk {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: std::io::Error,
    },
    /// The directory of the disk store cannot be used.
    #[error("S3 store cannot be opened")]
    Open(#[from] howdah_s3_server::OpenError),
    /// Certificate or key unusable.
    #[error("S3 server cannot use its certificate ({what}): give a PEM chain and its PEM key")]
    Certificate {
        /// What is wrong with it.
        what: String,
    },
    /// A test named a bucket that does not exist.
    #[error("bucket {bucket} does not exist: create it with Builder::bucket or Server::create_bucket")]
    NoSuchBucket {
        /// The bucket.
        bucket: String,
    },
    /// A test named an object that does not exist.
    #[error("object {key} does not exist in bucket {bucket}")]
    NoSuchObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// The sink store dropped the body.
    #[error("object {key} in bucket {bucket} has no body: the sink store drops large bodies")]
    Dropped {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
}
