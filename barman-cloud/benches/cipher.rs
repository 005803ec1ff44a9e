//! Encryption on one core, in buffers as a backup's parts are made: both modes beside the copy that there is without
//! them, LZ4 and what comes out of both together.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails may end")]

use barman_cloud::codec::Encoder;
use barman_cloud::store::{Cipher, CipherMode, Keyring, Sealer};
use barman_cloud::{Compression, Destination, Store};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::TryStreamExt;
use std::io::{self, Write};
use tokio::runtime::Runtime;

const ROOM: usize = 5 << 20;
const KEY: &str = "srv/base/20261121T012341/data.tar";

fn store(mode: Option<CipherMode>) -> Store {
    let store = Store::memory(&Destination::parse("s3://bench/path").unwrap());
    match mode {
        Some(mode) => store.with_cipher(&Cipher::new(mode, Keyring::new(&"sesame".into(), &[]).unwrap())),
        None => store,
    }
}

/// Half text of hexadecimal digits, half rows that look alike, as databases are.
fn data() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut data = Vec::with_capacity(16 << 20);
    while data.len() < 16 << 20 {
        let row = data.len() as u64 / 128;
        write!(data, "{:016x}{:016x}{row:08} abalance 0 filler               ", next(), next()).unwrap();
    }
    data.truncate(16 << 20);
    data
}

/// A buffer that is filled and used again.
struct Sink<'a> {
    sealer: Sealer,
    buffer: &'a mut Vec<u8>,
    sent: usize,
}

impl Sink<'_> {
    fn send(&mut self) {
        self.sent += self.buffer.len();
        self.buffer.clear();
    }

    fn finish(mut self) -> usize {
        while !self.sealer.finish(self.buffer, ROOM).unwrap() {
            self.send();
        }
        self.send();
        self.sent
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.sealer.fill(self.buffer, ROOM, bytes).unwrap();
        if self.buffer.len() == ROOM {
            self.send();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const MODES: [(&str, Option<CipherMode>); 3] =
    [("none", None), ("gcm", Some(CipherMode::Aes256Gcm)), ("cbc", Some(CipherMode::Aes256Cbc))];

fn ciphers(criterion: &mut Criterion) {
    let (data, runtime) = (data(), Runtime::new().unwrap());
    for (name, codec) in
        [("seal", Compression::None), ("seal-lz4", Compression::Lz4), ("seal-zstd", Compression::Zstd)]
    {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(20);
        for (name, mode) in MODES {
            let store = store(mode);
            let mut buffer = Vec::with_capacity(ROOM);
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let sealer = runtime.block_on(store.sealer(KEY)).unwrap();
                    let sink = Sink { sealer, buffer: &mut buffer, sent: 0 };
                    let mut encoder = Encoder::new(codec, None, sink).unwrap();
                    for piece in data.chunks(128 << 10) {
                        encoder.write_all(piece).unwrap();
                    }
                    encoder.finish().unwrap().finish()
                });
            });
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(20);
    for (name, mode) in MODES {
        let store = store(mode);
        runtime.block_on(store.put(KEY, data.clone().into())).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let (_, stream) = store.open(KEY, None).await.unwrap();
                    stream.try_fold(0, |sum, piece| async move { Ok(sum + piece.len()) }).await.unwrap()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, ciphers);
criterion_main!(benches);
