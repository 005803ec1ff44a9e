//! Events, with repeats counted instead of piled up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;

use crate::error::is_not_found;

/// Whether an event is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

struct Pending {
    about: ObjectReference,
    kind: Kind,
    reason: &'static str,
    message: String,
}

/// Writes events in the background: a pod never waits for one, and a lost one harms nobody.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::UnboundedSender<Pending>,
}

/// An object an event can be about.
pub(crate) fn about<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}

type Known = Arc<Mutex<HashMap<(String, &'static str, String), (String, i32)>>>;

impl Events {
    /// Starts the writer. `component` is who the events say they are from.
    pub fn start(client: Client, component: &str, host: &str) -> Self {
        let (queue, mut inbox) = mpsc::unbounded_channel::<Pending>();
        let source = EventSource { component: Some(component.to_owned()), host: Some(host.to_owned()) };
        tokio::spawn(async move {
            let known: Known = Arc::default();
            while let Some(pending) = inbox.recv().await {
                let reason = pending.reason;
                if let Err(error) = write(&client, &source, &known, pending).await {
                    tracing::debug!(%error, reason, "an event was lost");
                }
            }
        });
        Self { queue }
    }

    pub fn normal(&self, about: &ObjectReference, reason: &'static str, message: impl Into<String>) {
        self.send(about, Kind::Normal, reason, message.into());
    }

    pub fn warning(&self, about: &ObjectReference, reason: &'static str, message: impl Into<String>) {
        self.send(about, Kind::Warning, reason, message.into());
    }

    fn send(&self, about: &ObjectReference, kind: Kind, reason: &'static str, message: String) {
        // The writer ends with the runtime only.
        let _ = self.queue.send(Pending { about: about.clone(), kind, reason, message });
    }
}

async fn write(
    client: &Client,
    source: &EventSource,
    known: &Known,
    pending: Pending,
) -> Result<(), kube::Error> {
    let Pending { about, kind, reason, message } = pending;
    let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let now = Time(Timestamp::now());
    let key = (
        format!(
            "{}/{}",
            about.uid.as_deref().unwrap_or_default(),
            about.field_path.as_deref().unwrap_or_default()
        ),
        reason,
        message.clone(),
    );
    let seen = known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    if let Some((name, count)) = seen {
        let patch = json!({"count": count + 1, "lastTimestamp": now});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => {
                known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (name, count + 1));
                return Ok(());
            }
            // Expired: a new one starts over.
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let name = format!(
        "{}.{}",
        about.name.as_deref().unwrap_or("unknown"),
        &uuid::Uuid::new_v4().simple().to_string()[..16]
    );
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..Default::default() },
        involved_object: about,
        reason: Some(reason.to_owned()),
        message: Some(message),
        type_: Some(if kind == Kind::Normal { "Normal" } else { "Warning" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        ..Default::default()
    };
    api.create(&PostParams::default(), &event).await?;
    known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (name, 1));
    Ok(())
}
