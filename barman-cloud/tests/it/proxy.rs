//! A wire that breaks: bytes pass in both directions until so many have come from the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Wire {
    address: String,
    broken: Arc<AtomicUsize>,
}

impl Wire {
    /// Breaks the first `times` connections on which more than `after` bytes come back.
    pub async fn new(server: String, after: usize, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (broken, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(times)));
        let counted = broken.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (left, counted) = (left.clone(), counted.clone());
                let server = TcpStream::connect(&server).await.expect("it listens");
                tokio::spawn(async move {
                    if pass(client, server, after, &left).await {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Self { address, broken }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::SeqCst)
    }
}

/// Whether it was broken. Either side may close, which ends it.
async fn pass(mut client: TcpStream, mut server: TcpStream, after: usize, left: &AtomicUsize) -> bool {
    let (mut asked, mut told) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut passed = 0;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(count) if count > 0 && server.write_all(&asked[..count]).await.is_ok() => passed = 0,
                _ => return false,
            },
            read = server.read(&mut told) => match read {
                Ok(count) if count > 0 => {
                    passed += count;
                    let take = |left: usize| left.checked_sub(1);
                    if passed > after && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                        return true;
                    }
                    if client.write_all(&told[..count]).await.is_err() {
                        return false;
                    }
                }
                _ => return false,
            },
        }
    }
}
