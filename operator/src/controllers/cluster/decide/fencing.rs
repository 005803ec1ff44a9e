//! Which instances are fenced. Pure.

use howdah_api::{labels, naming};
use kube::ResourceExt;

use crate::controllers::cluster::kubectl::Kubectl;
use crate::controllers::cluster::observed::{Instance, Observed};

/// Serials of the instances whose PostgreSQL is kept down, by their own word, or shall be, by the annotation.
#[must_use]
pub fn fenced(observed: &Observed, instances: &[Instance<'_>]) -> Vec<i32> {
    let cluster = observed.cluster.name_any();
    let order = observed.cluster.annotations().get(labels::FENCED);
    // What is wrong with the value is told by `validate`.
    let ordered = |name: &str| order.is_some_and(|value| labels::fences(value, name).unwrap_or(false));
    let fenced = |i: &&Instance<'_>| {
        i.report.is_some_and(|r| r.fenced) || ordered(&naming::instance(&cluster, i.serial))
    };
    instances.iter().filter(fenced).map(|i| i.serial).collect()
}

/// That `names` are kept down, by what, and how that ends.
pub(super) fn told(observed: &Observed, names: &[String]) -> String {
    let names = names.join(", ");
    let key = labels::FENCED;
    match observed.cluster.annotations().get(key) {
        Some(value) => format!(
            "PostgreSQL is kept down in {names}, and nothing is replaced or removed, until the annotation {key} is taken \
             away, which is {value} now: {}",
            Kubectl::of(&observed.cluster).clear_annotation(key)
        ),
        None => format!(
            "PostgreSQL is kept down in {names}, and nothing is replaced or removed, until they hear that the annotation \
             {key} is gone; when that lasts: {}",
            Kubectl::of(&observed.cluster).list()
        ),
    }
}
