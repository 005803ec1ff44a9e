//! The server behind `/controller/run/manager.sock`.

use std::path::Path;
use std::sync::Arc;

use howdah_api::instance::{SocketAnswer, SocketRequest};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::served::Served;
use crate::error::{IoContext, Result};
use crate::inspect;
use crate::pg::files::remove_optional;
use crate::wal_client::USAGE;

/// Longest request.
const REQUEST_LIMIT: u64 = 64 * 1024;

/// Begins to listen; a socket that a former process left is replaced.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(socket: &Path) -> Result<UnixListener> {
    remove_optional(socket)?;
    UnixListener::bind(socket).at("cannot listen on", socket)
}

/// Answers requests until the task is dropped.
pub async fn serve(listener: UnixListener, served: Arc<impl Served>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = served.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &served).await {
                        tracing::debug!(%error, "a command went away before its answer");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the manager's socket failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers the one request of a connection.
///
/// # Errors
/// When the client went away.
pub async fn answer(stream: UnixStream, served: &Arc<impl Served>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_LIMIT));
    reader.read_line(&mut line).await?;
    let request: SocketRequest = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let error = format!("the request is not one line of JSON that is understood: {error}");
            let answer = SocketAnswer { ok: false, code: Some(USAGE), error: Some(error) };
            return say(&mut write, &answer).await;
        }
    };
    let answering = async {
        match (request, served.wal()) {
            (SocketRequest::Archive { path }, Some(wal)) => {
                let answer = wal.archive(&path, served.is_replica().await).await;
                if let Some(error) = &answer.error {
                    tracing::warn!(path, "not archived: {error}");
                }
                say(&mut write, &answer).await
            }
            (SocketRequest::Restore { name, path }, Some(wal)) => {
                let answer = wal.restore(&name, &path).await;
                if let Some(error) = answer.error.as_ref().filter(|_| answer.code != Some(1)) {
                    tracing::error!(name, "not restored: {error}");
                }
                say(&mut write, &answer).await
            }
            (SocketRequest::Status, Some(_)) => say(&mut write, &served.status().await).await,
            (SocketRequest::Archive { .. } | SocketRequest::Restore { .. } | SocketRequest::Status, None) => {
                let error = "there is no PostgreSQL in this pod: ask in a pod of an instance".to_owned();
                say(&mut write, &SocketAnswer { ok: false, code: Some(USAGE), error: Some(error) }).await
            }
            (inspection, _) => inspect::serve(inspection, served, &mut write).await,
        }
    };
    // PostgreSQL kills its command when it is told to stop, and a person interrupts one that takes long: the work for
    // it is dropped then, with all that it started.
    let mut rest = [0u8; 1];
    tokio::select! {
        done = answering => done,
        _ = reader.read(&mut rest) => Ok(()),
    }
}

/// Writes one line.
///
/// # Errors
/// When it cannot be written.
pub fn say<'a, W: AsyncWrite + Unpin, S: Serialize>(
    to: &'a mut W,
    what: &S,
) -> impl Future<Output = std::io::Result<()>> + use<'a, W, S> {
    // Before anything is waited for: what is said need not live on.
    let text = serde_json::to_vec(what);
    async move {
        let mut text = text?;
        text.push(b'\n');
        to.write_all(&text).await
    }
}
