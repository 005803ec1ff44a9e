//! How the backups of a chain make one data directory, straight in its place.
//!
//! A file comes whole from the newest backup that has it whole; changed blocks of the backups after that one are put
//! into it, in their order. What is replaced later is not fetched. Which file comes from where is known from the
//! manifests before anything is fetched.

use super::apply::Blocks;
use super::built::{Built, BuiltFile};
use super::check::Checker;
use super::extract::{Extracted, Layer, Target};
use super::fetch::{self, Fetch, Item, Job};
use super::members::Member;
use super::plan::Detailed;
use super::request::RestoreRequest;
use crate::backup::commit::MAX_MANIFEST;
use crate::error::{Error, ErrorKind, Result};
use crate::increment::{Shape, incremental_name, plain_name};
use crate::progress::{Phase, Progress};
use barman_cloud::manifest::{Manifest, ManifestFile};
use barman_cloud::{Archive, BackupId};
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What each backup contributes, and what comes out.
pub struct Layers {
    /// What the files of the result must be. Of those that are put together only an upper bound of the size is known.
    pub result: Arc<Checker>,
    /// One for each backup: what it contributes is wanted of it.
    pub members: Vec<Arc<Checker>>,
    /// The files of the result, when there are several backups.
    pub built: Option<Arc<Built>>,
    /// The manifest as it is in the store, when there is one backup.
    pub manifest: Option<Bytes>,
    /// By the manifest of the last backup.
    pub system_id: Option<u64>,
}

impl Layers {
    /// Reads the manifests of all members.
    pub async fn read(members: &[Member]) -> Result<Self> {
        let mut manifests = Vec::with_capacity(members.len());
        let mut bytes = None;
        for member in members.iter().filter(|member| member.has_manifest) {
            let key = member.repository.layout().manifest(&member.id);
            let body = member.repository.store().get(&key, MAX_MANIFEST).await?;
            let parsed = Manifest::parse(&body);
            manifests.push(parsed.map_err(|error| error.with_key(member.repository.store().url_of(&key)))?);
            bytes = Some(body);
        }
        if members.len() == 1 {
            let manifest = manifests.pop();
            let system_id = manifest.as_ref().and_then(|manifest| manifest.system_identifier);
            let result = Arc::new(Checker::new(manifest));
            let members = vec![Arc::clone(&result)];
            return Ok(Self { result, members, built: None, manifest: bytes, system_id });
        }
        let ids: Vec<&BackupId> = members.iter().map(|member| &member.id).collect();
        lay_out(&ids, manifests)
    }

    /// Files of the result that are on disk already need not be fetched.
    fn keep(&self) {
        let Some(last) = self.members.last().filter(|last| !Arc::ptr_eq(last, &self.result)) else { return };
        for (path, _) in self.result.files().filter(|(path, _)| self.result.is_kept(path)) {
            if let Some(file) = last.expected(path) {
                file.keep();
            }
        }
    }
}

