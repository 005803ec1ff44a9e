//! A former primary comes back as a replica of the new one: rewound, copied anew, or as it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use howdah_api::instance::InstanceRole;
use howdah_instance_manager::environment::Environment;
use howdah_instance_manager::kube::Kubernetes;
use howdah_instance_manager::pg::children::Children;
use howdah_instance_manager::pg::programs::Programs;
use howdah_instance_manager::run::rejoin::{How, rejoin};
use howdah_instance_manager::run::shared::{PodFacts, Shared};
use howdah_instance_manager::run::{certificates, socket, watch};
use howdah_s3::{Action, Rule};
use serde_json::json;
use tokio_postgres::Client;

use crate::pod::{Pod, text};
use crate::world::{BUCKET, LONG, World, until};

/// What the words of [`inside_the_pod`] begin with.
const REJOINED: &str = "REJOINED ";
/// The mark of a directory that cannot be trusted.
const MARK: &str = "howdah-rewind.partial";

/// Not a test, but the part of the others that must run as the pod's own user: PostgreSQL's programs refuse root.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other tests run it, in a pod"]
async fn inside_the_pod() {
    if std::env::var_os("POD_NAME").is_none() {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let env = Environment::from_env().unwrap();
    let kube = Kubernetes::connect(&env).await.unwrap();
    let (children, programs) = (Children::default(), Programs::find().unwrap());
    let major = programs.major_version(&children).await.unwrap();
    let cluster = kube.cluster().await.unwrap();
    let secrets = watch::read_secrets(&kube, &cluster, None).await.unwrap();
    certificates::write(&secrets, &cluster, &env.cluster, &env.paths.certificates()).unwrap();
    let facts = PodFacts { env, programs, major, tls: true, children, kube, sha256: None };
    let shared = Shared::new(facts, Arc::new(cluster), Arc::new(secrets));
    shared.wal.configure(&shared.stores(), shared.wal_policy(), &shared.secrets());
    let listener = socket::listen(&shared.env.paths.socket()).unwrap();
    tokio::spawn(socket::serve(listener, shared.clone()));
    let returned = async {
        loop {
            match rejoin(&shared).await {
                Ok(rejoined) => return rejoined,
                Err(error) if error.is_permanent() => panic!("{}", error.report()),
                Err(error) => eprintln!("not yet: {}", error.report()),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let rejoined = tokio::time::timeout(LONG, returned).await.unwrap();
    let way = match rejoined.how {
        How::NothingToDo => "nothing",
        How::Rewound { .. } => "rewound",
        How::Joined { .. } => "joined",
    };
    println!("\n{REJOINED}{way}: {}", rejoined.note());
}

/// Lets a pod whose PostgreSQL does not run come back; returns what it says.
fn come_back(pod: &Pod) -> String {
    let program = std::env::current_exe().unwrap();
    let args = ["--exact", "rejoin::inside_the_pod", "--ignored", "--nocapture"];
    let output = pod.command(&program, &args).output().unwrap();
    let text = text(&output);
    let said = text.lines().find_map(|line| line.strip_prefix(REJOINED));
    said.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// A primary and its replica, which streams.
struct Two {
    world: World,
    old: Pod,
    new: Pod,
}

impl Two {
    async fn begin() -> Self {
        let world = World::new().await;
        let mut spec = world.spec(None, true);
        spec.postgresql.parameters.insert("wal_keep_size".into(), "0".into());
        // Nothing but what the test does makes a checkpoint or closes a segment.
        spec.postgresql.parameters.insert("checkpoint_timeout".into(), "1h".into());
        spec.postgresql.parameters.insert("archive_timeout".into(), "0".into());
        spec.wal_storage =
            Some(howdah_api::cluster::StorageConfiguration { size: "1Gi".into(), storage_class: None });
        world.cluster("pg", spec).await;
        let old = Pod::initialised(&world).await;
        until("WAL is archived", || async {
            old.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed)
        })
        .await;
        superuser(&old).await.batch_execute("CREATE TABLE t (id int)").await.unwrap();
        let mut new = Pod::new(&world, "pg", 2);
        old.serve_as("pg-rw");
        new.bootstrapped("join");
        new.ready().await;
        until("the replica streams", || async { new.status().is_some_and(|s| s.streaming) }).await;
        Self { world, old, new }
    }

    /// A row that both servers have.
    async fn common(&self, id: i32) {
        insert(&superuser(&self.old).await, id).await;
        let follower = superuser(&self.new).await;
        until("the row arrives", || async { rows(&follower).await.contains(&id) }).await;
    }

    /// Whether everything that was closed so far is in the archive.
    fn is_archived(&self) -> bool {
        self.old.status().and_then(|s| s.archiver).is_some_and(|a| a.confirmed && a.waiting == 0)
    }

    /// From now on no WAL reaches the archive.
    async fn close_archive(&self) {
        until("nothing waits", || async { self.is_archived() }).await;
        self.world.s3.faults().add(Rule::new(Action::access_denied()).key("pg/wals/*").method("PUT"));
    }

    /// The replica becomes the primary, with a row of its own. The old one does not run.
    async fn promote(&mut self) {
        self.world.s3.faults().clear();
        self.world.cluster_status("pg", json!({ "targetPrimary": "pg-2" })).await;
        self.new.ready().await;
        until("it is the primary", || async {
            self.new
                .status()
                .is_some_and(|s| s.role == Some(InstanceRole::Primary) && s.timeline_id == Some(2))
        })
        .await;
        self.new.serve_as("pg-rw");
        let sql = superuser(&self.new).await;
        // As the promotion itself will do: pg_rewind looks at the control file.
        sql.batch_execute("CHECKPOINT").await.unwrap();
        insert(&sql, 2000).await;
    }

    /// The old primary runs as a replica, and has what the new one has.
    async fn follows(&mut self) {
        let volume = self.old.pgdata().parent().unwrap().to_owned();
        assert!(!volume.join(MARK).exists() && volume.join("howdah-bootstrap.done").exists());
        assert_eq!(
            std::fs::read_link(self.old.pgdata().join("pg_wal")).unwrap(),
            self.old.wal_mount().join("pg_wal")
        );
        self.old.ready().await;
        until("it streams", || async { self.old.status().is_some_and(|s| s.streaming) }).await;
        let (leader, follower) = (superuser(&self.new).await, superuser(&self.old).await);
        insert(&leader, 3000).await;
        until("the row arrives", || async { rows(&follower).await.contains(&3000) }).await;
        assert_eq!(rows(&follower).await, rows(&leader).await);
        assert_eq!(self.old.status().unwrap().role, Some(InstanceRole::Replica));
    }

    fn archived(&self, segment: &str) -> Option<String> {
        self.world.keys().into_iter().find(|key| {
            let file = key.rsplit('/').next().unwrap_or_default();
            key.starts_with("pg/wals/")
                && file.split('.').next() == Some(segment)
                && !file.contains("partial")
        })
    }
}

async fn superuser(pod: &Pod) -> Client {
    pod.sql("postgres", "postgres").await.unwrap()
}

async fn insert(sql: &Client, id: i32) {
    sql.execute("INSERT INTO t VALUES ($1)", &[&id]).await.unwrap();
}

async fn rows(sql: &Client) -> Vec<i32> {
    let rows = sql.query("SELECT id FROM t ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The segment that is written; it is closed.
async fn close_segment(sql: &Client) -> String {
    let row = sql.query_one("SELECT pg_walfile_name(pg_current_wal_lsn())", &[]).await.unwrap();
    sql.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    row.get(0)
}

fn in_pg_wal(pod: &Pod, segment: &str) -> bool {
    Path::new(&pod.pgdata()).join("pg_wal").join(segment).exists()
}

/// What the old primary alone has: rows, and a closed segment. Then it is killed.
async fn diverge(two: &mut Two) -> String {
    assert!(two.new.stop().success());
    let sql = superuser(&two.old).await;
    for id in 1000..1010 {
        insert(&sql, id).await;
    }
    let segment = close_segment(&sql).await;
    insert(&sql, 1010).await;
    two.old.kill();
    segment
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_primary_that_crashed_is_rewound_and_what_both_have_is_archived() {
    let mut two = Two::begin().await;
    two.close_archive().await;
    two.common(1).await;
    let common = close_segment(&superuser(&two.old).await).await;
    two.common(2).await;
    let lost = diverge(&mut two).await;
    two.promote().await;
    assert_eq!(two.archived(&lost), None);

    let said = come_back(&two.old);
    assert!(said.starts_with("rewound: ") && said.contains("is gone"), "{said}");
    assert!(said.contains("1 WAL files that had waited were archived"), "{said}");
    assert!(two.archived(&common).is_some(), "{:?}", two.world.keys());
    assert_eq!(two.archived(&lost), None, "what is lost is not put into the archive");
    two.follows().await;
    let rows = rows(&superuser(&two.old).await).await;
    assert_eq!(rows, [1, 2, 2000, 3000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_primary_that_ended_cleanly_comes_back_as_it_is() {
    let mut two = Two::begin().await;
    two.common(1).await;
    assert!(two.old.stop().success());
    assert!(two.new.stop().success());
    two.promote().await;
    let said = come_back(&two.old);
    assert!(said.starts_with("nothing: "), "{said}");
    two.follows().await;
}

/// Killed in the middle of pg_rewind, and then in the middle of the copy: what is there cannot be trusted.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_return_ends_with_a_new_copy() {
    let mut two = Two::begin().await;
    two.common(1).await;
    two.close_archive().await;
    diverge(&mut two).await;
    two.promote().await;
    let volume = two.old.pgdata().parent().unwrap().to_owned();
    std::fs::write(volume.join(MARK), "pg_rewind\n").unwrap();
    std::fs::remove_file(volume.join("howdah-bootstrap.done")).unwrap();
    std::fs::remove_file(two.old.pgdata().join("PG_VERSION")).unwrap();
    std::fs::remove_file(two.old.pgdata().join("global/pg_control")).unwrap();
    // The init container of the first pod may run once more, and must not begin another database.
    two.old.bootstrapped("initdb");
    assert!(two.old.pgdata().join("base").exists() && !two.old.pgdata().join("PG_VERSION").exists());
    let said = come_back(&two.old);
    assert!(said.starts_with("joined: ") && said.contains("interrupted"), "{said}");
    two.follows().await;
}

/// The last checkpoint that both have is in a segment that the old primary has removed.
async fn recycled(two: &mut Two) -> String {
    two.common(1).await;
    let sql = superuser(&two.old).await;
    sql.batch_execute("CHECKPOINT").await.unwrap();
    let needed = close_segment(&sql).await;
    until("it is archived", || async { two.archived(&needed).is_some() }).await;
    two.common(2).await;
    two.close_archive().await;
    assert!(two.new.stop().success());
    for id in 1000..1010 {
        insert(&sql, id).await;
    }
    close_segment(&sql).await;
    until("the old primary no longer has the segment", || async {
        sql.batch_execute("CHECKPOINT").await.unwrap();
        !in_pg_wal(&two.old, &needed)
    })
    .await;
    two.old.kill();
    two.promote().await;
    needed
}

/// S0.5: a former primary that removed WAL which its return needs.
#[tokio::test(flavor = "multi_thread")]
async fn wal_that_a_rewind_needs_comes_from_the_archive() {
    let mut two = Two::begin().await;
    let needed = recycled(&mut two).await;
    two.world.s3.clear_requests();
    let said = come_back(&two.old);
    assert!(said.starts_with("rewound: "), "{said}");
    let key = two.archived(&needed).unwrap();
    assert!(two.world.s3.requests().iter().any(|request| request.key == key), "{key} was not fetched");
    two.follows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_wal_that_a_rewind_needs_a_new_copy_is_made() {
    let mut two = Two::begin().await;
    let needed = recycled(&mut two).await;
    // A new primary fills up what the archive lacks as long as it has it.
    let sql = superuser(&two.new).await;
    until("the new primary no longer has the segment", || async {
        sql.batch_execute("CHECKPOINT").await.unwrap();
        !in_pg_wal(&two.new, &needed)
    })
    .await;
    let key = two.archived(&needed).unwrap();
    two.world.s3.delete(BUCKET, &key).await.unwrap();
    let said = come_back(&two.old);
    assert!(said.starts_with("joined: ") && said.contains("WAL record"), "{said}");
    two.follows().await;
}
