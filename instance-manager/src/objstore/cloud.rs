//! The same for Google Cloud Storage and Azure Blob Storage.

use barman_cloud::store::{AzureCredentials, AzureOptions, GcsCredentials, GcsOptions, Secret};
use howdah_api::common::SecretKeySelector;
use howdah_api::object_store::BarmanObjectStore;

use super::{CONNECTIONS, pairs};
use crate::error::Result;
use crate::kube::secrets::SecretValues;

/// The options of the Google client.
///
/// # Errors
/// When a Secret or a key is missing.
pub fn gcs(store: &BarmanObjectStore, secrets: &SecretValues) -> Result<GcsOptions> {
    let key = store.google_credentials.as_ref().and_then(|c| c.application_credentials.as_ref());
    let mut options = GcsOptions::new(match key {
        Some(key) => GcsCredentials::ServiceAccount(Secret::new(secrets.selected(key)?)),
        None => GcsCredentials::Inherit,
    });
    options.connections = CONNECTIONS.clone();
    options.endpoint.clone_from(&store.endpoint_url);
    options.ca_pem = authority(store, secrets)?;
    (options.tags, options.history_tags) = (pairs(&store.tags), pairs(&store.history_tags));
    Ok(options)
}

/// The options of the Azure client.
///
/// # Errors
/// When a Secret or a key is missing.
pub fn azure(store: &BarmanObjectStore, secrets: &SecretValues) -> Result<AzureOptions> {
    let given = store.azure_credentials.clone().unwrap_or_default();
    let secret =
        |selector: &SecretKeySelector| Ok::<_, crate::error::Error>(Secret::new(secrets.selected(selector)?));
    let mut options =
        AzureOptions::new(match (&given.connection_string, &given.storage_key, &given.storage_sas_token) {
            (Some(text), _, _) => AzureCredentials::ConnectionString(secret(text)?),
            (_, Some(key), _) => AzureCredentials::Key(secret(key)?),
            (_, _, Some(token)) => AzureCredentials::Sas(secret(token)?),
            _ => AzureCredentials::Inherit,
        });
    if let Some(account) = &given.storage_account {
        options.account = Some(secrets.selected(account)?.trim().to_owned());
    }
    options.connections = CONNECTIONS.clone();
    options.endpoint.clone_from(&store.endpoint_url);
    options.ca_pem = authority(store, secrets)?;
    (options.tags, options.history_tags) = (pairs(&store.tags), pairs(&store.history_tags));
    Ok(options)
}

fn authority(store: &BarmanObjectStore, secrets: &SecretValues) -> Result<Option<Vec<u8>>> {
    let Some(ca) = &store.endpoint_ca else { return Ok(None) };
    Ok(Some(secrets.selected(ca)?.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::object_store::{AzureCredentials as Azure, GoogleCredentials as Google};

    fn selector(key: &str) -> Option<SecretKeySelector> {
        Some(SecretKeySelector { name: "creds".into(), key: key.into() })
    }

    fn secrets() -> SecretValues {
        let mut values = SecretValues::default();
        let pairs =
            [("json", "{}"), ("account", "acc\n"), ("key", "a2V5"), ("sas", "sv=1"), ("string", "x=y")];
        values.insert("creds", pairs.map(|(k, v)| (k.to_owned(), v.into())).into());
        values
    }

    /// S1.23: a service account's key, or the identity of the pod.
    #[test]
    fn google_by_key_or_identity() {
        let mut store = BarmanObjectStore {
            destination_path: "gs://b/p".into(),
            google_credentials: Some(Google {
                application_credentials: selector("json"),
                gke_environment: None,
            }),
            ..BarmanObjectStore::default()
        };
        assert_eq!(gcs(&store, &secrets()).unwrap().credentials, GcsCredentials::ServiceAccount("{}".into()));
        store.google_credentials = Some(Google { gke_environment: Some(true), ..Google::default() });
        assert_eq!(gcs(&store, &secrets()).unwrap().credentials, GcsCredentials::Inherit);
    }

    /// S1.24: account and key from a Secret, and the other ways.
    #[test]
    fn azure_by_key_signature_string_or_identity() {
        let of = |credentials: Azure| {
            let store =
                BarmanObjectStore { azure_credentials: Some(credentials), ..BarmanObjectStore::default() };
            azure(&store, &secrets()).unwrap()
        };
        let key = of(Azure {
            storage_account: selector("account"),
            storage_key: selector("key"),
            ..Azure::default()
        });
        assert_eq!(
            (key.account.as_deref(), key.credentials),
            (Some("acc"), AzureCredentials::Key("a2V5".into()))
        );
        let sas = of(Azure { storage_sas_token: selector("sas"), ..Azure::default() });
        assert_eq!(sas.credentials, AzureCredentials::Sas("sv=1".into()));
        let string = of(Azure { connection_string: selector("string"), ..Azure::default() });
        assert_eq!(string.credentials, AzureCredentials::ConnectionString("x=y".into()));
        let inherited = of(Azure { inherit_from_azure_ad: Some(true), ..Azure::default() });
        assert_eq!(inherited.credentials, AzureCredentials::Inherit);
    }
}
