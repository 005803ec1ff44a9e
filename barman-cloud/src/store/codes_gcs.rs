//! The reasons that the JSON API of Google Cloud Storage gives; those of its XML API are S3's.

use super::codes::{FULL, Verdict};
use crate::error::ErrorKind;

const ROLE: &str = "give the service account the role Storage Object Admin on the bucket";
const TOKEN: &str = "check the service account, its key, and the clock of this node";
const LOCKED: &str =
    "the bucket's retention policy or a hold forbids it: wait, or exempt the destination path";
const ACCOUNT: &str = "enable billing of the project, or ask its owner";

/// What a reason means; `None` for one that is not known.
pub(super) fn kind_of_code(reason: &str) -> Option<Verdict> {
    use ErrorKind as K;
    let (kind, remedy) = match reason {
        "notFound" | "Not Found" => (K::NotFound, None),
        "conditionNotMet" | "Precondition Failed" => (K::AlreadyExists, None),
        "forbidden" | "insufficientPermissions" | "Forbidden" => (K::Permission, Some(ROLE)),
        "authError" | "required" | "expired" | "lockedDomainExpired" => (K::Credentials, Some(TOKEN)),
        "retentionPolicyNotMet" | "objectUnderActiveHold" => (K::Permission, Some(LOCKED)),
        "accountDisabled" | "userProjectAccountProblem" | "UserProjectMissing" => {
            (K::Permission, Some(ACCOUNT))
        }
        "rateLimitExceeded" | "userRateLimitExceeded" | "dailyLimitExceeded" => (K::Throttled, None),
        "quotaExceeded" | "uploadTooLarge" => (K::Other, Some(FULL)),
        "backendError" | "internalError" | "Internal Server Error" => (K::Unavailable, None),
        "invalidBucketName" | "invalidParameter" => (K::Invalid, None),
        _ => return None,
    };
    Some((kind, remedy.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("notFound", ErrorKind::NotFound, false)]
    #[case("conditionNotMet", ErrorKind::AlreadyExists, false)]
    #[case("forbidden", ErrorKind::Permission, false)]
    #[case("authError", ErrorKind::Credentials, false)]
    #[case("retentionPolicyNotMet", ErrorKind::Permission, false)]
    #[case("rateLimitExceeded", ErrorKind::Throttled, true)]
    #[case("backendError", ErrorKind::Unavailable, true)]
    fn reasons_decide(#[case] reason: &str, #[case] kind: ErrorKind, #[case] transient: bool) {
        let (found, _) = kind_of_code(reason).expect("known");
        assert_eq!((found, found.is_transient()), (kind, transient));
    }
}
