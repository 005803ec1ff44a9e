//! What every reconciliation is given besides its object.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder};

use crate::clock::Clock;
use crate::controllers::cluster::nodes::NodeAccess;
use crate::controllers::cluster::resting::Resting;
use crate::instance_client::InstanceApi;
use crate::manager_program::ManagerProgram;
use crate::metrics::Metrics;
use crate::shelf::Seen;

/// Settings from the command line that decisions need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// PostgreSQL image of clusters that name none.
    pub postgres_image: String,
    /// Image from which pods copy the instance manager.
    pub operator_image: String,
    /// The instance manager in that image, when it can be read.
    pub manager: Option<ManagerProgram>,
    /// Whether instance managers are replaced while PostgreSQL runs, or with their pods.
    pub manager_in_place: bool,
}

/// Shared by all controllers.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Settings.
    pub settings: Settings,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The instance managers.
    pub instances: Arc<dyn InstanceApi>,
    /// Events.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: Metrics,
    /// Failures in a row, by kind and object.
    pub attempts: Attempts,
    /// Objects applied lately.
    pub applied: AppliedCache,
    /// Heartbeats seen.
    pub heartbeats: Heartbeats,
    /// Whether nodes may be read.
    pub nodes: NodeAccess,
    /// Held while a backup of one cluster is being decided on, so that two never start together.
    pub dispatch: Locks,
    /// What the watches have brought.
    pub seen: Seen,
    /// Clusters at which there was nothing to do.
    pub resting: Resting,
}

impl Context {
    /// Publishes an event about `object`. A lost event is logged and harms nothing.
    pub async fn event(
        &self,
        object: &k8s_openapi::api::core::v1::ObjectReference,
        type_: EventType,
        reason: &str,
        note: String,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(fit(note)),
            action: reason.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, object).await {
            tracing::warn!(error = crate::error::chain(&error), reason, "cannot publish an event");
        }
    }
}

/// The server takes at most 1024 bytes. What goes is taken from the middle: the remedy stands at the end.
fn fit(note: String) -> String {
    const HEAD: usize = 500;
    const TAIL: usize = 500;
    if note.len() <= HEAD + TAIL {
        return note;
    }
    let head = (0..=HEAD).rev().find(|i| note.is_char_boundary(*i)).unwrap_or(0);
    let tail = (note.len() - TAIL..note.len()).find(|i| note.is_char_boundary(*i)).unwrap_or(note.len());
    format!("{} … {}", &note[..head], &note[tail..])
}

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<String, u32>>);

