//! PostgreSQL's manifest of a base backup.

use crate::mutate::mutated;
use crate::watch::{refused, within};
use barman_cloud::manifest::{Manifest, ManifestWriter};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// The head, some files and the end of a real manifest, so that changes hit something.
fn seeds() -> Vec<Vec<u8>> {
    [
        include_str!("../fixtures/manifest/postgresql-15-crc32c"),
        include_str!("../fixtures/manifest/postgresql-15-sha256"),
    ]
    .iter()
    .map(|text| {
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.iter().position(|line| *line == "],").expect("the end of the files");
        let mut short: Vec<&str> = lines[..12].to_vec();
        short.push(lines[end - 1]);
        short.extend(&lines[end..lines.len() - 1]);
        sealed(format!("{}\n", short.join("\n")).as_bytes())
    })
    .collect()
}

/// A manifest with the right checksum over its changed text: otherwise every change would end there.
fn sealed(body: &[u8]) -> Vec<u8> {
    let line = format!("\"Manifest-Checksum\": \"{}\"}}\n", hex::encode(Sha256::digest(body)));
    [body, line.as_bytes()].concat()
}

fn body(manifest: &[u8]) -> Vec<u8> {
    let end = manifest[..manifest.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines");
    manifest[..=end].to_vec()
}

fn written(manifest: &Manifest) -> Vec<u8> {
    let mut writer = ManifestWriter::new(Vec::new(), manifest.system_identifier).expect("memory");
    for file in &manifest.files {
        writer.file(file).expect("memory");
    }
    writer.finish(&manifest.wal_ranges).expect("memory")
}

#[test]
fn the_seeds_are_manifests() {
    for seed in seeds() {
        let manifest = Manifest::parse(&seed).expect("a manifest");
        assert!(manifest.files.len() > 5 && !manifest.wal_ranges.is_empty());
    }
}

proptest! {
    #[test]
    fn manifests(bytes in mutated(seeds())) {
        if let Err(error) = within((64 << 10) + 64 * bytes.len(), || Manifest::parse(&bytes)) {
            refused(&error);
        }
    }

    #[test]
    fn manifests_with_the_right_checksum(body in mutated(seeds().iter().map(|seed| body(seed)).collect())) {
        let bytes = sealed(&body);
        match within((64 << 10) + 64 * bytes.len(), || Manifest::parse(&bytes)) {
            Ok(manifest) => {
                for file in &manifest.files {
                    prop_assert!(file.path.is_relative() && !file.path.components().any(|part| part.as_os_str() == ".."));
                }
                let again = Manifest::parse(&written(&manifest)).expect("own text");
                prop_assert_eq!((again.files, again.wal_ranges), (manifest.files, manifest.wal_ranges));
            }
            Err(error) => refused(&error),
        }
    }
}
