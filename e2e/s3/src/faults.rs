//! Faults: rules that pick requests, and what happens to those.
//!
//! A rule lets its first `skip` matching requests pass, then acts on `count` of them, then is spent. Rules are
//! looked at in the order they were made; the first that fits acts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::glob;
use crate::store::{Snapshot, Store};
use crate::target::{Operation, Target};

/// What happens to a request that a rule picked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Action {
    /// Answers with an S3 error document; the request changes nothing.
    Error {
        /// HTTP status.
        status: u16,
        /// S3 error code, such as `SlowDown`.
        code: String,
        /// Error text.
        #[serde(default)]
        message: String,
    },
    /// Waits before doing what was asked.
    Stall {
        /// How long, in milliseconds.
        millis: u64,
    },
    /// Sends so much of the answer's body, then waits, then goes on.
    StallBody {
        /// Bytes of the body before the wait.
        after_bytes: u64,
        /// How long, in milliseconds.
        millis: u64,
    },
    /// Takes so much of the request's body, then reads nothing for a while, then goes on.
    StallUpload {
        /// Bytes of the body before the wait.
        after_bytes: u64,
        /// How long, in milliseconds.
        millis: u64,
    },
    /// Sends the answer's body in small pieces with a pause before each: slow, but never standing still.
    Drip {
        /// Bytes of a piece.
        piece: u64,
        /// Length of each pause, in milliseconds.
        millis: u64,
    },
    /// Takes the request's body in small pieces with a pause before each.
    DripUpload {
        /// Bytes of a piece.
        piece: u64,
        /// Length of each pause, in milliseconds.
        millis: u64,
    },
    /// Cuts the connection after so many bytes of the body: the request's, if it has one, else the answer's.
    Reset {
        /// Bytes of the body before the cut.
        after_bytes: u64,
    },
    /// Does what was asked, then cuts the connection instead of answering.
    LoseResponse,
    /// Answers 200 with this body, whatever was asked.
    ReplaceBody {
        /// The body.
        body: String,
    },
    /// Answers this, whatever was asked: the page of a proxy, say.
    Answer {
        /// HTTP status.
        status: u16,
        /// `Content-Type`.
        content_type: String,
        /// The body.
        body: String,
    },
    /// Does what was asked and answers as usual, with another value for one header.
    SetHeader {
        /// Name of the header.
        name: String,
        /// Its value.
        value: String,
    },
    /// Does what was asked without a look at checksums, as a store that does not know them.
    IgnoreChecksums,
    /// Answers as usual, with only the first bytes of the body, and a `Content-Length` that agrees.
    TruncateBody {
        /// Bytes that are kept.
        bytes: u64,
    },
    /// Changes one byte of the request's body before it is looked at, as a bad network card would.
    CorruptUpload {
        /// Which byte, from 0. A shorter body stays as it is.
        offset: u64,
    },
    /// Answers as usual, with one byte of the body changed.
    CorruptBody {
        /// Which byte, from 0. A shorter body stays as it is.
        offset: u64,
    },
    /// Answers a listing with what was there when the rule was made.
    StaleList,
    /// Acknowledges a write or a removal and forgets it.
    LoseWrite,
}

impl Action {
    /// 503 `SlowDown`.
    pub fn slow_down() -> Self {
        Self::error(503, "SlowDown", "Please reduce your request rate.")
    }

    /// 200 with a page of HTML, as a proxy or a web console gives.
    pub fn page() -> Self {
        let body = "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>Sign in</body></html>";
        Self::Answer { status: 200, content_type: "text/html; charset=utf-8".into(), body: body.into() }
    }

    /// 500 `InternalError`.
    pub fn internal_error() -> Self {
        Self::error(500, "InternalError", "We encountered an internal error. Please try again.")
    }

    /// 403 `AccessDenied`.
    pub fn access_denied() -> Self {
        Self::error(403, "AccessDenied", "Access Denied")
    }

    /// Any S3 error.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Error { status, code: code.to_owned(), message: message.to_owned() }
    }
}

