//! Identities of the pod, against services that this file plays: what they are asked, and that what they give opens
//! the store.

use super::double::{Double, answer};
use super::{
    AzureCredentials, AzureOptions, Credentials, GcsCredentials, GcsOptions, Limits, S3Options, Store,
};
use crate::error::ErrorKind;
use crate::layout::Destination;
use howdah_s3::{Action, Rule, Server};
use rstest::rstest;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::NamedTempFile;

const ROLE: &str = "arn:aws:iam::123456789012:role/backups";
const TOKEN: &str = "header.sesame.signature";

fn limits() -> Limits {
    Limits {
        retries: 1,
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
        ..Limits::default()
    }
}

/// A token as Kubernetes mounts it.
fn token_file() -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{TOKEN}\n")).expect("writing");
    file
}

fn name(file: &NamedTempFile) -> String {
    file.path().to_str().expect("text").to_owned()
}

fn destination(text: &str) -> Destination {
    Destination::parse(text).expect("valid")
}

/// Two pairs of keys, one after the other.
async fn s3_for_two() -> Server {
    Server::builder()
        .session_credentials("key-1", "secret-1", "session-1")
        .session_credentials("key-2", "secret-2", "session-2")
        .bucket("bucket")
        .start()
        .await
        .expect("a port")
}

fn keys(number: usize, valid: Duration) -> String {
    let end = (chrono::Utc::now() + valid).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>key-{number}</AccessKeyId>\
         <SecretAccessKey>secret-{number}</SecretAccessKey><SessionToken>session-{number}</SessionToken>\
         <Expiration>{end}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    )
}

fn s3_store(server: &Server, sts: &Double, file: &str) -> Store {
    let mut options = S3Options::new(Credentials::Inherit);
    options.endpoint = Some(server.endpoint());
    options.limits = limits();
    let (sts, file) = (sts.url(), file.to_owned());
    let environment = move |variable: &str| match variable {
        "AWS_WEB_IDENTITY_TOKEN_FILE" => Some(file.clone()),
        "AWS_ROLE_ARN" => Some(ROLE.to_owned()),
        "AWS_ROLE_SESSION_NAME" => Some("cluster-1".to_owned()),
        "AWS_ENDPOINT_URL_STS" => Some(sts.clone()),
        "AWS_REGION" => Some("eu-west-1".to_owned()),
        _ => None,
    };
    Store::s3_in(&destination("s3://bucket/p"), &options, &environment).expect("valid")
}

/// S1.16, S1.21, S1.22: a role by web identity, without static keys.
#[tokio::test]
async fn a_role_is_assumed_with_the_token_of_the_service_account() {
    let server = s3_for_two().await;
    let sts = Double::start(|_| answer(200, &[], keys(1, Duration::from_secs(3600)))).await;
    let file = token_file();
    let store = s3_store(&server, &sts, &name(&file));
    for key in ["a", "b", "c"] {
        store.put(key, "x".into()).await.expect("accepted");
    }
    store.delete_many(&["a".into(), "b".into()]).await.expect("accepted");
    let seen = sts.seen();
    assert_eq!(seen.len(), 1, "keys that are good for an hour are fetched once");
    for (field, value) in [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", ROLE),
        ("RoleSessionName", "cluster-1"),
    ] {
        assert_eq!(seen[0].field(field).as_deref(), Some(value));
    }
    assert_eq!(
        seen[0].field("WebIdentityToken").map(|token| token.trim().to_owned()).as_deref(),
        Some(TOKEN)
    );
    assert!(seen[0].header("authorization").is_empty(), "the token is what says who asks");
}

/// S1.22: keys are renewed before they expire, with the token that is in the file by then; the old ones are refused
/// from the moment at which there are new ones.
#[tokio::test]
async fn keys_are_renewed_before_they_expire() {
    let server = Arc::new(s3_for_two().await);
    let issued = Arc::new(AtomicUsize::new(0));
    let (count, behind) = (issued.clone(), server.clone());
    let sts = Double::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        if number == 2 {
            let refusal = Action::error(400, "ExpiredToken", "The provided token has expired.");
            behind.faults().add(Rule::new(refusal).header("x-amz-security-token: session-1"));
        }
        // Minutes are too few to be sure of: the next request but for a moment asks for new ones.
        let valid = if number == 1 { Duration::from_secs(200) } else { Duration::from_secs(3600) };
        answer(200, &[], keys(number.min(2), valid))
    })
    .await;
    let file = token_file();
    let store = s3_store(&server, &sts, &name(&file));
    store.put("first", "x".into()).await.expect("accepted");
    std::fs::write(file.path(), "another-token").expect("written");
    let mut writes = 0;
    while issued.load(Ordering::SeqCst) < 2 {
        store.put(&format!("between-{writes}"), "x".into()).await.expect("accepted");
        writes += 1;
    }
    store.put("last", "x".into()).await.expect("accepted with the new keys");
    let upload = store.upload("parts").await.expect("begun");
    let part = upload.put_part(0, "x".into()).await.expect("sent");
    upload.complete(vec![part]).await.expect("completed");
    let seen = sts.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].field("WebIdentityToken").as_deref(), Some("another-token"));
}

