//! When a file counts as archived. Pure.

/// What to do with the answers so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Enough repositories have it.
    Enough,
    /// More answers are on their way and may be enough.
    Wait,
    /// Ask those that were left out because they are behind.
    AskTheRest,
    /// Not enough can come any more.
    Refuse,
}

/// `needed` repositories must have the file; `have` have it, `open` were asked and did not answer yet, `left` were not
/// asked so far.
pub fn verdict(needed: usize, have: usize, open: usize, left: usize) -> Verdict {
    if have >= needed {
        Verdict::Enough
    } else if have + open >= needed {
        Verdict::Wait
    } else if left > 0 {
        Verdict::AskTheRest
    } else {
        Verdict::Refuse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::one_is_enough(1, 1, 1, 0, Verdict::Enough)]
    #[case::the_second_may_come(2, 1, 1, 1, Verdict::Wait)]
    #[case::one_of_them_failed(2, 1, 0, 1, Verdict::AskTheRest)]
    #[case::and_the_late_one_too(2, 1, 0, 0, Verdict::Refuse)]
    #[case::none_of_three(1, 0, 0, 0, Verdict::Refuse)]
    #[case::more_than_asked_for(1, 3, 0, 0, Verdict::Enough)]
    fn answers(
        #[case] needed: usize,
        #[case] have: usize,
        #[case] open: usize,
        #[case] left: usize,
        #[case] expected: Verdict,
    ) {
        assert_eq!(verdict(needed, have, open, left), expected);
    }
}
