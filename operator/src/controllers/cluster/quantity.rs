//! Compares sizes of volumes. Pure.

use howdah_api::quantity::bytes;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

/// The size that a volume claim asks for.
#[must_use]
pub fn requested(volume: &PersistentVolumeClaim) -> Option<&str> {
    let requests = volume.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|q| q.0.as_str())
}

/// Whether `present` is a smaller size than `wanted`. What cannot be read is not compared.
#[must_use]
pub fn is_less(present: Option<&str>, wanted: &str) -> bool {
    match (present.and_then(bytes), bytes(wanted)) {
        (Some(present), Some(wanted)) => present < wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_only_grows() {
        assert!(is_less(Some("5Gi"), "6Gi"));
        assert!(!is_less(Some("5Gi"), "5Gi"));
        assert!(!is_less(Some("5Gi"), "5120Mi"));
        assert!(!is_less(Some("6Gi"), "5Gi"));
        assert!(!is_less(None, "5Gi"));
    }
}
