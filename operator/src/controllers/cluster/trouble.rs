//! Reads from a pod's status why it does not run. Pure.

use howdah_api::{Cluster, naming};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kubectl::Kubectl;

/// What keeps a pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The container, empty when it is the pod as a whole.
    pub container: String,
    /// Short reason, for example `ImagePullBackOff`.
    pub reason: String,
    /// It does not even try at the moment.
    pub idle: bool,
    /// In words, from the container's own termination message where there is one.
    pub message: String,
    /// What was seen of it: container, exit code, times.
    pub seen: String,
}

impl Trouble {
    /// Whether the container that fills the volume has failed.
    #[must_use]
    pub fn in_bootstrap(&self) -> bool {
        self.container == naming::CONTAINER_BOOTSTRAP || self.container == naming::CONTAINER_RECOVERY
    }

    /// In words about `pod`: what it is, what was seen, and how to look at it.
    #[must_use]
    pub fn told(&self, cluster: &Cluster, pod: &str) -> String {
        let kubectl = Kubectl::of(cluster);
        let mut text =
            format!("{pod}: {} ({}); look: {}", self.message, self.seen, kubectl.describe_pod(pod));
        if !self.container.is_empty() {
            text.push_str("; ");
            text.push_str(&kubectl.logs(pod, &self.container));
        }
        text
    }
}

/// Waiting states that do not pass by themselves.
const STUCK: [&str; 8] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

/// Why `pod` does not run, or `None` when it does or is merely on its way.
#[must_use]
pub fn of(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .find_map(|status| of_container(pod, status));
    containers.or_else(|| {
        status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False").map(
            |c| Trouble {
                container: String::new(),
                idle: true,
                reason: c.reason.clone().unwrap_or_else(|| "Unschedulable".into()),
                message: format!(
                    "no node for it: {}",
                    c.message.as_deref().unwrap_or("the scheduler gave no reason")
                ),
                seen: since(c.last_transition_time.as_ref(), pod),
            },
        )
    })
}

/// What the kubelet says of the container with PostgreSQL.
#[must_use]
pub fn postgres(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.into_iter().find(|c| c.name == naming::CONTAINER_POSTGRES)
}

/// Whether the pod ended and will not start again by itself.
#[must_use]
pub fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Failed" | "Succeeded"))
}

/// Since when: `time`, else since the pod was made.
fn since(time: Option<&Time>, pod: &Pod) -> String {
    let time = time.or(pod.metadata.creation_timestamp.as_ref());
    time.map_or_else(|| "just now".to_owned(), |time| format!("since {}", crate::clock::to_seconds(time.0)))
}

/// The end of a container, in figures.
fn end(status: &ContainerStatus, ended: &ContainerStateTerminated) -> String {
    let at = ended.finished_at.as_ref();
    let at = at.map(|at| format!(" at {}", crate::clock::to_seconds(at.0))).unwrap_or_default();
    let (name, code, again) = (&status.name, ended.exit_code, status.restart_count);
    format!("container {name} ended{at} with exit code {code}, times started again: {again}")
}

fn of_container(pod: &Pod, status: &ContainerStatus) -> Option<Trouble> {
    if status.ready {
        return None;
    }
    let state = status.state.as_ref();
    // The present end first; else, while it waits for its next try or tries again, the end before.
    let ended = state
        .and_then(|s| s.terminated.as_ref())
        .or_else(|| status.last_state.as_ref().and_then(|s| s.terminated.as_ref()));
    if state.and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0) {
        return None;
    }
    let waiting = state.and_then(|s| s.waiting.as_ref());
    let waiting_reason = waiting.and_then(|w| w.reason.as_deref()).filter(|r| STUCK.contains(r));
    match (ended, waiting_reason) {
        (Some(ended), _) if ended.exit_code != 0 => {
            let said = ended.message.as_deref().map(str::trim).filter(|m| !m.is_empty());
            Some(Trouble {
                container: status.name.clone(),
                idle: state.is_none_or(|s| s.running.is_none()),
                reason: waiting_reason.or(ended.reason.as_deref()).unwrap_or("Error").to_owned(),
                message: said.map_or_else(
                    || format!("container {} ended with exit code {}", status.name, ended.exit_code),
                    str::to_owned,
                ),
                seen: end(status, ended),
            })
        }
        (_, Some(reason)) => Some(Trouble {
            container: status.name.clone(),
            idle: true,
            reason: reason.to_owned(),
            message: waiting
                .and_then(|w| w.message.clone())
                .unwrap_or_else(|| format!("container {} cannot start: {reason}", status.name)),
            seen: format!("container {} waits, {}", status.name, since(None, pod)),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(init: Value, main: Value, conditions: Value) -> Pod {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x-1"},
            "status": {"phase": "Pending", "initContainerStatuses": init, "containerStatuses": main, "conditions": conditions},
        }))
        .unwrap()
    }

    fn container(name: &str, state: Value, last: Value) -> Value {
        json!([{"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": last}])
    }

    #[rstest]
    #[case::first_failure(json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "bucket b is missing\n"}}), json!({}), Some(("Error", "bucket b is missing")))]
    #[case::waiting_for_the_next_try(json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}), json!({"terminated": {"exitCode": 1, "message": "bucket b is missing"}}), Some(("CrashLoopBackOff", "bucket b is missing")))]
    #[case::trying_again(json!({"running": {}}), json!({"terminated": {"exitCode": 4, "reason": "Error"}}), Some(("Error", "container full-recovery ended with exit code 4")))]
    #[case::pulling(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}), json!({}), Some(("ImagePullBackOff", "no such image")))]
    #[case::on_its_way(json!({"waiting": {"reason": "PodInitializing"}}), json!({}), None)]
    #[case::running(json!({"running": {}}), json!({}), None)]
    #[case::done(json!({"terminated": {"exitCode": 0}}), json!({"terminated": {"exitCode": 1}}), None)]
    fn init_containers(#[case] state: Value, #[case] last: Value, #[case] expected: Option<(&str, &str)>) {
        let found = of(&pod(container("full-recovery", state, last), json!([]), json!([])));
        assert_eq!(found.as_ref().map(|t| (t.reason.as_str(), t.message.as_str())), expected);
        assert!(found.is_none_or(|t| t.in_bootstrap()));
    }

    #[test]
    fn a_pod_without_a_node_says_so() {
        let conditions = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]);
        let found = of(&pod(json!([]), json!([]), conditions)).unwrap();
        assert_eq!(found.message, "no node for it: 0/3 nodes are available");
    }
}
