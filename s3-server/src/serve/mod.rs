//! Serving a store to the members of a cluster, and to nobody else.

mod answering;
mod identity;
mod policy;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use identity::{Identity, IdentityError};
pub use policy::{ClientName, Policy};

use crate::service::Service;
use crate::store::Store;
use answering::Answering;
use policy::{AnyName, FixedKey};

/// Smallest part of an upload that is not its last one, as everywhere.
const MIN_PART: u64 = 5 << 20;

/// Time limits, and how many clients there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a connection may wait for its next request.
    pub idle: Duration,
    /// Sent bytes that nobody acknowledges for so long mean that the client is gone.
    pub unacknowledged: Duration,
    /// A connection older than this ends after its request: its certificate may have ended meanwhile.
    pub age: Duration,
    /// How long requests may go on when the server is told to end.
    pub grace: Duration,
    /// Most connections at a time.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            unacknowledged: Duration::from_secs(120),
            age: Duration::from_secs(3600),
            grace: Duration::from_secs(20),
            connections: 512,
        }
    }
}

/// What a new connection is given.
#[derive(Clone)]
struct Current {
    acceptor: TlsAcceptor,
    /// Cancelled once there is a newer one.
    renewed: CancellationToken,
}

struct Shared {
    service: S3Service,
    current: RwLock<Current>,
    limits: Limits,
}

/// A server over one store. Cheap to clone; clones are one server.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

impl Server {
    /// A server that admits whom `policy` names and shows `identity`.
    #[must_use]
    pub fn new<S: Store>(store: Arc<S>, policy: Policy, identity: Identity, limits: Limits) -> Self {
        let mut builder = S3ServiceBuilder::new(Service::new(store, MIN_PART));
        builder.set_auth(FixedKey);
        builder.set_access(policy);
        builder.set_validation(AnyName);
        // The certificate is the authority; a clock that differs harms nobody.
        let mut config = S3Config::default();
        config.presigned_url_max_skew_time_secs = u32::MAX;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        let current = RwLock::new(Current::of(identity));
        Self(Arc::new(Shared { service: builder.build(), current, limits }))
    }

    /// From now on shows `identity` and believes its authorities; open connections end after their request.
    pub fn renew(&self, identity: Identity) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Current::of(identity));
        old.renewed.cancel();
    }

    /// Serves until `stop` is cancelled, then lets requests end.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.0.limits.connections));
        loop {
            let place = tokio::select! {
                () = stop.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (shared, stop) = (Arc::clone(&self.0), stop.clone());
                    connections.spawn(async move {
                        let _place = place;
                        shared.connection(stream, peer, stop).await;
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: let some connections end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        connections.close();
        if timeout(self.0.limits.grace, connections.wait()).await.is_err() {
            tracing::warn!(left = connections.len(), "requests were cut off");
        }
    }
}

impl Current {
    fn of(identity: Identity) -> Self {
        Self { acceptor: TlsAcceptor::from(identity.0), renewed: CancellationToken::new() }
    }
}

impl Shared {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
        if let Err(error) = tune(&stream, self.limits.unacknowledged) {
            tracing::debug!(%peer, %error, "a socket option could not be set");
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let shaking = current.acceptor.accept(stream).into_fallible();
        match timeout(self.limits.handshake, shaking).await {
            Ok(Ok(stream)) => self.http(stream, peer, current.renewed, stop).await,
            Ok(Err((error, stream))) => {
                tracing::warn!(%peer, %error, "a client was refused");
                linger(stream).await;
            }
            Err(_) => tracing::debug!(%peer, "a handshake took too long"),
        }
    }

    async fn http(
        &self,
        stream: tokio_rustls::server::TlsStream<TcpStream>,
        peer: SocketAddr,
        renewed: CancellationToken,
        stop: CancellationToken,
    ) {
        let name = ClientName::of(stream.get_ref().1);
        let service = Answering { service: self.service.clone(), name };
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = over(&renewed, &stop, self.limits.age) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

async fn over(renewed: &CancellationToken, stop: &CancellationToken, age: Duration) {
    tokio::select! {
        () = renewed.cancelled() => {}
        () = stop.cancelled() => {}
        () = sleep(age) => {}
    }
}

fn tune(stream: &TcpStream, unacknowledged: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    let millis = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?;
    Ok(())
}

/// Reads what a refused client still sends: a reset would overtake the alert that says why.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 16 << 10];
    let _ = stream.shutdown().await;
    let _ = timeout(Duration::from_secs(1), async {
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    })
    .await;
}
