//! The life of PostgreSQL under process 1.
//!
//! One life is: decide the role, write the configuration, start, follow changes, stop. A server that ends by
//! itself ends the manager too: the container starts anew with a new session id, and whatever depended on this
//! one (a running backup) is known to be lost. Only a failed recovery keeps the manager alive, so that it can tell
//! why.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use howdah_api::naming::lease_holder;
use kube::runtime::events::EventType;
use tokio::signal::unix::Signal;
use tokio::time::{interval, sleep, timeout};
use tokio_postgres::Client;

use super::divergence::{self, ReplicaLog};
use super::following::{self, Following};
use super::passwords::Wanted;
use super::recovery_watch::RecoveryLog;
use super::replace::handover::{FORMAT, Handover, HeldLease, to_uptime};
use super::replace::process::ProcessId;
use super::replace::{Adopted, become_program, install, signals};
use super::role::{Change, Running, Start, change};
use super::shared::{ServerState, Shared, cluster_port};
use super::wal_receiver::WalReceiver;
use super::{certificates, choose, configure, watch};
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::config::recovery::parse_lsn;
use crate::error::{Error, Result};
use crate::pg::files::{STANDBY_SIGNAL, make_private, set_signal};
use crate::pg::server::{OnLine, Server, describe, stop_plan};
use crate::pg::sql::MAINTENANCE_DB;
use crate::pg::{stale, switch};

/// Default of `spec.stopDelay`, in seconds.
const STOP_DELAY: u64 = 1800;
/// Default of `spec.switchoverDelay`, in seconds.
const SWITCHOVER_DELAY: u64 = 3600;
/// Pause before a failed recovery or a refused configuration is tried again by itself.
const RETRY: Duration = Duration::from_secs(60);

/// Pause between two attempts to take the lease.
const PROMOTE_RETRY: Duration = Duration::from_millis(500);

/// How long a replica may take to say whom it hears.
const ANSWER: Duration = Duration::from_secs(3);