/// Which requests, how many of them, and what happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// HTTP method; any when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// Operation; any when absent.
    #[serde(default)]
    pub operation: Option<Operation>,
    /// Bucket; any when absent.
    #[serde(default)]
    pub bucket: Option<String>,
    /// Key pattern, `*` for any run of characters; any when absent.
    #[serde(default)]
    pub key: Option<String>,
    /// A header that the request has to have, `name` or `name: value`; any request when absent.
    #[serde(default)]
    pub header: Option<String>,
    /// Matching requests that pass first.
    #[serde(default)]
    pub skip: u64,
    /// Requests it acts on before it is spent; no end when absent.
    #[serde(default)]
    pub count: Option<u64>,
    /// What happens.
    pub action: Action,
}

impl Rule {
    /// A rule for every request, for ever.
    pub fn new(action: Action) -> Self {
        Self {
            method: None,
            operation: None,
            bucket: None,
            key: None,
            header: None,
            skip: 0,
            count: None,
            action,
        }
    }

    /// Only this HTTP method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only this operation.
    #[must_use]
    pub fn operation(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only this bucket.
    #[must_use]
    pub fn bucket(mut self, bucket: &str) -> Self {
        self.bucket = Some(bucket.to_owned());
        self
    }

    /// Only keys like this; `*` stands for any run of characters.
    #[must_use]
    pub fn key(mut self, pattern: &str) -> Self {
        self.key = Some(pattern.to_owned());
        self
    }

    /// Only requests with this header, `name` or `name: value`.
    #[must_use]
    pub fn header(mut self, header: &str) -> Self {
        self.header = Some(header.to_owned());
        self
    }

    /// Lets so many matching requests pass first.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Acts on so many requests, then is spent.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Self {
        self.count = Some(requests);
        self
    }

    fn fits(&self, target: &Target) -> bool {
        self.method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(target.method.as_str()))
            && self.operation.is_none_or(|operation| operation == target.operation)
            && self.bucket.as_deref().is_none_or(|bucket| bucket == target.bucket)
            && self.key.as_deref().is_none_or(|pattern| glob::matches(pattern, &target.key))
            && self.header.as_deref().is_none_or(|header| target.has_header(header))
    }
}

/// Names a rule, for removing it or asking how often it acted.
pub type RuleId = u64;

#[derive(Debug)]
struct Active {
    id: RuleId,
    rule: Rule,
    passed: u64,
    hits: u64,
    snapshot: Option<Arc<BTreeMap<String, Snapshot>>>,
}

#[derive(Debug, Default)]
struct Rules {
    next: RuleId,
    active: Vec<Active>,
    spent: BTreeMap<RuleId, u64>,
}

/// A picked fault, ready to be carried out.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub action: Action,
    pub snapshot: Option<Arc<BTreeMap<String, Snapshot>>>,
}

/// The handle with which tests break the server.
#[derive(Debug, Clone)]
pub struct Faults {
    rules: Arc<Mutex<Rules>>,
    store: Arc<Store>,
    /// What is wanted; the listener follows.
    wanted_outage: Arc<watch::Sender<bool>>,
    /// What the listener has done.
    actual_outage: watch::Receiver<bool>,
    log: Arc<Mutex<VecDeque<crate::gate::RequestRecord>>>,
}

/// Requests remembered before the oldest are forgotten.
const LOG_LENGTH: usize = 100_000;

impl Faults {
    pub(crate) fn new(store: Arc<Store>, wanted: watch::Sender<bool>, actual: watch::Receiver<bool>) -> Self {
        Self {
            rules: Arc::default(),
            store,
            wanted_outage: Arc::new(wanted),
            actual_outage: actual,
            log: Arc::default(),
        }
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) -> RuleId {
        let snapshot = (rule.action == Action::StaleList).then(|| Arc::new(self.store.snapshots()));
        let mut rules = self.rules();
        rules.next += 1;
        let id = rules.next;
        rules.active.push(Active { id, rule, passed: 0, hits: 0, snapshot });
        id
    }

    /// Removes a rule; false when it is spent or unknown.
    pub fn remove(&self, id: RuleId) -> bool {
        let mut rules = self.rules();
        let Some(at) = rules.active.iter().position(|active| active.id == id) else { return false };
        let removed = rules.active.remove(at);
        rules.spent.insert(id, removed.hits);
        true
    }

    /// Removes every rule. An outage goes on.
    pub fn clear(&self) {
        let mut rules = self.rules();
        for removed in std::mem::take(&mut rules.active) {
            rules.spent.insert(removed.id, removed.hits);
        }
    }

