//! What a conformance probe found: one finding an operation, with what it means and what to do about it.

use super::Store;
use crate::error::{Error, ErrorKind};
use crate::layout::Storage;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Probed {
    /// Getting an answer about the bucket at all.
    Reach,
    /// Listing keys.
    List,
    /// Writing an object.
    Put,
    /// Reading an object.
    Get,
    /// Reading some bytes of an object.
    Range,
    /// Writing an object only when there is none.
    ConditionalWrite,
    /// Writing an object in parts, and giving such an upload up.
    Multipart,
    /// Deleting an object.
    Delete,
    /// Deleting several objects with one request.
    BatchDelete,
}

impl Probed {
    /// One word for a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reach => "Reach",
            Self::List => "List",
            Self::Put => "Put",
            Self::Get => "Get",
            Self::Range => "Range",
            Self::ConditionalWrite => "ConditionalWrite",
            Self::Multipart => "Multipart",
            Self::Delete => "Delete",
            Self::BatchDelete => "BatchDelete",
        }
    }

    /// What it means when it does not work.
    fn loss(self) -> &'static str {
        match self {
            Self::Reach => "nothing can be done with this repository",
            Self::List => "neither backups nor WAL can be found here, and archiving cannot see what is there",
            Self::Put => "neither WAL nor backups can be written here",
            Self::Get => "nothing can be restored from here",
            Self::Range => "a transfer that breaks cannot go on where it broke",
            Self::ConditionalWrite => {
                "a look goes before each write; two writers at the same instant may both think they were first"
            }
            Self::Multipart => "base backups cannot be written here",
            Self::Delete => "retention cannot remove anything, so the repository only grows",
            Self::BatchDelete => "each deletion is a request of its own",
        }
    }

    /// What the credentials have to be allowed.
    fn permission(self, storage: &Storage) -> &'static str {
        match (storage, self) {
            (Storage::S3, Self::Reach | Self::List) => "s3:ListBucket on the bucket",
            (Storage::S3, Self::Put | Self::ConditionalWrite) => "s3:PutObject",
            (Storage::S3, Self::Get | Self::Range) => "s3:GetObject",
            (Storage::S3, Self::Multipart) => "s3:PutObject and s3:AbortMultipartUpload",
            (Storage::S3, Self::Delete | Self::BatchDelete) => "s3:DeleteObject",
            (Storage::Gcs, Self::Reach | Self::List) => "storage.objects.list",
            (Storage::Gcs, Self::Put | Self::ConditionalWrite) => {
                "storage.objects.create (and storage.objects.delete, to replace)"
            }
            (Storage::Gcs, Self::Get | Self::Range) => "storage.objects.get",
            (Storage::Gcs, Self::Multipart) => {
                "storage.objects.create, storage.multipartUploads.create and storage.multipartUploads.abort"
            }
            (Storage::Gcs, Self::Delete | Self::BatchDelete) => "storage.objects.delete",
            (Storage::Azure { .. }, Self::Reach | Self::List) => "listing of the container (l)",
            (Storage::Azure { .. }, Self::Put | Self::ConditionalWrite | Self::Multipart) => {
                "creation and writing of blobs (c, w)"
            }
            (Storage::Azure { .. }, Self::Get | Self::Range) => "reading of blobs (r)",
            (Storage::Azure { .. }, Self::Delete | Self::BatchDelete) => "deletion of blobs (d)",
        }
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It works.
    Ok,
    /// It does not work, and should.
    Failed,
    /// The store cannot do it; Howdah does without.
    NotSupported,
    /// It could not be tried, because something before it failed.
    Untried,
}

impl Outcome {
    /// One word for a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "Ok",
            Self::Failed => "Failed",
            Self::NotSupported => "NotSupported",
            Self::Untried => "Untried",
        }
    }
}

/// How one operation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub operation: Probed,
    /// How it went.
    pub outcome: Outcome,
    /// The kind of failure: [`ErrorKind::Permission`] is a missing permission, [`ErrorKind::BucketMissing`],
    /// [`ErrorKind::Credentials`] and [`ErrorKind::Network`] are a wrong bucket, wrong credentials, a wrong endpoint.
    pub kind: Option<ErrorKind>,
    /// What it means; for a failure also what the store said, on one line.
    pub message: String,
    /// What to do about it, where there is something to do.
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(operation: Probed) -> Self {
        Self { operation, outcome: Outcome::Ok, kind: None, message: "works".to_owned(), remedy: None }
    }

    pub(super) fn failed(store: &Store, operation: Probed, error: &Error) -> Self {
        let remedy = match error.kind() {
            ErrorKind::Permission => {
                let permission = operation.permission(&store.inner.storage);
                format!("allow {permission} below {}; {}", store.url(), error.remedy())
            }
            _ => error.remedy().to_owned(),
        };
        let told = crate::error::report(error, None);
        Self {
            operation,
            outcome: Outcome::Failed,
            kind: Some(error.kind()),
            message: format!("{}: {told}", operation.loss()),
            remedy: Some(remedy),
        }
    }

    pub(super) fn not_supported(operation: Probed) -> Self {
        let message = operation.loss().to_owned();
        let kind = Some(ErrorKind::Unsupported);
        Self { operation, outcome: Outcome::NotSupported, kind, message, remedy: None }
    }

    pub(super) fn untried(operation: Probed, before: Probed) -> Self {
        let message = format!("not tried, because {} does not work", before.as_str());
        Self { operation, outcome: Outcome::Untried, kind: None, message, remedy: None }
    }
}
