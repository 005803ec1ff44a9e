//! What came of a return, in words for the log and for an Event.

use barman_cloud::Lsn;

use super::drain::Drained;

/// Names that are listed in words.
const NAMED: usize = 3;

/// How an instance became a replica again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It has nothing that the primary lacks.
    NothingToDo,
    /// By `pg_rewind`.
    Rewound {
        /// Where the two servers went different ways, as `pg_rewind` says.
        diverged_at: Option<String>,
    },
    /// By a new copy of the primary.
    Joined {
        /// Why nothing less would do.
        why: String,
    },
}

/// Where the data directory was before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Its timeline.
    pub timeline: u32,
    /// Where the primary's history left that timeline, when it did and this is known.
    pub fork: Option<Lsn>,
    /// Where its WAL ended, nearly: its last checkpoint, when it was shut down cleanly.
    pub end: Option<Lsn>,
}

/// A return that came to its end. The instance has `standby.signal` and can be started as a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejoined {
    /// How.
    pub how: How,
    /// Where it was before; `None` when an interrupted return was gone on with.
    pub before: Option<Before>,
    /// What became of WAL that waited to be archived.
    pub drained: Drained,
}

impl Rejoined {
    /// Whether something was lost or may have been: worth a warning.
    #[must_use]
    pub fn lost_something(&self) -> bool {
        !matches!(self.how, How::NothingToDo) || !self.drained.left.is_empty()
    }

    /// All of it in words.
    #[must_use]
    pub fn note(&self) -> String {
        let mut words = match &self.how {
            How::NothingToDo => {
                "came back as a replica: it had nothing that the primary does not have".to_owned()
            }
            How::Rewound { diverged_at } => {
                let at = diverged_at.as_ref().map(|at| format!(" to {at}")).unwrap_or_default();
                format!("came back as a replica: pg_rewind took it back{at}")
            }
            How::Joined { why } => format!("came back as a replica by a new copy of the primary: {why}"),
        };
        if !matches!(self.how, How::NothingToDo)
            && let Some(Before { timeline, fork: Some(fork), end }) = self.before
        {
            words.push_str(&format!("; what was written here after {fork} on timeline {timeline} is gone"));
            if let Some(end) = end.filter(|end| *end > fork) {
                words.push_str(&format!(" (about {} bytes of WAL)", end.distance_from(fork)));
            }
        }
        let Drained { archived, left, why, .. } = &self.drained;
        if *archived > 0 {
            words.push_str(&format!("; {archived} WAL files that had waited were archived"));
        }
        if !left.is_empty() {
            let why = why.as_deref().unwrap_or("their archive did not take them");
            words.push_str(&format!(
                "; {} WAL files that had waited could not be archived ({}): {why}",
                left.len(),
                listed(left)
            ));
        }
        words
    }
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown}, …") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let before = |end| Some(Before { timeline: 1, fork: Some(Lsn(0x0300_0180)), end });
        let left: Vec<String> = (1..=5).map(|n| format!("00000001000000000000000{n}")).collect();
        let all = [
            Rejoined { how: How::NothingToDo, before: before(None), drained: Drained::default() },
            Rejoined {
                how: How::Rewound { diverged_at: Some("0/3000180 on timeline 1".into()) },
                before: before(Some(Lsn(0x0300_0280))),
                drained: Drained { archived: 2, ..Drained::default() },
            },
            Rejoined {
                how: How::Joined { why: "WAL is missing".into() },
                before: before(None),
                drained: Drained { left, why: Some("the store is away".into()), ..Drained::default() },
            },
            Rejoined {
                how: How::Joined { why: "it was interrupted".into() },
                before: None,
                drained: Drained::default(),
            },
        ];
        let notes: Vec<String> = all.iter().map(Rejoined::note).collect();
        assert_eq!(
            notes,
            [
                "came back as a replica: it had nothing that the primary does not have",
                "came back as a replica: pg_rewind took it back to 0/3000180 on timeline 1; what was written here \
                 after 0/3000180 on timeline 1 is gone (about 256 bytes of WAL); 2 WAL files that had waited were archived",
                "came back as a replica by a new copy of the primary: WAL is missing; what was written here after \
                 0/3000180 on timeline 1 is gone; 5 WAL files that had waited could not be archived \
                 (000000010000000000000001, 000000010000000000000002, 000000010000000000000003, …): the store is away",
                "came back as a replica by a new copy of the primary: it was interrupted",
            ]
        );
        assert_eq!(all.map(|r| r.lost_something()), [false, true, true, true]);
    }
}
