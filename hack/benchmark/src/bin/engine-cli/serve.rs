//! The manager's socket without a pod: what `wal-archive` and `wal-restore` talk to.

use crate::place::Place;
use howdah_api::instance::InstanceStatus;
use howdah_api::object_store::BarmanObjectStore;
use howdah_api::repository::NamedStore;
use howdah_engine::{Error, ErrorKind, Policy, Result};
use howdah_instance_manager::bootstrap::recovery_file::RecoveryFile;
use howdah_instance_manager::bootstrap::source::Place as Source;
use howdah_instance_manager::environment::Paths;
use howdah_instance_manager::run::served::Served;
use howdah_instance_manager::run::socket;
use howdah_instance_manager::run::wal::WalService;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

struct Resident {
    wal: WalService,
}

impl Served for Resident {
    fn wal(&self) -> Option<&WalService> {
        Some(&self.wal)
    }

    async fn is_replica(&self) -> bool {
        false
    }

    async fn status(&self) -> InstanceStatus {
        InstanceStatus { archiver: self.wal.status(), ..InstanceStatus::default() }
    }
}

/// Serves `<controller>/run/manager.sock` until SIGTERM. `ready` is called once the socket listens.
pub async fn serve(place: &Place, controller: PathBuf, ready: impl FnOnce()) -> Result<()> {
    let paths = Paths { controller, pgdata: place.pgdata.clone(), wal_mount: PathBuf::from("/nonexistent") };
    let socket = paths.socket();
    let wrong = |error: howdah_instance_manager::error::Error| Error::new(ErrorKind::Invalid, error.report());
    make_dir(socket.parent())?;
    make_dir(paths.spool().parent())?;
    let wal = WalService::new(paths, "bench", place.server.clone());
    let (store, secrets) = (place.store()?, Place::secrets());
    wal.serve_recovery(&recovery(&store, &place.server), &secrets).map_err(wrong)?;
    wal.configure(&[NamedStore::new("default", store)], Policy::All, &secrets);
    let listener = socket::listen(&socket).map_err(wrong)?;
    let served = Arc::new(Resident { wal });
    let mut stop = signal(SignalKind::terminate())
        .map_err(|error| Error::new(ErrorKind::Io, "signals cannot be received").with_source(error))?;
    ready();
    tokio::select! {
        () = socket::serve(listener, served.clone()) => {}
        _ = stop.recv() => {}
    }
    served.wal.stop_serving().await;
    Ok(())
}

/// A recovery from one place, to whatever PostgreSQL asks for.
fn recovery(store: &BarmanObjectStore, server: &str) -> RecoveryFile {
    let (repository, store, server_name) = ("default".to_owned(), store.clone(), server.to_owned());
    RecoveryFile {
        place: Source { repository, store, server_name },
        others: Vec::new(),
        backup_id: String::new(),
        backup_end: None,
        target: None,
        timeline: None,
        followed: 0,
        highest_timeline: 0,
        following: false,
    }
}

fn make_dir(dir: Option<&Path>) -> Result<()> {
    let Some(dir) = dir else { return Ok(()) };
    std::fs::create_dir_all(dir).map_err(|error| {
        Error::new(ErrorKind::Io, format!("cannot make {}", dir.display())).with_source(error)
    })
}
