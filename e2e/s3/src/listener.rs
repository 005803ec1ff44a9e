//! Accepting connections, and not accepting them during an outage.
//!
//! A second socket stays bound to the address without listening, so that the port remains ours during an outage
//! while connections are refused as they are when a server is down.

use std::io;
use std::net::SocketAddr;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gate::Gate;

/// Connections of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Accepted since the start.
    pub accepted: u64,
    /// Open now.
    pub open: u64,
}

/// Counts one connection for as long as it lives.
struct Counted(watch::Sender<Connections>);

impl Counted {
    fn new(counter: &watch::Sender<Connections>) -> Self {
        counter.send_modify(|count| {
            count.accepted += 1;
            count.open += 1;
        });
        Self(counter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.open -= 1);
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A bound address, listening or not.
pub(crate) struct Port {
    pub address: SocketAddr,
    pub connections: watch::Sender<Connections>,
    _reservation: TcpSocket,
    listener: Option<TcpListener>,
}

impl Port {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        // Without this a second server could share an address in use, because both set SO_REUSEPORT.
        let probe = if address.port() == 0 { None } else { Some(std::net::TcpListener::bind(address)?) };
        drop(probe);
        let reservation = socket(address)?;
        let address = reservation.local_addr()?;
        let listener = socket(address)?.listen(1024)?;
        let connections = watch::Sender::default();
        Ok(Self { address, connections, _reservation: reservation, listener: Some(listener) })
    }
}

/// Serves until `stop` is cancelled; during an outage nothing is accepted and open connections are cut.
pub(crate) async fn serve(
    mut port: Port,
    gate: Gate,
    tls: Option<TlsAcceptor>,
    mut wanted_outage: watch::Receiver<bool>,
    actual_outage: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let mut cutter = stop.child_token();
    loop {
        let outage = *wanted_outage.borrow_and_update();
        if outage && port.listener.take().is_some() {
            cutter.cancel();
            connections.close();
            connections.wait().await;
        } else if !outage && port.listener.is_none() {
            match socket(port.address).and_then(|socket| socket.listen(1024)) {
                Ok(listener) => {
                    port.listener = Some(listener);
                    cutter = stop.child_token();
                    connections.reopen();
                }
                Err(error) => tracing::error!(address = %port.address, %error, "cannot listen again"),
            }
        }
        actual_outage.send_replace(port.listener.is_none());
        tokio::select! {
            () = stop.cancelled() => break,
            changed = wanted_outage.changed() => {
                if changed.is_err() {
                    break;
                }
            }
            accepted = accept(port.listener.as_ref()) => match accepted {
                Ok(stream) => {
                    let (gate, tls, cutter) = (gate.clone(), tls.clone(), cutter.clone());
                    let counted = Counted::new(&port.connections);
                    connections.spawn(async move {
                        let _counted = counted;
                        tokio::select! {
                            () = cutter.cancelled() => {}
                            () = connection(stream, gate, tls) => {}
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: let some connections end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(port.listener.take());
    cutter.cancel();
    connections.close();
    connections.wait().await;
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn connection(stream: tokio::net::TcpStream, gate: Gate, tls: Option<TlsAcceptor>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    match tls {
        None => http(stream, gate).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => http(stream, gate).await,
            Err(error) => tracing::debug!(%error, "TLS handshake failed"),
        },
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, gate: Gate) {
    let service = service_fn(move |request| gate.clone().handle(request));
    let served =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
