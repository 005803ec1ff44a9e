//! Where an account is, by what the destination, the options and the connection string say of it.

use super::connection;
use super::{AzureCredentials, AzureOptions};
use crate::error::{Error, Result};
use crate::layout::{Destination, Storage, normalise_endpoint};
use crate::store::{Secret, connect};

/// An account, and what opens it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) account: String,
    /// URL without a slash at the end; the container follows.
    pub(super) endpoint: String,
    pub(super) keys: Keys,
}

/// What signs requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keys {
    Key(Secret),
    Sas(Secret),
    Inherit,
}

pub(super) fn place(destination: &Destination, options: &AzureOptions) -> Result<Place> {
    let Storage::Azure { endpoint: written } = destination.storage() else {
        let form = "https://ACCOUNT.blob.core.windows.net/container/path or azure://container/path";
        return Err(connect::another_storage(destination, form));
    };
    let (told, keys) = match &options.credentials {
        AzureCredentials::ConnectionString(text) => {
            let told = connection::parse(text.expose())?;
            let keys = match (&told.key, &told.sas) {
                (Some(key), _) => Keys::Key(key.clone()),
                (None, Some(sas)) => Keys::Sas(sas.clone()),
                (None, None) => Keys::Inherit,
            };
            (told, keys)
        }
        AzureCredentials::Key(key) => (connection::Connection::default(), Keys::Key(key.clone())),
        AzureCredentials::Sas(sas) => (connection::Connection::default(), Keys::Sas(sas.clone())),
        AzureCredentials::Inherit => (connection::Connection::default(), Keys::Inherit),
    };
    let given = options.endpoint.as_deref().map(normalise_endpoint).transpose()?;
    let told_endpoint = told.endpoint.as_deref().map(normalise_endpoint).transpose()?;
    let endpoint = given.or_else(|| written.clone()).or(told_endpoint);
    let account = options
        .account
        .clone()
        .filter(|account| !account.is_empty())
        .or(told.account)
        .or_else(|| endpoint.as_deref().and_then(account_in));
    let Some(account) = account else {
        return Err(Error::invalid(format!("the storage account of {destination} is not known"))
            .with_remedy(
                "give it as account, in the connection string, or in the destination: \
             https://ACCOUNT.blob.core.windows.net/container/path",
            ));
    };
    let endpoint = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    if let Some(other) = account_in(&endpoint).filter(|other| *other != account) {
        let text =
            format!("{destination} is in the storage account {other}, the credentials are for {account}");
        return Err(Error::invalid(text).with_remedy("use one account in the destination and the Secret"));
    }
    Ok(Place { account, endpoint, keys })
}

/// The account that an endpoint names: by its host, or by its path.
fn account_in(endpoint: &str) -> Option<String> {
    let (host, path) = endpoint.split_once("://")?.1.split_once('/').map_or_else(
        || (endpoint.split_once("://").map_or("", |(_, host)| host), ""),
        |(host, path)| (host, path),
    );
    let mut labels = host.split('.');
    let (name, service) = (labels.next()?, labels.next());
    if service == Some("blob") && !name.is_empty() {
        return Some(name.to_owned());
    }
    path.split('/').next().filter(|segment| !segment.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn found(destination: &str, change: impl FnOnce(&mut AzureOptions)) -> Result<Place> {
        let mut options = AzureOptions::new(AzureCredentials::Key("a2V5".into()));
        change(&mut options);
        place(&Destination::parse(destination).expect("valid"), &options)
    }

    #[rstest]
    #[case("https://acct.blob.core.windows.net/c/p", None, None, "https://acct.blob.core.windows.net")]
    #[case("azure://c/p", Some("acct"), None, "https://acct.blob.core.windows.net")]
    #[case("azure://c/p", None, Some("http://127.0.0.1:1/acct"), "http://127.0.0.1:1/acct")]
    #[case("http://127.0.0.1:1/acct/c/p", None, None, "http://127.0.0.1:1/acct")]
    #[case("azure://c/p", Some("acct"), Some("blobs.example.com"), "https://blobs.example.com")]
    fn accounts_are_found(
        #[case] destination: &str,
        #[case] account: Option<&str>,
        #[case] endpoint: Option<&str>,
        #[case] expected: &str,
    ) {
        let place = found(destination, |options| {
            options.account = account.map(str::to_owned);
            options.endpoint = endpoint.map(str::to_owned);
        });
        let place = place.expect("known");
        assert_eq!((place.account.as_str(), place.endpoint.as_str()), ("acct", expected));
    }

    #[test]
    fn an_account_that_nobody_names_is_asked_for() {
        let error = found("azure://c/p", |_| {}).expect_err("unknown");
        assert!(error.remedy().contains("ACCOUNT.blob.core.windows.net"), "{}", error.report());
    }

    #[test]
    fn two_accounts_are_one_too_many() {
        let other = |options: &mut AzureOptions| options.account = Some("other".into());
        let error = found("https://acct.blob.core.windows.net/c", other).expect_err("which?");
        assert!(error.report().contains("acct") && error.report().contains("other"), "{}", error.report());
    }

    #[test]
    fn another_storage_is_told_apart() {
        assert_eq!(found("s3://b/p", |_| {}).expect_err("S3").exit_code(), 3);
    }
}
