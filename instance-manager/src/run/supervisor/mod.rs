//! The life of PostgreSQL under process 1.
//!
//! One life is: decide the role, write the configuration, start, follow changes, stop. A server that ends by
//! itself ends the manager too: the container starts anew with a new session id, and whatever depended on this
//! one (a running backup) is known to be lost. Only a failed recovery keeps the manager alive, so that it can tell
//! why.

mod begin;
mod end;
mod handing_over;
mod steps;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::runtime::events::EventType;
use tokio::signal::unix::Signal;
use tokio::time::{interval, sleep};

use super::divergence::{self, ReplicaLog};
use super::following::Following;
use super::passwords::Wanted;
use super::recovery_watch::RecoveryLog;
use super::replace::Adopted;
use super::role::{Change, Running, Start, change};
use super::shared::{ServerState, Shared};
use super::wal_receiver::WalReceiver;
use super::{certificates, choose, configure, watch};
use crate::error::{Error, Result};
use crate::pg::server::{Server, describe};

/// Pause before a failed recovery or a refused configuration is tried again by itself.
const RETRY: Duration = Duration::from_secs(60);

/// How a life ended.
enum End {
    /// The pod ends.
    Stopped,
    /// Begin another life.
    Again,
}

/// Runs PostgreSQL until the pod ends; begins with a server that the former program of this process has left, when there is
/// one.
///
/// # Errors
/// When PostgreSQL ended by itself.
pub async fn supervise(shared: Arc<Shared>, mut stop: Signal, mut left: Option<Adopted>) -> Result<()> {
    let mut astray = divergence::Verdict::Fine;
    loop {
        let adopted = left.take();
        let chosen = match &adopted {
            // It runs already: there is nothing to choose.
            Some(Adopted { role: Running::Standby, .. }) => Ok(Start::Standby),
            Some(_) => Ok(Start::Primary),
            None => tokio::select! {
                chosen = choose::choose(&shared, &astray) => chosen,
                _ = stop.recv() => {
                    shared.authority.release().await;
                    return Ok(());
                }
            },
        };
        let (mut life, outcome) = match chosen {
            Ok(chosen) => {
                let mut life = Life::new(shared.clone(), chosen);
                let outcome = life.live(&mut stop, adopted).await;
                (life, outcome)
            }
            Err(error) => (Life::new(shared.clone(), Start::Wait), Err(error)),
        };
        shared.authority.watchdog.guard(None);
        astray = std::mem::replace(&mut life.astray, divergence::Verdict::Fine);
        match outcome {
            Ok(End::Stopped) => return Ok(()),
            Ok(End::Again) => {}
            Err(error) if error.is_permanent() && life.server.is_none() => {
                // Nothing runs and a person must act: say so, and try again when something changed.
                shared.authority.release().await;
                life.fatal(&error.report()).await;
                tokio::select! {
                    () = changed_or_later(&shared) => {}
                    _ = stop.recv() => return Ok(()),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn changed_or_later(shared: &Shared) {
    let (mut cluster, mut secrets) = (shared.cluster.subscribe(), shared.secrets.subscribe());
    tokio::select! {
        _ = cluster.changed() => {}
        _ = secrets.changed() => {}
        () = sleep(RETRY) => {}
    }
}

struct Life {
    shared: Arc<Shared>,
    running: Running,
    promote: bool,
    server: Option<Server>,
    log: Arc<Mutex<RecoveryLog>>,
    passwords: Option<Wanted>,
    proved: bool,
    last_trouble: String,
    /// Whom a replica hears.
    receiver: WalReceiver,
    /// What a replica complains of.
    replica: Arc<Mutex<ReplicaLog>>,
    /// What came of its complaints.
    astray: divergence::Verdict,
    /// The archive that a recovery without end follows.
    following: Option<Following>,
    /// The server is to be started anew before anybody is told that it is ready.
    anew: bool,
}

impl Life {
    fn new(shared: Arc<Shared>, chosen: Start) -> Self {
        let running = match chosen {
            Start::Primary | Start::Wait | Start::Fenced => Running::Primary,
            Start::Standby | Start::StandbyToPromote | Start::Rejoin => Running::Standby,
            Start::Recovery => Running::Recovery,
        };
        Self {
            shared,
            running,
            promote: chosen == Start::StandbyToPromote,
            server: None,
            log: Arc::default(),
            passwords: None,
            proved: false,
            last_trouble: String::new(),
            receiver: WalReceiver::default(),
            replica: Arc::default(),
            astray: divergence::Verdict::Fine,
            following: None,
            anew: false,
        }
    }

    fn say(&self, message: &str, running: bool, up: bool) {
        let recovers = self.running == Running::Recovery;
        self.shared.server.send_modify(|s| {
            *s = ServerState {
                running: running.then_some(self.running),
                up,
                message: message.to_owned(),
                following: self.following.as_ref().filter(|_| up && recovers).map(|f| f.source().to_owned()),
                ..ServerState::default()
            };
        });
    }

    async fn fatal(&self, why: &str) {
        tracing::error!("{why}");
        self.shared.server.send_modify(|s| {
            *s = ServerState {
                message: why.to_owned(),
                fatal: Some(why.to_owned()),
                ..ServerState::default()
            };
        });
        // Tried again and again, told once.
        if self.shared.tell_once(why) {
            let cluster = self.shared.cluster();
            self.shared.kube.event(&*cluster, EventType::Warning, "InstanceFailed", &self.named(why)).await;
        }
    }

    fn named(&self, what: &str) -> String {
        format!("{}: {what}", self.shared.env.pod)
    }

    async fn live(&mut self, stop: &mut Signal, adopted: Option<Adopted>) -> Result<End> {
        let shared = self.shared.clone();
        match adopted {
            Some(adopted) => self.go_on(adopted).await?,
            None => self.begin().await?,
        }
        let mut cluster = shared.cluster.subscribe();
        let mut secrets = shared.secrets.subscribe();
        let mut ticks = interval(Duration::from_millis(500));
        loop {
            let Some(server) = self.server.as_mut() else {
                return Err(Error::transient("PostgreSQL was not started"));
            };
            tokio::select! {
                _ = stop.recv() => {
                    self.stop(self.stop_delay()).await?;
                    shared.authority.release().await;
                    return Ok(End::Stopped);
                }
                () = shared.restart.notified() => {
                    tracing::info!("PostgreSQL is restarted");
                    self.stop(self.stop_delay()).await?;
                    return Ok(End::Again);
                }
                ended = server.wait() => {
                    let how = ended.map_or_else(|e| e.to_string(), describe);
                    return self.ended(how, stop).await;
                }
                _ = cluster.changed() => {
                    // The change may name Secrets that were not read so far.
                    if let Err(error) = watch::refresh_secrets(&shared).await {
                        tracing::warn!("Secrets cannot be read; trying again: {}", error.report());
                    }
                    self.follow().await;
                    let delay = match self.change() {
                        Change::Demote => self.switchover_delay(),
                        Change::Fence => self.stop_delay(),
                        Change::None | Change::Promote => continue,
                    };
                    self.stop(delay).await?;
                    return Ok(End::Again);
                }
                _ = secrets.changed() => self.follow().await,
                _ = ticks.tick() => {
                    if self.make_room(stop).await? {
                        self.stop(self.stop_delay()).await?;
                        shared.authority.release().await;
                        return Ok(End::Stopped);
                    }
                    self.tick().await?;
                    if self.anew || self.is_astray().await {
                        self.stop(self.stop_delay()).await?;
                        return Ok(End::Again);
                    }
                }
            }
        }
    }

    fn change(&self) -> Change {
        let target = self.shared.target_primary();
        change(&self.shared.env.pod, target.as_deref(), self.running, choose::fenced(&self.shared))
    }

    /// Follows a change of the Cluster or of Secrets.
    async fn follow(&mut self) {
        let shared = self.shared.clone();
        let secrets = shared.secrets();
        if shared.wal.configure(&shared.stores(), shared.wal_policy(), &secrets) {
            self.proved = false;
        }
        let certificates = match certificates::write(
            &secrets,
            &shared.cluster(),
            &shared.env.cluster,
            &shared.env.paths.certificates(),
        ) {
            Ok(changed) => changed,
            Err(error) => {
                self.trouble("CertificatesUnusable", &error).await;
                false
            }
        };
        match configure::apply(&shared, self.running).await {
            Ok(changed) => {
                if (changed || certificates)
                    && let Some(server) = &self.server
                {
                    tracing::info!("configuration changed; PostgreSQL reads it again");
                    server.reload();
                }
                if let Some(error) = configure::refused_hba(&shared.cluster()) {
                    self.trouble("InvalidConfiguration", &error).await;
                }
            }
            Err(error) => self.trouble("InvalidConfiguration", &error).await,
        }
        if let Some(following) = &mut self.following
            && self.running == Running::Recovery
            && let Err(error) = following.read_again(&shared, &secrets).await
        {
            self.trouble("SourceArchiveUnreadable", &error).await;
        }
        // Chosen and then not: another was chosen before the lease was free.
        self.promote = self.running == Running::Standby && self.change() == Change::Promote;
    }

    /// Something that does not stop the server; told once until it changes.
    async fn trouble(&mut self, reason: &str, error: &Error) {
        let text = error.report();
        if self.last_trouble == text {
            return;
        }
        tracing::error!("{text}");
        let cluster = self.shared.cluster();
        self.shared.kube.event(&*cluster, EventType::Warning, reason, &self.named(&text)).await;
        self.last_trouble = text;
    }
}
