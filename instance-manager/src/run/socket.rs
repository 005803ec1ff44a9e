//! The server behind `/controller/run/manager.sock`.

use std::path::Path;
use std::sync::Arc;

use howdah_api::instance::{SocketAnswer, SocketRequest};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::served::Served;
use crate::error::{IoContext, Result};
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
                    if let Err(error) = answer(stream, &*served).await {
                        tracing::debug!(%error, "a WAL command went away before its answer");
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

async fn answer(mut stream: UnixStream, served: &impl Served) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_LIMIT));
    reader.read_line(&mut line).await?;
    if let Ok(SocketRequest::Status) = serde_json::from_str(&line) {
        let mut text = serde_json::to_vec(&served.status().await)?;
        text.push(b'\n');
        return write.write_all(&text).await;
    }
    let answering = async {
        match serde_json::from_str(&line) {
            Ok(SocketRequest::Archive { path }) => {
                let answer = served.wal().archive(&path, served.is_replica().await).await;
                if let Some(error) = &answer.error {
                    tracing::warn!(path, "not archived: {error}");
                }
                answer
            }
            Ok(SocketRequest::Restore { name, path }) => {
                let answer = served.wal().restore(&name, &path).await;
                if let Some(error) = answer.error.as_ref().filter(|_| answer.code != Some(1)) {
                    tracing::error!(name, "not restored: {error}");
                }
                answer
            }
            Ok(SocketRequest::Status) => SocketAnswer { ok: true, ..SocketAnswer::default() },
            Err(error) => SocketAnswer {
                ok: false,
                code: Some(USAGE),
                error: Some(format!("the request is not one line of JSON that is understood: {error}")),
            },
        }
    };
    // PostgreSQL kills its command when it is told to stop; the work for it is dropped then.
    let mut rest = [0u8; 1];
    let answer = tokio::select! {
        answer = answering => answer,
        _ = reader.read(&mut rest) => return Ok(()),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    write.write_all(&text).await
}
