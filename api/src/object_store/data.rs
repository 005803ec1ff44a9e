//! How base backups are stored.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Encryption;

/// Compression of base backups. Default: none.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataCompression {
    /// `.gz`
    Gzip,
    /// `.bz2`
    Bzip2,
    /// `.snappy`
    Snappy,
    /// `.lz4` (read by barman 3.18 and newer)
    Lz4,
    /// `.zst` (read by barman 3.20 and newer)
    Zstd,
}

/// How base backups are stored.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = super::levels::rule(super::levels::DATA))]
pub struct DataConfiguration {
    /// Compression of the tar parts. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<DataCompression>,
    /// Level of the compression: gzip 0 to 9, bzip2 1 to 9, zstd -7 to 22; snappy and lz4 have none. Higher is
    /// smaller, slower and needs more memory for each job. Default: the codec's usual one (gzip 6, bzip2 5, zstd 1).
    /// Example: `3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
    /// Server-side encryption asked for with each object. Default: what the bucket says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// Parts written at the same time by a backup, and read by a recovery, 1 to 32. More are faster as long as there
    /// are cores and the store keeps up; each needs memory. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub jobs: Option<i32>,
    /// Ask for an immediate checkpoint at the start instead of a spread one. Default: false.
    /// `Backup.spec.immediateCheckpoint` overrides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immediate_checkpoint: Option<bool>,
    /// Most requests that the store takes in one multipart upload, 1 to 10000, for S3-compatible services that take
    /// fewer than Amazon S3. Backups are cut into smaller objects to fit; below 320 they need larger buffers too
    /// (1600 MiB divided by this number, two of them for each job). Default: 10000. Example: `1000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_upload_parts: Option<i32>,
    /// Most bytes of database files that a backup reads per second, all jobs together, as a quantity of at least
    /// `1M`. Default: no limit. Example: `50Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && !quantity(self).isLessThan(quantity('1M'))")
        .message("readRateLimit must be a quantity of bytes per second of at least 1M, such as 50Mi"))]
    pub read_rate_limit: Option<String>,
    /// Most bytes that a backup sends to the store per second, after compression, all jobs together, as a quantity of
    /// at least `1M`. WAL is not limited. Default: no limit. Example: `20Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && !quantity(self).isLessThan(quantity('1M'))")
        .message("uploadRateLimit must be a quantity of bytes per second of at least 1M, such as 20Mi"))]
    pub upload_rate_limit: Option<String>,
    /// CPU niceness of the threads that read and compress a backup, 0 to 19: the higher, the more they give way to
    /// PostgreSQL. WAL archiving keeps its own. Default: 0. Example: `10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 19))]
    pub niceness: Option<i32>,
    /// I/O priority of the threads that read a backup. It has an effect where the disk's scheduler knows priorities
    /// (bfq, mq-deadline). Default: as the niceness says. Example: `{"class": "idle"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// What becomes of a backup that finds data pages with a wrong checksum. Default: `warn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_pages: Option<BadPagePolicy>,
}

/// What becomes of a backup that finds data pages with a wrong checksum: `warn` completes it, `fail` fails it and
/// stores nothing. Either names the pages in the Backup's status. Default: `warn`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BadPagePolicy {
    /// It completes and names them.
    Warn,
    /// It fails and names them.
    Fail,
}

/// I/O priority, as of `ionice`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.class == 'best-effort' || !has(self.level)")
    .message("level belongs to the class best-effort: leave it out with idle"))]
pub struct IoPriority {
    /// `idle`: only when nobody else wants the disk, so a backup may never end on a busy one. `best-effort`: a share by
    /// level.
    pub class: IoClass,
    /// Level within `best-effort`, 0 (the largest share) to 7 (the smallest). Default: 7.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 7))]
    pub level: Option<i32>,
}

/// Classes of I/O priority.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IoClass {
    /// Only when nobody else wants the disk.
    Idle,
    /// With everyone else.
    BestEffort,
}
