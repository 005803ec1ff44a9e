//! How the life of a server ends: by itself, or because it shall.

use std::sync::PoisonError;
use std::time::Duration;

use kube::runtime::events::EventType;
use tokio::signal::unix::Signal;
use tokio::time::{sleep, timeout};

use super::{End, Life, changed_or_later};
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::error::{Error, Result};
use crate::pg::server::{describe, stop_plan};
use crate::pg::stale;
use crate::run::divergence;
use crate::run::role::Running;
use crate::run::shared::cluster_port;

/// Default of `spec.stopDelay`, in seconds.
const STOP_DELAY: u64 = 1800;
/// Default of `spec.switchoverDelay`, in seconds.
const SWITCHOVER_DELAY: u64 = 3600;

/// How long a running backup may take to clean up when the pod ends.
const BACKUP_FAREWELL: Duration = Duration::from_secs(15);

impl Life {
    /// PostgreSQL ended by itself.
    pub(super) async fn ended(&mut self, how: String, stop: &mut Signal) -> Result<End> {
        self.shared.authority.watchdog.guard(None);
        let up = self.shared.server.borrow().up;
        if let Some(mut server) = self.server.take() {
            server.drain_log().await;
        }
        // Nobody may take the lease while processes of the dead server are about.
        let paths = &self.shared.env.paths;
        stale::clear(&paths.pgdata, &paths.run(), cluster_port()).await?;
        let lost = self.shared.authority.lost();
        self.shared.authority.release().await;
        self.astray = self.replica.lock().unwrap_or_else(PoisonError::into_inner).at_end();
        if self.running == Running::Standby && self.astray != divergence::Verdict::Fine {
            self.say("the replica ended: it cannot follow as it is", false, false);
            return Ok(End::Again);
        }
        if let Some(why) = lost {
            self.say("PostgreSQL was stopped: it may not be the primary any more", false, false);
            let cluster = self.shared.cluster();
            let note = self
                .named(&format!("PostgreSQL was stopped, because the lease of the primary is lost: {why}"));
            self.shared.kube.event(&*cluster, EventType::Warning, "PrimaryStopped", &note).await;
            return Ok(End::Again);
        }
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Sessions of those who read what is followed have their own FATAL lines.
        let read = self.following.is_some() && up;
        if self.running == Running::Recovery && log.is_final() && !read {
            let target = RecoveryFile::read(&self.shared.env.paths)?
                .and_then(|f| f.target)
                .map_or_else(|| "the end of the archive".to_owned(), |t| describe_target(&t));
            self.fatal(&log.reason(&target)).await;
            tokio::select! {
                () = changed_or_later(&self.shared) => return Ok(End::Again),
                _ = stop.recv() => return Ok(End::Stopped),
            }
        }
        self.say(&format!("PostgreSQL ended by itself ({how})"), false, false);
        Err(Error::transient(format!(
            "PostgreSQL ended by itself ({how}); the container starts anew, see the log above"
        )))
    }

    pub(super) fn stop_delay(&self) -> Duration {
        let delay = self.shared.cluster().spec.stop_delay.and_then(|d| u64::try_from(d).ok());
        Duration::from_secs(delay.unwrap_or(STOP_DELAY)).saturating_sub(Duration::from_secs(2))
    }

    pub(super) fn switchover_delay(&self) -> Duration {
        let delay = self.shared.cluster().spec.switchover_delay.and_then(|d| u64::try_from(d).ok());
        Duration::from_secs(delay.unwrap_or(SWITCHOVER_DELAY))
    }

    pub(super) async fn stop(&mut self, total: Duration) -> Result<()> {
        self.shared.server.send_modify(|s| {
            s.stopping = true;
            "PostgreSQL is shutting down".clone_into(&mut s.message);
        });
        self.end_backup().await;
        if let Some(server) = self.server.as_mut() {
            let status = server.stop(&stop_plan(total)).await?;
            server.drain_log().await;
            tracing::info!(status = describe(status), "PostgreSQL has ended");
        }
        self.shared.authority.watchdog.guard(None);
        self.server = None;
        self.say("PostgreSQL has ended", false, false);
        Ok(())
    }

    /// A running backup cannot survive; it gets a moment to clean up and to say so.
    async fn end_backup(&self) {
        let Some(backup) = self.shared.backup() else { return };
        backup.cancel.cancel();
        let waiting = async {
            while self.shared.backup().is_some() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(BACKUP_FAREWELL, waiting).await.is_err() {
            tracing::warn!(
                "the running backup did not end in time; it is marked as failed after the restart"
            );
        }
    }
}

fn describe_target(target: &howdah_api::bootstrap::RecoveryTarget) -> String {
    let named = [
        ("targetTime", &target.target_time),
        ("targetLSN", &target.target_lsn),
        ("targetXID", &target.target_xid),
        ("targetName", &target.target_name),
    ];
    named
        .iter()
        .find_map(|(name, value)| value.as_ref().map(|v| format!("{name} {v}")))
        .unwrap_or_else(|| "the end of the archive".to_owned())
}
