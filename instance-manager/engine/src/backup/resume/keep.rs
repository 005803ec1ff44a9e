//! Which finished parts of an interrupted backup may stay.

use super::super::copy::{self, Copier, FileNames};
use super::super::fill::Job;
use super::super::part::FinishedPart;
use super::super::record::FileRecord;
use super::record::{PartFile, PartRecord};
use crate::error::Result;
use barman_cloud::PartName;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What stays of an interrupted backup.
#[derive(Debug, Default)]
pub struct Kept {
    /// Parts that are as good as new.
    pub parts: Vec<FinishedPart>,
    /// Files in them.
    pub records: Vec<FileRecord>,
    /// Bytes of these files.
    pub bytes: u64,
}

impl Kept {
    /// The parts that follow each other from the first number on. Readers take a gap in the numbers for a lost object,
    /// and nobody knows whether as many new parts come as there are gaps.
    pub fn without_gaps(mut self) -> Self {
        let mut next = BTreeMap::new();
        self.parts.sort_by_key(|part| part.name);
        self.parts.retain(|part| {
            let next = next.entry(part.name.archive).or_insert(1);
            let fits = part.name.index == *next;
            *next += u32::from(fits);
            fits
        });
        let names: HashSet<PartName> = self.parts.iter().map(|part| part.name).collect();
        self.records.retain(|record| names.contains(&record.part));
        self.bytes = self.records.iter().map(|record| record.file.size).sum();
        self
    }
}

/// Where each file of the trees is: index of the group, index of the file.
pub type Places = HashMap<PathBuf, (usize, u32)>;

/// Parts to look at, and what was found. Several threads take from it.
pub struct Review {
    waiting: Mutex<Vec<(PartName, PartRecord)>>,
    kept: Mutex<Kept>,
}

impl Review {
    /// A review of parts that are in the store in the size that was noted. The first part of an archive is not among
    /// them: it holds the directories, which may be others now.
    pub fn new(
        noted: BTreeMap<PartName, PartRecord>,
        places: &Places,
        stored: &BTreeMap<String, u64>,
    ) -> Self {
        let fit = |(name, record): &(PartName, PartRecord)| {
            name.index > 0 && stored.get(&name.to_string()) == Some(&record.size)
        };
        let known = |(_, record): &(PartName, PartRecord)| {
            !record.files.is_empty()
                && record.files.iter().all(|file| places.contains_key(Path::new(&file.path)))
        };
        let waiting = noted.into_iter().filter(fit).filter(known).collect();
        Self { waiting: Mutex::new(waiting), kept: Mutex::default() }
    }

    /// One thread's work: takes parts until none is left.
    pub fn work(&self, places: &Places, job: &Job) -> Result<()> {
        let mut copier = job.copier();
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((name, part)) = next else { return Ok(()) };
            match check(places, job, &mut copier, name, &part)? {
                Some(mut records) => {
                    let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.bytes += part.files.iter().map(|file| file.size).sum::<u64>();
                    kept.parts.push(FinishedPart { name, size: part.size });
                    kept.records.append(&mut records);
                }
                None => tracing::debug!(part = %name, "has changed since it was stored"),
            }
        }
    }

    /// What stays. The threads are done by now.
    pub fn take(&self) -> Kept {
        let mut kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        kept.parts.sort_by_key(|part| part.name);
        kept
    }
}

/// The files of a part, when each is what the part holds.
fn check(
    places: &Places,
    job: &Job,
    copier: &mut Copier<'_>,
    name: PartName,
    part: &PartRecord,
) -> Result<Option<Vec<FileRecord>>> {
    // What was written since is known before anything is read.
    let mut files = Vec::with_capacity(part.files.len());
    for file in &part.files {
        let Some((group, index)) = places.get(Path::new(&file.path)) else { return Ok(None) };
        let tree = job.groups[*group].tree();
        let (_, source) = tree.paths(&tree.files[*index as usize]);
        if copy::identity(&source)? != Some((file.size, file.identity)) {
            return Ok(None);
        }
        files.push((file, source));
    }
    let mut read = 0;
    let mut records = Vec::with_capacity(files.len());
    for (file, source) in files {
        let manifest = Path::new(&file.path);
        let names = FileNames { entry: manifest, manifest, source: &source };
        let record = copier.read_again(name, names)?;
        read += record.as_ref().map_or(0, |record| record.file.size);
        match record.filter(|record| is_same(record, file)) {
            Some(record) => records.push(record),
            None => {
                // They will be read once more.
                job.context.progress.take_back(read);
                return Ok(None);
            }
        }
    }
    Ok(Some(records))
}

fn is_same(record: &FileRecord, noted: &PartFile) -> bool {
    record.identity == noted.identity
        && record.file.size == noted.size
        && record.file.checksum.as_ref().is_some_and(|checksum| checksum.hex() == noted.checksum)
}
