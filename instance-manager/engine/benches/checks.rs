//! What a backup computes over every byte besides the codec.

#![allow(missing_docs, reason = "a program")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use howdah_engine::bench::{crc32c, page_checksum};

fn checks(criterion: &mut Criterion) {
    let data: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect();
    let mut group = criterion.benchmark_group("check");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("page checksum", |bencher| {
        bencher.iter(|| data.chunks_exact(8192).fold(0_u16, |all, page| all ^ page_checksum(page, 7)));
    });
    group.bench_function("crc32c", |bencher| bencher.iter(|| crc32c(&data)));
    group.finish();
}

criterion_group!(benches, checks);
criterion_main!(benches);
