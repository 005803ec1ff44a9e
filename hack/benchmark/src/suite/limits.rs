//! What the machine can do: each stage of a backup alone, on all cores, on the data of the benchmark.

use crate::context::Context;
use crate::dataset::Bed;
use crate::report::{Comparison, Limit};
use crate::target::Verdict;
use anyhow::{Context as _, Result};
use barman_cloud::Compression;
use barman_cloud::codec::Encoder;
use bytes::Bytes;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CHUNK: usize = 8 << 20;
const SAMPLE: u64 = 256 << 20;
const PAGE: usize = 8192;
/// Shortest measurement.
const LONG_ENOUGH: Duration = Duration::from_secs(1);
/// Least share of the slowest stage's throughput that a whole backup must reach.
const SHARE: f64 = 0.80;

/// Stages of a backup.
pub struct Limits {
    /// As printed.
    pub limits: Vec<Limit>,
    /// Least of the throughputs that do not depend on the codec, bytes a second.
    common: f64,
    /// Bytes a second of each codec, and bytes out for each byte in.
    codecs: Vec<(&'static str, f64, f64)>,
    /// Stored bytes a second.
    store: f64,
    /// Bytes of files that a backup reads.
    data: f64,
}

/// Measures all of them.
///
/// # Errors
/// When the data set cannot be read or the store fails.
pub async fn run(context: &Context) -> Result<Limits> {
    let server = Bed::new(context, context.options.size()).open(context)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let files = relation_files(&server.data)?;
    let data: u64 = files.iter().map(|(_, size)| size).sum();
    let sample = read_sample(&files)?;
    let chunks: Vec<&[u8]> = sample.chunks(CHUNK).collect();
    let mut limits = Vec::new();
    let mut add = |name: &str, rate: f64, how: String| {
        limits.push(Limit { name: name.to_owned(), megabytes_per_second: rate / 1e6, how });
        rate
    };
    let on_all = format!("{cores} threads");
    let copy = |chunk: &[u8]| {
        let mut target = vec![0; chunk.len()];
        target.copy_from_slice(chunk);
        std::hint::black_box(&target);
    };
    add("memory copy", rate(cores, &chunks, copy), on_all.clone());
    let reading = add(
        "reading files",
        read_rate(context.options.jobs, &files),
        format!("{} threads", context.options.jobs),
    );
    let pages = |chunk: &[u8]| {
        for page in chunk.chunks_exact(PAGE) {
            std::hint::black_box(howdah_engine::bench::page_checksum(page, 7));
        }
        std::hint::black_box(howdah_engine::bench::crc32c(chunk));
    };
    let checks = add("page checksums and CRC-32C", rate(cores, &chunks, pages), on_all.clone());
    let mut codecs = Vec::new();
    for codec in [Compression::Lz4, Compression::Zstd, Compression::Gzip] {
        let out = AtomicU64::new(0);
        let bytes_in = AtomicU64::new(0);
        let encode = |chunk: &[u8]| {
            let done = Encoder::new(codec, None, Counter(0)).ok().and_then(|mut encoder| {
                encoder.write_all(chunk).ok()?;
                encoder.finish().ok()
            });
            out.fetch_add(done.map_or(0, |counter| counter.0), Ordering::Relaxed);
            bytes_in.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        };
        let found = add(&format!("codec {codec}"), rate(cores, &chunks, encode), on_all.clone());
        let share = out.load(Ordering::Relaxed) as f64 / bytes_in.load(Ordering::Relaxed).max(1) as f64;
        codecs.push((codec.as_str(), found, share));
    }
    let store = add(
        "store (stored bytes)",
        store_rate(context, &sample)?,
        format!("{} parts at a time", context.options.jobs),
    );
    Ok(Limits { limits, common: reading.min(checks), codecs, store, data: data as f64 })
}

impl Limits {
    /// Throughput of Howdah's whole backups by that of the slowest stage.
    #[must_use]
    pub fn judge(&self, results: &[Comparison], wanted: impl Fn(&str) -> bool) -> Vec<Verdict> {
        let mut lines = Vec::new();
        for &(codec, rate, share) in &self.codecs {
            let slowest = self.common.min(rate).min(self.store / share.max(f64::MIN_POSITIVE));
            let run = results
                .iter()
                .find(|r| r.operation == "backup" && r.codec == codec && r.against == "wal-rus");
            let ratio = run.map(|run| self.data / run.howdah.wall / slowest);
            // gzip has no target against wal-rus, so it is judged only where it ran.
            if ratio.is_some() || codec != "gzip" && wanted(&format!("backup, {codec}, wal-rus")) {
                lines.push(Verdict::at_least(
                    &format!("backup, {codec}"),
                    "its slowest stage alone",
                    "throughput",
                    ratio,
                    SHARE,
                ));
            }
        }
        lines
    }
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0 += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes a second of `work` over the chunks, again and again until it took long enough.
fn rate(threads: usize, chunks: &[&[u8]], work: impl Fn(&[u8]) + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while begun.elapsed() < LONG_ENOUGH {
                    let number = next.fetch_add(1, Ordering::Relaxed) % chunks.len().max(1);
                    let Some(chunk) = chunks.get(number) else { return };
                    work(chunk);
                    bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    bytes.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// Files below `base`, the largest first, with their sizes.
fn relation_files(data: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut dirs = vec![data.join("base")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                dirs.push(entry.path());
            } else {
                files.push((entry.path(), meta.len()));
            }
        }
    }
    files.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(files)
}

/// The beginnings of the large files, in the proportion of their sizes.
fn read_sample(files: &[(PathBuf, u64)]) -> Result<Vec<u8>> {
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    let mut sample = Vec::new();
    for (path, size) in files {
        let part = (u128::from(*size) * u128::from(SAMPLE.min(total)) / u128::from(total.max(1))) as u64;
        let part = part / PAGE as u64 * PAGE as u64;
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        file.take(part).read_to_end(&mut sample)?;
    }
    Ok(sample)
}

/// Bytes a second of reading all files once.
fn read_rate(threads: usize, files: &[(PathBuf, u64)]) -> f64 {
    let next = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; 256 << 10];
                while let Some((path, _)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Ok(mut file) = std::fs::File::open(path) else { continue };
                    while let Ok(read @ 1..) = file.read(&mut buffer) {
                        bytes.fetch_add(read as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    bytes.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// Bytes a second of uploads in parts with the product's client and runtime.
fn store_rate(context: &Context, sample: &[u8]) -> Result<f64> {
    let parts: Vec<Bytes> = sample.chunks(CHUNK).map(Bytes::copy_from_slice).collect();
    let (store, jobs) = (context.s3.open()?, context.options.jobs);
    let runtime = howdah_instance_manager::report::runtime().context("the runtime cannot be started")?;
    let upload = async move {
        let upload = store.upload("limits/store").await?;
        let begun = Instant::now();
        let mut bytes = 0;
        let mut index = 0;
        while begun.elapsed() < LONG_ENOUGH {
            let mut running = tokio::task::JoinSet::new();
            for part in parts.iter().cycle().skip(index).take(jobs * 4) {
                bytes += part.len();
                running.spawn(upload.put_part(index, part.clone()));
                index += 1;
                if running.len() >= jobs {
                    running.join_next().await.transpose()?.transpose()?;
                }
            }
            while let Some(done) = running.join_next().await {
                done??;
            }
        }
        let rate = bytes as f64 / begun.elapsed().as_secs_f64();
        upload.abort().await?;
        Ok::<f64, anyhow::Error>(rate)
    };
    // A runtime of its own thread: this one is inside another.
    std::thread::spawn(move || runtime.block_on(upload))
        .join()
        .map_err(|_| anyhow::anyhow!("the upload panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Pair, Sample};

    #[test]
    fn a_backup_is_judged_by_its_slowest_stage() {
        let limits = Limits {
            limits: Vec::new(),
            common: 900.0,
            codecs: vec![("lz4", 400.0, 0.5), ("zstd", 500.0, 0.1), ("gzip", 50.0, 0.2)],
            store: 100.0,
            data: 800.0,
        };
        let sample = Sample { wall: 5.0, ..Sample::default() };
        let run = |codec| {
            let pair = Pair { howdah: sample, rival: sample };
            Comparison::new("backup", codec, "wal-rus", 1.0, 1, vec![pair])
        };
        let lines = limits.judge(&[run("lz4"), run("zstd")], |_| true);
        // lz4: the store takes 100 of 0.5 a byte, so 200; 160 is 0.8 of that. zstd: its codec, 500.
        let found: Vec<_> = lines.iter().map(|line| (line.ratio, line.pass)).collect();
        assert_eq!(found, [(Some(0.8), true), (Some(160.0 / 500.0), false)]);
        assert!(limits.judge(&[], |_| true).iter().all(|line| !line.pass));
        assert!(limits.judge(&[], |_| false).is_empty());
    }

    #[test]
    fn the_sample_has_whole_pages_of_all_large_files() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base/1");
        std::fs::create_dir_all(&base).unwrap();
        for (name, pages) in [("1", 3), ("2", 1)] {
            std::fs::write(base.join(name), vec![1; pages * PAGE]).unwrap();
        }
        let files = relation_files(dir.path()).unwrap();
        assert_eq!(files.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [3 * 8192, 8192]);
        assert_eq!(read_sample(&files).unwrap().len(), 4 * PAGE);
    }
}
