//! How the repository host reaches its own repositories, for the commands that look into them: by a port of the loopback
//! interface, with certificates that exist in this process only. It needs no Secret of the cluster and no name service.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use barman_cloud::store::ClientCertificate;
use barman_cloud::{Destination, Repository, S3Options, Store};
use howdah_s3_server::{DiskStore, Identity, Limits, Policy, Server};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::objstore::SIGNED_BY;
use crate::serve::listen;

/// Common name of the one client.
const NAME: &str = "repo-host";

/// A repository of this pod, and where on its volume it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the repository.
    pub repository: String,
    /// Folder on the volume.
    pub folder: String,
}

/// The way to the repositories of this pod; it ends when it is dropped.
#[derive(Debug)]
pub struct Own {
    options: S3Options,
    _stop: tokio_util::sync::DropGuard,
}

impl Own {
    /// Serves `store` to this process.
    ///
    /// # Errors
    /// When there is no loopback interface, or no certificate can be made.
    pub async fn open(store: Arc<DiskStore>) -> Result<Self> {
        let unmade = |e| Error::permanent("a certificate for this process cannot be made").because(e);
        let made = certificates().map_err(unmade)?;
        let identity =
            Identity::from_pem(made.server.0.as_bytes(), made.server.1.as_bytes(), made.authority.as_bytes())
                .map_err(|e| {
                    Error::permanent("a certificate made for this process cannot be used").because(e)
                })?;
        let policy = Policy { writers: BTreeSet::from([NAME.to_owned()]), readers: BTreeSet::new() };
        let server = Server::new(store, policy, identity, Limits::default());
        let listener = listen::bind(Some(Ipv4Addr::LOCALHOST.into()), 0).await?;
        let address: SocketAddr = listener
            .local_addr()
            .map_err(|e| Error::transient("the port of this process is not known").because(e))?;
        let stop = CancellationToken::new();
        let until = stop.clone();
        tokio::spawn(async move { server.serve(listener, until).await });
        let mut options = S3Options::with_keys(SIGNED_BY, SIGNED_BY);
        options.endpoint = Some(format!("https://{address}"));
        options.ca_pem = Some(made.authority.into_bytes());
        options.client_certificate = Some(ClientCertificate::pem(made.client.0, made.client.1));
        Ok(Self { options, _stop: stop.drop_guard() })
    }

    /// A repository of this pod, as the instances of `cluster` see it. Makes no request.
    ///
    /// # Errors
    /// When the folder is no path.
    pub fn repository(&self, place: &Place, cluster: &str) -> Result<Repository> {
        let destination = Destination::parse(&format!("s3://{}/{}", place.repository, place.folder))?;
        Ok(Repository::new(Store::s3(&destination, &self.options)?, cluster)?)
    }
}

/// Certificates and their keys, PEM.
struct Made {
    authority: String,
    server: (String, String),
    client: (String, String),
}

fn certificates() -> Result<Made, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "repository host, this process");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let sign = |names: Vec<String>, usage| {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.extended_key_usages = vec![usage];
        Ok::<_, rcgen::Error>((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    Ok(Made {
        authority,
        server: sign(vec![Ipv4Addr::LOCALHOST.to_string()], ExtendedKeyUsagePurpose::ServerAuth)?,
        client: sign(Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_s3_server::Retention;

    #[tokio::test]
    async fn the_host_reads_and_writes_its_own_repositories() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let volumes = [("repo1".to_owned(), dir.path().to_owned())];
        let store = Arc::new(DiskStore::volumes(&volumes, Retention::default()).unwrap());
        let own = Own::open(store).await.unwrap();
        let place = Place { repository: "repo1".into(), folder: "prod/pg/repo1".into() };
        let repository = own.repository(&place, "pg").unwrap();
        assert_eq!(repository.url(), "s3://repo1/prod/pg/repo1/pg");
        repository.store().put("pg/base/x", "y".into()).await.unwrap();
        assert_eq!(repository.store().get("pg/base/x", 10).await.unwrap(), "y");
        assert!(dir.path().join("objects/prod/pg/repo1/pg/base").is_dir());
    }
}
