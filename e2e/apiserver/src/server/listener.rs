//! Connections: accepted, wrapped in TLS, served, and cut during an outage.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handler;
use crate::auth::tls::user_of;
use crate::state::State;

/// A handshake takes no longer than this.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Accepts connections until the server stops.
pub async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    state: Arc<State>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(connection(stream, acceptor.clone(), state.clone(), address, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Resolves when an outage is on.
async fn outage(state: &State) {
    let mut outages = state.faults.outages();
    if outages.wait_for(|on| *on).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    state: Arc<State>,
    address: SocketAddr,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    if *state.faults.outages().borrow() {
        let _ = stream.set_zero_linger();
        return;
    }
    let Ok(Ok(tls)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let user = tls.get_ref().1.peer_certificates().and_then(|c| c.first()).and_then(user_of);
    let service = service_fn(|request| {
        let (state, user) = (state.clone(), user.clone());
        async move { Ok::<_, std::convert::Infallible>(handler::handle(state, user, address, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Every watch is a stream of its own.
    builder.http2().max_concurrent_streams(1000);
    let serving = builder.serve_connection(TokioIo::new(tls), service);
    tokio::pin!(serving);
    tokio::select! {
        () = stop.cancelled() => {}
        () = outage(&state) => {}
        result = serving => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
        }
    }
}
