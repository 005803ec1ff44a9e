//! The rule of `compressionLevel`, for base backups and WAL alike.

use kube::core::Rule;

/// A codec with levels: its name in the specification, its lowest and its highest level.
type Levels = (&'static str, i32, i32);

/// Codecs of base backups.
pub(super) const DATA: &[Levels] = &[("gzip", 0, 9), ("bzip2", 1, 9), ("zstd", -7, 22)];
/// Codecs of WAL.
pub(super) const WAL: &[Levels] = &[("gzip", 0, 9), ("bzip2", 1, 9), ("zstd", -7, 22), ("xz", 0, 9)];

/// A level stands beside a codec that has levels, and is one of these.
pub(super) fn rule(codecs: &[Levels]) -> Rule {
    let cases: Vec<String> = codecs
        .iter()
        .map(|(codec, lowest, highest)| {
            format!(
                "self.compression == '{codec}' && self.compressionLevel >= {lowest} && self.compressionLevel <= {highest}"
            )
        })
        .collect();
    let mut names: Vec<String> =
        codecs.iter().map(|(codec, lowest, highest)| format!("{codec} ({lowest} to {highest})")).collect();
    let last = names.pop().unwrap_or_default();
    let names = names.join(", ");
    let message = format!("compressionLevel needs a compression that has levels: {names} or {last}");
    let cases = cases.join(" || ");
    Rule::new(format!("!has(self.compressionLevel) || (has(self.compression) && ({cases}))"))
        .message(message.as_str())
}
