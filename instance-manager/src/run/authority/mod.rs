//! Whether this instance may take writes: the lease of the primary.
//!
//! `Cluster.status.targetPrimary` says who shall be the primary, the Lease `<cluster>-primary` who may. No server is
//! started as a primary and no replica is promoted without the lease ([`Authority::acquire`]); a task renews it as long as
//! it is held. When it can neither be renewed nor all peers say that they cannot reach the API server either, PostgreSQL is
//! stopped before anybody else may take the lease ([`tenure`]). What peers promise meanwhile is in [`Authority::confirm`].

pub mod lease;
pub mod peers;
pub mod tenure;
pub mod watchdog;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use howdah_api::instance::PrimaryConfirmation;
use howdah_api::naming::lease_holder;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::lease::{PrimaryLease, seen};
use self::tenure::{Claim, LEASE, Observation, RENEW, Tenure};
use self::watchdog::Watchdog;
use super::role::Running;
use super::shared::Shared;
use crate::environment::Environment;
use crate::error::Result;
use crate::kube::Kubernetes;
use crate::pg::sql::MAINTENANCE_DB;

/// How long a peer may take to see whether it reaches the API server.
const LOOK: Duration = Duration::from_secs(2);
/// How long PostgreSQL may give no answer at all, neither a session nor a refusal, before a primary with replicas gives
/// the lease up.
const SILENCE: Duration = Duration::from_secs(30);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(4);

/// Where this instance stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It does not hold the lease.
    #[default]
    None,
    /// It does.
    Held,
    /// It held the lease and lost it, and why: PostgreSQL must stop at once.
    Lost(String),
}

/// The lease and what belongs to it.
pub struct Authority {
    lease: PrimaryLease,
    standing: Mutex<Standing>,
    /// The lease as it was written last, and from when on it is in force.
    written: Mutex<Option<Held>>,
    /// One attempt to take the lease, or one word to a peer, at a time.
    turn: tokio::sync::Mutex<Turn>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    /// Kills when all else fails.
    pub watchdog: Arc<Watchdog>,
}

/// A lease that is held, and from when on it is in force.
pub type Held = (Lease, Instant);

#[derive(Default)]
struct Turn {
    observation: Observation,
    /// Until then this instance has promised not to take the lease.
    promised: Option<Instant>,
}

impl Authority {
    /// Of this pod; holds nothing yet.
    #[must_use]
    pub fn new(kube: Kubernetes, env: &Environment) -> Self {
        Self {
            lease: PrimaryLease::new(kube, lease_holder(&env.pod, &env.pod_uid)),
            standing: Mutex::default(),
            written: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            keeper: Mutex::default(),
            watchdog: Watchdog::start(),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lease is held.
    #[must_use]
    pub fn holds(&self) -> bool {
        *self.standing() == Standing::Held
    }

    /// Why the lease was lost, when it was. PostgreSQL has been told to end then.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        match &*self.standing() {
            Standing::Lost(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Tries once to take the lease. `Err` says what it waits for.
    ///
    /// # Errors
    /// Everything that keeps the lease from being taken now passes by itself, or is an error of the API: try again.
    pub async fn acquire(&self, shared: &Arc<Shared>) -> std::result::Result<(), String> {
        let mut turn = self.turn.lock().await;
        if self.holds() {
            return Ok(());
        }
        if let Some(promised) = turn.promised {
            let left = promised.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Err(format!(
                    "the primary has the word of this instance for another {} s",
                    left.as_secs() + 1
                ));
            }
            turn.promised = None;
        }
        let known = self.lease.read().await.map_err(|error| error.report())?;
        let now = Instant::now();
        if let Some(lease) = &known
            && let Claim::Held { by, left } = turn.observation.judge(seen(lease), self.lease.me(), now)
        {
            let by = by.split_once('/').map_or(by.as_str(), |(pod, _)| pod);
            return Err(format!(
                "{by} holds the lease of the primary; at most {} s unless it is renewed",
                left.as_secs() + 1
            ));
        }
        let lease = match self.lease.write(known, &shared.cluster()).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return Err("the lease of the primary changes at this moment".to_owned()),
            Err(error) => return Err(error.report()),
        };
        tracing::info!(holder = self.lease.me(), "holds the lease of the primary");
        self.hold(shared, lease, now, RENEW);
        Ok(())
    }

    /// The lease is this instance's, in force from `since` on; it is renewed after `pause` and from then on.
    fn hold(&self, shared: &Arc<Shared>, lease: Lease, since: Instant, pause: Duration) {
        *self.standing() = Standing::Held;
        self.watchdog.wind(Some(since));
        self.note(&lease, since);
        let keeping = tokio::spawn(keep(shared.clone(), lease, since, pause));
        self.keep_by(Some(keeping));
    }

    /// Goes on with what the former program of this process held or had promised.
    pub async fn take_over(&self, shared: &Arc<Shared>, held: Option<Held>, promised: Option<Instant>) {
        self.turn.lock().await.promised = promised;
        if let Some((lease, since)) = held {
            self.hold(shared, lease, since, Duration::ZERO);
        }
    }

    /// What the next program of this process goes on with: the lease and from when on it is in force, when it is held, and
    /// until when this instance has promised not to take it. `None` while that changes.
    #[must_use]
    pub fn hand_over(&self) -> Option<(Option<Held>, Option<Instant>)> {
        let turn = self.turn.try_lock().ok()?;
        let held = match &*self.standing() {
            Standing::None => None,
            Standing::Held => Some(self.written().clone()?),
            Standing::Lost(_) => return None,
        };
        Some((held, turn.promised))
    }

    fn written(&self) -> MutexGuard<'_, Option<Held>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, lease: &Lease, since: Instant) {
        *self.written() = Some((lease.clone(), since));
    }