/// Decides what comes from where. Fails when a backup holds changed blocks of a file that no earlier one has.
fn lay_out(ids: &[&BackupId], manifests: Vec<Manifest>) -> Result<Layers> {
    let last = manifests.len().saturating_sub(1);
    let lost = |path: &Path, index: usize| {
        Error::new(
            ErrorKind::Corrupt,
            format!(
                "backup {} holds changed blocks of {}, and backup {}, which it builds on, does not have the file",
                ids[last],
                path.display(),
                ids[index]
            ),
        )
        .with_remedy("use another backup")
    };
    let Some(newest) = manifests.last().filter(|_| manifests.len() == ids.len()) else {
        return Err(Error::new(ErrorKind::Missing, "a backup of the chain has no manifest"));
    };
    let mut origins: HashMap<PathBuf, (ManifestFile, u64)> = HashMap::new();
    let mut open: Vec<(PathBuf, u64)> =
        newest.files.iter().filter_map(|file| Some((plain_name(&file.path)?, file.size))).collect();
    let mut wanted = vec![HashSet::new(); last];
    for index in (0..last).rev() {
        let known: HashMap<&Path, &ManifestFile> =
            manifests[index].files.iter().map(|file| (file.path.as_path(), file)).collect();
        let mut deeper = Vec::new();
        for (plain, bytes) in open {
            let blocks = incremental_name(&plain);
            if let Some(file) = known.get(plain.as_path()) {
                wanted[index].insert(plain.clone());
                origins.insert(plain, ((*file).clone(), bytes + file.size));
            } else if let Some(file) = known.get(blocks.as_path()).filter(|_| index > 0) {
                wanted[index].insert(blocks);
                deeper.push((plain, bytes + file.size));
            } else {
                return Err(lost(&plain, index));
            }
        }
        open = deeper;
    }
    let mut files = Vec::with_capacity(newest.files.len());
    let mut expected = Vec::with_capacity(newest.files.len());
    for file in &newest.files {
        match plain_name(&file.path).and_then(|plain| origins.remove(&plain)) {
            None => {
                expected.push(file.clone());
                files.push(BuiltFile::new(file.clone(), false));
            }
            Some((origin, bytes)) => {
                // Nothing on disk is taken for it: without a checksum nobody can tell.
                expected.push(ManifestFile { size: bytes, checksum: None, ..origin.clone() });
                files.push(BuiltFile::new(ManifestFile { modified: file.modified, ..origin }, true));
            }
        }
    }
    let built = Arc::new(Built::new(files, newest));
    let system_id = newest.system_identifier;
    let result = Manifest {
        version: newest.version,
        system_identifier: system_id,
        files: expected,
        wal_ranges: newest.wal_ranges.clone(),
    };
    let result = Arc::new(Checker::new(Some(result)));
    let members = manifests
        .into_iter()
        .enumerate()
        .map(|(index, manifest)| match wanted.get(index) {
            Some(wanted) => Arc::new(Checker::wanting(manifest, wanted)),
            None => Arc::new(Checker::new(Some(manifest))),
        })
        .collect();
    Ok(Layers { result, members, built: Some(built), manifest: None, system_id })
}

/// Fetches the backups of a chain, one after the other.
pub struct Fill<'a> {
    pub request: &'a RestoreRequest,
    pub layers: &'a Layers,
    pub targets: &'a [(Archive, Target)],
    pub progress: &'a Arc<Progress>,
    pub threads: &'a TaskTracker,
}

impl Fill<'_> {
    /// Fetches everything that is wanted. Returns what was written, and how many bytes came from the store.
    pub async fn run(&self, detailed: &Detailed, cancel: &CancellationToken) -> Result<(Extracted, u64)> {
        self.layers.keep();
        let id = &detailed.last()?.id;
        let last = detailed.members.len() - 1;
        let members = || detailed.members.iter().zip(&self.layers.members).enumerate();
        let queues: Vec<VecDeque<Item>> =
            members().map(|(index, (member, checker))| self.queue(member, checker, index == last)).collect();
        self.progress.restart(queues.iter().map(fetch::expected).sum());
        self.progress.enter(Phase::Fetching { backup_id: id.clone() });
        let (mut sum, mut fetched) = (Extracted::default(), 0);
        for ((index, (member, checker)), items) in members().zip(queues) {
            let job = Job {
                repository: member.repository.clone(),
                items,
                jobs: self.request.jobs,
                layer: Layer { structure: index == last, blocks: self.blocks(member, index) },
                checker: Arc::clone(checker),
                progress: Arc::clone(self.progress),
                threads: self.threads.clone(),
            };
            let fetch = Fetch::new(job, cancel);
            let extracted = fetch.run().await?;
            fetched += fetch.fetched_bytes();
            checker.finish().map_err(|error| of(error, &member.id))?;
            if index == last && !extracted.has_label && !checker.is_kept("backup_label".as_ref()) {
                return Err(Error::new(
                    ErrorKind::Missing,
                    format!("backup {id} has no backup_label: the last part of its data archive is missing"),
                ));
            }
            fetch::add(&mut sum, extracted);
        }
        Ok((sum, fetched))
    }

    fn queue(&self, member: &Member, checker: &Checker, structure: bool) -> VecDeque<Item> {
        let owners = member.list.as_ref().and_then(|list| list.part_of_files(checker.count()));
        let files = owners.map(|owners| checker.by_part(&owners));
        fetch::queue(&member.parts, self.targets, files.as_ref(), structure)
    }

    /// The full backup at the beginning has files of changed blocks only by name.
    fn blocks(&self, member: &Member, index: usize) -> Option<Blocks> {
        let built = self.layers.built.clone().filter(|_| index > 0)?;
        let server = member.list.as_ref()?.server.as_ref()?;
        let shape = Shape { page: server.block_size, segment_blocks: server.segment_blocks };
        Some(Blocks { shape, built })
    }
}

