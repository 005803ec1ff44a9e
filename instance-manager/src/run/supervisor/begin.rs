//! Everything up to the start of the server.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::Life;
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::error::{Error, Result};
use crate::pg::files::{STANDBY_SIGNAL, make_private, set_signal};
use crate::pg::server::{OnLine, Server};
use crate::pg::stale;
use crate::run::configure;
use crate::run::following::Following;
use crate::run::role::Running;
use crate::run::shared::cluster_port;

impl Life {
    /// Everything up to the start of the server.
    pub(super) async fn begin(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let paths = &shared.env.paths;
        self.say("starting PostgreSQL", false, false);
        make_private(&paths.pgdata)?;
        stale::clear(&paths.pgdata, &paths.run(), cluster_port()).await?;
        let secrets = shared.secrets();
        shared.wal.configure(&shared.stores(), shared.wal_policy(), &secrets);
        match self.running {
            Running::Primary => {
                shared.wal.stop_serving().await;
                shared.wal.lead();
                set_signal(paths, None)?;
            }
            Running::Standby => {
                shared.wal.serve_standby(&shared.stores(), &secrets);
                set_signal(paths, Some(STANDBY_SIGNAL))?;
            }
            Running::Recovery => {
                let file = RecoveryFile::read(paths)?
                    .ok_or_else(|| Error::transient("the recovery settings went away"))?;
                shared.wal.serve_recovery(&file, &secrets)?;
                self.following = file.following.then(|| Following::new(&file, &secrets));
            }
        }
        configure::apply(&shared, self.running).await?;
        if let Some(error) = configure::refused_hba(&shared.cluster()) {
            self.trouble("InvalidConfiguration", &error).await;
        }
        let server = Server::start(
            &shared.programs,
            &shared.children,
            &paths.pgdata,
            shared.local.clone(),
            &[],
            self.on_line(),
        )?;
        tracing::info!(pid = server.pid(), role = ?self.running, "PostgreSQL was started");
        shared.authority.watchdog.guard(Some(server.pid()));
        self.server = Some(server);
        self.say("PostgreSQL is starting", true, false);
        Ok(())
    }

    /// Hears what PostgreSQL says.
    pub(super) fn on_line(&self) -> OnLine {
        let (log, replica) = (self.log.clone(), self.replica.clone());
        let follows = self.running == Running::Standby;
        Arc::new(move |line| {
            log.lock().unwrap_or_else(PoisonError::into_inner).take(line);
            if follows {
                replica.lock().unwrap_or_else(PoisonError::into_inner).take(line, Instant::now());
            }
        })
    }
}
