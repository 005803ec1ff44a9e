//! Checks the annotations with which a person asks for something. Pure.

use howdah_api::{Cluster, labels, naming};
use kube::ResourceExt;

use super::kubectl::Kubectl;
use super::observed::Observed;
use super::validate::{Blocks, Problem};

/// Fencing asks for names that can be read, of instances that exist.
#[must_use]
pub fn check_fencing(observed: &Observed) -> Option<Problem> {
    let cluster = &observed.cluster;
    let wrong = |message| Some(Problem { blocks: Blocks::Nothing, reason: "InvalidFencing", message });
    let value = cluster.annotations().get(labels::FENCED)?;
    let clear = || Kubectl::of(cluster).clear_annotation(labels::FENCED);
    let names = match labels::fenced_names(value) {
        Ok(names) => names,
        Err(message) => {
            return wrong(format!("{message}; it fences nobody as it is: {} takes it away", clear()));
        }
    };
    let instances: Vec<String> =
        observed.instances().iter().map(|i| naming::instance(&cluster.name_any(), i.serial)).collect();
    let (good, unknown): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| name == "*" || instances.contains(name));
    if unknown.is_empty() {
        return None;
    }
    let known = if instances.is_empty() {
        "there are none yet".to_owned()
    } else {
        format!("there are {}", instances.join(", "))
    };
    // Those that are fenced rightly stay so.
    let without = if good.is_empty() {
        clear()
    } else {
        Kubectl::of(cluster).annotate(labels::FENCED, &format!("'{}' --overwrite", serde_json::json!(good)))
    };
    wrong(format!(
        "annotation {} names {}, which is no instance of this cluster ({known}); nobody is fenced by that: correct the name, \
         or take it out: {without}",
        labels::FENCED,
        unknown.join(" and ")
    ))
}

/// Hibernation is on or off.
#[must_use]
pub fn check_hibernation(cluster: &Cluster) -> Option<Problem> {
    let value = cluster.annotations().get(labels::HIBERNATION)?;
    if matches!(value.trim(), "on" | "off") {
        return None;
    }
    let clear = Kubectl::of(cluster).clear_annotation(labels::HIBERNATION);
    let message = format!(
        "annotation {} is {value:?}; it does nothing: give on or off, or take it away: {clear}",
        labels::HIBERNATION
    );
    Some(Problem { blocks: Blocks::Nothing, reason: "InvalidHibernation", message })
}
