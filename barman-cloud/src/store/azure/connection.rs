//! Connection strings, as the portal of Azure shows them.

use crate::error::{Error, ErrorKind, Result};
use crate::store::Secret;

/// What a connection string says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) account: Option<String>,
    /// Of the blob service.
    pub(super) endpoint: Option<String>,
    pub(super) key: Option<Secret>,
    pub(super) sas: Option<Secret>,
}

/// The account of emulators, and its key, which everybody knows.
const EMULATOR: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Reads a connection string. Nothing of it is in an error but the names of its parts.
pub(super) fn parse(text: &str) -> Result<Connection> {
    let wrong = |what: &str| {
        Error::new(ErrorKind::Credentials, format!("the connection string {what}")).with_remedy(
            "copy it from the portal, Access keys or Shared access signature of the storage account: \
             DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…;EndpointSuffix=core.windows.net",
        )
    };
    let (mut found, mut protocol, mut suffix) = (Connection::default(), "https", "core.windows.net");
    let mut emulator = false;
    for part in text.trim().split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| wrong("has a part without \"=\""))?;
        match name.to_ascii_lowercase().as_str() {
            "accountname" => found.account = Some(value.to_owned()),
            "accountkey" => found.key = Some(value.into()),
            "sharedaccesssignature" => found.sas = Some(value.into()),
            "blobendpoint" => found.endpoint = Some(value.trim_end_matches('/').to_owned()),
            "defaultendpointsprotocol" => protocol = value,
            "endpointsuffix" => suffix = value,
            "usedevelopmentstorage" => emulator = value.eq_ignore_ascii_case("true"),
            // Other services of the account.
            "queueendpoint" | "tableendpoint" | "fileendpoint" | "blobsecondaryendpoint" => {}
            _ => return Err(wrong(&format!("has an unknown part {name:?}"))),
        }
    }
    if emulator {
        found.account.get_or_insert_with(|| EMULATOR.to_owned());
        found.key.get_or_insert_with(|| EMULATOR_KEY.into());
        found.endpoint.get_or_insert_with(|| format!("http://127.0.0.1:10000/{EMULATOR}"));
    }
    if found.endpoint.is_none()
        && let Some(account) = &found.account
    {
        found.endpoint = Some(format!("{protocol}://{account}.blob.{suffix}"));
    }
    match (&found.endpoint, &found.key, &found.sas) {
        (None, ..) => Err(wrong("has neither AccountName nor BlobEndpoint")),
        (_, None, None) => Err(wrong("has neither AccountKey nor SharedAccessSignature")),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::portal(
        "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=a2V5PT0=;EndpointSuffix=core.windows.net\n",
        Some("acct"),
        "https://acct.blob.core.windows.net",
        Some("a2V5PT0="),
        None
    )]
    #[case::azurite(
        "DefaultEndpointsProtocol=http;AccountName=dev;AccountKey=k;BlobEndpoint=http://127.0.0.1:1/dev/;",
        Some("dev"),
        "http://127.0.0.1:1/dev",
        Some("k"),
        None
    )]
    #[case::signature(
        "BlobEndpoint=https://acct.blob.core.windows.net/;SharedAccessSignature=sv=2023-11-03&sig=x%3D",
        None,
        "https://acct.blob.core.windows.net",
        None,
        Some("sv=2023-11-03&sig=x%3D")
    )]
    #[case::emulator(
        "UseDevelopmentStorage=true",
        Some(EMULATOR),
        "http://127.0.0.1:10000/devstoreaccount1",
        Some(EMULATOR_KEY),
        None
    )]
    fn connection_strings(
        #[case] text: &str,
        #[case] account: Option<&str>,
        #[case] endpoint: &str,
        #[case] key: Option<&str>,
        #[case] sas: Option<&str>,
    ) {
        let found = parse(text).expect("valid");
        assert_eq!(found.account.as_deref(), account);
        assert_eq!(found.endpoint.as_deref(), Some(endpoint));
        assert_eq!(found.key.as_ref().map(Secret::expose), key);
        assert_eq!(found.sas.as_ref().map(Secret::expose), sas);
    }

    #[rstest]
    #[case("")]
    #[case("sesame")]
    #[case("AccountKey=sesame")]
    #[case("AccountName=acct")]
    #[case("AccountName=acct;AccountKey=sesame;Colour=sesame")]
    fn bad_connection_strings(#[case] text: &str) {
        let error = parse(text).expect_err("not one");
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert!(!error.report().contains("sesame"), "{}", error.report());
    }
}
