//! Events on the Cluster and on Backups. An event that cannot be written is logged and forgotten.
//!
//! Each is an object of its own: kube's recorder folds events of the same reason into a series and keeps only
//! the words of the first one, but here the words are what matters.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use tokio::time::timeout;

use super::Kubernetes;

/// Longest note that the API takes, with room for the sign that it was cut.
const NOTE_LIMIT: usize = 1000;
/// How long one may take to be written: nothing waits for an event.
const PATIENCE: Duration = Duration::from_secs(5);

impl Kubernetes {
    /// Writes an event about `object`.
    pub async fn event<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        type_: EventType,
        reason: &str,
        note: &str,
    ) {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{}", object.name_any(), &unique[..16])),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(reason.to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(shorten(note)),
            reason: Some(reason.to_owned()),
            regarding: Some(object.object_ref(&())),
            reporting_controller: Some(howdah_api::INSTANCE_MANAGER.to_owned()),
            reporting_instance: Some(self.pod.clone()),
            type_: Some(match type_ {
                EventType::Normal => "Normal".to_owned(),
                EventType::Warning => "Warning".to_owned(),
            }),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        match timeout(PATIENCE, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason, "an event could not be written"),
            Err(_) => tracing::warn!(reason, "an event could not be written in time"),
        }
    }
}

fn shorten(note: &str) -> String {
    if note.len() <= NOTE_LIMIT {
        return note.to_owned();
    }
    let end = (0..=NOTE_LIMIT - 3).rev().find(|i| note.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_fit() {
        assert_eq!(shorten("short"), "short");
        let long = shorten(&"ä".repeat(900));
        assert!(long.len() <= NOTE_LIMIT && long.ends_with('…'));
    }
}
