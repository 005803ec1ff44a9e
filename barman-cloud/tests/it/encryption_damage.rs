//! Whatever is done to an encrypted object, a reader notices: no bit, no block and no object can be exchanged.

use crate::encryption::{PASSPHRASE, cipher};
use crate::support::noise;
use barman_cloud::store::CipherMode;
use barman_cloud::{Destination, ErrorKind, Store};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};
use tokio::runtime::Runtime;

const KEY: &str = "srv/base/20261121T012341/data.tar";
const SIZE: usize = 200_000;
const BLOCK: usize = 64 << 10;

/// A store with an object, and what lies under it.
struct Scene {
    runtime: Runtime,
    below: Arc<InMemory>,
    store: Store,
    stored: Vec<u8>,
    other: Vec<u8>,
    /// Tests of one process share the object.
    alone: tokio::sync::Mutex<()>,
}

impl Scene {
    fn of(mode: CipherMode) -> &'static Self {
        static SCENES: [OnceLock<Scene>; 2] = [OnceLock::new(), OnceLock::new()];
        SCENES[usize::from(mode == CipherMode::Aes256Cbc)].get_or_init(|| Self::new(mode))
    }

    fn new(mode: CipherMode) -> Self {
        let (runtime, below) = (Runtime::new().expect("a runtime"), Arc::new(InMemory::new()));
        let destination = Destination::parse("s3://bucket/path").expect("valid");
        let store = Store::over(below.clone(), &destination).with_cipher(&cipher(mode, PASSPHRASE, &[]));
        let other = "srv/base/20261121T012341/data_0001.tar";
        runtime.block_on(async {
            store.put(other, noise(SIZE).into()).await.expect("written");
            store.put(KEY, noise(SIZE).into()).await.expect("written");
        });
        let raw = |key: &str| {
            let path = Path::from(format!("path/{key}"));
            runtime.block_on(async {
                below.get(&path).await.expect("there").bytes().await.expect("read").to_vec()
            })
        };
        let (stored, other) = (raw(KEY), raw(other));
        Self { runtime, below, store, stored, other, alone: tokio::sync::Mutex::default() }
    }

    /// Reads the object after it was replaced below the encryption; every damaged one is refused.
    fn refuses(&self, body: Vec<u8>) {
        let read = self.runtime.block_on(async {
            let _alone = self.alone.lock().await;
            self.below.put(&Path::from(format!("path/{KEY}")), body.into()).await.expect("put");
            self.store.get(KEY, SIZE as u64).await
        });
        let error = read.map(|read| read.len()).expect_err("damaged");
        assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Invalid),
            "{}",
            error.report()
        );
    }
}

fn mode() -> impl Strategy<Value = CipherMode> {
    prop_oneof![Just(CipherMode::Aes256Gcm), Just(CipherMode::Aes256Cbc)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_flipped_bit(mode in mode(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let scene = Scene::of(mode);
        let mut body = scene.stored.clone();
        let at = at.index(body.len());
        body[at] ^= 1_u8 << bit;
        scene.refuses(body);
    }

    #[test]
    fn an_object_cut_off_anywhere(mode in mode(), at in any::<prop::sample::Index>()) {
        let scene = Scene::of(mode);
        scene.refuses(scene.stored[..at.index(scene.stored.len())].to_vec());
    }

    #[test]
    fn an_object_made_longer(mode in mode(), more in prop::collection::vec(any::<u8>(), 1..100_000)) {
        let scene = Scene::of(mode);
        scene.refuses([scene.stored.as_slice(), &more].concat());
    }

    #[test]
    fn two_pieces_exchanged(mode in mode(), piece in prop::sample::select(vec![16, 32, 4096, BLOCK]),
            one in any::<prop::sample::Index>(), two in any::<prop::sample::Index>()) {
        let scene = Scene::of(mode);
        let count = scene.stored.len() / piece;
        let (one, two) = (one.index(count) * piece, two.index(count) * piece);
        prop_assume!(one != two);
        let mut body = scene.stored.clone();
        body[one..one + piece].copy_from_slice(&scene.stored[two..two + piece]);
        body[two..two + piece].copy_from_slice(&scene.stored[one..one + piece]);
        scene.refuses(body);
    }

    #[test]
    fn a_piece_of_another_object(mode in mode(), piece in prop::sample::select(vec![16, 4096, BLOCK]),
            at in any::<prop::sample::Index>()) {
        let scene = Scene::of(mode);
        let at = at.index(scene.stored.len() / piece) * piece;
        let mut body = scene.stored.clone();
        body[at..at + piece].copy_from_slice(&scene.other[at..at + piece]);
        prop_assume!(body != scene.stored);
        scene.refuses(body);
    }
}

/// The edges that chance seldom meets: whole blocks missing at the end, and in the middle.
#[test]
fn missing_blocks() {
    for mode in [CipherMode::Aes256Gcm, CipherMode::Aes256Cbc] {
        let scene = Scene::of(mode);
        for blocks in 0..=scene.stored.len() / BLOCK {
            scene.refuses(scene.stored[..blocks * BLOCK].to_vec());
        }
        scene.refuses([&scene.stored[..BLOCK], &scene.stored[2 * BLOCK..]].concat());
        scene.refuses([&scene.stored[..BLOCK], &scene.stored[..BLOCK], &scene.stored[BLOCK..]].concat());
    }
}

/// Every bit of the header matters, and a whole object under another name of the same backup is no better than a
/// damaged one.
#[test]
fn headers_and_names() {
    for mode in [CipherMode::Aes256Gcm, CipherMode::Aes256Cbc] {
        let scene = Scene::of(mode);
        for bit in 0..48 * 8 {
            let mut body = scene.stored.clone();
            body[bit / 8] ^= 1 << (bit % 8);
            scene.refuses(body);
        }
        scene.refuses(scene.other.clone());
    }
}
