//! The error codes of S3 and its relatives: AWS, MinIO, Ceph RGW, the XML API of Google Cloud Storage, Backblaze
//! B2, Cloudflare R2, StorageGRID, Wasabi, Yandex.
//!
//! A code says more than the status beside it: Ceph and AWS send `RequestTimeout` with 400, MinIO a full disk with
//! 507, R2 and Google throttle with 429, the others with 503. What is not in the table is judged by its status.

use super::answer::WRONG_ANSWER;
use super::{codes_azure, codes_gcs};
use crate::error::ErrorKind;

/// A kind, and a remedy where the general one of the kind does not help.
pub(super) type Verdict = (ErrorKind, Option<String>);

pub(super) const WRONG_REGION: &str = "set the region and the endpoint URL of the bucket";
pub(super) const FULL: &str = "free space in the object store or raise its quota";

const SKEWED: &str = "set the clock of this node, or that of the store if it is yours: they differ by more than 15 \
                      minutes (enable NTP)";
const ACCOUNT: &str = "pay or reactivate the account at the provider of the store, or ask its operator";
const KMS: &str = "check the encryption key: it must exist, be enabled, and be allowed to these credentials";
const NO_STORE: &str = "check the endpoint URL: something other than the object store answers there (a proxy, a \
                        sign-in page, the port of a web console)";
const COLD: &str =
    "restore the object from its archive tier, and keep lifecycle rules off the destination path";
const LOCKED: &str = "the bucket's retention or object lock forbids it: wait, or exempt the destination path";
const PARTS: &str = "the store no longer has parts that it had accepted: start again";

/// What an answer with a code means, of whatever storage; `None` for a code that is not known.
pub(super) fn kind_of_answer(code: &str, text: &str) -> Option<Verdict> {
    codes_azure::kind_of_answer(code, text)
        .or_else(|| kind_of_code(code))
        .or_else(|| codes_gcs::kind_of_code(code))
}

