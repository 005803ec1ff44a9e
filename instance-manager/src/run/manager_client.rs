//! How one manager reaches another of the same cluster: with the certificate of replicas. The pod is dialled by its
//! address; the name that is checked is the service's, which every certificate bears.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use howdah_api::naming;

use super::shared::Shared;
use crate::error::{Error, Result};
use crate::serve::tls::{identity, roots};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A client for the manager at `ip`, and what its URLs begin with. A call takes `limit` at most.
///
/// # Errors
/// When the certificates of the cluster cannot be used.
pub fn client(shared: &Shared, ip: IpAddr, limit: Duration) -> Result<(reqwest::Client, String)> {
    let secrets = shared.secrets();
    let own = identity(&secrets, &naming::replication_secret(&shared.env.cluster))?;
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots(&secrets, &shared.env.cluster)?)
        .with_client_auth_cert(own.chain, own.key)
        .map_err(|e| Error::permanent("the replication certificate cannot be used").because(e))?;
    let host = naming::service_rw(&shared.env.cluster);
    let port = u16::try_from(naming::STATUS_PORT).unwrap_or_default();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .resolve(&host, SocketAddr::new(ip, port))
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(limit)
        .build()
        .map_err(|e| Error::permanent(format!("no client for the manager at {ip} can be made")).because(e))?;
    Ok((client, format!("https://{host}:{port}")))
}