impl Attempts {
    /// One more failure; returns how many in a row.
    pub fn failed(&self, key: &str) -> u32 {
        let mut map = self.0.lock().expect("no holder of this lock can panic");
        let count = map.entry(key.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    /// It worked.
    pub fn succeeded(&self, key: &str) {
        self.0.lock().expect("no holder of this lock can panic").remove(key);
    }
}

/// Remembers what was applied, so that an unchanged object is sent again only now and then, or at once when
/// somebody else touched it.
#[derive(Debug, Default)]
pub struct AppliedCache(Mutex<HashMap<String, AppliedObjects>>);

/// What was applied for one owner.
#[derive(Debug, Default)]
struct AppliedObjects {
    /// By kind and name.
    objects: HashMap<String, Applied>,
    /// Somebody touched something since it was last looked at as a whole.
    touched: bool,
}

/// One object as it was applied.
#[derive(Debug)]
struct Applied {
    /// Of what was sent.
    fingerprint: String,
    /// The version that it got; none when it is an object that is not to be there.
    version: Option<String>,
    /// When.
    at: Duration,
}

impl AppliedCache {
    /// Long: these objects are watched, so whatever anybody does to them is noticed.
    const KEPT: Duration = Duration::from_secs(3600);

    /// Whether `object` of `owner` was applied with `fingerprint` lately.
    pub fn is_fresh(&self, owner: &str, object: &str, fingerprint: &str, elapsed: Duration) -> bool {
        let map = self.0.lock().expect("no holder of this lock can panic");
        map.get(owner)
            .and_then(|o| o.objects.get(object))
            .is_some_and(|a| a.fingerprint == fingerprint && elapsed.saturating_sub(a.at) < Self::KEPT)
    }

    /// Whether `version` of `object` is the one that we made ourselves.
    pub fn is_own(&self, owner: &str, object: &str, version: Option<&str>) -> bool {
        let map = self.0.lock().expect("no holder of this lock can panic");
        let known = map.get(owner).and_then(|o| o.objects.get(object)).and_then(|a| a.version.as_deref());
        known.is_some() && known == version
    }

    /// `object` was applied and is `version` now.
    pub fn remember(
        &self,
        owner: &str,
        object: &str,
        fingerprint: String,
        version: Option<String>,
        elapsed: Duration,
    ) {
        let mut map = self.0.lock().expect("no holder of this lock can panic");
        let applied = Applied { fingerprint, version, at: elapsed };
        map.entry(owner.to_owned()).or_default().objects.insert(object.to_owned(), applied);
    }

    /// All that `owner` has is looked at now.
    pub fn begin(&self, owner: &str) {
        let mut map = self.0.lock().expect("no holder of this lock can panic");
        map.entry(owner.to_owned()).or_default().touched = false;
    }

    /// Something of `owner` changed: look at all of it again.
    pub fn touch(&self, owner: &str) {
        let mut map = self.0.lock().expect("no holder of this lock can panic");
        if let Some(known) = map.get_mut(owner) {
            *known = AppliedObjects { objects: HashMap::new(), touched: true };
        }
    }

    /// Whether something of `owner` changed since all of it was looked at.
    pub fn is_touched(&self, owner: &str) -> bool {
        self.0.lock().expect("no holder of this lock can panic").get(owner).is_none_or(|known| known.touched)
    }

    /// `owner` is gone.
    pub fn forget(&self, owner: &str) {
        self.0.lock().expect("no holder of this lock can panic").remove(owner);
    }
}

/// When each heartbeat was first seen, by our own clock: clocks of other machines are not compared with it.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<HashMap<String, (String, Duration)>>);

impl Heartbeats {
    /// How long `value` has been unchanged for `uid`.
    pub fn unchanged_for(&self, uid: &str, value: &str, elapsed: Duration) -> Duration {
        let mut map = self.0.lock().expect("no holder of this lock can panic");
        match map.get(uid) {
            Some((known, since)) if known == value => elapsed.saturating_sub(*since),
            _ => {
                map.insert(uid.to_owned(), (value.to_owned(), elapsed));
                Duration::ZERO
            }
        }
    }

    /// The instance was seen at work by other means: count from now.
    pub fn alive(&self, uid: &str, value: &str, elapsed: Duration) {
        let mut map = self.0.lock().expect("no holder of this lock can panic");
        map.insert(uid.to_owned(), (value.to_owned(), elapsed));
    }

    /// No longer of interest.
    pub fn forget(&self, uid: &str) {
        self.0.lock().expect("no holder of this lock can panic").remove(uid);
    }
}

/// A lock for each name.
#[derive(Debug, Default)]
pub struct Locks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the lock of `name`.
    pub async fn lock(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut map = self.0.lock().expect("no holder of this lock can panic");
            map.retain(|_, lock| Arc::strong_count(lock) > 1);
            map.entry(name.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_keeps_its_end() {
        assert_eq!(fit("ä".repeat(500)), "ä".repeat(500));
        let long = fit(format!("begin{}kubectl", "ä".repeat(600)));
        assert!(long.len() <= 1024 && long.starts_with("begin") && long.ends_with("kubectl"), "{long}");
    }

    #[test]
    fn a_heartbeat_is_timed_by_our_own_clock() {
        let beats = Heartbeats::default();
        let s = Duration::from_secs;
        assert_eq!(beats.unchanged_for("u", "10:00:00", s(100)), s(0));
        assert_eq!(beats.unchanged_for("u", "10:00:00", s(130)), s(30));
        assert_eq!(beats.unchanged_for("u", "10:00:10", s(140)), s(0));
        beats.alive("u", "10:00:10", s(170));
        assert_eq!(beats.unchanged_for("u", "10:00:10", s(180)), s(10));
    }

    #[test]
    fn what_was_applied_is_sent_again_when_it_differs_or_is_old_or_was_touched() {
        let cache = AppliedCache::default();
        let s = Duration::from_secs;
        assert!(!cache.is_fresh("c", "Service x", "1", s(0)));
        cache.remember("c", "Service x", "1".into(), Some("7".into()), s(0));
        assert!(cache.is_fresh("c", "Service x", "1", s(3599)));
        assert!(!cache.is_fresh("c", "Service x", "2", s(1)));
        assert!(!cache.is_fresh("c", "Service x", "1", s(3600)));
        assert!(cache.is_own("c", "Service x", Some("7")));
        assert!(!cache.is_own("c", "Service x", Some("8")), "somebody else wrote");
        assert!(!cache.is_own("c", "Service x", None));
        assert!(!cache.is_own("c", "Service y", None), "never applied");
        assert!(!cache.is_touched("c"));
        cache.touch("c");
        assert!(!cache.is_fresh("c", "Service x", "1", s(1)));
        cache.remember("c", "Service y", "1".into(), None, s(2));
        assert!(cache.is_touched("c"), "until all of it is looked at");
        cache.begin("c");
        assert!(!cache.is_touched("c") && cache.is_fresh("c", "Service y", "1", s(2)));
        cache.forget("c");
        cache.touch("c");
        assert!(cache.is_touched("c") && !cache.is_fresh("c", "Service y", "1", s(2)));
    }
}
