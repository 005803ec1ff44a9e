//! What is in the repositories of a cluster: read ([`gather`]), put together ([`repository_report`]), and shown, as
//! text in the shape that users of pgBackRest know ([`info_text`]), as a list, as one backup with everything about
//! it, and as pgBackRest's own JSON.
//!
//! The types here are the JSON of `instance-manager info --output json`; `docs/info.md` explains them. Everything
//! but the reading is pure.

mod build;
mod dropped;
mod gather;
mod list;
mod pgbackrest;
mod show;
mod size;
mod text;
mod types;

pub use build::{Facts, ServerFacts, find, repository_report};
pub use dropped::Lacking;
pub use gather::{Contents, WalEnds, gather};
pub use list::list_text;
pub use pgbackrest::pgbackrest_json;
pub use show::{Ancestor, BackupDetail, ChainDetail, PartDetail, detail, show_text};
pub use size::human;
pub use text::info_text;
pub use types::{
    BackupReport, BackupState, ClusterReport, DatabaseReport, DroppedReport, RepositoryReport,
    RepositoryStatus, RunningBackup, StatusCode, WalReport, major,
};

#[cfg(test)]
pub(crate) mod samples;
