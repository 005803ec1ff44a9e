//! Every codec on relation-like data: 1 MiB in one member, encoded and decoded.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails may end")]

use barman_cloud::Compression;
use barman_cloud::codec::{Decoder, Encoder};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::io::{Read, Write};

/// Half text of hexadecimal digits, half rows that look alike, as databases are.
fn data() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut data = Vec::with_capacity(1 << 20);
    while data.len() < 1 << 20 {
        let row = data.len() as u64 / 128;
        write!(data, "{:016x}{:016x}{row:08} abalance 0 filler               ", next(), next()).unwrap();
    }
    data.truncate(1 << 20);
    data
}

fn encoded(codec: Compression, data: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(codec, None, Vec::new()).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn codecs(criterion: &mut Criterion) {
    let data = data();
    for (name, decode) in [("encode", false), ("decode", true)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(10);
        for codec in Compression::ALL {
            let object = encoded(codec, &data);
            group.bench_function(codec.as_str(), |bencher| {
                if decode {
                    bencher.iter(|| {
                        let mut out = Vec::with_capacity(data.len());
                        Decoder::new(codec, object.as_slice()).unwrap().read_to_end(&mut out).unwrap();
                        assert_eq!(out.len(), data.len());
                    });
                } else {
                    bencher.iter(|| encoded(codec, &data));
                }
            });
        }
        group.finish();
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
