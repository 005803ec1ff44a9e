//! What is in the repositories, told to whoever asks on the manager's socket: `info`, `list`, `show`, `verify`,
//! `check`, `expire`.
//!
//! The resident manager has the settings and the Secrets, so it does the work ([`serve`]); the command ([`command`])
//! only asks and renders, without runtime and TLS. What goes over the socket is in [`Line`]; `docs/info.md` shows it.
//! Where no manager is, the command does the work itself, from a file that describes the repositories
//! ([`described::Described`]).

mod answer;
mod check;
pub mod command;
pub mod described;
mod expire;
mod line;
mod render;
mod repositories;
mod verify;

pub use crate::backup::retention::Expired;
pub use answer::serve;
pub use check::{Check, CheckReport, Outcome, RepositoryCheck};
pub use expire::{ExpireReport, Goes, Stays, WalGoes};
pub use line::{Line, Progress};
pub use repositories::{NamedRepository, configured};
