//! Listening and serving, with and without TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::tls::{ClientName, Reloading};
use crate::error::{Error, Result};

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may stay open.
const CONNECTION: Duration = Duration::from_secs(600);

/// Listens on `ip`, or on all addresses of both families where the machine has both.
///
/// # Errors
/// When the address is taken.
pub async fn bind(ip: Option<IpAddr>, port: u16) -> Result<TcpListener> {
    let addresses: Vec<SocketAddr> = match ip {
        Some(ip) => vec![(ip, port).into()],
        None => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
    };
    let mut last = None;
    for address in &addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    let error = Error::transient(format!("cannot listen on port {port}; is another manager still running?"));
    Err(match last {
        Some(cause) => error.because(cause),
        None => error,
    })
}

async fn accept(listener: &TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves plain HTTP until the task is dropped.
pub async fn serve_plain(listener: TcpListener, router: Router) {
    loop {
        let stream = accept(&listener).await;
        tokio::spawn(connection(stream, router.clone()));
    }
}

/// Serves HTTPS; each request carries the [`ClientName`] of its connection.
pub async fn serve_tls(listener: TcpListener, tls: Reloading, router: Router) {
    loop {
        let stream = accept(&listener).await;
        let (acceptor, router) = (tls.acceptor(), router.clone());
        tokio::spawn(async move {
            let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a TLS handshake failed");
                    return;
                }
                Err(_) => return,
            };
            let name = ClientName::of(stream.get_ref().1);
            connection(stream, router.layer(Extension(name))).await;
        });
    }
}

async fn connection<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let builder = Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION, serving).await {
        tracing::debug!(%error, "a connection ended");
    }
}