/// What a code of S3 means; `None` for one that is not known.
pub(super) fn kind_of_code(code: &str) -> Option<Verdict> {
    use ErrorKind as K;
    let (kind, remedy) = match code {
        WRONG_ANSWER => (K::Unavailable, Some(NO_STORE)),
        "NoSuchBucket" => (K::BucketMissing, None),
        "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" | "NotFound" => (K::NotFound, None),
        "PreconditionFailed" => (K::AlreadyExists, None),
        "AccessDenied" | "AllAccessDisabled" | "AccessForbidden" | "Forbidden" | "InvalidPayer" => {
            (K::Permission, None)
        }
        "AccountProblem" | "UserProjectAccountProblem" | "UserSuspended" | "NotSignedUp" | "NotEntitled" => {
            (K::Permission, Some(ACCOUNT))
        }
        "ObjectLocked" | "ObjectUnderActiveHold" | "RetentionPolicyNotMet" | "XComplianceConflict" => {
            (K::Permission, Some(LOCKED))
        }
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "InvalidTokenId"
        | "TokenRefreshRequired"
        | "InvalidSecurity"
        | "MissingSecurityHeader"
        | "Unauthorized"
        | "AuthenticationRequired"
        | "RequestExpired"
        | "ExpiredRequest" => (K::Credentials, None),
        "RequestTimeTooSkewed" => (K::Credentials, Some(SKEWED)),
        "AuthorizationHeaderMalformed"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "Redirect"
        | "IllegalLocationConstraintException"
        | "InvalidRegion"
        | "InvalidRegionName" => (K::Invalid, Some(WRONG_REGION)),
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RateLimitExceeded"
        | "UserRateLimitExceeded"
        | "BandwidthLimitExceeded"
        | "Busy" => (K::Throttled, None),
        "RequestTimeout"
        | "IncompleteBody"
        | "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "CrcMismatch"
        | "XAmzContentChecksumMismatch"
        | "ClientDisconnected" => (K::Network, None),
        "InternalError"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "BackendError"
        | "UnknownError"
        | "Unavailable"
        | "GatewayTimeout"
        | "ServerNotInitialized"
        | "XMinioServerNotInitialized"
        | "XMinioBackendDown"
        | "ConditionalRequestConflict" => (K::Unavailable, None),
        "NotImplemented" | "MethodNotAllowed" => (K::Unsupported, None),
        "InvalidBucketName"
        | "InvalidTag"
        | "KeyTooLongError"
        | "KeyTooLong"
        | "InvalidObjectName"
        | "InvalidStorageClass" => (K::Invalid, None),
        "InvalidEncryptionAlgorithmError"
        | "KMS.NotFoundException"
        | "KMS.DisabledException"
        | "KMS.KMSInvalidStateException"
        | "KMS.InvalidKeyUsageException"
        | "CloudKmsBadKey"
        | "CloudKmsDisabledKey"
        | "CloudKmsEncryptionKeyNotFound" => (K::Invalid, Some(KMS)),
        "InvalidObjectState" | "ObjectNotInActiveTierError" => (K::Invalid, Some(COLD)),
        "InvalidPart" | "InvalidPartOrder" => (K::Other, Some(PARTS)),
        "QuotaExceeded"
        | "InsufficientCapacity"
        | "InsufficientStorage"
        | "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded"
        | "StorageCapExceeded"
        | "CapExceeded"
        | "EntityTooLarge" => (K::Other, Some(FULL)),
        _ => return None,
    };
    Some((kind, remedy.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Kind, and whether the same call may succeed later without anybody changing anything.
    #[rstest]
    #[case::aws("NoSuchBucket", ErrorKind::BucketMissing, false)]
    #[case::aws("NoSuchKey", ErrorKind::NotFound, false)]
    #[case::aws("NoSuchUpload", ErrorKind::NotFound, false)]
    #[case::aws("ConditionalRequestConflict", ErrorKind::Unavailable, true)]
    #[case::aws("AccessDenied", ErrorKind::Permission, false)]
    #[case::aws("InvalidAccessKeyId", ErrorKind::Credentials, false)]
    #[case::aws("ExpiredToken", ErrorKind::Credentials, false)]
    #[case::aws("RequestTimeTooSkewed", ErrorKind::Credentials, false)]
    #[case::aws("SlowDown", ErrorKind::Throttled, true)]
    #[case::aws("RequestTimeout", ErrorKind::Network, true)]
    #[case::aws("BadDigest", ErrorKind::Network, true)]
    #[case::aws("InternalError", ErrorKind::Unavailable, true)]
    #[case::aws("ServiceUnavailable", ErrorKind::Unavailable, true)]
    #[case::aws("NotImplemented", ErrorKind::Unsupported, false)]
    #[case::aws("PermanentRedirect", ErrorKind::Invalid, false)]
    #[case::aws("InvalidObjectState", ErrorKind::Invalid, false)]
    #[case::aws("KMS.DisabledException", ErrorKind::Invalid, false)]
    #[case::aws("InvalidPart", ErrorKind::Other, false)]
    #[case::minio("SlowDownWrite", ErrorKind::Throttled, true)]
    #[case::minio("XMinioServerNotInitialized", ErrorKind::Unavailable, true)]
    #[case::minio("XMinioStorageFull", ErrorKind::Other, false)]
    #[case::minio("XMinioAdminBucketQuotaExceeded", ErrorKind::Other, false)]
    #[case::minio("InvalidTokenId", ErrorKind::Credentials, false)]
    #[case::minio("InvalidRegion", ErrorKind::Invalid, false)]
    #[case::ceph("UserSuspended", ErrorKind::Permission, false)]
    #[case::ceph("QuotaExceeded", ErrorKind::Other, false)]
    #[case::ceph("UnknownError", ErrorKind::Unavailable, true)]
    #[case::google("RateLimitExceeded", ErrorKind::Throttled, true)]
    #[case::google("CrcMismatch", ErrorKind::Network, true)]
    #[case::google("UserProjectAccountProblem", ErrorKind::Permission, false)]
    #[case::google("CloudKmsDisabledKey", ErrorKind::Invalid, false)]
    #[case::google("ObjectUnderActiveHold", ErrorKind::Permission, false)]
    #[case::b2("CapExceeded", ErrorKind::Other, false)]
    #[case::r2("TooManyRequests", ErrorKind::Throttled, true)]
    #[case::r2("ExpiredRequest", ErrorKind::Credentials, false)]
    #[case::r2("Unauthorized", ErrorKind::Credentials, false)]
    #[case::proxy(WRONG_ANSWER, ErrorKind::Unavailable, true)]
    fn codes_decide(#[case] code: &str, #[case] kind: ErrorKind, #[case] transient: bool) {
        let (found, remedy) = kind_of_code(code).expect("a known code");
        assert_eq!((found, found.is_transient()), (kind, transient));
        assert!(remedy.is_none_or(|remedy| remedy.len() > 20));
    }

    #[test]
    fn whose_clock_is_wrong_is_said() {
        let (_, remedy) = kind_of_code("RequestTimeTooSkewed").expect("a known code");
        assert!(remedy.is_some_and(|remedy| remedy.contains("this node") && remedy.contains("the store")));
    }

    #[test]
    fn other_codes_leave_it_to_the_status() {
        assert!(kind_of_code("InvalidArgument").is_none());
    }
}
