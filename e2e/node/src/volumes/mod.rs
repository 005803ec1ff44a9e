//! A pod's volumes: what the spec asks for, the files that come from the API, and the directories they end up as.

mod content;
mod plan;
pub(crate) mod store;

pub(crate) use content::{Tokens, files_of, token_requests};
pub(crate) use plan::{References, Source, VolumePlan, mounts_of, references, volumes_of};
