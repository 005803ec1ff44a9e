//! Certificates that the user gives instead of those that the operator makes, and which ones are in use.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::naming;

/// Certificates of PostgreSQL that are provided. What is not named here the operator makes and renews itself.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.serverTLSSecret) || has(self.serverCASecret)")
    .message("serverTLSSecret needs serverCASecret: name the Secret whose ca.crt the server certificate is verified with; it may be the same Secret"))]
#[x_kube(validation = Rule::new("!has(self.replicationTLSSecret) || has(self.clientCASecret)")
    .message("replicationTLSSecret needs clientCASecret: name the Secret whose ca.crt the certificate of replicas is verified with; it may be the same Secret"))]
#[x_kube(validation = Rule::new("!has(self.serverTLSSecret) || !has(self.serverAltDNSNames) || self.serverAltDNSNames.size() == 0")
    .message("serverAltDNSNames are for a server certificate that the operator makes: put the names into the certificate in serverTLSSecret, or leave one of the two out"))]
pub struct CertificatesConfiguration {
    /// Secret with the certificate authority that PostgreSQL's server certificate comes from, in the key `ca.crt`: clients
    /// give it as `sslrootcert`. With the key `ca.key` (PKCS#8, not encrypted) the operator issues the server certificate
    /// from it; without, `serverTLSSecret` is needed. Default: `<cluster>-ca`, made by the operator.
    #[serde(rename = "serverCASecret", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_ca_secret: Option<String>,

    /// Secret with PostgreSQL's server certificate and its key, in the keys `tls.crt` (intermediates behind it) and
    /// `tls.key`. It is never written: whoever made it renews it, and running servers show the new one without a restart.
    /// Default: issued from `serverCASecret`, else from the operator's own authority, and renewed.
    #[serde(rename = "serverTLSSecret", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_tls_secret: Option<String>,

    /// Secret with the certificate authority that client certificates are verified with, in the key `ca.crt`
    /// (`ssl_ca_file`). With the key `ca.key` the operator issues the certificate of replicas from it; without,
    /// `replicationTLSSecret` is needed. Default: `<cluster>-ca`, made by the operator.
    #[serde(rename = "clientCASecret", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub client_ca_secret: Option<String>,

    /// Secret with the client certificate that replicas connect with, and its key, in the keys `tls.crt` and `tls.key`. Its
    /// common name must be `streaming_replica`. Default: issued from `clientCASecret`, else from the operator's own
    /// authority, and renewed.
    #[serde(rename = "replicationTLSSecret", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub replication_tls_secret: Option<String>,

    /// Further DNS names for the server certificate that the operator makes, for example `db.example.com` or
    /// `*.db.example.com`. A change makes a new certificate.
    #[serde(rename = "serverAltDNSNames", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new("self.all(name, name.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$') && !name.matches('^[0-9.]+$'))")
        .message("serverAltDNSNames must be DNS names in lower case, such as db.example.com or *.db.example.com; addresses are not possible"))]
    pub server_alt_dns_names: Vec<String>,
}

impl CertificatesConfiguration {
    /// Whether something about the server certificate is provided.
    #[must_use]
    pub fn names_server(&self) -> bool {
        self.server_ca_secret.is_some() || self.server_tls_secret.is_some()
    }

    /// Whether something about client certificates is provided.
    #[must_use]
    pub fn names_client(&self) -> bool {
        self.client_ca_secret.is_some() || self.replication_tls_secret.is_some()
    }

    /// Names of the Secrets that are provided.
    pub fn secret_names(&self) -> impl Iterator<Item = &String> {
        let all = [
            &self.server_ca_secret,
            &self.server_tls_secret,
            &self.client_ca_secret,
            &self.replication_tls_secret,
        ];
        all.into_iter().flatten()
    }
}

/// The certificates that PostgreSQL uses.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesStatus {
    /// Secret whose `ca.crt` the server certificate is verified with.
    #[serde(rename = "serverCASecret", skip_serializing_if = "Option::is_none")]
    pub server_ca_secret: Option<String>,
    /// Secret of the server certificate. One that was issued from a provided authority is in `<cluster>-server-in-use`.
    #[serde(rename = "serverTLSSecret", skip_serializing_if = "Option::is_none")]
    pub server_tls_secret: Option<String>,
    /// Secret whose `ca.crt` client certificates are verified with.
    #[serde(rename = "clientCASecret", skip_serializing_if = "Option::is_none")]
    pub client_ca_secret: Option<String>,
    /// Secret of the certificate of replicas. One that was issued from a provided authority is in
    /// `<cluster>-replication-in-use`.
    #[serde(rename = "replicationTLSSecret", skip_serializing_if = "Option::is_none")]
    pub replication_tls_secret: Option<String>,
    /// Further names that are asked for in the server certificate.
    #[serde(rename = "serverAltDNSNames", default, skip_serializing_if = "Vec::is_empty")]
    pub server_alt_dns_names: Vec<String>,
    /// When the certificates in these Secrets end, by name of the Secret. Those of the operator are renewed before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expirations: BTreeMap<String, Time>,
}

impl CertificatesStatus {
    /// Whether the server certificate in use is a provided one, or comes from a provided authority.
    #[must_use]
    pub fn server_is_given(&self, cluster: &str) -> bool {
        self.server_tls_secret.as_ref().is_some_and(|name| *name != naming::server_secret(cluster))
    }

    /// Whether the certificate of replicas in use is a provided one, or comes from a provided authority.
    #[must_use]
    pub fn client_is_given(&self, cluster: &str) -> bool {
        self.replication_tls_secret.as_ref().is_some_and(|name| *name != naming::replication_secret(cluster))
    }
}
