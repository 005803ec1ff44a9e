//! An S3 server for one cluster: the protocol of `s3s` over a [`Store`], and a store on a volume that survives
//! crashes.
//!
//! [`DiskStore`] keeps objects as files and has no index in memory, so its size is bounded by its disk alone. What
//! was acknowledged is on the disk; what was not leaves no trace after the next start. [`serve`] speaks TLS to
//! clients whose certificate an authority of the cluster signed, and to nobody else.

mod body;
mod conditions;
mod disk;
mod failure;
mod listing;
mod object;
mod serve;
mod service;
mod store;

pub use conditions::WriteCondition;
pub use disk::{DiskStaging, DiskStore, OpenError, Retention};
pub use failure::{no_such_bucket, no_such_key, no_such_upload, storage_failure};
pub use listing::{Flow, Keys, Page, Query, page};
pub use object::ObjectInfo;
pub use serve::{ClientName, Identity, IdentityError, Limits, Policy, Server};
pub use service::{IgnoreChecksums, Service};
pub use store::{Bucket, Opened, Store, StoredBody, Upload, UploadSummary};
