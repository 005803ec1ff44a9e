//! How long the volume with `pg_wal` lasts, and WAL that was let go of because it did not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity;

/// Minutes below which the condition `WALRunway` is False, when the specification does not say.
const WARN_MINUTES: u64 = 60;
/// Part of the volume that is the reserve, when the specification does not say.
const RESERVE_PERCENT: u64 = 10;

/// What is done when WAL that the archive does not take fills the volume.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum WalOverflowPolicy {
    /// Nothing: every WAL file stays until it is archived. When the volume is full PostgreSQL stops.
    #[default]
    Keep,
    /// The oldest WAL files are let go of without having been archived. PostgreSQL stays up; the archive has a gap, and a
    /// new full backup is ordered.
    Drop,
}

/// What happens when the volume with `pg_wal` fills.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalOverflow {
    /// `Keep`: WAL stays until it is archived, and PostgreSQL stops when the volume is full. `Drop`: below `reserve`, and
    /// only while the archive does not keep up, the oldest waiting WAL files are let go of; the gap is recorded, and a
    /// full Backup is ordered in each repository that holds backups. No moment in the gap can be recovered to. Default:
    /// `Keep`.
    #[serde(default)]
    pub policy: WalOverflowPolicy,
    /// Room that is to stay on the volume with `pg_wal`: a part of it, from `1%` to `90%`, or a size such as `2Gi`.
    /// Default: `10%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([1-9]|[1-8][0-9]|90)%$') || (isQuantity(self) && quantity(self).isGreaterThan(quantity('0')))")
        .message("reserve is a part of the volume from 1% to 90%, or a size such as 2Gi"))]
    pub reserve: Option<String>,
    /// Minutes until the volume is full below which the condition `WALRunway` becomes False. Default: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10080))]
    pub warn_minutes: Option<i32>,
}

impl WalOverflow {
    /// Whether WAL may be let go of.
    #[must_use]
    pub fn drops(&self) -> bool {
        self.policy == WalOverflowPolicy::Drop
    }

    /// Bytes that are to stay free on a volume of this size.
    #[must_use]
    pub fn reserve_bytes(&self, volume: u64) -> u64 {
        let percent = |percent: u64| volume / 100 * percent;
        let Some(text) = self.reserve.as_deref() else { return percent(RESERVE_PERCENT) };
        match text.strip_suffix('%').map(str::parse) {
            Some(Ok(part)) => percent(part),
            // The schema takes nothing else than these two.
            _ => quantity::bytes(text)
                .map_or(percent(RESERVE_PERCENT), |bytes| u64::try_from(bytes).unwrap_or(u64::MAX)),
        }
    }

    /// Minutes below which it is told that there is little time.
    #[must_use]
    pub fn warn_minutes(&self) -> u64 {
        self.warn_minutes.and_then(|minutes| u64::try_from(minutes).ok()).unwrap_or(WARN_MINUTES)
    }
}

/// How long the volume with `pg_wal` lasts. Rates are means of some minutes, in bytes a second.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalRunway {
    /// Minutes until the volume is full when it goes on like this. Absent while WAL does not pile up, and until that is
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u64>,
    /// Size of the file system that holds `pg_wal`.
    #[serde(default)]
    pub volume_bytes: u64,
    /// What is free of it.
    #[serde(default)]
    pub free_bytes: u64,
    /// Room for new WAL: what is free, and files in `pg_wal` that PostgreSQL may use again.
    #[serde(default)]
    pub room_bytes: u64,
    /// Room that is to stay: `spec.backup.walOverflow.reserve`.
    #[serde(default)]
    pub reserve_bytes: u64,
    /// WAL that PostgreSQL must keep: for the archive, for a replication slot, or as `wal_keep_size` asks.
    #[serde(default)]
    pub held_bytes: u64,
    /// WAL that waits for the archive.
    #[serde(default)]
    pub waiting_bytes: u64,
    /// Rate at which WAL is written; absent until known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_rate: Option<u64>,
    /// Rate at which the archive takes it; absent until known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_rate: Option<u64>,
    /// Rate at which `heldBytes` grows; absent until known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_rate: Option<u64>,
    /// The replication slot that holds most, when it holds more than the archive does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// WAL files that were let go of since the instance manager started.
    #[serde(default)]
    pub dropped_segments: u64,
}

/// A gap in the archive: WAL that was let go of without having been archived, by `walOverflow.policy: Drop`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DroppedWal {
    /// Timeline.
    #[serde(rename = "timelineID")]
    pub timeline_id: u32,
    /// The first WAL file of the gap.
    #[serde(rename = "firstWAL")]
    pub first_wal: String,
    /// The last one.
    #[serde(rename = "lastWAL")]
    pub last_wal: String,
    /// How many.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the first was let go of.
    pub since: Time,
    /// When the last was.
    pub until: Time,
    /// The instance that did it.
    pub instance: String,
    /// Why.
    pub reason: String,
    /// Backups that were ordered because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(text: Option<&str>) -> u64 {
        WalOverflow { reserve: text.map(str::to_owned), ..WalOverflow::default() }.reserve_bytes(5000)
    }

    #[test]
    fn the_reserve_is_a_part_or_a_size() {
        assert_eq!(reserve(None), 500);
        assert_eq!(reserve(Some("25%")), 1250);
        assert_eq!(reserve(Some("2Ki")), 2048);
    }
}
