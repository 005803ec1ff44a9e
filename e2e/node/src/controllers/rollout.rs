//! How many pods each ReplicaSet of a Deployment is to have, and what the Deployment's status says. Pure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

/// The label that tells the pods of one template from those of another.
pub(crate) const HASH: &str = "pod-template-hash";
/// Which rollout a ReplicaSet is from.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";

/// A name for a template: the same template has the same name, whoever asks.
pub(crate) fn template_hash(template: &PodTemplateSpec) -> String {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH);
    }
    let text = serde_json::to_string(&template).unwrap_or_default();
    // FNV-1a: stable over versions and platforms, which the standard hasher is not.
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = hash;
    (0..10)
        .map(|_| {
            let letter = LETTERS[(rest % LETTERS.len() as u64) as usize];
            rest /= LETTERS.len() as u64;
            char::from(letter)
        })
        .collect()
}

fn share(value: Option<&IntOrString>, default_percent: i32, of: i32, up: bool) -> i32 {
    let percent = |percent: i32| {
        let exact = of * percent;
        if up { (exact + 99) / 100 } else { exact / 100 }
    };
    match value {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            text.trim_end_matches('%').parse().map_or_else(|_| percent(default_percent), percent)
        }
        None => percent(default_percent),
    }
}

/// One ReplicaSet as a rollout sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// What its spec asks for.
    pub wanted: i32,
    /// Pods that exist, ending ones included.
    pub exist: i32,
    /// Pods that are ready.
    pub ready: i32,
}

/// What the new ReplicaSet and all old ones together are to have next.
pub(crate) fn next(deployment: &Deployment, new: Count, old: Count) -> (i32, i32) {
    let spec = deployment.spec.clone().unwrap_or_default();
    let replicas = spec.replicas.unwrap_or(1).max(0);
    let strategy = spec.strategy.unwrap_or_default();
    if strategy.type_.as_deref() == Some("Recreate") {
        return if old.exist > 0 { (new.wanted.min(replicas), 0) } else { (replicas, 0) };
    }
    let rolling = strategy.rolling_update.unwrap_or_default();
    let mut surge = share(rolling.max_surge.as_ref(), 25, replicas, true).max(0);
    let unavailable = share(rolling.max_unavailable.as_ref(), 25, replicas, false).max(0);
    if surge == 0 && unavailable == 0 {
        // Nothing could ever move.
        surge = 1;
    }
    let room = (replicas + surge - old.exist.max(old.wanted)).max(0);
    let new_next = replicas.min(room.max(new.wanted));
    // Old ones may go as far as enough pods stay ready, the unready ones first.
    let spare = (new.ready + old.ready - (replicas - unavailable)).max(0);
    let unready = (old.wanted - old.ready).max(0);
    let old_next = (old.wanted - unready - spare).max(0);
    (new_next, old_next)
}

/// The Deployment's status.
pub(crate) fn status(
    deployment: &Deployment,
    new: Count,
    old: Count,
    new_name: &str,
    now: Timestamp,
) -> DeploymentStatus {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.clone()).unwrap_or_default();
    let rolling = strategy.rolling_update.unwrap_or_default();
    let unavailable = if strategy.type_.as_deref() == Some("Recreate") {
        0
    } else {
        share(rolling.max_unavailable.as_ref(), 25, replicas, false)
    };
    let ready = new.ready + old.ready;
    let enough = ready >= replicas - unavailable;
    let complete = new.exist == replicas && new.ready == replicas && old.exist == 0;
    let before =
        deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let condition = |kind: &str, status: bool, reason: &str, message: String| {
        let text = if status { "True" } else { "False" };
        let same = before.iter().find(|c| c.type_ == kind && c.status == text);
        let unchanged = same.filter(|c| c.reason.as_deref() == Some(reason));
        DeploymentCondition {
            type_: kind.to_owned(),
            status: text.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
            last_update_time: unchanged.and_then(|c| c.last_update_time.clone()).or(Some(Time(now))),
        }
    };
    let available = if enough {
        condition(
            "Available",
            true,
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".into(),
        )
    } else {
        let text = "Deployment does not have minimum availability.";
        condition("Available", false, "MinimumReplicasUnavailable", text.into())
    };
    let progressing = if complete {
        let text = format!("ReplicaSet {new_name:?} has successfully progressed.");
        condition("Progressing", true, "NewReplicaSetAvailable", text)
    } else {
        let text = format!("ReplicaSet {new_name:?} is progressing.");
        condition("Progressing", true, "ReplicaSetUpdated", text)
    };
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(new.exist + old.exist),
        updated_replicas: Some(new.exist),
        ready_replicas: Some(ready),
        available_replicas: Some(ready),
        unavailable_replicas: Some((replicas - ready).max(0)),
        conditions: Some(vec![available, progressing]),
        ..Default::default()
    }
}

