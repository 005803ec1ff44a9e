//! What signs requests to Azure: a key, a signature, or a token for an identity of the pod.

use super::place::Keys;
use crate::error::{Error, ErrorKind, Result};
use crate::store::identity::{Environment, Named};
use object_store::azure::{AzureConfigKey, AzureCredentialProvider, MicrosoftAzureBuilder, split_sas};

pub(super) fn credentials(
    builder: MicrosoftAzureBuilder,
    keys: &Keys,
    environment: Environment<'_>,
) -> Result<AzureCredentialProvider> {
    // The causes are not told: they quote what they could not read.
    let wrong = |what: &str, remedy: &str| {
        Error::new(ErrorKind::Credentials, what.to_owned()).with_remedy(remedy.to_owned())
    };
    let built = |builder: MicrosoftAzureBuilder| builder.build().map(|made| made.credentials().clone());
    match keys {
        Keys::Key(key) => {
            let key = key.expose().trim();
            if key.is_empty() {
                return Err(wrong("the account key is empty", "fill the key of the Secret"));
            }
            built(builder.with_access_key(key)).map_err(|_| {
                wrong("the account key is not base64", "copy a key from Access keys of the storage account")
            })
        }
        Keys::Sas(sas) => {
            let text = sas.expose().trim();
            let pairs = split_sas(text).ok().filter(|pairs| pairs.iter().any(|(name, _)| name == "sig"));
            let pairs = pairs.ok_or_else(|| {
                wrong(
                    "the shared access signature is none: it has no sig=",
                    "create one for the container, with the permissions racwdlt, and copy all of it",
                )
            })?;
            built(builder.with_sas_authorization(pairs))
                .map_err(|_| wrong("the shared access signature cannot be used", "create a new one"))
        }
        Keys::Inherit => inherited(builder, environment),
    }
}

fn inherited(
    builder: MicrosoftAzureBuilder,
    environment: Environment<'_>,
) -> Result<AzureCredentialProvider> {
    let unusable = |error: object_store::Error| {
        Error::new(ErrorKind::Invalid, "the identity of the pod cannot be used").with_source(error)
    };
    let client = environment("AZURE_CLIENT_ID");
    let Some(file) = environment("AZURE_FEDERATED_TOKEN_FILE") else {
        let endpoint = environment("AZURE_MSI_ENDPOINT").or_else(|| environment("IDENTITY_ENDPOINT"));
        let mut builder = builder.with_credential_type("managed_identity");
        let mut who = "the managed identity".to_owned();
        if let Some(client) = &client {
            builder = builder.with_client_id(client);
            who = format!("{who} {client}");
        }
        if let Some(endpoint) = &endpoint {
            builder = builder.with_msi_endpoint(endpoint);
            who = format!("{who} at {endpoint}");
        }
        let provider = builder.build().map_err(unusable)?.credentials().clone();
        let remedy = "assign a managed identity to the node or the pod, and to it the role Storage Blob Data \
                      Contributor; name it by AZURE_CLIENT_ID when there are several";
        return Ok(Named::new(provider, who, remedy, None));
    };
    let missing = |name: &str| {
        Error::new(
            ErrorKind::Credentials,
            format!("AZURE_FEDERATED_TOKEN_FILE is {file}, and {name} is not set"),
        )
        .with_remedy("label the pod azure.workload.identity/use=true and annotate its service account")
    };
    let client = client.ok_or_else(|| missing("AZURE_CLIENT_ID"))?;
    let tenant = environment("AZURE_TENANT_ID").ok_or_else(|| missing("AZURE_TENANT_ID"))?;
    let mut builder = builder
        .with_credential_type("workload_identity")
        .with_client_id(&client)
        .with_tenant_id(&tenant)
        .with_config(AzureConfigKey::FederatedTokenFile, &file);
    if let Some(host) = environment("AZURE_AUTHORITY_HOST") {
        builder = builder.with_authority_host(host.trim_end_matches('/'));
    }
    let provider = builder.build().map_err(unusable)?.credentials().clone();
    let who = format!("the workload identity {client} of the tenant {tenant}, by the token in {file},");
    let remedy = "check the federated credential of the identity (issuer, subject, audience), its role Storage Blob \
                  Data Contributor, and that the token is mounted";
    Ok(Named::new(provider, who, remedy, Some(file)))
}
