//! Failures as S3 tells them.

use std::io;

use s3s::{S3Error, S3ErrorCode, s3_error};

/// The bucket is not there.
pub fn no_such_bucket(bucket: &str) -> S3Error {
    s3_error!(NoSuchBucket, "The specified bucket does not exist: {}", bucket)
}

/// The object is not there.
pub fn no_such_key(key: &str) -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist: {}", key)
}

/// The upload is not there.
pub fn no_such_upload(id: &str) -> S3Error {
    s3_error!(NoSuchUpload, "The specified multipart upload does not exist: {}", id)
}

/// The key cannot be stored.
pub(crate) fn bad_key(what: &'static str) -> S3Error {
    custom("InvalidObjectName", http::StatusCode::BAD_REQUEST, what.into())
}

/// There is no room for what was sent.
pub(crate) fn no_room(what: String) -> S3Error {
    custom("InsufficientStorage", http::StatusCode::INSUFFICIENT_STORAGE, what)
}

fn custom(code: &'static str, status: http::StatusCode, message: String) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

/// Turns a failure of the store's own disk into an answer. A full disk has a code of its own.
pub fn storage_failure(error: io::Error) -> S3Error {
    use io::ErrorKind as K;
    if matches!(error.kind(), K::StorageFull | K::QuotaExceeded | K::FileTooLarge) {
        tracing::warn!(%error, "no room on the volume");
        return no_room(format!(
            "the volume of the repository is full ({error}): enlarge it or expire backups"
        ));
    }
    tracing::error!(%error, "the volume failed");
    let message = format!("the volume of the repository failed: {error}");
    s3_error!(error, InternalError, "{}", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_volume_has_its_own_code() {
        for number in [28, 122, 27] {
            let told = storage_failure(io::Error::from_raw_os_error(number));
            assert_eq!(told.code().as_str(), "InsufficientStorage");
            assert_eq!(told.status_code(), Some(http::StatusCode::INSUFFICIENT_STORAGE));
            assert!(told.message().is_some_and(|text| text.contains("enlarge it")));
        }
        let other = storage_failure(io::Error::from_raw_os_error(5));
        assert_eq!(other.code().as_str(), "InternalError");
    }
}
