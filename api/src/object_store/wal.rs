//! How WAL files are stored.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Encryption;

/// Compression of WAL files. Default: none.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WalCompression {
    /// `.gz`
    Gzip,
    /// `.bz2`
    Bzip2,
    /// `.snappy`
    Snappy,
    /// `.lz4`
    Lz4,
    /// `.zst`
    Zstd,
    /// `.xz`
    Xz,
}

/// How WAL files are stored.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = super::levels::rule(super::levels::WAL))]
pub struct WalConfiguration {
    /// Compression of each WAL file. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<WalCompression>,
    /// Level of the compression: gzip 0 to 9, bzip2 1 to 9, zstd -7 to 22, xz 0 to 9; snappy and lz4 have none.
    /// Higher is smaller, slower and needs more memory. Default: the codec's usual one (gzip 3, bzip2 5, zstd 1,
    /// xz 3). Example: `3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_level: Option<i32>,
    /// Server-side encryption asked for with each WAL file. Default: what the bucket says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// WAL files archived or restored at the same time, 1 to 32. Default: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub max_parallel: Option<i32>,
}
