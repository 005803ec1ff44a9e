//! Passwords.

use rand::Rng;
use rand::distr::Alphanumeric;

/// Length of a generated password: 64 letters and digits hold more than 380 bits.
const LENGTH: usize = 64;

/// A fresh password of letters and digits, from the system's random source.
#[must_use]
pub fn generate() -> String {
    rand::rng().sample_iter(Alphanumeric).take(LENGTH).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn passwords_differ_and_need_no_quoting() {
        let (a, b) = (super::generate(), super::generate());
        assert_ne!(a, b);
        assert!(a.len() == 64 && a.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