#[rstest]
#[case::refused(
    403,
    "AccessDenied",
    "Not authorized to perform sts:AssumeRoleWithWebIdentity",
    ErrorKind::Credentials
)]
#[case::expired(
    400,
    "ExpiredTokenException",
    "Token expired: header.sesame.signature",
    ErrorKind::Credentials
)]
#[case::away(503, "ServiceUnavailable", "Please try again.", ErrorKind::Unavailable)]
#[tokio::test]
async fn a_refused_role_is_named_and_the_token_is_not(
    #[case] status: u16,
    #[case] code: &'static str,
    #[case] message: &'static str,
    #[case] kind: ErrorKind,
) {
    let server = s3_for_two().await;
    let sts = Double::start(move |_| {
        let body = format!(
            "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        answer(status, &[], body)
    })
    .await;
    let file = token_file();
    let store = s3_store(&server, &sts, &name(&file));
    let outcomes = [
        store.put("k", "x".into()).await.expect_err("no keys"),
        store.list("k").await.expect_err("no keys"),
        store.list_uploads("k").await.expect_err("no keys"),
    ];
    for error in outcomes {
        assert_eq!(error.kind(), kind, "{}", error.report());
        let report = error.report();
        assert!(report.contains(ROLE) && report.contains(&name(&file)) && report.contains(code), "{report}");
        assert!(report.contains("s3://bucket/p/k") && report.contains("trust policy"), "{report}");
        assert!(!report.contains("sesame"), "{report}");
    }
}

#[tokio::test]
async fn a_missing_token_is_named() {
    let server = s3_for_two().await;
    let sts = Double::start(|_| answer(200, &[], "")).await;
    let store = s3_store(&server, &sts, "/nonexistent/token");
    let error = store.put("k", "x".into()).await.expect_err("no token");
    assert_eq!(error.kind(), ErrorKind::Credentials, "{}", error.report());
    assert!(
        error.report().contains(ROLE) && error.report().contains("/nonexistent/token"),
        "{}",
        error.report()
    );
    assert!(sts.seen().is_empty());
}

/// Google, which takes what comes with the metadata server's token.
async fn google() -> Double {
    Double::start(|seen| match seen.header("authorization") {
        "Bearer google-token" if seen.method == http::Method::DELETE => answer(204, &[], ""),
        "Bearer google-token" => answer(200, &[], "{\"items\": []}"),
        _ => answer(401, &[], r#"{"error":{"code":401,"message":"no","errors":[{"reason":"authError"}]}}"#),
    })
    .await
}

fn gcs_store(google: &Double, metadata: &str) -> Store {
    let mut options = GcsOptions::new(GcsCredentials::Inherit);
    options.endpoint = Some(google.url());
    options.limits = limits();
    let environment = |variable: &str| (variable == "GCE_METADATA_HOST").then(|| metadata.to_owned());
    super::gcs::gcs_in(&destination("gs://bucket/p"), &options, &environment).expect("valid")
}

/// S0.7, S1.16: the identity that the metadata server of the node, or of the cluster, gives.
#[tokio::test]
async fn the_metadata_server_opens_google() {
    let google = google().await;
    let metadata = Double::start(|seen| {
        let good = seen.header("metadata-flavor") == "Google"
            && seen.uri.path() == "/computeMetadata/v1/instance/service-accounts/default/token";
        match good {
            true => {
                answer(200, &[], r#"{"access_token":"google-token","expires_in":3599,"token_type":"Bearer"}"#)
            }
            false => answer(404, &[], ""),
        }
    })
    .await;
    let store = gcs_store(&google, metadata.address());
    store.list("d").await.expect("accepted");
    store.delete("k").await.expect("accepted");
    assert_eq!(metadata.seen().len(), 1, "a token that is good for an hour is fetched once");
}

#[tokio::test]
async fn a_pod_without_an_identity_of_google_is_told_so() {
    let google = google().await;
    let metadata = Double::start(|_| answer(404, &[], "no service account")).await;
    let error = gcs_store(&google, metadata.address()).list("d").await.expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::Credentials, "{}", error.report());
    assert!(error.report().contains(metadata.address()), "{}", error.report());
    assert!(error.remedy().contains("workload identity"), "{}", error.report());
}

/// Azure, which takes what comes with the token.
async fn blobs() -> Double {
    Double::start(|seen| match seen.header("authorization") {
        "Bearer azure-token" => answer(201, &[("x-ms-request-id", "1"), ("etag", "\"1\"")], ""),
        _ => answer(401, &[("x-ms-error-code", "NoAuthenticationInformation")], ""),
    })
    .await
}

fn azure_store(blobs: &Double, environment: &[(&str, &str)]) -> crate::Result<Store> {
    let mut options = AzureOptions::new(AzureCredentials::Inherit);
    options.endpoint = Some(format!("{}/acct", blobs.url()));
    options.limits = limits();
    let look_up = |variable: &str| {
        let found = environment.iter().find(|(name, _)| *name == variable);
        found.map(|(_, value)| (*value).to_owned())
    };
    super::azure::azure_in(&destination("azure://bucket/p"), &options, &look_up)
}

/// S0.7, S1.16: a federated token is exchanged, as the webhook of Azure sets it up.
#[tokio::test]
async fn a_federated_token_opens_azure() {
    let blobs = blobs().await;
    let entra =
        Double::start(|_| answer(200, &[], r#"{"access_token":"azure-token","expires_in":3599}"#)).await;
    let file = token_file();
    let (file_name, host) = (name(&file), format!("{}/", entra.url()));
    let environment = [
        ("AZURE_FEDERATED_TOKEN_FILE", file_name.as_str()),
        ("AZURE_CLIENT_ID", "the-client"),
        ("AZURE_TENANT_ID", "the-tenant"),
        ("AZURE_AUTHORITY_HOST", host.as_str()),
    ];
    let store = azure_store(&blobs, &environment).expect("valid");
    for key in ["a", "b"] {
        store.put(key, "x".into()).await.expect("accepted");
    }
    let seen = entra.seen();
    assert_eq!(seen.len(), 1, "a token that is good for an hour is fetched once");
    assert_eq!(seen[0].uri.path(), "/the-tenant/oauth2/v2.0/token");
    assert_eq!(seen[0].field("client_id").as_deref(), Some("the-client"));
    assert_eq!(
        seen[0].field("client_assertion").map(|token| token.trim().to_owned()).as_deref(),
        Some(TOKEN)
    );
    assert_eq!(seen[0].field("scope").as_deref(), Some("https://storage.azure.com/.default"));
}

#[tokio::test]
async fn a_refused_federated_token_is_not_told() {
    let blobs = blobs().await;
    let entra = Double::start(|_| {
        let told = format!(r#"{{"error":"invalid_client","error_description":"AADSTS700213: {TOKEN}"}}"#);
        answer(401, &[], told)
    })
    .await;
    let file = token_file();
    let (file_name, host) = (name(&file), entra.url());
    let environment = [
        ("AZURE_FEDERATED_TOKEN_FILE", file_name.as_str()),
        ("AZURE_CLIENT_ID", "the-client"),
        ("AZURE_TENANT_ID", "the-tenant"),
        ("AZURE_AUTHORITY_HOST", host.as_str()),
    ];
    let error =
        azure_store(&blobs, &environment).expect("valid").put("k", "x".into()).await.expect_err("refused");
    let report = error.report();
    assert_eq!(error.kind(), ErrorKind::Credentials, "{report}");
    for word in ["the-client", "the-tenant", file_name.as_str(), "AADSTS700213", "federated credential"] {
        assert!(report.contains(word), "{word}: {report}");
    }
    assert!(!report.contains("sesame"), "{report}");
}

#[tokio::test]
async fn a_token_without_a_client_is_half_a_set_up() {
    let blobs = blobs().await;
    let error = azure_store(&blobs, &[("AZURE_FEDERATED_TOKEN_FILE", "/t")]).expect_err("no client");
    assert!(error.report().contains("AZURE_CLIENT_ID"), "{}", error.report());
}

/// S0.7: the identity of the node, by the metadata service of Azure.
#[tokio::test]
async fn a_managed_identity_opens_azure() {
    let blobs = blobs().await;
    let end = (chrono::Utc::now() + chrono::Duration::hours(1)).timestamp();
    let metadata = Double::start(move |seen| match seen.header("metadata") {
        "true" => answer(200, &[], format!(r#"{{"access_token":"azure-token","expires_on":"{end}"}}"#)),
        _ => answer(400, &[], ""),
    })
    .await;
    let endpoint = format!("{}/metadata/identity/oauth2/token", metadata.url());
    let environment = [("AZURE_MSI_ENDPOINT", endpoint.as_str()), ("AZURE_CLIENT_ID", "the-client")];
    let store = azure_store(&blobs, &environment).expect("valid");
    store.put("k", "x".into()).await.expect("accepted");
    let seen = metadata.seen();
    assert_eq!(seen[0].field("resource").as_deref(), Some("https://storage.azure.com"));
    assert_eq!(seen[0].field("client_id").as_deref(), Some("the-client"));
}
