//! The repository host of a cluster: what to do next about it, what there is to say, and doing it.

mod apply;
mod decide;
mod status;

pub use apply::apply;
pub use decide::{Plan, Step, Verdict, decide};
pub use status::fold;
