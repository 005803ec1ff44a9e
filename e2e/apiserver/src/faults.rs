//! Faults on demand: what a client must survive, made to happen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::path::RequestInfo;
use crate::registry::ResourceDef;
use crate::status::{ApiError, qualified};

/// Which requests a fault meets: every given part must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Matcher {
    /// Verbs, for example `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`; all when empty.
    pub verbs: Vec<String>,
    /// API group (empty text for core).
    pub group: Option<String>,
    /// Plural name.
    pub resource: Option<String>,
    /// Subresource (empty text for the object itself).
    pub subresource: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// User name of the caller.
    pub user: Option<String>,
}

impl Matcher {
    /// Fits requests for a resource.
    pub fn resource(plural: &str) -> Self {
        Self { resource: Some(plural.into()), ..Self::default() }
    }

    /// Narrows it to some verbs.
    #[must_use]
    pub fn verbs(mut self, verbs: &[&str]) -> Self {
        self.verbs = verbs.iter().map(|v| (*v).into()).collect();
        self
    }

    fn fits(&self, info: &RequestInfo, user: &str) -> bool {
        let is = |wanted: &Option<String>, actual: &str| wanted.as_ref().is_none_or(|w| w == actual);
        (self.verbs.is_empty() || self.verbs.iter().any(|v| v == info.verb))
            && is(&self.group, &info.group)
            && is(&self.resource, &info.resource)
            && is(&self.subresource, &info.subresource)
            && is(&self.namespace, &info.namespace)
            && is(&self.name, &info.name)
            && is(&self.user, user)
    }
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Effect {
    /// It is served late.
    #[serde(rename_all = "camelCase")]
    Latency {
        /// Milliseconds.
        milliseconds: u64,
    },
    /// 409 Conflict, as if the object had changed.
    Conflict,
    /// 429 with `Retry-After`.
    #[serde(rename_all = "camelCase")]
    TooManyRequests {
        /// Seconds.
        retry_after_seconds: u64,
    },
    /// 500.
    InternalError,
    /// 410 Gone.
    Expired,
    /// It is carried out, and the answer is 500 all the same.
    LostAnswer,
}

/// A fault: which requests, what happens, how many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Which requests.
    #[serde(default, rename = "match")]
    pub matcher: Matcher,
    /// What happens.
    pub effect: Effect,
    /// How many requests it meets; all until it is cleared when absent.
    #[serde(default)]
    pub count: Option<u64>,
}

/// What a request meets.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Waits this long first.
    pub delay: Duration,
    /// Fails with this.
    pub failure: Option<ApiError>,
    /// Fails after it was carried out.
    pub lose_answer: bool,
}

/// The faults of one server.
#[derive(Debug)]
pub struct Faults {
    list: Mutex<Vec<Fault>>,
    dropping: Mutex<Option<Matcher>>,
    drops: watch::Sender<u64>,
    outage: watch::Sender<bool>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            list: Mutex::default(),
            dropping: Mutex::default(),
            drops: watch::Sender::new(0),
            outage: watch::Sender::new(false),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        lock(&self.list).push(fault);
    }

    /// Adds a fault for a number of requests.
    pub fn inject_times(&self, matcher: Matcher, effect: Effect, count: u64) {
        self.inject(Fault { matcher, effect, count: Some(count) });
    }

    /// Removes all faults and ends an outage.
    pub fn clear(&self) {
        lock(&self.list).clear();
        self.outage.send_replace(false);
    }

    /// The faults that are left.
    pub fn active(&self) -> Vec<Fault> {
        lock(&self.list).clone()
    }

    /// Ends the open watches that fit; clients see a closed stream.
    pub fn drop_watches(&self, matcher: Matcher) {
        *lock(&self.dropping) = Some(matcher);
        self.drops.send_modify(|n| *n += 1);
    }

    /// Starts (or ends) an outage: open connections are reset, and so are new ones.
    pub fn set_outage(&self, on: bool) {
        self.outage.send_replace(on);
    }

    /// Told when an outage starts or ends.
    pub fn outages(&self) -> watch::Receiver<bool> {
        self.outage.subscribe()
    }

    pub(crate) fn watch_drops(&self) -> watch::Receiver<u64> {
        self.drops.subscribe()
    }

    pub(crate) fn drops_watch(&self, def: &ResourceDef) -> bool {
        let Some(matcher) = lock(&self.dropping).clone() else { return false };
        let is = |wanted: &Option<String>, actual: &str| wanted.as_ref().is_none_or(|w| w == actual);
        is(&matcher.group, &def.group) && is(&matcher.resource, &def.plural)
    }

    /// What this request meets; counts down.
    pub fn judge(&self, info: &RequestInfo, user: &str) -> Verdict {
        let mut verdict = Verdict::default();
        let mut list = lock(&self.list);
        for fault in list.iter_mut() {
            if !fault.matcher.fits(info, user) || fault.count == Some(0) {
                continue;
            }
            let failure = match &fault.effect {
                Effect::Latency { milliseconds } => {
                    verdict.delay += Duration::from_millis(*milliseconds);
                    None
                }
                Effect::LostAnswer => {
                    verdict.lose_answer = true;
                    None
                }
                _ if verdict.failure.is_some() => continue,
                Effect::Conflict => Some(ApiError::modified(&info.group, &info.resource, &info.name)),
                Effect::TooManyRequests { retry_after_seconds } => Some(ApiError::too_many_requests(
                    "the server has received too many requests and has asked us to try again later",
                    *retry_after_seconds,
                )),
                Effect::InternalError => Some(ApiError::internal(format!(
                    "injected fault on {}",
                    qualified(&info.group, &info.resource)
                ))),
                Effect::Expired => {
                    Some(ApiError::expired("The resourceVersion for the provided watch is too old."))
                }
            };
            if failure.is_some() {
                verdict.failure = failure;
            }
            if let Some(count) = &mut fault.count {
                *count -= 1;
            }
        }
        list.retain(|f| f.count != Some(0));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_fit_and_count_down() {
        let faults = Faults::default();
        faults.inject_times(Matcher::resource("pods").verbs(&["get"]), Effect::Conflict, 1);
        let mut info = RequestInfo { verb: "get", resource: "secrets".into(), ..RequestInfo::default() };
        assert!(faults.judge(&info, "u").failure.is_none());
        info.resource = "pods".into();
        assert!(faults.judge(&info, "u").failure.is_some());
        assert!(faults.judge(&info, "u").failure.is_none());
        assert!(faults.active().is_empty());
    }
}
