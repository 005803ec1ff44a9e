//! The commands of docs/encryption.md, run on real objects: what is encrypted in CBC mode is not lost with this software.

use crate::encryption::encrypted;
use crate::support::{BUCKET, noise, server, store};
use barman_cloud::store::CipherMode;
use std::path::Path;
use std::process::{Command, Stdio};

/// The shell commands between two marks of the documentation.
fn recipe(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/encryption.md"));
    let text = text.expect("docs/encryption.md");
    let (_, rest) = text.split_once(&format!("<!-- {name} -->\n```sh\n")).expect("the recipe is documented");
    rest.split_once("```").expect("its end").0.to_owned()
}

/// S1.29: the documented lines give the data key, check the HMAC and decrypt the object, with nothing but Debian's
/// openssl and coreutils.
#[tokio::test]
async fn openssl_decrypts_a_real_object() {
    let installed = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    assert!(installed.is_ok_and(|status| status.success()), "openssl is missing: run hack/install base");
    let server = server().await;
    let store = encrypted(&store(&server), CipherMode::Aes256Cbc);
    let key = "srv/base/20261121T012341/data.tar.lz4";
    let content = noise(1_234_567);
    store.put(key, content.clone().into()).await.expect("written");

    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    for object in server.objects(BUCKET).expect("a bucket") {
        let path = file(object.key.strip_prefix("some/path/srv/").expect("ours"));
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        let body = server.get(BUCKET, &object.key).await.expect("there");
        std::fs::write(path, body).expect("written");
    }
    std::fs::write(file("passphrase"), format!("{}\n", crate::encryption::PASSPHRASE)).expect("written");
    let run = |script: &str| {
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(dir.path())
            .env("OBJECT", "base/20261121T012341/data.tar.lz4")
            .output()
            .expect("bash runs")
    };
    let output = run(&recipe("openssl"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(file("plain")).expect("decrypted") == content);

    // A changed object is noticed by the same lines.
    let stored = file("base/20261121T012341/data.tar.lz4");
    let mut body = std::fs::read(&stored).expect("there");
    body[100_000] ^= 1;
    std::fs::write(&stored, body).expect("written");
    assert!(!run(&recipe("openssl")).status.success(), "the HMAC tells");
}
