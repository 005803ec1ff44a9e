//! The tar writer and reader: files of 64 KiB, and many of 8 KiB, 4 MiB in all.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails may end")]

use barman_cloud::tar::{Entry, TarReader, TarWriter};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TOTAL: usize = 4 << 20;

fn written(size: usize) -> Vec<u8> {
    let content = vec![7; size];
    let mut tar = TarWriter::new(Vec::with_capacity(TOTAL * 2));
    for number in 0..TOTAL / size {
        tar.begin(&Entry::file(format!("base/5/{number}"), size as u64)).unwrap();
        tar.data(&content).unwrap();
        tar.end().unwrap();
    }
    tar.finish().unwrap()
}

fn read(tar: &[u8]) -> usize {
    let mut reader = TarReader::new(tar);
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    while reader.next_entry().unwrap().is_some() {
        loop {
            match reader.read_data(&mut buffer).unwrap() {
                0 => break,
                read => bytes += read,
            }
        }
    }
    bytes
}

fn tar(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tar");
    group.throughput(Throughput::Bytes(TOTAL as u64));
    for size in [8 << 10, 64 << 10] {
        group.bench_function(format!("write {size}"), |bencher| bencher.iter(|| written(size)));
        let object = written(size);
        group.bench_function(format!("read {size}"), |bencher| {
            bencher.iter(|| assert_eq!(read(&object), TOTAL));
        });
    }
    group.finish();
}

criterion_group!(benches, tar);
criterion_main!(benches);
