//! A repository host in this process: the product's own server over a directory, with certificates made for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use howdah_s3_server::{DiskStore, Identity, Limits, Policy, Retention, Server};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, Pair, unusable};
use crate::error::Error;

/// Common name of clients that may read and write.
pub const WRITER: &str = "writer";
/// Common name of clients that may read.
pub const READER: &str = "reader";

/// A running host. Dropping it stops it without waiting.
pub struct VolumeServer {
    /// The server, to give it other certificates.
    pub server: Server,
    /// The authority of server and clients.
    pub authority: Authority,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl VolumeServer {
    /// Serves `bucket` on the directory `dir`, on a free port of this machine.
    pub async fn start(bucket: &str, dir: &Path) -> Result<Self, Error> {
        let volumes = [(bucket.to_owned(), dir.to_owned())];
        Self::over(Arc::new(DiskStore::volumes(&volumes, Retention::default())?)).await
    }

    /// The same over a store that is open.
    pub async fn over(store: Arc<DiskStore>) -> Result<Self, Error> {
        let authority = Authority::new()?;
        let name = |name: &str| BTreeSet::from([name.to_owned()]);
        let policy = Policy { writers: name(WRITER), readers: name(READER) };
        let own = Self::identity(&Self::own(&authority)?, authority.pem())?;
        let server = Server::new(store, policy, own, Limits::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let refused = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let stop = CancellationToken::new();
        let (serving, until) = (server.clone(), stop.clone());
        let task = tokio::spawn(async move { serving.serve(listener, until).await });
        Ok(Self { server, authority, address, stop, task })
    }

    /// A certificate for this host from another authority.
    pub fn own(authority: &Authority) -> Result<Pair, Error> {
        authority.server(&["localhost", "127.0.0.1"])
    }

    /// What a server shows, and whose clients it believes.
    pub fn identity(own: &Pair, authorities: &str) -> Result<Identity, Error> {
        Identity::from_pem(own.chain.as_bytes(), own.key.as_bytes(), authorities.as_bytes()).map_err(unusable)
    }

    /// The endpoint's URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Stops serving and waits until all is quiet; the directory can then be served again.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        // A task that panicked has said so already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for VolumeServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