    fn keep_by(&self, task: Option<JoinHandle<()>>) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *keeper, task) {
            old.abort();
        }
    }

    /// Gives the lease up: PostgreSQL has ended. When the API does not answer, the lease ends by itself.
    pub async fn release(&self) {
        let _turn = self.turn.lock().await;
        let held = self.holds();
        self.keep_by(None);
        self.watchdog.wind(None);
        *self.standing() = Standing::None;
        if !held {
            return;
        }
        match self.lease.release().await {
            Ok(()) => tracing::info!("the lease of the primary was given up"),
            Err(error) => {
                tracing::warn!(
                    "the lease of the primary ends by itself in {} s: {}",
                    LEASE.as_secs(),
                    error.report()
                );
            }
        }
    }

    /// What this instance says to a primary that cannot reach the API server. Its word is a promise not to take the lease
    /// for as long as one lasts.
    pub async fn confirm(&self, shared: &Shared, primary: &str) -> PrimaryConfirmation {
        let refuse = |reason: String| PrimaryConfirmation { confirmed: false, reason };
        let mut turn = self.turn.lock().await;
        if self.holds() || shared.server.borrow().running == Some(Running::Primary) {
            return refuse(format!("{} is the primary itself", shared.env.pod));
        }
        let target = shared.target_primary();
        if target.as_deref() != Some(primary) {
            return refuse(format!("{} is to be the primary", target.as_deref().unwrap_or("nobody")));
        }
        if self.lease.read_within(LOOK).await.is_ok() {
            return refuse(format!("{} reaches the Kubernetes API", shared.env.pod));
        }
        turn.promised = Some(Instant::now() + LEASE);
        PrimaryConfirmation { confirmed: true, reason: String::new() }
    }

    fn lose(&self, why: String) {
        tracing::error!("the lease of the primary is lost: {why}");
        {
            let mut standing = self.standing();
            if *standing == Standing::Held {
                *standing = Standing::Lost(why);
            }
        }
        // At once: who else listens may be busy.
        self.watchdog.bite();
    }
}

/// Renews the lease until it is lost; ended by [`Authority::release`].
async fn keep(shared: Arc<Shared>, lease: Lease, begun: Instant, pause: Duration) {
    let why = tokio::select! {
        why = renewals(&shared, lease, Tenure::new(begun), pause) => why,
        why = silence(&shared) => why,
    };
    shared.authority.lose(why);
}

/// Renews, for the first time after `pause`; returns why that is over.
async fn renewals(shared: &Shared, mut lease: Lease, mut tenure: Tenure, mut pause: Duration) -> String {
    let authority = &shared.authority;
    loop {
        sleep(pause.min(tenure.left(Instant::now()))).await;
        let round = timeout(tenure.left(Instant::now()), renew(shared, &mut lease, &mut tenure)).await;
        match round {
            Ok(Round::Renewed) => pause = RENEW,
            // Tried more often.
            Ok(Round::Failed) => pause = RENEW / 6,
            Ok(Round::Taken(by)) => return format!("{by} has it"),
            Err(_) => {}
        }
        authority.watchdog.wind(Some(tenure.since()));
        authority.note(&lease, tenure.since());
        if tenure.left(Instant::now()).is_zero() {
            return "it could not be renewed, and not every other instance says that it cannot reach the Kubernetes API \
                    either"
                .to_owned();
        }
    }
}

enum Round {
    Renewed,
    Failed,
    Taken(String),
}

/// Renews once, or has the others' word.
async fn renew(shared: &Shared, known: &mut Lease, tenure: &mut Tenure) -> Round {
    let lease = &shared.authority.lease;
    let begun = Instant::now();
    match renewed(shared, known).await {
        Ok(None) => {
            tenure.extend(begun);
            return Round::Renewed;
        }
        Ok(Some(holder)) => return Round::Taken(holder),
        Err(error) => tracing::warn!(holder = lease.me(), "the lease is not renewed: {}", error.report()),
    }
    let asked = Instant::now();
    match peers::ask(shared).await {
        Ok(()) => {
            tracing::info!("no other instance reaches the Kubernetes API: this one stays the primary");
            tenure.extend(asked);
        }
        Err(error) => tracing::warn!("{}", error.report()),
    }
    Round::Failed
}

/// Writes the lease anew; the answer is its holder when that is somebody else. An emptied lease counts as that: only who
/// took this instance for dead empties it, and another may be on its way.
async fn renewed(shared: &Shared, known: &mut Lease) -> Result<Option<String>> {
    let lease = &shared.authority.lease;
    let cluster = shared.cluster();
    loop {
        if let Some(written) = lease.write(Some(known.clone()), &cluster).await? {
            *known = written;
            return Ok(None);
        }
        let Some(read) = lease.read().await? else { return Ok(Some("nobody".to_owned())) };
        let holder = seen(&read).holder;
        if holder != lease.me() {
            return Ok(Some(if holder.is_empty() { "nobody".to_owned() } else { holder }));
        }
        *known = read;
    }
}

/// Waits until a primary with replicas has given no answer for too long. A server that refuses sessions gives one.
async fn silence(shared: &Shared) -> String {
    let mut answered = Instant::now();
    loop {
        sleep(RENEW).await;
        let server = shared.server();
        let alone = peers::peers(&shared.cluster(), &shared.env.pod).is_empty();
        let watched = server.up && !server.stopping && server.running == Some(Running::Primary) && !alone;
        if !watched || timeout(ANSWER, shared.local.connect(MAINTENANCE_DB)).await.is_ok() {
            answered = Instant::now();
        }
        if answered.elapsed() >= SILENCE {
            return format!("PostgreSQL has given no answer for {} s", SILENCE.as_secs());
        }
    }
}
