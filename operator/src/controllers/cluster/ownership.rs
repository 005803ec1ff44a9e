//! Whose an object is: a name alone does not say. Pure.

use howdah_api::Cluster;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use crate::error::Error;

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This very cluster's.
    Us,
    /// A deleted cluster's of the same name; it is being removed.
    Predecessor,
    /// Somebody else's, or nobody's.
    Other,
}

/// Whose `meta` is, seen from the cluster `name` with `uid`.
#[must_use]
pub fn owner(meta: &ObjectMeta, name: &str, uid: &str) -> Owner {
    let owners = || meta.owner_references.iter().flatten();
    if owners().any(|o| o.uid == uid) {
        Owner::Us
    } else if owners().any(|o| o.kind == Cluster::kind(&()) && o.name == name) {
        Owner::Predecessor
    } else {
        Owner::Other
    }
}

/// Refuses `object` (kind and name) unless it is the cluster's own.
pub fn require_ours(object: &str, meta: &ObjectMeta, name: &str, uid: &str) -> Result<(), Error> {
    match owner(meta, name, uid) {
        Owner::Us => Ok(()),
        Owner::Predecessor => Err(Error::Leftover { object: object.to_owned() }),
        Owner::Other => Err(Error::Refused {
            reason: "ForeignObject",
            message: format!(
                "{object} exists and does not belong to this cluster; delete or rename it, or choose another cluster \
                 name"
            ),
        }),
    }
}
