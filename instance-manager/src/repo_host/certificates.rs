//! The certificates of the repository host: files of a Secret that the kubelet changes when the operator does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah_s3_server::{Identity, Server};
use tokio::time::sleep;

use crate::error::{Error, IoContext, Result};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// Certificate, key and authorities as the files hold them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Files([Vec<u8>; 3]);

impl Files {
    fn load(dir: &Path) -> Result<Self> {
        let load = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).at("cannot read", &path)
        };
        Ok(Self([load("tls.crt")?, load("tls.key")?, load("ca.crt")?]))
    }

    fn identity(&self) -> Result<Identity> {
        let [chain, key, authorities] = &self.0;
        Identity::from_pem(chain, key, authorities).map_err(|e| {
            Error::permanent(
                "the certificates of the repository host cannot be used; delete their Secret so that the operator \
                 makes it anew",
            )
            .because(e)
        })
    }
}

/// The certificates as they are now.
pub(super) fn read(dir: &Path) -> Result<(Identity, Files)> {
    let files = Files::load(dir)?;
    Ok((files.identity()?, files))
}

/// Gives the server new certificates when the files change. Unusable ones are left alone: the kubelet changes all
/// files at once, but a Secret may be wrong.
pub(super) async fn follow(dir: PathBuf, mut known: Files, server: Server) {
    loop {
        sleep(LOOK).await;
        let files = match Files::load(&dir) {
            Ok(files) if files != known => files,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!("the old certificate stays in use: {}", error.report());
                continue;
            }
        };
        match files.identity() {
            Ok(identity) => {
                server.renew(identity);
                tracing::info!("the certificates were renewed");
            }
            Err(error) => tracing::error!("the old certificate stays in use: {}", error.report()),
        }
        known = files;
    }
}
