//! SQL over the pod's own Unix socket, as the superuser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::error::Result;

/// How the local server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalServer {
    /// Directory of the socket.
    pub socket_dir: PathBuf,
    /// Port, part of the socket's name.
    pub port: u16,
}

/// The superuser.
pub const SUPERUSER: &str = "postgres";
/// The database that is always there.
pub const MAINTENANCE_DB: &str = "postgres";

impl LocalServer {
    /// On the usual port.
    #[must_use]
    pub fn new(socket_dir: &Path, port: u16) -> Self {
        Self { socket_dir: socket_dir.to_owned(), port }
    }

    /// A session in `database`. It ends when the client is dropped.
    ///
    /// # Errors
    /// When the server does not take connections.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config
            .host_path(&self.socket_dir)
            .port(self.port)
            .user(SUPERUSER)
            .dbname(database)
            .application_name("instance-manager")
            .connect_timeout(Duration::from_secs(10));
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        Ok(client)
    }
}

/// An identifier in double quotes.
#[must_use]
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal in single quotes.
#[must_use]
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }
}
