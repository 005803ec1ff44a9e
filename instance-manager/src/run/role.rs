//! Which role this instance plays: pure.

use serde::{Deserialize, Serialize};

use super::rejoin::needs_rejoin;

/// What is known about the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// An archive recovery is not finished, or goes on without end.
    pub recovering: bool,
    /// `standby.signal` is there.
    pub standby: bool,
    /// The Cluster says that PostgreSQL shall not run here.
    pub fenced: bool,
}

/// How the server is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Not yet: the operator has not said which instance is the primary.
    Wait,
    /// Not at all, until the fence is taken away.
    Fenced,
    /// As the primary.
    Primary,
    /// As a replica of the primary.
    Standby,
    /// As a replica, after the data of a primary was brought to where the new primary left its way.
    Rejoin,
    /// As a replica that is promoted as soon as it answers: it was one and shall be the primary.
    StandbyToPromote,
    /// To finish its archive recovery.
    Recovery,
}

/// Decides the start from `Cluster.status.targetPrimary`.
#[must_use]
pub fn start(me: &str, target_primary: Option<&str>, facts: Facts) -> Start {
    if facts.fenced {
        return Start::Fenced;
    }
    if facts.recovering {
        return Start::Recovery;
    }
    match target_primary {
        None => Start::Wait,
        Some(target) if target == me && facts.standby => Start::StandbyToPromote,
        Some(target) if target == me => Start::Primary,
        Some(_) if needs_rejoin(facts) => Start::Rejoin,
        Some(_) => Start::Standby,
    }
}

impl Start {
    /// Whether the server takes writes at once or by itself later: the lease of the primary comes first.
    #[must_use]
    pub fn needs_lease(self) -> bool {
        matches!(self, Self::Primary | Self::Recovery)
    }
}

/// What the server is while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Running {
    /// Takes writes.
    Primary,
    /// Follows.
    Standby,
    /// Replays an archive, to its end or without end.
    Recovery,
}

/// What to do when the operator's wish changes while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Promote this replica.
    Promote,
    /// Stop, and come back as a replica.
    Demote,
    /// Stop, and stay down.
    Fence,
}

/// Decides it.
#[must_use]
pub fn change(me: &str, target_primary: Option<&str>, running: Running, fenced: bool) -> Change {
    if fenced {
        return Change::Fence;
    }
    match (running, target_primary) {
        (Running::Standby, Some(target)) if target == me => Change::Promote,
        (Running::Primary, Some(target)) if target != me => Change::Demote,
        _ => Change::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(None, Facts::default(), Start::Wait)]
    #[case(Some("pg-1"), Facts::default(), Start::Primary)]
    #[case(Some("pg-2"), Facts::default(), Start::Rejoin)]
    #[case(Some("pg-1"), Facts { standby: true, ..Facts::default() }, Start::StandbyToPromote)]
    #[case(Some("pg-2"), Facts { standby: true, ..Facts::default() }, Start::Standby)]
    #[case(Some("pg-1"), Facts { recovering: true, ..Facts::default() }, Start::Recovery)]
    #[case(None, Facts { recovering: true, ..Facts::default() }, Start::Recovery)]
    #[case(Some("pg-1"), Facts { fenced: true, ..Facts::default() }, Start::Fenced)]
    #[case(None, Facts { fenced: true, recovering: true, standby: true }, Start::Fenced)]
    fn starts(#[case] target: Option<&str>, #[case] facts: Facts, #[case] want: Start) {
        assert_eq!(start("pg-1", target, facts), want);
    }

    #[rstest::rstest]
    #[case(Running::Standby, Some("pg-1"), Change::Promote)]
    #[case(Running::Standby, Some("pg-2"), Change::None)]
    #[case(Running::Standby, None, Change::None)]
    #[case(Running::Primary, Some("pg-1"), Change::None)]
    #[case(Running::Primary, Some("pg-2"), Change::Demote)]
    #[case(Running::Primary, None, Change::None)]
    #[case(Running::Recovery, Some("pg-2"), Change::None)]
    fn changes(#[case] running: Running, #[case] target: Option<&str>, #[case] want: Change) {
        assert_eq!(change("pg-1", target, running, false), want);
        assert_eq!(change("pg-1", target, running, true), Change::Fence);
    }
}
