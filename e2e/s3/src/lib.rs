//! An S3 server for tests: the protocol and the disk store of `howdah-s3-server`, with further stores, and faults
//! on demand.
//!
//! There are three stores: *memory*, *disk* (durable: what was acknowledged survives a crash) and *sink*
//! (acknowledges and drops large bodies, for measuring the sender alone).
//! Faults are applied at the HTTP level, in front of the protocol, so a client sees what a bad day of a real
//! store looks like: 503s, stalls, connections cut in mid body, answers that got lost, stale listings.
//!
//! ```no_run
//! # async fn demo() -> Result<(), howdah_s3::Error> {
//! let server = howdah_s3::Server::builder()
//!     .memory()
//!     .credentials("key", "secret")
//!     .bucket("backups")
//!     .listen("127.0.0.1:0")
//!     .start()
//!     .await?;
//! println!("{}", server.endpoint());
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod auth;
mod authority;
mod error;
mod faults;
mod gate;
mod glob;
mod listener;
mod server;
mod store;
mod tamper;
mod target;
mod tls;
mod upload;
mod volume;

pub use authority::{Authority, Pair};
pub use error::Error;
pub use faults::{Action, Faults, Rule, RuleId};
pub use gate::RequestRecord;
pub use howdah_s3_server::ObjectInfo;
pub use listener::Connections;
pub use server::{Builder, Server};
pub use target::Operation;
pub use tls::Tls;
pub use upload::UploadInfo;
pub use volume::{READER, VolumeServer, WRITER};
