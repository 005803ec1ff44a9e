//! What is done again and again while the server runs: it reaches the next state.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use howdah_api::naming::lease_holder;
use kube::runtime::events::EventType;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::Life;
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::config::recovery::parse_lsn;
use crate::error::Result;
use crate::pg::sql::MAINTENANCE_DB;
use crate::pg::{promote, switch};
use crate::run::divergence::{self, ReplicaLog};
use crate::run::passwords::Wanted;
use crate::run::role::Running;
use crate::run::{configure, following};

/// Pause between two attempts to take the lease.
const PROMOTE_RETRY: Duration = Duration::from_millis(500);

/// How long a replica may take to say whom it hears.
const ANSWER: Duration = Duration::from_secs(3);

impl Life {
    /// What is done again and again: reach the next state.
    pub(super) async fn tick(&mut self) -> Result<()> {
        let up = self.shared.server.borrow().up;
        if up && self.running == Running::Recovery && self.follows_on().await {
            return Ok(());
        }
        if !up || self.promote || self.running == Running::Recovery {
            // A server that hangs must not keep the signals waiting.
            let step = timeout(Duration::from_secs(90), self.advance(up)).await;
            match step {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) if error.is_permanent() => self.trouble("InstanceFailed", &error).await,
                Ok(Err(error)) => tracing::debug!("not yet: {}", error.report()),
            }
            return Ok(());
        }
        if self.running == Running::Primary {
            if let Err(error) = self.set_passwords().await {
                self.trouble("PasswordsNotSet", &error).await;
            }
            self.prove_archive().await;
        } else {
            let looking = self.receiver.leave_former_primary(&self.shared);
            if let Ok(Err(error)) = timeout(ANSWER, looking).await {
                tracing::debug!("the WAL receiver was not looked at: {}", error.report());
            }
        }
        Ok(())
    }

    /// Whether an archive is followed and nothing else is to be done now.
    async fn follows_on(&mut self) -> bool {
        let shared = self.shared.clone();
        let Some(following) = &mut self.following else { return false };
        let Some(trouble) = following.look(&shared) else { return false };
        let message = following.message(trouble.as_deref());
        shared.server.send_if_modified(|s| {
            let changed = s.message != message;
            s.message.clone_from(&message);
            changed
        });
        if trouble.is_some() && following.tells() {
            tracing::warn!("{message}");
            let (cluster, note) = (shared.cluster(), self.named(&message));
            shared.kube.event(&*cluster, EventType::Warning, "SourceArchiveUnreadable", &note).await;
        }
        true
    }

    pub(super) async fn advance(&mut self, up: bool) -> Result<()> {
        let sql = self.shared.local.connect(MAINTENANCE_DB).await?;
        let in_recovery: bool = sql.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)?;
        if !up {
            let what = match (self.running, &self.following) {
                (Running::Recovery, Some(following)) if in_recovery => following.message(None),
                (Running::Recovery, None) if in_recovery => "replaying the archive".to_owned(),
                _ => "PostgreSQL takes connections".to_owned(),
            };
            tracing::info!("{what}");
            self.say(&what, true, true);
            if self.running == Running::Primary {
                self.announce(&sql).await?;
            }
        }
        match self.running {
            Running::Recovery
                if in_recovery
                    && self.following.is_some()
                    && self.shared.cluster().spec.follows().is_none() =>
            {
                return following::promote(&self.shared, &sql).await;
            }
            Running::Recovery if !in_recovery => {
                if let Some(file) = RecoveryFile::read(&self.shared.env.paths)? {
                    file.unmark_in_use(&self.shared.env, &self.shared.secrets()).await;
                }
                RecoveryFile::remove(&self.shared.env.paths)?;
                self.announce(&sql).await?;
                // The target of the recovery, and what was raised for it, go with a restart only.
                self.anew = true;
                tracing::info!("PostgreSQL is restarted with the values of the specification");
                self.became_primary(
                    "RecoveryFinished",
                    "the recovery is finished and the instance takes writes",
                )
                .await?;
            }
            Running::Standby if self.promote => {
                if let Err(why) = self.shared.authority.acquire(&self.shared).await {
                    let waiting = format!("chosen as the primary; {why}");
                    self.shared.server.send_modify(|s| waiting.clone_into(&mut s.message));
                    sleep(PROMOTE_RETRY).await;
                    return Ok(());
                }
                if in_recovery {
                    self.shared.wal.about_to_promote().await;
                    promote::promote(&sql).await?;
                }
                self.announce(&sql).await?;
                self.promote = false;
                self.became_primary("Promoted", "the replica was promoted and takes writes").await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets the archives know whose WAL comes now.
    async fn announce(&self, sql: &Client) -> Result<()> {
        let query = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8";
        let timeline: i64 = sql.query_one(query, &[]).await?.try_get(0)?;
        let me = lease_holder(&self.shared.env.pod, &self.shared.env.pod_uid);
        self.shared.wal.became_primary(&me, u32::try_from(timeline).unwrap_or(0)).await;
        Ok(())
    }

    async fn became_primary(&mut self, reason: &str, what: &str) -> Result<()> {
        self.running = Running::Primary;
        // Before anybody is told that it is ready: who comes first must find the passwords of the Secrets.
        if let Err(error) = self.set_passwords().await {
            self.trouble("PasswordsNotSet", &error).await;
        }
        if !self.anew {
            self.say("PostgreSQL takes connections", true, true);
        }
        self.shared.wal.stop_serving().await;
        configure::apply(&self.shared, Running::Primary).await?;
        if let Some(server) = &self.server {
            server.reload();
        }
        tracing::info!("{what}");
        // Those that come back to a new primary wait for its first checkpoint: `pg_rewind` reads its control file.
        let shared = self.shared.clone();
        tokio::spawn(async move {
            if let Ok(sql) = shared.local.connect(MAINTENANCE_DB).await
                && let Err(error) = sql.batch_execute("CHECKPOINT").await
            {
                tracing::warn!(%error, "no checkpoint after the promotion");
            }
        });
        let cluster = self.shared.cluster();
        self.shared.kube.event(&*cluster, EventType::Normal, reason, &self.named(what)).await;
        Ok(())
    }

    /// Whether this replica cannot follow its primary any more as it is.
    pub(super) async fn is_astray(&mut self) -> bool {
        if self.running != Running::Standby || self.promote {
            return false;
        }
        let look = |replica: &Mutex<ReplicaLog>| {
            replica.lock().unwrap_or_else(PoisonError::into_inner).verdict(Instant::now())
        };
        if look(&self.replica) == divergence::Verdict::Fine {
            return false;
        }
        // What it complains of has passed when it replays.
        if let Ok(sample) = crate::serve::sample::sample(&self.shared).await
            && let Some(replayed) = sample.replayed_lsn.as_deref().and_then(parse_lsn)
        {
            self.replica.lock().unwrap_or_else(PoisonError::into_inner).replayed(replayed);
        }
        self.astray = look(&self.replica);
        match &self.astray {
            divergence::Verdict::Diverged(why) | divergence::Verdict::Gone(why) => {
                tracing::warn!("this replica cannot follow as it is: {why}");
                true
            }
            divergence::Verdict::Fine | divergence::Verdict::Missing(_) => false,
        }
    }

    async fn set_passwords(&mut self) -> Result<()> {
        let (cluster, secrets) = (self.shared.cluster(), self.shared.secrets());
        let wanted = Wanted::read(&self.shared.env.cluster, &cluster.spec, &secrets)?;
        if self.passwords.as_ref() == Some(&wanted) {
            return Ok(());
        }
        wanted.apply(&self.shared.local).await?;
        self.passwords = Some(wanted);
        tracing::info!("passwords were set from their Secrets");
        Ok(())
    }

    /// Once for each store and each set of credentials: closes a segment. It is seen soon whether WAL reaches the
    /// store, and PostgreSQL's archiver, which rests for a minute after failures, begins again at once.
    async fn prove_archive(&mut self) {
        if self.proved || !self.shared.cluster().spec.has_stores() {
            return;
        }
        self.proved = true;
        let switched = async {
            let sql = self.shared.local.connect(MAINTENANCE_DB).await?;
            switch::switch(&sql, None).await
        };
        match switched.await {
            Ok(switch) => tracing::info!(wal = switch.closed_wal, "closed a segment to see the archive work"),
            Err(error) => tracing::warn!("no segment could be closed: {}", error.report()),
        }
    }
}
