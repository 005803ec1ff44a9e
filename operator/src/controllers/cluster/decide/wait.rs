//! What a failover waits for. Pure.

use super::Plan;

/// One thing that is waited for.
pub(super) struct Wait {
    /// What it is, without what may change by the second: whoever watches events is told when this changes.
    pub what: String,
    /// The rest of the sentence: details, and what a person may do.
    pub more: String,
}

impl Wait {
    /// Says so in the plan; `why` is why the failover goes on at all.
    pub(super) fn tell(self, why: &str, plan: &mut Plan) {
        plan.reason = format!("{why}; {}{}", self.what, self.more);
        plan.waits_for = Some(self.what);
    }
}