fn of(error: Error, id: &BackupId) -> Error {
    Error::new(error.kind(), format!("backup {id}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::manifest::FileChecksum;

    fn manifest(files: &[(&str, u64)]) -> Manifest {
        let files = files.iter().map(|(path, size)| ManifestFile {
            path: path.into(),
            size: *size,
            modified: chrono::DateTime::UNIX_EPOCH,
            checksum: Some(FileChecksum::Crc32c(*size as u32)),
        });
        Manifest { version: 1, system_identifier: None, files: files.collect(), wal_ranges: Vec::new() }
    }

    fn wanted(checker: &Checker) -> Vec<String> {
        let files = checker.files().filter(|(path, _)| !checker.is_kept(path));
        let mut names: Vec<String> = files.map(|(path, _)| path.display().to_string()).collect();
        names.sort();
        names
    }

    fn ids() -> [BackupId; 3] {
        ["20261121T010000", "20261121T020000", "20261121T030000"].map(|text| text.parse().expect("an id"))
    }

    #[test]
    fn a_file_comes_from_the_newest_backup_that_has_it_whole() {
        let ids = ids();
        let manifests = vec![
            manifest(&[
                ("base/5/1", 100),
                ("base/5/2", 100),
                ("base/5/3", 100),
                ("base/5/gone", 9),
                ("PG_VERSION", 3),
            ]),
            manifest(&[
                ("base/5/INCREMENTAL.1", 12),
                ("base/5/2", 200),
                ("base/5/INCREMENTAL.3", 12),
                ("PG_VERSION", 3),
            ]),
            manifest(&[
                ("base/5/INCREMENTAL.1", 20),
                ("base/5/INCREMENTAL.2", 30),
                ("base/5/3", 40),
                ("INCREMENTAL.conf", 5),
                ("PG_VERSION", 3),
            ]),
        ];
        let layers = lay_out(&ids.iter().collect::<Vec<_>>(), manifests).expect("fits");
        assert_eq!(wanted(&layers.members[0]), ["base/5/1"]);
        assert_eq!(wanted(&layers.members[1]), ["base/5/2", "base/5/INCREMENTAL.1"]);
        assert_eq!(wanted(&layers.members[2]).len(), 5);
        let result = |path: &str| {
            layers.result.expected(Path::new(path)).map(|file| (file.size, file.checksum.is_some()))
        };
        assert_eq!(result("base/5/1"), Some((132, false)));
        assert_eq!(result("base/5/2"), Some((230, false)));
        assert_eq!(result("base/5/3"), Some((40, true)));
        assert_eq!(result("INCREMENTAL.conf"), Some((5, true)), "a user's own file");
        assert_eq!(result("base/5/gone"), None);
    }

    #[test]
    fn what_is_on_disk_already_is_not_fetched() {
        let ids = ids();
        let manifests = vec![
            manifest(&[("base/5/1", 100), ("PG_VERSION", 3)]),
            manifest(&[("base/5/INCREMENTAL.1", 12), ("PG_VERSION", 3)]),
        ];
        let layers = lay_out(&ids[..2].iter().collect::<Vec<_>>(), manifests).expect("fits");
        layers.result.expected(Path::new("PG_VERSION")).expect("known").keep();
        layers.keep();
        assert_eq!(wanted(&layers.members[1]), ["base/5/INCREMENTAL.1"]);
    }

    #[test]
    fn blocks_of_a_file_that_is_nowhere_are_refused() {
        let ids = ids();
        for first in [&[("base/5/9", 1)][..], &[("base/5/INCREMENTAL.1", 12)]] {
            let manifests = vec![manifest(first), manifest(&[("base/5/INCREMENTAL.1", 12)])];
            let error = lay_out(&ids[..2].iter().collect::<Vec<_>>(), manifests).err().expect("refused");
            let text = error.report();
            assert!(text.contains("base/5/1") && text.contains("20261121T010000"), "{text}");
        }
        let error =
            lay_out(&ids[..2].iter().collect::<Vec<_>>(), vec![manifest(&[])]).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::Missing);
    }
}
