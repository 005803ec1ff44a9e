//! One part, read to its end: codec, tar, and every file in it.

use super::finding::{Code, Finding, Findings};
use super::progress::VerifyProgress;
use crate::error::{Error, Result};
use crate::restore::check::Checker;
use barman_cloud::catalog::PartObject;
use barman_cloud::codec::Decoder;
use barman_cloud::store::blocking::BlockingReader;
use barman_cloud::tar::{Entry, EntryKind, TarReader};
use barman_cloud::{ErrorKind as StoreErrorKind, Repository};
use futures::StreamExt;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Largest `backup_label` that is looked at; a real one has some 300 bytes.
const MAX_LABEL: u64 = 64 << 10;

/// What a part held.
#[derive(Debug, Default)]
pub struct PartContent {
    /// Files that are as they must be.
    pub files: u64,
    /// Text of `backup_label`, when it was in this part.
    pub label: Option<String>,
    /// What is wrong with it.
    pub findings: Findings,
}

/// Reads a part of a backup.
///
/// # Errors
/// Only when it was cancelled, or the store does not answer.
pub async fn read(
    repository: &Repository,
    part: &PartObject,
    prefix: PathBuf,
    checker: &Arc<Checker>,
    progress: &Arc<VerifyProgress>,
    cancel: &CancellationToken,
) -> Result<PartContent> {
    let url = repository.store().url_of(&part.object.key);
    let (info, stream) = repository.store().open(&part.object.key, None).await?;
    if info.size != part.object.size {
        let problem =
            format!("it changed from {} to {} bytes while it was looked at", part.object.size, info.size);
        let mut content = PartContent::default();
        content.findings.add(Finding::new(Code::PartSize, url, problem));
        return Ok(content);
    }
    let counter = Arc::clone(progress);
    let counted = stream.inspect(move |piece| {
        if let Ok(piece) = piece {
            counter.add_read(piece.len() as u64);
        }
    });
    // A thread that waits for the store must end with the rest.
    let reader = BlockingReader::new(counted.take_until(cancel.clone().cancelled_owned()).boxed());
    let (checker, codec, stop) = (Arc::clone(checker), part.name.compression, cancel.clone());
    let thread = tokio::task::spawn_blocking(move || {
        let mut content = PartContent::default();
        let done = Decoder::new(codec, reader)
            .map_err(|error| {
                barman_cloud::Error::from_io(error, StoreErrorKind::Corrupt, "it cannot be decompressed")
            })
            .and_then(|decoder| entries(decoder, &prefix, &checker, &mut content, &stop));
        (content, done)
    });
    let (mut content, done) = thread.await.map_err(|error| Error::cancelled().with_source(error))?;
    if cancel.is_cancelled() {
        // A stream that was ended looks like a damaged part.
        return Err(Error::cancelled());
    }
    match done {
        Ok(()) => Ok(content),
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            let problem = barman_cloud::error::report(&error, None);
            content.findings.add(Finding::new(Code::PartDamaged, url, problem));
            Ok(content)
        }
        Err(error) => Err(error.into()),
    }
}

fn entries(
    input: impl BufRead,
    prefix: &Path,
    checker: &Checker,
    content: &mut PartContent,
    cancel: &CancellationToken,
) -> barman_cloud::Result<()> {
    let mut tar = TarReader::new(input);
    while let Some(entry) = tar.next_entry()? {
        if cancel.is_cancelled() {
            return Ok(());
        }
        if entry.kind == EntryKind::File {
            file(&mut tar, &entry, prefix, checker, content)?;
        }
    }
    Ok(())
}

fn file(
    tar: &mut TarReader<impl BufRead>,
    entry: &Entry,
    prefix: &Path,
    checker: &Checker,
    content: &mut PartContent,
) -> barman_cloud::Result<()> {
    let name = prefix.join(&entry.path);
    let mut label = (name == Path::new("backup_label") && entry.size <= MAX_LABEL).then(Vec::new);
    let differs = |error: Error| {
        Finding::new(Code::FileDiffers, name.display().to_string(), barman_cloud::error::report(&error, None))
    };
    let mut check = match checker.begin(&name, entry.size) {
        Ok(check) => check,
        Err(error) => {
            content.findings.add(differs(error));
            return Ok(());
        }
    };
    loop {
        let data = tar.data()?;
        if data.is_empty() {
            break;
        }
        if let Some(check) = &mut check {
            check.update(data);
        }
        if let Some(label) = &mut label {
            label.extend_from_slice(data);
        }
        let count = data.len();
        tar.consume(count);
    }
    if let Some(label) = label {
        content.label = Some(String::from_utf8_lossy(&label).into_owned());
    }
    match check.map_or(Ok(()), |check| check.finish()) {
        Ok(()) => content.files += 1,
        Err(error) => content.findings.add(differs(error)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::manifest::{FileChecksum, Manifest, ManifestFile};
    use barman_cloud::tar::TarWriter;

    fn expected(path: &str, content: &[u8]) -> ManifestFile {
        ManifestFile {
            path: path.into(),
            size: content.len() as u64,
            modified: chrono::DateTime::UNIX_EPOCH,
            checksum: Some(FileChecksum::Crc32c(crc32c::crc32c(content))),
        }
    }

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (path, content) in files {
            let mut rest = *content;
            writer.append(&Entry::file(*path, content.len() as u64), &mut rest).expect("written");
        }
        writer.finish().expect("ended")
    }

    fn check(files: Vec<ManifestFile>, bytes: &[u8]) -> (PartContent, barman_cloud::Result<()>) {
        let manifest = Manifest { version: 1, system_identifier: None, files, wal_ranges: Vec::new() };
        let mut content = PartContent::default();
        let checker = Checker::new(Some(manifest));
        let done = entries(bytes, Path::new(""), &checker, &mut content, &CancellationToken::new());
        (content, done)
    }

    #[test]
    fn every_file_is_compared_and_each_difference_is_told() {
        let files = vec![
            expected("a", b"one"),
            expected("b", b"two"),
            expected("c", b"long"),
            expected("backup_label", b"START"),
        ];
        let bytes =
            tar(&[("a", b"one"), ("b", b"tvo"), ("c", b"short"), ("x", b"?"), ("backup_label", b"START")]);
        let (content, done) = check(files, &bytes);
        done.expect("a whole tar");
        assert_eq!((content.files, content.label.as_deref()), (2, Some("START")));
        let (list, _) = content.findings.into_parts();
        let told: Vec<(&str, bool)> =
            list.iter().map(|f| (f.object.as_str(), f.code == Code::FileDiffers)).collect();
        assert_eq!(told, [("b", true), ("c", true), ("x", true)]);
        assert!(list[0].problem.contains("checksum") && list[1].problem.contains("bytes"), "{list:?}");
    }

    #[test]
    fn a_tar_that_ends_early_is_damaged() {
        let bytes = tar(&[("a", b"one")]);
        let (_, done) = check(vec![expected("a", b"one")], &bytes[..600]);
        assert_eq!(done.expect_err("cut off").kind(), StoreErrorKind::Corrupt);
    }
}
