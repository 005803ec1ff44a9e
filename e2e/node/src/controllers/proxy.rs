//! TCP proxies at service addresses. A service without ready pods refuses connections, as in real life.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest wait for a pod to take a connection.
const CONNECT: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Proxy {
    backends: Arc<RwLock<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All proxies of a node. Dropping them ends listening and every connection through them.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    running: BTreeMap<SocketAddr, Proxy>,
    /// Addresses that somebody else serves; said once.
    taken: BTreeSet<SocketAddr>,
}

impl Proxies {
    /// Makes the proxies what is wanted: address by address, where connections go.
    pub async fn set(&mut self, wanted: BTreeMap<SocketAddr, Vec<SocketAddr>>) {
        let gone: Vec<SocketAddr> =
            self.running.keys().filter(|at| wanted.get(at).is_none_or(Vec::is_empty)).copied().collect();
        for at in gone {
            if let Some(mut proxy) = self.running.remove(&at) {
                // Nobody is to be connected once this returns.
                proxy.task.abort();
                let _ = (&mut proxy.task).await;
            }
        }
        for (at, backends) in wanted {
            if backends.is_empty() {
                continue;
            }
            if let Some(proxy) = self.running.get(&at) {
                *proxy.backends.write().unwrap_or_else(PoisonError::into_inner) = backends;
                continue;
            }
            match TcpListener::bind(at).await {
                Ok(listener) => {
                    let backends = Arc::new(RwLock::new(backends));
                    let task = tokio::spawn(serve(listener, backends.clone()));
                    self.running.insert(at, Proxy { backends, task });
                }
                // The API server serves its own service itself.
                Err(error) => {
                    if self.taken.insert(at) {
                        tracing::debug!(%at, %error, "a service's address is served by somebody else");
                    }
                }
            }
        }
    }
}

async fn serve(listener: TcpListener, backends: Arc<RwLock<Vec<SocketAddr>>>) {
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let backends = backends.read().unwrap_or_else(PoisonError::into_inner).clone();
        let start = turn.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(connect(client, backends, start));
    }
}

/// Joins a client to the first backend that takes it, beginning with the one whose turn it is.
async fn connect(mut client: TcpStream, backends: Vec<SocketAddr>, start: usize) {
    for step in 0..backends.len() {
        let to = backends[(start + step) % backends.len()];
        if let Ok(Ok(mut server)) = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await {
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            // Either side may end it at any time; that is no news.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn answering(text: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        at
    }

    async fn ask(at: SocketAddr) -> std::io::Result<String> {
        let mut text = String::new();
        TcpStream::connect(at).await?.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn turns_dead_backends_and_refusal() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (one, two) = (answering("one").await, answering("two").await);
        let mut proxies = Proxies::default();
        proxies.set([(free, vec![one, two])].into()).await;
        let mut answers = vec![ask(free).await.unwrap(), ask(free).await.unwrap()];
        answers.sort();
        assert_eq!(answers, ["one", "two"]);
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        proxies.set([(free, vec![dead, two])].into()).await;
        assert_eq!((ask(free).await.unwrap(), ask(free).await.unwrap()), ("two".into(), "two".into()));
        proxies.set([(free, vec![])].into()).await;
        assert_eq!(ask(free).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
