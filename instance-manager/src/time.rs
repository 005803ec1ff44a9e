//! The two clocks of the crates: chrono (object_store, the engine) and jiff (Kubernetes).

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A time for a Kubernetes object. Kubernetes keeps whole seconds.
#[must_use]
pub fn kube(time: DateTime<Utc>) -> Time {
    Time(Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Now, for a Kubernetes object.
#[must_use]
pub fn now() -> Time {
    kube(Utc::now())
}

/// Back again.
#[must_use]
pub fn chrono(time: &Time) -> DateTime<Utc> {
    DateTime::from_timestamp(time.0.as_second(), 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let time = DateTime::from_timestamp(1_795_000_000, 999_000_000).unwrap();
        assert_eq!(chrono(&kube(time)).timestamp(), 1_795_000_000);
    }
}
