//! Medians and ratios.

/// The median; the mean of the two in the middle when they are even in number. `None` of nothing.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => sorted.get(upper).copied(),
        _ => Some((sorted.get(upper - 1)? + sorted.get(upper)?) / 2.0),
    }
}

/// The median of `ours / theirs` pair by pair: what slows both runs of a pair down does not count. Pairs whose rival
/// has no such figure are left out.
#[must_use]
pub fn median_ratio(pairs: &[(f64, f64)]) -> Option<f64> {
    let ratios: Vec<f64> =
        pairs.iter().filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_numbers() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn the_ratio_is_of_pairs_and_not_of_medians() {
        // A noisy minute that hit two whole pairs changes no ratio.
        let pairs = [(1.0, 2.0), (5.0, 10.0), (50.0, 100.0)];
        assert_eq!(median_ratio(&pairs), Some(0.5));
        // Medians would say 2 / 2.
        assert_eq!(median_ratio(&[(1.0, 2.0), (2.0, 4.0), (3.0, 1.0)]), Some(0.5));
    }

    #[test]
    fn what_the_rival_does_not_report_is_no_ratio() {
        assert_eq!(median_ratio(&[(1.0, 0.0)]), None);
        assert_eq!(median_ratio(&[(1.0, 0.0), (3.0, 2.0)]), Some(1.5));
    }
}
