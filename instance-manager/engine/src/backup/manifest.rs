//! The backup manifest: PostgreSQL's own list of files, so that its own tool can judge what is restored.

use super::record::FileRecord;
use super::session::{ServerFacts, Started, Stopped};
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::manifest::{ManifestWriter, WalRange, version_for};
use bytes::Bytes;

/// The manifest of a finished backup.
pub fn render(
    facts: &ServerFacts,
    started: &Started,
    stopped: &Stopped,
    records: &[FileRecord],
) -> Result<Bytes> {
    let failed = |error| Error::new(ErrorKind::Io, "the backup manifest cannot be made").with_source(error);
    let system_id = (version_for(facts.version) > 1).then_some(facts.system_id);
    let mut writer = ManifestWriter::new(Vec::new(), system_id).map_err(failed)?;
    for record in records {
        writer.file(&record.file).map_err(failed)?;
    }
    let range = WalRange { timeline: started.timeline, start: started.lsn, end: stopped.lsn };
    writer.finish(&[range]).map(Bytes::from).map_err(failed)
}
