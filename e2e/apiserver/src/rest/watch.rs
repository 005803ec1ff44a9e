//! Watches: events after a version, in order, as the selector of the watch sees them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::{Reply, Request, list, shown};
use crate::registry::ResourceDef;
use crate::rest::list::Selection;
use crate::state::State;
use crate::status::{ApiError, ApiResult, FieldError};
use crate::store::{EventType, StoreEvent};
use crate::table::{self, Form};

/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(20);

/// A running watch.
pub struct Stream {
    state: Arc<State>,
    def: Arc<ResourceDef>,
    namespace: String,
    selection: Selection,
    form: Form,
    include: table::Include,
    columns_sent: bool,
    changes: Receiver<u64>,
    drops: Receiver<u64>,
    /// The latest version the client knows.
    version: u64,
    pending: VecDeque<Value>,
    bookmarks: bool,
    next_bookmark: Instant,
    until: Instant,
    ended: bool,
}

/// Starts a watch.
pub fn start(request: &mut Request<'_>) -> ApiResult<Reply> {
    let query = &request.query;
    let initial = query.get("sendInitialEvents");
    let matching = query.get("resourceVersionMatch");
    let refuse = |detail: &str| {
        let error = FieldError::forbidden("resourceVersionMatch", detail);
        ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error])
    };
    if initial.is_some() && matching != Some("NotOlderThan") {
        return Err(refuse("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if initial.is_none() && matching.is_some() {
        return Err(refuse(
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    }
    let selection = Selection::of(request)?;
    let form = table::form(&request.accept)?;
    let seconds = match query.get("timeoutSeconds").map(str::parse::<u64>) {
        Some(Ok(seconds)) if seconds > 0 => seconds,
        Some(Err(_)) => return Err(ApiError::bad_request("timeoutSeconds is not a number")),
        // Long, and not the same for all, so that clients do not come back together.
        _ => rand::random_range(1800..3600),
    };
    let from: Option<u64> = match query.get("resourceVersion") {
        None | Some("0") => None,
        Some(text) => {
            let bad = || ApiError::bad_request(format!("Invalid resource version: {text:?}"));
            Some(text.parse().map_err(|_| bad())?)
        }
    };
    let state = request.state.clone();
    let store = state.store();
    let now = Instant::now();
    let mut stream = Stream {
        state: request.state.clone(),
        def: request.def.clone(),
        namespace: if request.def.namespaced { request.info.namespace.clone() } else { String::new() },
        selection,
        form,
        include: list::includes(request),
        columns_sent: false,
        changes: store.subscribe(),
        drops: request.state.faults.watch_drops(),
        version: store.version(),
        pending: VecDeque::new(),
        bookmarks: query.flag("allowWatchBookmarks") && query.given("allowWatchBookmarks").is_some(),
        next_bookmark: now + BOOKMARK_EVERY,
        until: now + Duration::from_secs(seconds),
        ended: false,
    };
    let send_initial = match initial {
        Some(flag) => flag == "true" || flag == "1",
        None => from.is_none(),
    };
    if send_initial {
        let chosen: Vec<Arc<Value>> = store
            .list(&stream.def.storage, &stream.namespace)
            .filter(|(_, object)| stream.selection.matches(object))
            .map(|(_, object)| object.clone())
            .collect();
        for object in chosen {
            let event = stream.event("ADDED", &object);
            stream.pending.push_back(event);
        }
        if initial.is_some() && stream.bookmarks {
            let mut bookmark = stream.bookmark();
            bookmark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            stream.pending.push_back(bookmark);
        }
    } else if let Some(version) = from {
        if version > stream.version {
            return Err(ApiError::too_large_version(version, stream.version));
        }
        stream.version = version;
        drop(store);
        stream.catch_up();
    }
    Ok(Reply::Watch(stream))
}

impl Stream {
    fn event(&mut self, kind: &str, object: &Value) -> Value {
        let shown = shown(&self.def, object);
        let body = match self.form {
            Form::Object => shown,
            Form::Metadata => table::metadata_only(&shown, "PartialObjectMetadata"),
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let mut table = table::table(&self.def, &[shown], metadata, self.include);
                if self.columns_sent {
                    table["columnDefinitions"] = Value::Null;
                }
                self.columns_sent = true;
                table
            }
        };
        json!({"type": kind, "object": body})
    }

    fn bookmark(&self) -> Value {
        let mut object = json!({"kind": self.def.kind, "apiVersion": self.def.api_version(),
            "metadata": {"resourceVersion": self.version.to_string()}});
        match self.form {
            Form::Object => {}
            Form::Metadata => object = table::metadata_only(&object, "PartialObjectMetadata"),
            Form::Table => {
                object = table::table(
                    &self.def,
                    &[],
                    json!({"resourceVersion": self.version.to_string()}),
                    self.include,
                );
            }
        }
        json!({"type": "BOOKMARK", "object": object})
    }

    /// What an event is to this watch: leaving the selection reads as a deletion, entering it as an addition.
    fn seen(&self, event: &StoreEvent) -> Option<&'static str> {
        if event.key.gr != self.def.storage
            || (!self.namespace.is_empty() && event.key.namespace != self.namespace)
        {
            return None;
        }
        let now = event.kind != EventType::Deleted && self.selection.matches(&event.object);
        let before = event.previous.as_ref().is_some_and(|p| self.selection.matches(p));
        match (before, now) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }

    fn catch_up(&mut self) {
        let state = self.state.clone();
        let store = state.store();
        let Ok(events) = store.since(self.version) else {
            let expired = ApiError::expired(format!(
                "too old resource version: {} ({})",
                self.version,
                store.version()
            ));
            self.pending.push_back(json!({"type": "ERROR", "object": expired.body()}));
            self.ended = true;
            return;
        };
        let mut found = Vec::new();
        for event in events {
            if let Some(kind) = self.seen(event) {
                let mut object = event.object.clone();
                if kind == "DELETED" && event.kind != EventType::Deleted {
                    // It left the selection: the last state inside it, at the version it left.
                    if let Some(previous) = &event.previous {
                        let mut last = (**previous).clone();
                        last["metadata"]["resourceVersion"] = event.version.to_string().into();
                        object = Arc::new(last);
                    }
                }
                found.push((kind, object));
            }
        }
        self.version = store.version();
        drop(store);
        for (kind, object) in found {
            let event = self.event(kind, &object);
            self.pending.push_back(event);
        }
    }

    /// The next line of the watch; `None` at its end.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Bytes::from(event.to_string() + "\n"));
            }
            if self.ended {
                return None;
            }
            self.catch_up();
            if !self.pending.is_empty() {
                continue;
            }
            let bookmark = self.next_bookmark;
            tokio::select! {
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                dropped = self.drops.changed() => {
                    if dropped.is_err() || self.state.faults.drops_watch(&self.def) {
                        return None;
                    }
                }
                () = sleep_until(bookmark), if self.bookmarks => {
                    self.next_bookmark += BOOKMARK_EVERY;
                    return Some(Bytes::from(self.bookmark().to_string() + "\n"));
                }
                () = sleep_until(self.until) => {
                    return None;
                }
            }
        }
    }
}
