//! The result of a chain: which of its files are put together, and the manifest of the whole.

use super::extract::Target;
use super::place;
use crate::backup::record::Hasher;
use crate::error::{Error, ErrorKind, Result};
use crate::increment::without_origin;
use barman_cloud::manifest::{FileChecksum, Manifest, ManifestFile, ManifestWriter, WalRange};
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

const LABEL: &str = "backup_label";
/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// A file of the result.
#[derive(Debug)]
pub struct BuiltFile {
    /// Its line in the manifest; of one that is put together what the file had where it comes from whole.
    pub file: ManifestFile,
    /// Whether it is put together.
    pub is_built: bool,
    /// Whether anything in it was changed after it was written whole.
    touched: AtomicBool,
}

impl BuiltFile {
    /// A file with this line in the manifest.
    pub fn new(file: ManifestFile, is_built: bool) -> Self {
        Self { file, is_built, touched: AtomicBool::new(false) }
    }
}

/// All files of the result.
#[derive(Debug, Default)]
pub struct Built {
    /// In the order of the manifest.
    files: Vec<BuiltFile>,
    /// Those that are put together, by path.
    index: HashMap<PathBuf, usize>,
    system_id: Option<u64>,
    wal: Vec<WalRange>,
}

impl Built {
    /// The result with these files; `last` is the manifest of the backup that is restored.
    pub fn new(files: Vec<BuiltFile>, last: &Manifest) -> Self {
        let built = files.iter().enumerate().filter(|(_, file)| file.is_built);
        let index = built.map(|(index, file)| (file.file.path.clone(), index)).collect();
        Self { files, index, system_id: last.system_identifier, wal: last.wal_ranges.clone() }
    }

    /// Notes that a file is not what it was when it was written whole.
    pub fn touch(&self, path: &Path) {
        if let Some(file) = self.index.get(path).and_then(|index| self.files.get(*index)) {
            file.touched.store(true, Ordering::Relaxed);
        }
    }

    /// Makes the label PostgreSQL's own again, and gives the manifest of what is there. Files that were put together are
    /// read on `jobs` threads; the others were compared with their checksums when they were written.
    pub fn finish(&self, targets: Vec<Target>, jobs: usize, cancel: &CancellationToken) -> Result<Bytes> {
        let label = targets.first().map(|data| data.root.join(LABEL)).unwrap_or_default();
        strip(&label)?;
        let kind = self.files.iter().find_map(|file| file.file.checksum.as_ref());
        let read: Vec<usize> =
            self.files.iter().enumerate().filter(|(_, file)| file.must_be_read()).map(|(i, _)| i).collect();
        let found: Mutex<HashMap<usize, (u64, Option<FileChecksum>)>> = Mutex::default();
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..jobs.min(read.len()) {
                scope.spawn(|| {
                    let mut buffer = vec![0; BUFFER];
                    while let Some(index) = read.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let path = on_disk(&targets, &self.files[*index].file.path);
                        match path.and_then(|path| sum(&path, kind, &mut buffer, cancel)) {
                            Ok(sum) => {
                                found.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, sum);
                            }
                            Err(error) => {
                                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                                return;
                            }
                        }
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        self.render(&found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn render(&self, found: &HashMap<usize, (u64, Option<FileChecksum>)>) -> Result<Bytes> {
        let failed =
            |error| Error::new(ErrorKind::Io, "the backup manifest cannot be made").with_source(error);
        let mut writer = ManifestWriter::new(Vec::new(), self.system_id).map_err(failed)?;
        for (index, file) in self.files.iter().enumerate() {
            match found.get(&index) {
                None => writer.file(&file.file),
                Some((size, checksum)) => writer.file(&ManifestFile {
                    size: *size,
                    checksum: checksum.clone(),
                    ..file.file.clone()
                }),
            }
            .map_err(failed)?;
        }
        writer.finish(&self.wal).map(Bytes::from).map_err(failed)
    }
}

impl BuiltFile {
    fn must_be_read(&self) -> bool {
        self.touched.load(Ordering::Relaxed) || self.file.path == Path::new(LABEL)
    }
}

fn on_disk(targets: &[Target], path: &Path) -> Result<PathBuf> {
    let target = place::of(targets, path).and_then(|place| targets.get(place));
    let found =
        target.and_then(|target| Some(target.root.join(path.strip_prefix(&target.manifest_prefix).ok()?)));
    found.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{} belongs nowhere", path.display())))
}

/// Size and checksum of a file, of the same kind as another.
fn sum(
    path: &Path,
    kind: Option<&FileChecksum>,
    buffer: &mut [u8],
    cancel: &CancellationToken,
) -> Result<(u64, Option<FileChecksum>)> {
    let failed = |error| Error::io("cannot read", path, error);
    let mut hasher = kind.and_then(Hasher::like).unwrap_or(Hasher::None);
    let mut file = File::open(path).map_err(failed)?;
    let mut size = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        match file.read(buffer).map_err(failed)? {
            0 => return Ok((size, hasher.finish())),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

fn strip(path: &Path) -> Result<()> {
    let label = std::fs::read_to_string(path).map_err(|error| Error::io("cannot read", path, error))?;
    let own = without_origin(&label);
    if own == label {
        return Ok(());
    }
    // Into the same file: it has the right owner and mode.
    std::fs::write(path, own).map_err(|error| Error::io("cannot write", path, error))
}
