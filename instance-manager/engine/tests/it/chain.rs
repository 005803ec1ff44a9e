//! A server whose backups build on each other, and what its tables were at the end of each.

use crate::postgres::Postgres;
use crate::site::{Site, restored, verify};
use barman_cloud::{BackupType, Compression};
use howdah_engine::{BackupChoice, BackupRequest, BackupResult, RestoreRequest};
use std::collections::BTreeMap;
use std::path::Path;

pub const SERVER: &str = "chain";

/// Digests of tables, by database and name.
type Content = BTreeMap<(String, String), String>;

pub struct World {
    pub site: Site,
    pub primary: Postgres,
    pub major: u32,
    /// Every backup with what the tables were when it ended.
    pub taken: Vec<(BackupResult, Content)>,
}

impl World {
    /// A started server of a version; nothing happens in it by itself.
    pub async fn new(major: u32, settings: &str) -> Self {
        Self::with_arguments(major, settings, &["--wal-segsize=1"]).await
    }

    pub async fn with_arguments(major: u32, settings: &str, arguments: &[&str]) -> Self {
        Self::at(Site::new().await, major, settings, arguments)
    }

    /// The same with backups and WAL somewhere else.
    pub fn at(site: Site, major: u32, settings: &str, arguments: &[&str]) -> Self {
        let mut primary = Postgres::init_version(site.path(), SERVER, major, arguments);
        primary.configure(&format!("autovacuum = off\n{settings}\n"));
        site.archive_from(&primary, SERVER, Compression::None, 3);
        primary.start();
        Self { site, primary, major, taken: Vec::new() }
    }

    pub fn request(&self, kind: BackupType) -> BackupRequest {
        let mut request = self.site.backup_request(&self.primary, SERVER);
        request.kind = kind;
        request
    }

    /// Takes a backup and remembers what the tables are.
    pub async fn take(&mut self, kind: BackupType) -> &BackupResult {
        let request = self.request(kind);
        self.take_by(request).await
    }

    pub async fn take_by(&mut self, request: BackupRequest) -> &BackupResult {
        let result = self.site.backup(&self.primary, request).await;
        let result = result.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(result.bad_pages.is_empty(), "{:?}", result.bad_pages);
        self.taken.push((result, content(&self.primary)));
        &self.taken[self.taken.len() - 1].0
    }

    /// How the changes of a backup were found.
    pub async fn found_by(&self, number: usize) -> String {
        let increments = self.site.repository(SERVER).increments();
        increments.chain(&self.taken[number].0.backup_id).await.expect("a chain").found_by
    }

    pub fn restore_request(&self, number: usize, data: &Path) -> RestoreRequest {
        let mut request = RestoreRequest::new(self.site.repository(SERVER), data);
        let backup = &self.taken[number].0;
        request.choice = BackupChoice::Id(backup.backup_id.clone());
        for space in &backup.tablespaces {
            request.tablespaces.insert(space.name.clone(), data.with_extension(space.oid.to_string()));
        }
        request
    }

    /// Restores a backup, has PostgreSQL judge it, starts it at the end of the backup and compares every table.
    pub async fn check(&self, number: usize) -> Postgres {
        let name = format!("restored-{number}");
        let data = self.site.path().join(&name);
        let back = restored(self.restore_request(number, &data)).await;
        let (backup, expected) = &self.taken[number];
        assert_eq!((&back.plan.ancestors, back.plan.kind), (&backup.ancestors, backup.kind));
        assert_eq!((&back.plan.label, back.plan.stored_bytes), (&backup.label, backup.set_bytes));
        assert!(back.verified);
        let mut copy = Postgres::adopt(self.site.path(), &name, &data).of_version(self.major);
        verify(&copy);
        let label = std::fs::read_to_string(data.join("backup_label")).expect("a label");
        assert!(!label.contains("INCREMENTAL"), "{label}");
        self.site.recover(&copy, SERVER, "recovery_target = 'immediate'");
        copy.start_recovered();
        assert_eq!(&content(&copy), expected, "backup {number}, {}", backup.label);
        copy
    }
}

fn content(server: &Postgres) -> Content {
    let mut content = Content::new();
    let databases = server.sql("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1");
    for database in databases.lines() {
        let tables = server.sql_in(
            database,
            "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace \
             AND relkind = 'r' AND relpersistence = 'p'",
        );
        for table in tables.lines() {
            // Through the table and not through an index or a visibility map.
            let digest = server.sql_in(
                database,
                &format!(
                    "SET enable_indexonlyscan = off; SELECT count(*) || ' ' || \
                     coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t"
                ),
            );
            content.insert((database.to_owned(), table.to_owned()), digest);
        }
    }
    content
}
