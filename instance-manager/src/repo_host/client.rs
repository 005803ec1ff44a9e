//! How the members of a cluster reach its repository host.

use barman_cloud::store::{ClientCertificate, Credentials, Secret};
use barman_cloud::{Destination, S3Options, Store};
use howdah_api::naming;

use crate::error::Result;
use crate::kube::secrets::SecretValues;
use crate::objstore::CONNECTIONS;

/// Signs requests, which protects their bodies. It gives access to nothing: the client's certificate does.
const KEY: &str = "repo-host";

/// The options of a client that is a member of `cluster`: its authority (`<cluster>-server`) and the certificate of
/// its instances (`<cluster>-replication`).
///
/// # Errors
/// When a Secret or a key is missing.
pub fn options(cluster: &str, secrets: &SecretValues) -> Result<S3Options> {
    let member = naming::replication_secret(cluster);
    let mut options = S3Options::new(Credentials::Static {
        access_key_id: Secret::new(KEY),
        secret_access_key: Secret::new(KEY),
        session_token: None,
    });
    options.connections = CONNECTIONS.clone();
    options.endpoint = Some(naming::repo_host_endpoint(cluster));
    options.ca_pem = Some(secrets.bytes(&naming::server_secret(cluster), "ca.crt")?.to_vec());
    options.client_certificate =
        Some(ClientCertificate::pem(secrets.bytes(&member, "tls.crt")?, secrets.bytes(&member, "tls.key")?));
    Ok(options)
}

/// The store of `repository` of `cluster`, at `path` on its volume. Makes no request.
///
/// # Errors
/// When a Secret or a key is missing or cannot be used, or `path` is no path.
pub fn store(cluster: &str, repository: &str, path: &str, secrets: &SecretValues) -> Result<Store> {
    let destination = Destination::parse(&format!("s3://{repository}/{}", path.trim_start_matches('/')))?;
    Ok(Store::s3(&destination, &options(cluster, secrets)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_own_certificates_are_used() {
        let mut secrets = SecretValues::default();
        secrets.insert("pg-server", [("ca.crt".to_owned(), b"authority".to_vec())].into());
        let pair = [("tls.crt".to_owned(), b"chain".to_vec()), ("tls.key".to_owned(), b"key".to_vec())];
        secrets.insert("pg-replication", pair.into());
        let options = options("pg", &secrets).unwrap();
        assert_eq!(options.endpoint.as_deref(), Some("https://pg-repo-host:8432"));
        assert_eq!(options.ca_pem.as_deref(), Some(b"authority".as_slice()));
        assert_eq!(options.client_certificate, Some(ClientCertificate::pem("chain", "key")));
    }

    #[test]
    fn a_missing_secret_is_named() {
        let error = options("pg", &SecretValues::default()).unwrap_err().report();
        assert!(error.contains("Secret pg-server"), "{error}");
    }
}
