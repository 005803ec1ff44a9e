//! `info`, `list`, `show`, `verify`, `expire` and `check` in the pod of the repository host, about its own repositories.
//! There is no PostgreSQL, no Secret and no retention here: what is encrypted stays closed, and nothing is deleted.

use std::sync::Arc;

use howdah_s3_server::DiskStore;

use super::own::{Own, Place};
use crate::environment::Paths;
use crate::error::{Error, Result};
use crate::inspect::NamedRepository;
use crate::run::served::Served;
use crate::run::socket;

/// Parts read at the same time.
const JOBS: usize = 2;

struct Looking {
    cluster: String,
    repositories: Vec<NamedRepository>,
    /// The way to them ends with it.
    _own: Own,
}

impl Served for Looking {
    fn stanza(&self) -> String {
        self.cluster.clone()
    }

    fn repositories(&self) -> Vec<NamedRepository> {
        self.repositories.clone()
    }
}

/// Answers commands on the manager's socket, as long as the process lives.
///
/// # Errors
/// When the socket cannot be made or the own repositories cannot be reached.
pub async fn answer(store: Arc<DiskStore>, places: &[Place], cluster: &str) -> Result<()> {
    let own = Own::open(store).await?;
    let repositories = places.iter().map(|place| named(&own, place, cluster)).collect();
    let paths = Paths::from_env();
    std::fs::create_dir_all(paths.run())
        .map_err(|e| Error::transient(format!("{} cannot be made", paths.run().display())).because(e))?;
    let listener = socket::listen(&paths.socket())?;
    let looking = Looking { cluster: cluster.to_owned(), repositories, _own: own };
    tokio::spawn(socket::serve(listener, Arc::new(looking)));
    Ok(())
}

fn named(own: &Own, place: &Place, cluster: &str) -> NamedRepository {
    let opened = own.repository(place, cluster);
    NamedRepository {
        name: place.repository.clone(),
        location: match &opened {
            Ok(repository) => repository.url(),
            Err(_) => format!("s3://{}/{}/{cluster}", place.repository, place.folder),
        },
        cipher: None,
        archive_wal: true,
        jobs: JOBS,
        retention: None,
        opened: opened.map_err(|error| error.report()),
    }
}
