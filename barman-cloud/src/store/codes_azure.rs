//! The error codes of Azure Blob Storage.

use super::codes::{FULL, Verdict};
use crate::error::ErrorKind;

const CONTAINER: &str = "create the container or correct the destination path";
const KEY: &str =
    "check the storage account and its key, or the shared access signature; the clock of this node too";
const EXPIRED: &str = "the shared access signature is not valid at this time: create a new one, or set the clock of \
                       this node";
const ROLE: &str = "give the identity the role Storage Blob Data Contributor, or the shared access signature the \
                    permissions racwdlt (t only for tags)";
const NETWORK: &str = "allow this network in the firewall of the storage account";
const ACCOUNT: &str = "enable the storage account, or choose another";
const LOCKED: &str =
    "an immutability policy or a legal hold forbids it: wait, or exempt the destination path";
const LEASED: &str = "somebody holds a lease on the blob: break it";
const COLD: &str =
    "rehydrate the blob from its archive tier, and keep lifecycle rules off the destination path";
const BLOCKS: &str = "the store no longer has blocks that it had accepted: start again";
const NAMESPACE: &str = "use an account without hierarchical namespace, or no tags";

/// What an answer with a code means; `text` is all of it. `None` for a code that is not Azure's alone.
pub(super) fn kind_of_answer(code: &str, text: &str) -> Option<Verdict> {
    use ErrorKind as K;
    let (kind, remedy) = match code {
        "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled" => {
            (K::BucketMissing, Some(CONTAINER))
        }
        "BlobNotFound" | "ResourceNotFound" => (K::NotFound, None),
        "BlobAlreadyExists" | "ConditionNotMet" | "TargetConditionNotMet" => (K::AlreadyExists, None),
        "AuthenticationFailed" if out_of_time(text) => (K::Credentials, Some(EXPIRED)),
        "AuthenticationFailed"
        | "InvalidAuthenticationInfo"
        | "NoAuthenticationInformation"
        | "KeyBasedAuthenticationNotPermitted" => (K::Credentials, Some(KEY)),
        // An emulator says it of a wrong signature.
        "AuthorizationFailure" if text.contains("authenticate") => (K::Credentials, Some(KEY)),
        "AuthorizationFailure" => (K::Permission, Some(NETWORK)),
        "AuthorizationSourceIPMismatch" | "AuthorizationProtocolMismatch" | "PublicAccessNotPermitted" => {
            (K::Permission, Some(NETWORK))
        }
        "AuthorizationPermissionMismatch"
        | "AuthorizationResourceTypeMismatch"
        | "AuthorizationServiceMismatch"
        | "InsufficientAccountPermissions" => (K::Permission, Some(ROLE)),
        "AccountIsDisabled" | "AccountBeingCreated" => (K::Permission, Some(ACCOUNT)),
        "BlobImmutableDueToPolicy" | "BlobImmutableDueToLegalHold" => (K::Permission, Some(LOCKED)),
        "LeaseIdMissing" | "LeaseAlreadyPresent" => (K::Permission, Some(LEASED)),
        "BlobArchived" | "BlobBeingRehydrated" => (K::Invalid, Some(COLD)),
        "ServerBusy" | "AccountIngressLimitExceeded" | "AccountEgressLimitExceeded" => (K::Throttled, None),
        "OperationTimedOut" => (K::Unavailable, None),
        "Md5Mismatch" | "Crc64Mismatch" => (K::Network, None),
        "InvalidBlockList" | "InvalidBlockId" | "InvalidBlobOrBlock" => (K::Other, Some(BLOCKS)),
        "BlockCountExceedsLimit" | "RequestBodyTooLarge" | "AccountLimitExceeded" => (K::Other, Some(FULL)),
        "InvalidResourceName" | "OutOfRangeInput" => (K::Invalid, None),
        "BlobTagsNotSupportedForAccountType" | "FeatureNotSupportedForAccount" => {
            (K::Unsupported, Some(NAMESPACE))
        }
        "UnsupportedHeader" | "FeatureVersionMismatch" | "ApiNotSupportedForAccount" => {
            (K::Unsupported, None)
        }
        _ => return None,
    };
    Some((kind, remedy.map(str::to_owned)))
}

/// Azure says of a signature that is too old, or too young, what its time frame is.
fn out_of_time(text: &str) -> bool {
    text.contains("time frame") || text.contains("Signature not valid in the specified")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("ContainerNotFound", ErrorKind::BucketMissing, "container")]
    #[case("AuthenticationFailed", ErrorKind::Credentials, "key")]
    #[case("AuthorizationPermissionMismatch", ErrorKind::Permission, "Storage Blob Data Contributor")]
    #[case("BlobImmutableDueToPolicy", ErrorKind::Permission, "immutability")]
    #[case("InvalidBlockList", ErrorKind::Other, "start again")]
    fn remedies_speak_of_azure(#[case] code: &str, #[case] kind: ErrorKind, #[case] word: &str) {
        let (found, remedy) = kind_of_answer(code, "").expect("known");
        assert!(found == kind && remedy.is_some_and(|remedy| remedy.contains(word)));
    }

    #[rstest]
    #[case("ServerBusy", ErrorKind::Throttled)]
    #[case("OperationTimedOut", ErrorKind::Unavailable)]
    #[case("Crc64Mismatch", ErrorKind::Network)]
    fn what_passes(#[case] code: &str, #[case] kind: ErrorKind) {
        let (found, _) = kind_of_answer(code, "").expect("known");
        assert!(found == kind && found.is_transient());
    }

    #[test]
    fn an_expired_signature_is_told_from_a_wrong_one() {
        let text = "<AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [..]";
        let (kind, remedy) = kind_of_answer("AuthenticationFailed", text).expect("known");
        assert!(kind == ErrorKind::Credentials && remedy.is_some_and(|remedy| remedy.contains("new one")));
    }
}