    /// How often a rule has acted so far, also after it was spent or removed.
    pub fn hits(&self, id: RuleId) -> u64 {
        let rules = self.rules();
        rules
            .active
            .iter()
            .find(|active| active.id == id)
            .map(|active| active.hits)
            .or_else(|| rules.spent.get(&id).copied())
            .unwrap_or(0)
    }

    /// The rules that are not spent.
    pub fn list(&self) -> Vec<(RuleId, Rule)> {
        self.rules().active.iter().map(|active| (active.id, active.rule.clone())).collect()
    }

    /// Stops accepting: connections are refused and those that are open are cut. Returns when it is so.
    pub async fn begin_outage(&self) {
        self.set_outage(true).await;
    }

    /// Accepts again, at the same address. Returns when it is so.
    pub async fn end_outage(&self) {
        self.set_outage(false).await;
    }

    /// Begins an outage that ends by itself.
    pub async fn outage_for(&self, duration: Duration) {
        self.begin_outage().await;
        let faults = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            faults.end_outage().await;
        });
    }

    async fn set_outage(&self, wanted: bool) {
        self.wanted_outage.send_replace(wanted);
        // The listener is gone only when the server was shut down; then there is nothing to wait for.
        let _ = self.actual_outage.clone().wait_for(|actual| *actual == wanted).await;
    }

    /// The rule for a request, counted.
    pub(crate) fn pick(&self, target: &Target) -> Option<Fault> {
        let mut rules = self.rules();
        let mut picked = None;
        for active in &mut rules.active {
            if !active.rule.fits(target) {
                continue;
            }
            if active.passed < active.rule.skip {
                active.passed += 1;
                continue;
            }
            active.hits += 1;
            picked = Some((
                active.id,
                active.rule.count.is_some_and(|count| active.hits >= count),
                Fault { action: active.rule.action.clone(), snapshot: active.snapshot.clone() },
            ));
            break;
        }
        let (id, spent, fault) = picked?;
        if spent && let Some(at) = rules.active.iter().position(|active| active.id == id) {
            let done = rules.active.remove(at);
            rules.spent.insert(id, done.hits);
        }
        Some(fault)
    }

    pub(crate) fn record(&self, record: crate::gate::RequestRecord) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LOG_LENGTH {
            log.pop_front();
        }
        log.push_back(record);
    }

    pub(crate) fn records(&self) -> Vec<crate::gate::RequestRecord> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn forget_records(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> Faults {
        let (wanted, _) = watch::channel(false);
        let (_, actual) = watch::channel(false);
        Faults::new(Arc::new(Store::Memory(Default::default())), wanted, actual)
    }

    fn target(method: &str, key: &str, operation: Operation) -> Target {
        let headers = http::HeaderMap::new();
        Target { operation, method: method.parse().unwrap(), bucket: "b".into(), key: key.into(), headers }
    }

    #[test]
    fn skip_and_count() {
        let faults = faults();
        let id = faults.add(Rule::new(Action::slow_down()).method("put").key("*wals*").skip(1).times(2));
        let hit = |key: &str| faults.pick(&target("PUT", key, Operation::PutObject)).is_some();
        assert!(!hit("c/base/x"));
        let outcome: Vec<bool> = (0..5).map(|_| hit("c/wals/x")).collect();
        assert_eq!(outcome, [false, true, true, false, false]);
        assert_eq!(faults.hits(id), 2);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn operations_and_removal() {
        let faults = faults();
        let id = faults.add(Rule::new(Action::LoseWrite).operation(Operation::UploadPart));
        assert!(faults.pick(&target("PUT", "k", Operation::PutObject)).is_none());
        assert!(faults.pick(&target("PUT", "k", Operation::UploadPart)).is_some());
        assert!(faults.remove(id));
        assert!(faults.pick(&target("PUT", "k", Operation::UploadPart)).is_none());
        assert_eq!(faults.hits(id), 1);
    }

    #[test]
    fn rules_travel_as_json() {
        let rule: Rule = serde_json::from_str(
            r#"{"operation":"GetObject","key":"*/wals/*","count":3,"action":{"kind":"reset","after_bytes":10}}"#,
        )
        .unwrap();
        assert_eq!(
            rule,
            Rule::new(Action::Reset { after_bytes: 10 })
                .operation(Operation::GetObject)
                .key("*/wals/*")
                .times(3)
        );
        assert!(serde_json::from_str::<Rule>(r#"{"keys":"x","action":{"kind":"lose-write"}}"#).is_err());
    }
}
