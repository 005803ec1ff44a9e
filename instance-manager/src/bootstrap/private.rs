//! A server that nobody but this process reaches, for the first SQL in a new data directory.

use std::time::Duration;

use super::Context;
use crate::config::hba;
use crate::environment::Paths;
use crate::error::{Error, IoContext, Result};
use crate::pg::server::{Server, StopMode};
use crate::pg::sql::LocalServer;
use crate::pg::{files, stale};

/// Port of the private server: a part of the socket's name only.
const PORT: u16 = 5432;

/// Name of this process's user, from the pod's passwd file.
///
/// # Errors
/// When the user is not in it: PostgreSQL itself would refuse to run.
pub fn os_user(paths: &Paths) -> Result<String> {
    let uid = nix::unistd::getuid().as_raw();
    for path in [std::path::Path::new("/etc/passwd").to_owned(), paths.controller.join("passwd")] {
        if let Some(text) = files::read_optional(&path)?
            && let Some(name) = hba::user_name(&text, uid)
        {
            return Ok(name.to_owned());
        }
    }
    Err(Error::permanent(format!(
        "user {uid} is not in /etc/passwd; PostgreSQL does not run as a nameless user: mount the file that `install` wrote"
    )))
}

impl Context {
    /// Starts the private server. It takes connections of this process's user only.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_private(&self) -> Result<(Server, LocalServer)> {
        let paths = &self.env.paths;
        let run = paths.run();
        std::fs::create_dir_all(&run).at("cannot make", &run)?;
        stale::clear(&paths.pgdata, &run, PORT).await?;
        let conf = "# Replaced at the first start.\n".to_owned();
        let files = files::ServerFiles {
            conf,
            hba: hba::render(&[], false).map_err(|e| Error::permanent(e.to_string()))?,
            ident: hba::render_ident(&os_user(paths)?),
        };
        files.write(&paths.pgdata)?;
        let local = LocalServer::new(&run, PORT);
        let sockets = format!("unix_socket_directories={}", run.display());
        let arguments = [
            "-c",
            "listen_addresses=",
            "-c",
            &sockets,
            "-c",
            "archive_mode=off",
            "-c",
            "ssl=off",
            "-c",
            "logging_collector=off",
            "-c",
            "log_statement=none",
            "-c",
            "log_min_duration_statement=-1",
            "-c",
            "log_min_error_statement=panic",
        ];
        let mut server = Server::start(
            &self.programs,
            &self.children,
            &paths.pgdata,
            local.clone(),
            &arguments,
            std::sync::Arc::new(|_| {}),
        )?;
        server.wait_ready(Duration::from_secs(120)).await?;
        Ok((server, local))
    }

    /// Stops the private server cleanly.
    ///
    /// # Errors
    /// When it does not end, or not cleanly.
    pub async fn stop_private(&self, mut server: Server) -> Result<()> {
        let status = server.stop(&[(StopMode::Fast, Duration::from_secs(300))]).await?;
        if status.success() {
            return Ok(());
        }
        Err(Error::transient(format!(
            "PostgreSQL did not shut down cleanly after the bootstrap ({})",
            crate::pg::server::describe(status)
        )))
    }
}
