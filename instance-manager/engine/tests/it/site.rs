//! Everything that one test needs: a directory, an S3 server, PostgreSQL with archiving through the engine.

use crate::postgres::{Bridge, Postgres};
use async_trait::async_trait;
use barman_cloud::store::{Cipher, CipherMode, Keyring};
use barman_cloud::{Compression, Destination, S3Options, Store};
use howdah_engine::backup::SwitchRequest;
use howdah_engine::{
    Archiver, ArchiverConfig, BackupRequest, BackupResult, Error, ErrorKind, PrimaryWal, Progress,
    Repository, RestoreRequest, RestoreResult, Restorer, RestorerConfig, ServerAccess, WalFetch,
};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub const BUCKET: &str = "backups";

/// A directory and an S3 server.
pub struct Site {
    pub s3: howdah_s3::Server,
    /// How its repositories are encrypted, and the passphrase.
    pub encryption: Option<(CipherMode, &'static str)>,
    /// Where the repositories are instead.
    elsewhere: Option<Store>,
    dir: tempfile::TempDir,
}

impl Site {
    pub async fn new() -> Self {
        // Ring is the one provider of this workspace; a second test of the process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::Builder::new().prefix("howdah-engine-").tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let s3 = howdah_s3::Server::builder()
            .memory()
            .credentials("key", "secret")
            .bucket(BUCKET)
            .listen("127.0.0.1:0")
            .start()
            .await
            .expect("the S3 server starts");
        Self { s3, encryption: None, elsewhere: None, dir }
    }

    /// One whose repositories are encrypted.
    pub async fn encrypted(mode: CipherMode, passphrase: &'static str) -> Self {
        Self { encryption: Some((mode, passphrase)), ..Self::new().await }
    }

    /// The same with the repositories in another store.
    pub async fn with_store(store: Store) -> Self {
        Self { elsewhere: Some(store), ..Self::new().await }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn store(&self) -> Store {
        if let Some(store) = &self.elsewhere {
            return store.clone();
        }
        let mut options = S3Options::with_keys("key", "secret");
        options.endpoint = Some(self.s3.endpoint());
        let destination = Destination::parse(&format!("s3://{BUCKET}/some/path")).expect("a destination");
        let store = Store::s3(&destination, &options).expect("a store");
        // As in another process: nothing is known of the keys yet.
        let cipher = |(mode, passphrase): (_, &str)| {
            Cipher::new(mode, Keyring::new(&passphrase.into(), &[]).expect("a passphrase"))
        };
        self.encryption.map(cipher).map_or(store.clone(), |cipher| store.with_cipher(&cipher))
    }

    pub fn repository(&self, server: &str) -> Repository {
        Repository::new(self.store(), server).expect("a repository")
    }

    /// A started cluster that archives into `server`.
    pub fn primary(&self, server: &str) -> Postgres {
        self.primary_with(server, 16, Compression::None, 3)
    }

    pub fn primary_with(
        &self,
        server: &str,
        segment: u32,
        compression: Compression,
        parallel: usize,
    ) -> Postgres {
        let mut postgres = Postgres::init(self.path(), server, segment);
        self.archive_from(&postgres, server, compression, parallel);
        postgres.start();
        postgres
    }

    /// Sets archiving up, through a service that lives as long as the test.
    pub fn archive_from(
        &self,
        postgres: &Postgres,
        server: &str,
        compression: Compression,
        parallel: usize,
    ) -> Archiver {
        let archiver = Archiver::new(ArchiverConfig {
            pgdata: postgres.data.clone(),
            repository: self.repository(server),
            compression,
            compression_level: None,
            max_parallel: parallel,
            claimed_by: Some("a test".into()),
        });
        let (service, runtime) = (archiver.clone(), tokio::runtime::Handle::current());
        let name = postgres.data.file_name().expect("a name").to_string_lossy().into_owned();
        let bridge = Bridge::new(self.path(), &format!("{name}.archive"), move |line| {
            match runtime.block_on(service.archive(Path::new(line))) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("archive {line}: {}", error.report());
                    error.exit_code()
                }
            }
        });
        postgres.configure(&format!("archive_mode = on\narchive_command = '{}'\n", bridge.command("%p")));
        archiver
    }

