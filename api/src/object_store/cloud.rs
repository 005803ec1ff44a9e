//! Credentials of Google Cloud Storage and of Azure Blob Storage.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::common::SecretKeySelector;

/// Credentials of Google Cloud Storage: a service account's key from a Secret, or the identity of the pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.applicationCredentials) != (has(self.gkeEnvironment) && self.gkeEnvironment)")
    .message("give either applicationCredentials or gkeEnvironment: true"))]
pub struct GoogleCredentials {
    /// The JSON file of a service account's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_credentials: Option<SecretKeySelector>,
    /// Use the service account bound to the pod (workload identity) or to its node instead of a key. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gke_environment: Option<bool>,
}

/// Credentials of Azure Blob Storage: a connection string, a key, a shared access signature, or the identity of the pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.connectionString), has(self.storageKey), has(self.storageSasToken), has(self.inheritFromAzureAD) && self.inheritFromAzureAD].filter(x, x).size() == 1")
    .message("give exactly one of connectionString, storageKey, storageSasToken and inheritFromAzureAD: true"))]
pub struct AzureCredentials {
    /// A connection string as the portal shows it; it may also name the account and the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_string: Option<SecretKeySelector>,
    /// Name of the storage account. Default: the one in the destination or in the connection string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_account: Option<SecretKeySelector>,
    /// A key of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_key: Option<SecretKeySelector>,
    /// A shared access signature of the container or the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_sas_token: Option<SecretKeySelector>,
    /// Use the identity bound to the pod (workload identity) or the managed identity of its node. Default: false.
    #[serde(rename = "inheritFromAzureAD", skip_serializing_if = "Option::is_none")]
    pub inherit_from_azure_ad: Option<bool>,
}

impl GoogleCredentials {
    /// Each selector with the name of its field.
    #[must_use]
    pub fn selectors(&self) -> Vec<(&'static str, &SecretKeySelector)> {
        self.application_credentials.iter().map(|s| ("applicationCredentials", s)).collect()
    }
}

impl AzureCredentials {
    /// Each selector with the name of its field.
    #[must_use]
    pub fn selectors(&self) -> Vec<(&'static str, &SecretKeySelector)> {
        let all = [
            ("connectionString", &self.connection_string),
            ("storageAccount", &self.storage_account),
            ("storageKey", &self.storage_key),
            ("storageSasToken", &self.storage_sas_token),
        ];
        all.into_iter().filter_map(|(field, selector)| Some((field, selector.as_ref()?))).collect()
    }
}
