//! Whether an instance runs the instance manager that belongs to this operator, and how it comes to it. Pure.
//!
//! The program can be replaced while PostgreSQL runs on; the pod then still names the image that it was made with. Where
//! that is not possible, the pod is replaced, as for any other change.

use howdah_api::{labels, naming};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::observed::Instance;
use super::trouble;
use super::validate::{Manager, Validated};

/// An instance that has not taken up the program for so long after the first attempt gets a new pod.
const GIVE_UP: SignedDuration = SignedDuration::from_mins(5);

/// What is known about the manager of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the operator's.
    Current,
    /// It is another one, and is replaced while PostgreSQL runs.
    InPlace,
    /// It is another one, and comes with a new pod; with the reason when it was to be replaced in place.
    NewPod(Option<String>),
}

/// The value of [`labels::MANAGER_UPGRADE`] on a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// SHA-256 of the program.
    pub sha256: String,
    /// When it was sent first.
    pub since: Timestamp,
    /// Why the instance does not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Attempt {
    /// What is written on `pod` about the program `sha256`.
    #[must_use]
    pub fn of(pod: &Pod, sha256: &str) -> Option<Self> {
        let text = pod.annotations().get(labels::MANAGER_UPGRADE)?;
        serde_json::from_str(text).ok().filter(|attempt: &Self| attempt.sha256 == sha256)
    }

    /// Why there is no other attempt.
    fn over(&self, now: Timestamp) -> Option<String> {
        self.refused.clone().or_else(|| {
            let late = now.duration_since(self.since) > GIVE_UP;
            late.then(|| format!("it has not been done in {} minutes", GIVE_UP.as_mins()))
        })
    }
}

/// Judges the manager of an instance that has a pod.
#[must_use]
pub fn judge(validated: &Validated, now: Timestamp, instance: &Instance<'_>) -> Verdict {
    let Some(pod) = instance.pod else { return Verdict::Current };
    let Manager { image, sha256, in_place } = &validated.manager;
    let of_image = image_of(pod) == Some(image.as_str());
    // A new pod of the same image brings nothing new.
    let new_pod = |why: Option<String>| if of_image { Verdict::Current } else { Verdict::NewPod(why) };
    let cannot_run = trouble::of(pod).is_some_and(|trouble| trouble.idle);
    let Some(wanted) = sha256 else { return new_pod(None) };
    let report = instance.report;
    if report.is_some_and(|r| r.manager_sha256.as_deref() == Some(wanted)) {
        return Verdict::Current;
    }
    if !in_place || cannot_run {
        return new_pod(None);
    }
    if let Some(why) = Attempt::of(pod, wanted).and_then(|attempt| attempt.over(now)) {
        return new_pod(Some(why));
    }
    let Some(report) = report else {
        // It is looked at again when it answers.
        return if of_image { Verdict::Current } else { Verdict::InPlace };
    };
    if report.following.is_some() {
        // Nobody writes here: a restart interrupts readers only.
        return new_pod(None);
    }
    if report.manager_sha256.is_none() {
        let why = format!("version {} cannot be replaced while PostgreSQL runs", report.manager_version);
        return new_pod(Some(why));
    }
    match report.manager_architecture.as_deref() {
        Some(std::env::consts::ARCH) => Verdict::InPlace,
        other => new_pod(Some(format!(
            "it is a program for {}, the operator's is one for {}",
            other.unwrap_or("an unknown machine"),
            std::env::consts::ARCH
        ))),
    }
}

/// The image that the pod's instance manager came from.
fn image_of(pod: &Pod) -> Option<&str> {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let controller = containers.into_iter().find(|c| c.name == naming::CONTAINER_CONTROLLER)?;
    controller.image.as_deref()
}