    /// Settings and signal file for a recovery from `server`, as the caller of the engine writes them.
    pub fn recover(&self, postgres: &Postgres, server: &str, target: &str) -> Restorer {
        let restorer = Restorer::new(RestorerConfig {
            repository: self.repository(server),
            pgdata: postgres.data.clone(),
            spool: self.path().join("spool"),
            max_parallel: 4,
            allow_partial: true,
        });
        let (service, runtime) = (restorer.clone(), tokio::runtime::Handle::current());
        let name = postgres.data.file_name().expect("a name").to_string_lossy().into_owned();
        let bridge = Bridge::new(self.path(), &format!("{name}.restore"), move |line| {
            let (wal, dest) = line.split_once(' ').expect("two words");
            match runtime.block_on(service.restore(wal, Path::new(dest))) {
                Ok(WalFetch::Restored) => 0,
                Ok(WalFetch::NotThere) => 1,
                Err(error) => {
                    eprintln!("restore {line}: {}", error.report());
                    255
                }
            }
        });
        let command = bridge.command("%f %p");
        postgres.configure(&format!(
            "archive_mode = off\nrestore_command = '{command}'\nrecovery_target_action = promote\n{target}\n"
        ));
        let signal = postgres.data.join("recovery.signal");
        std::fs::write(&signal, "").expect("a signal file");
        std::os::unix::fs::chown(&signal, Some(postgres.user.uid), Some(postgres.user.gid))
            .expect("an owner");
        restorer
    }

    pub fn backup_request(&self, postgres: &Postgres, server: &str) -> BackupRequest {
        let access = ServerAccess {
            socket_dir: postgres.socket.clone(),
            port: 5432,
            user: "postgres".into(),
            database: "postgres".into(),
        };
        let mut request = BackupRequest::new(access, &postgres.data, self.repository(server));
        request.immediate_checkpoint = true;
        request.wal_timeout = Some(std::time::Duration::from_secs(120));
        request
    }

    pub async fn backup(&self, postgres: &Postgres, request: BackupRequest) -> Result<BackupResult, Error> {
        let primary = Arc::new(Switch::of(postgres));
        howdah_engine::backup::run(request, primary, Arc::new(Progress::new()), CancellationToken::new())
            .await
    }

    /// Waits until everything that is ready was archived.
    pub fn wait_archived(&self, postgres: &Postgres) {
        let status = postgres.data.join("pg_wal/archive_status");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        let waiting = || {
            let files = std::fs::read_dir(&status).expect("archive_status");
            files
                .filter(|file| {
                    file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().ends_with(".ready"))
                })
                .count()
        };
        while waiting() > 0 {
            assert!(std::time::Instant::now() < deadline, "archiving takes too long");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub async fn keys(&self) -> Vec<String> {
        self.s3.objects(BUCKET).expect("a bucket").into_iter().map(|object| object.key).collect()
    }
}

/// Restores, or panics with the report.
pub async fn restored(request: RestoreRequest) -> RestoreResult {
    try_restore(request).await.unwrap_or_else(|error| panic!("{}", error.report()))
}

pub async fn try_restore(request: RestoreRequest) -> Result<RestoreResult, Error> {
    howdah_engine::restore::run(request, Arc::new(Progress::new()), CancellationToken::new()).await
}

/// PostgreSQL's own judgement of a restored directory.
pub fn verify(postgres: &Postgres) {
    let mut command = postgres.user.command(postgres.program("pg_verifybackup"));
    crate::postgres::run(command.args(["-n", "-e"]).arg(&postgres.data));
}

/// Closes segments on a local primary.
pub struct Switch {
    psql: PathBuf,
    socket: PathBuf,
}

impl Switch {
    pub fn of(postgres: &Postgres) -> Self {
        Self { psql: postgres.program("psql"), socket: postgres.socket.clone() }
    }
}

#[async_trait]
impl PrimaryWal for Switch {
    async fn close_segment(&self, _request: SwitchRequest) -> Result<(), Error> {
        let mut command = crate::postgres::User::get().command(&self.psql);
        command.arg("-h").arg(&self.socket).args([
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-AtXqc",
            "SELECT pg_switch_wal()",
        ]);
        let output =
            command.output().map_err(|error| Error::new(ErrorKind::Postgres, "psql").with_source(error))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Postgres, String::from_utf8_lossy(&output.stderr).into_owned()))
        }
    }
}
