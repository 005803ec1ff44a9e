//! Which replicas are sure to have every acknowledged transaction, by `synchronous_standby_names`. Pure.

use crate::controllers::cluster::synchronous::Standbys;

/// Whose confirmation commits wait for: `number` of `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// How many.
    pub number: usize,
    /// Of these instances.
    pub names: Vec<String>,
}

/// Too few of the replicas that may have acknowledged transactions are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// How many replicas are listed.
    pub listed: usize,
    /// How many of them can be reached.
    pub reachable: usize,
    /// How many of them are needed.
    pub needed: usize,
    /// Those that cannot be reached.
    pub missing: Vec<String>,
}

/// Reads a value of `synchronous_standby_names`; an empty text is asynchronous replication.
///
/// # Errors
/// Says what is not understood.
pub fn parse(text: &str) -> Result<Option<Quorum>, String> {
    let standbys = Standbys::read(text)?;
    Ok(standbys.map(|Standbys { number, names, .. }| Quorum { number, names }))
}

impl Quorum {
    /// Whether one of `reachable` is sure to have every acknowledged transaction. Each of these is on `number` of the listed
    /// instances, whichever they were: when fewer than `number` are out of reach, at least one of the others has it.
    ///
    /// # Errors
    /// What is missing.
    pub fn met_by(&self, reachable: &[&str]) -> Result<(), Shortfall> {
        let (there, missing): (Vec<&String>, Vec<&String>) =
            self.names.iter().partition(|name| reachable.contains(&name.as_str()));
        let needed = self.names.len().saturating_sub(self.number) + 1;
        if there.len() >= needed {
            return Ok(());
        }
        Err(Shortfall {
            listed: self.names.len(),
            reachable: there.len(),
            needed,
            missing: missing.into_iter().cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::asynchronous("", Ok(None))]
    #[case::blank("  ", Ok(None))]
    #[case::any("ANY 1 (\"pg-2\",\"pg-3\")", Ok(Some((1, vec!["pg-2", "pg-3"]))))]
    #[case::first("FIRST 2 (\"pg-2\",\"pg-3\",\"pg-4\")", Ok(Some((2, vec!["pg-2", "pg-3", "pg-4"]))))]
    #[case::as_a_person_writes_it("any 1 ( pg-2, \"pg-3\" )", Ok(Some((1, vec!["pg-2", "pg-3"]))))]
    #[case::twice("ANY 1 (\"pg-2\",\"pg-2\")", Ok(Some((1, vec!["pg-2"]))))]
    #[case::a_star("ANY 1 (*)", Err(()))]
    #[case::no_names("ANY 1 ()", Err(()))]
    #[case::no_number("ANY (\"pg-2\")", Err(()))]
    #[case::zero("ANY 0 (\"pg-2\")", Err(()))]
    #[case::open("ANY 1 (\"pg-2\"", Err(()))]
    #[case::old_form("pg-2, pg-3", Err(()))]
    fn reads(#[case] text: &str, #[case] expected: Result<Option<(usize, Vec<&str>)>, ()>) {
        let found = parse(text).map_err(|message| assert!(message.contains(text.trim()), "{message}"));
        let expected = expected.map(|quorum| {
            quorum.map(|(number, names)| Quorum {
                number,
                names: names.into_iter().map(str::to_owned).collect(),
            })
        });
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case::one_of_two_needs_both(1, &["a", "b"], &["a"], Some((1, 2, vec!["b"])))]
    #[case::one_of_two_with_both(1, &["a", "b"], &["a", "b"], None)]
    #[case::one_of_one(1, &["a"], &["a"], None)]
    #[case::two_of_three_with_two(2, &["a", "b", "c"], &["a", "c"], None)]
    #[case::two_of_three_with_one(2, &["a", "b", "c"], &["c"], Some((1, 2, vec!["a", "b"])))]
    #[case::all_of_two_with_one(2, &["a", "b"], &["b"], None)]
    #[case::more_than_there_are(3, &["a", "b"], &["b"], None)]
    #[case::others_do_not_count(1, &["a"], &["b"], Some((0, 1, vec!["a"])))]
    fn rule(
        #[case] number: usize,
        #[case] names: &[&str],
        #[case] reachable: &[&str],
        #[case] short: Option<(usize, usize, Vec<&str>)>,
    ) {
        let quorum = Quorum { number, names: names.iter().map(|n| (*n).to_owned()).collect() };
        let expected = short.map(|(reachable, needed, missing)| Shortfall {
            listed: names.len(),
            reachable,
            needed,
            missing: missing.iter().map(|n| (*n).to_owned()).collect(),
        });
        assert_eq!(quorum.met_by(reachable).err(), expected);
    }
}
