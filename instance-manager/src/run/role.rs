//! Which role this instance plays: pure.

/// What is known about the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `howdah-recovery.json` is there: an archive recovery is not finished.
    pub recovering: bool,
    /// `standby.signal` is there.
    pub standby: bool,
}

/// How the server is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Not yet: the operator has not said which instance is the primary.
    Wait,
    /// As the primary.
    Primary,
    /// As a replica of the primary.
    Standby,
    /// As a replica that is promoted as soon as it answers: it was one and shall be the primary.
    StandbyToPromote,
    /// To finish its archive recovery.
    Recovery,
}

/// Decides the start from `Cluster.status.targetPrimary`.
#[must_use]
pub fn start(me: &str, target_primary: Option<&str>, facts: Facts) -> Start {
    if facts.recovering {
        return Start::Recovery;
    }
    match target_primary {
        None => Start::Wait,
        Some(target) if target == me && facts.standby => Start::StandbyToPromote,
        Some(target) if target == me => Start::Primary,
        Some(_) => Start::Standby,
    }
}

/// What the server is while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Takes writes.
    Primary,
    /// Follows.
    Standby,
    /// Replays an archive.
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
}

/// Decides it.
#[must_use]
pub fn change(me: &str, target_primary: Option<&str>, running: Running) -> Change {
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
    #[case(Some("pg-2"), Facts::default(), Start::Standby)]
    #[case(Some("pg-1"), Facts { standby: true, recovering: false }, Start::StandbyToPromote)]
    #[case(Some("pg-2"), Facts { standby: true, recovering: false }, Start::Standby)]
    #[case(Some("pg-1"), Facts { standby: false, recovering: true }, Start::Recovery)]
    #[case(None, Facts { standby: false, recovering: true }, Start::Recovery)]
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
        assert_eq!(change("pg-1", target, running), want);
    }
}
