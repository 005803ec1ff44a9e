//! Settings of a store on Azure Blob Storage. Debug output shows no secret.

use crate::store::{Connections, Limits, Secret};
use std::fmt;

/// Whose requests these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureCredentials {
    /// A connection string as the portal shows it; it may also name the account and the endpoint.
    ConnectionString(Secret),
    /// A key of the account.
    Key(Secret),
    /// A shared access signature of the container or the account, with or without `?` ahead.
    Sas(Secret),
    /// Whatever the pod's identity gives: the token in the file that `AZURE_FEDERATED_TOKEN_FILE` names (with
    /// `AZURE_CLIENT_ID`, `AZURE_TENANT_ID`, `AZURE_AUTHORITY_HOST`), else the managed identity of the node (with
    /// `AZURE_CLIENT_ID` when there are several).
    Inherit,
}

/// What is needed to reach a container of Azure Blob Storage.
#[derive(Clone, PartialEq, Eq)]
pub struct AzureOptions {
    /// The storage account. `None` when the destination or the connection string names it.
    pub account: Option<String>,
    /// Endpoint of the account, with or without scheme (then https); an emulator's ends with the account,
    /// `http://host:port/ACCOUNT`. `None` for the destination's, the connection string's or Azure's public cloud.
    pub endpoint: Option<String>,
    /// Whose requests these are.
    pub credentials: AzureCredentials,
    /// PEM of certificate authorities trusted besides the public ones.
    pub ca_pem: Option<Vec<u8>>,
    /// Tags of everything written, except as `history_tags` says. Accounts with a hierarchical namespace have none.
    pub tags: Vec<(String, String)>,
    /// Tags of timeline history files; they replace `tags` there. Empty: history files get `tags`.
    pub history_tags: Vec<(String, String)>,
    /// Connections to share with other stores; a pool of its own by default.
    pub connections: Connections,
    /// Time limits and retries.
    pub limits: Limits,
}

impl AzureOptions {
    /// Options with these credentials and defaults for the rest.
    pub fn new(credentials: AzureCredentials) -> Self {
        Self {
            account: None,
            endpoint: None,
            credentials,
            ca_pem: None,
            tags: Vec::new(),
            history_tags: Vec::new(),
            connections: Connections::default(),
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for AzureOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureOptions")
            .field("account", &self.account)
            .field("endpoint", &self.endpoint)
            .field("credentials", &self.credentials)
            .field("ca_pem", &self.ca_pem.as_ref().map(Vec::len))
            .field("tags", &self.tags)
            .field("history_tags", &self.history_tags)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
