//! Events on the Cluster and on Backups. An event that cannot be written is logged and forgotten.

use kube::Resource;
use kube::runtime::events::{Event, EventType};

use super::Kubernetes;

/// Longest note that the API takes.
const NOTE_LIMIT: usize = 1000;

impl Kubernetes {
    /// Writes an event about `object`.
    pub async fn event<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        type_: EventType,
        reason: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shorten(note)),
            action: reason.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, reason, "an event could not be written");
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