/// How long a signal that was sent before may take to be heard, when this program makes room for another.
const LAST_SIGNAL: Duration = Duration::from_millis(50);
/// How long a server that was taken over may take to be looked at, before other things are looked after.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// How long a running backup may take to clean up when the pod ends.
const BACKUP_FAREWELL: Duration = Duration::from_secs(15);

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

    /// Everything up to the start of the server.
    async fn begin(&mut self) -> Result<()> {
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
    fn on_line(&self) -> OnLine {
        let (log, replica) = (self.log.clone(), self.replica.clone());
        let follows = self.running == Running::Standby;
        Arc::new(move |line| {
            log.lock().unwrap_or_else(PoisonError::into_inner).take(line);
            if follows {
                replica.lock().unwrap_or_else(PoisonError::into_inner).take(line, Instant::now());
            }
        })
    }

    /// Goes on with a server that the former program of this process has started. Nothing is written into its data
    /// directory but what changes of the configuration are always written.
    async fn go_on(&mut self, adopted: Adopted) -> Result<()> {
        let shared = self.shared.clone();
        let Adopted { child, output, role, proved, former } = adopted;
        let server = Server::adopt(child, shared.local.clone(), output, &self.on_line())
            .map_err(|e| Error::transient("the log of PostgreSQL cannot be read").because(e))?;
        let (pid, version) = (server.pid(), env!("CARGO_PKG_VERSION"));
        self.server = Some(server);
        self.proved = proved;
        tracing::info!(pid, ?role, former, version, "this program took over; PostgreSQL runs on");
        self.follow().await;
        // Also lets the archives know again whose WAL comes.
        let looked = timeout(TAKE_OVER, self.advance(false)).await;
        if !matches!(looked, Ok(Ok(()))) {
            self.say("PostgreSQL runs on under another instance manager", true, false);
        }
        let note = self.named(&format!(
            "instance manager {version} took the place of {former}; PostgreSQL runs on (process {pid})"
        ));
        tokio::spawn(async move {
            let cluster = shared.cluster();
            shared.kube.event(&*cluster, EventType::Normal, "InstanceManagerReplaced", &note).await;
        });
        Ok(())
    }

    /// Gives this process to another program, when one was installed for that and nothing stands in the way. Returns only
    /// when it goes on: `true` when it was told to end meanwhile.
    async fn make_room(&mut self, stop: &mut Signal) -> Result<bool> {
        let shared = self.shared.clone();
        let Some(program) = shared.replacer.due() else { return Ok(false) };
        if self.promote || install::obstacle(&shared.server()).is_some() {
            return Ok(false);
        }
        let on_line = self.on_line();
        let Some(server) = self.server.as_mut() else { return Ok(false) };
        server.pause_relay().await;
        signals::block();
        // One that came before is heard now; one that comes later waits for the next program.
        let told = timeout(LAST_SIGNAL, stop.recv()).await.is_ok();
        let failed = match self.handover() {
            _ if told => None,
            Ok(Some((handover, output))) => {
                Some(become_program(&shared.env.paths.manager(), &handover, output))
            }
            // Looked at again at the next tick.
            Ok(None) => None,
            Err(error) => Some(error),
        };
        signals::unblock();
        if let Some(server) = self.server.as_mut() {
            server
                .relay_again(&on_line)
                .map_err(|e| Error::transient("the log of PostgreSQL cannot be read").because(e))?;
        }
        if let Some(error) = failed {
            let why = error.report();
            shared.replacer.give_up(&shared.env.paths, &program, &why);
            tracing::error!("this instance manager goes on: {why}");
            let note = self.named(&format!("the instance manager was not replaced: {why}"));
            let cluster = shared.cluster();
            shared.kube.event(&*cluster, EventType::Warning, "InstanceManagerNotReplaced", &note).await;
        }
        Ok(told)
    }

    /// What the next program has to know; `None` while the lease changes hands.
    fn handover(&self) -> Result<Option<(Handover, &[OwnedFd])>> {
        let shared = &self.shared;
        let Some(server) = &self.server else { return Ok(None) };
        let Some((held, promised)) = shared.authority.hand_over() else { return Ok(None) };
        if held.is_none() && self.running == Running::Primary {
            return Ok(None);
        }
        let lease = match held {
            Some((lease, since)) => Some(HeldLease { lease, since: to_uptime(since)? }),
            None => None,
        };
        let handover = Handover {
            format: FORMAT,
            process: ProcessId::own()?,
            postmaster: ProcessId::of(server.pid())?.0,
            role: self.running,
            major: shared.major,
            tls: shared.tls,
            proved: self.proved,
            output: Vec::new(),
            lease,
            promised_until: promised.map(to_uptime).transpose()?,
            cluster: (*shared.cluster()).clone(),
            secrets: (*shared.secrets()).clone(),
            former: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Some((handover, server.output())))
    }

    /// PostgreSQL ended by itself.
    async fn ended(&mut self, how: String, stop: &mut Signal) -> Result<End> {
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

    fn stop_delay(&self) -> Duration {
        let delay = self.shared.cluster().spec.stop_delay.and_then(|d| u64::try_from(d).ok());
        Duration::from_secs(delay.unwrap_or(STOP_DELAY)).saturating_sub(Duration::from_secs(2))
    }

    fn switchover_delay(&self) -> Duration {
        let delay = self.shared.cluster().spec.switchover_delay.and_then(|d| u64::try_from(d).ok());
        Duration::from_secs(delay.unwrap_or(SWITCHOVER_DELAY))
    }

    async fn stop(&mut self, total: Duration) -> Result<()> {
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

    /// What is done again and again: reach the next state.
    async fn tick(&mut self) -> Result<()> {
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

    async fn advance(&mut self, up: bool) -> Result<()> {
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
            Running::Recovery if in_recovery => {
                if self.following.is_some() && self.shared.cluster().spec.follows().is_none() {
                    return following::promote(&self.shared, &sql).await;
                }
            }
            Running::Recovery => {
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
                    let promoted: bool =
                        sql.query_one("SELECT pg_promote(true, 60)", &[]).await?.try_get(0)?;
                    if !promoted {
                        return Err(Error::transient("the promotion is not finished; it goes on"));
                    }
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
    async fn is_astray(&mut self) -> bool {
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