/// Whether a pod counts for its ReplicaSet.
pub(crate) fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && !matches!(
            pod.status.as_ref().and_then(|status| status.phase.as_deref()),
            Some("Succeeded" | "Failed")
        )
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The pods that a ReplicaSet has too many: those that are worth least first.
pub(crate) fn surplus<'a>(pods: &[&'a Pod], wanted: usize) -> Vec<&'a Pod> {
    let mut sorted: Vec<&Pod> = pods.to_vec();
    sorted.sort_by_key(|pod| {
        let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        (is_ready(pod), bound, std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|t| t.0)))
    });
    sorted.truncate(pods.len().saturating_sub(wanted));
    sorted
}

/// Whether `owner` controls `object`.
pub(crate) fn controls(owner_uid: &str, object: &impl ResourceExt) -> bool {
    object.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == owner_uid)
}

/// The revision of a ReplicaSet, 0 when it has none.
pub(crate) fn revision(set: &ReplicaSet) -> u64 {
    set.annotations().get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(spec: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d", "generation": 2}, "spec": spec})).unwrap()
    }

    fn count(wanted: i32, exist: i32, ready: i32) -> Count {
        Count { wanted, exist, ready }
    }

    #[test]
    fn a_rollout_reaches_its_end() {
        let base = json!({"replicas": 3, "selector": {}, "template": {}});
        for strategy in [
            json!({"type": "Recreate"}),
            json!({"type": "RollingUpdate"}),
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "0%"}}),
        ] {
            let mut spec = base.clone();
            spec["strategy"] = strategy.clone();
            let deployment = deployment(spec);
            let (mut new, mut old) = (count(0, 0, 0), count(3, 3, 3));
            for _ in 0..20 {
                let (next_new, next_old) = next(&deployment, new, old);
                // Pods follow at once: the slow parts are the node's.
                new = count(next_new, next_new, next_new);
                old = count(next_old, next_old, next_old);
            }
            assert_eq!((new.wanted, old.wanted), (3, 0), "{strategy}");
        }
    }

    #[test]
    fn enough_pods_stay_ready() {
        let deployment = deployment(json!({"replicas": 4, "selector": {}, "template": {}}));
        let (new, old) = next(&deployment, count(0, 0, 0), count(4, 4, 4));
        assert_eq!((new, old), (1, 3));
        let (new, old) = next(&deployment, count(1, 1, 0), count(3, 3, 3));
        assert_eq!((new, old), (2, 3), "nothing more may go before something is ready");
    }

    #[test]
    fn recreate_waits_for_the_old_to_be_gone() {
        let spec = json!({"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {}, "template": {}});
        let deployment = deployment(spec);
        assert_eq!(next(&deployment, count(0, 0, 0), count(0, 1, 0)), (0, 0));
        assert_eq!(next(&deployment, count(0, 0, 0), count(0, 0, 0)), (1, 0));
    }

    #[test]
    fn status_tells_available_and_complete() {
        let deployment = deployment(json!({"replicas": 1, "selector": {}, "template": {}}));
        let is = |status: &DeploymentStatus, kind: &str| {
            let found = status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap().clone();
            (found.status, found.reason.unwrap())
        };
        let waiting = status(&deployment, count(1, 1, 0), count(0, 0, 0), "d-x", Timestamp::UNIX_EPOCH);
        assert_eq!(is(&waiting, "Available").0, "False");
        assert_eq!(waiting.unavailable_replicas, Some(1));
        let done = status(&deployment, count(1, 1, 1), count(0, 0, 0), "d-x", Timestamp::UNIX_EPOCH);
        assert_eq!(is(&done, "Available").0, "True");
        assert_eq!(is(&done, "Progressing").1, "NewReplicaSetAvailable");
        assert_eq!(done.observed_generation, Some(2));
    }

    #[test]
    fn templates_have_stable_names() {
        let template = |image: &str, hash: Option<&str>| -> PodTemplateSpec {
            let mut labels = json!({"app": "x"});
            if let Some(hash) = hash {
                labels[HASH] = hash.into();
            }
            serde_json::from_value(json!({"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": image}]}}))
            .unwrap()
        };
        let one = template_hash(&template("a", None));
        assert_eq!(one, template_hash(&template("a", Some("b2c"))));
        assert_ne!(one, template_hash(&template("b", None)));
        assert_eq!(one.len(), 10);
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let pod = |name: &str, ready: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        let (a, b, c) = (pod("a", "True"), pod("b", "False"), pod("c", "True"));
        let gone = surplus(&[&a, &b, &c], 2);
        assert_eq!(gone.iter().map(|pod| pod.name_any()).collect::<Vec<_>>(), ["b"]);
        assert!(surplus(&[&a], 2).is_empty());
    }
}
