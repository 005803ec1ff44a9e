//! A write load that keeps account of what the database acknowledged, so that a test can ask afterwards for every row
//! of it, and for how long no row was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::direct::{Door, Session};
use crate::wait;

/// A checksum over the whole table.
pub const CHECKSUM: &str = "select count(*) || ' ' || coalesce(md5(string_agg(id || ' ' || worker || ' ' || extract(epoch from at), ',' order by id)), '') from ledger";

const TABLE: &str = "create table if not exists ledger (id bigint primary key, worker int not null, at timestamptz not null default now())";
const INSERT: &str = "insert into ledger (id, worker) values ($1, $2)";
/// Longest wait for the answer to an insert. A frozen server never answers; one that waits for a replica takes its time.
const ANSWER: Duration = Duration::from_secs(10);
/// Pause of a worker after each try, so that the load leaves the machine to the rest of the test.
const PACE: Duration = Duration::from_millis(10);

/// What became of every row.
#[derive(Debug, Default)]
struct Book {
    acknowledged: BTreeMap<i64, Instant>,
    unknown: BTreeSet<i64>,
    trouble: String,
}

struct Shared {
    door: Door,
    next: AtomicI64,
    book: Mutex<Book>,
    /// Workers hold it while they write; whoever takes it for itself has the table stand still.
    still: RwLock<()>,
    stop: CancellationToken,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workers that write rows of their own, one at a time, each in a session that it opens again when it breaks.
pub struct Writer {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    began: Instant,
}

/// What the table held at a moment when nobody wrote.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The server's clock, behind the last commit before it, in the form that a recovery target takes.
    pub time: String,
    /// [`CHECKSUM`] then.
    pub checksum: String,
}

impl Writer {
    /// Makes the table and starts the workers.
    ///
    /// # Errors
    /// When the table cannot be made.
    pub async fn start(door: &Door, workers: i32) -> Result<Self> {
        door.ask(TABLE).await.context("the ledger's table")?;
        let shared = Arc::new(Shared {
            door: door.clone(),
            next: AtomicI64::new(1),
            book: Mutex::default(),
            still: RwLock::new(()),
            stop: CancellationToken::new(),
        });
        let workers = (1..=workers).map(|number| tokio::spawn(work(shared.clone(), number))).collect();
        Ok(Self { shared, workers, began: Instant::now() })
    }

    /// Waits until a row is acknowledged that was begun after this call.
    ///
    /// # Errors
    /// After `limit`, with what the last try met.
    pub async fn goes_on(&self, limit: Duration) -> Result<()> {
        let mark = self.shared.next.load(Ordering::SeqCst);
        wait::until("another acknowledged row", limit, || async {
            let book = self.shared.book();
            let newest = book.acknowledged.last_key_value().map_or(0, |(id, _)| *id);
            ensure!(newest >= mark, "the last try met: {}", book.trouble);
            Ok(Some(()))
        })
        .await
    }

    /// Rows acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.shared.book().acknowledged.len()
    }

    /// The longest time without an acknowledged row, from `since` until now.
    #[must_use]
    pub fn longest_gap_since(&self, since: Instant) -> Duration {
        let book = self.shared.book();
        longest_gap(since, book.acknowledged.values().copied().filter(|at| *at >= since), Instant::now())
    }

    /// Lets the table stand still for a moment, and looks at it.
    ///
    /// # Errors
    /// When the database does not answer, or a transaction whose outcome is not known does not end.
    pub async fn moment(&self) -> Result<Moment> {
        let _still = self.shared.still.write().await;
        let session = self.shared.door.open().await?;
        // A row that a broken session left behind may still be waiting for a replica.
        let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and xact_start is not null and pid <> pg_backend_pid()";
        wait::until("the end of all transactions", wait::minutes(1), || async {
            Ok((session.ask(others).await? == "0").then_some(()))
        })
        .await?;
        let checksum = session.ask(CHECKSUM).await?;
        let time = session
            .ask("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
            .await?;
        Ok(Moment { time, checksum })
    }

    /// Ends the load.
    pub async fn stop(mut self) -> Ledger {
        self.shared.stop.cancel();
        for worker in std::mem::take(&mut self.workers) {
            // A worker that panicked has said so already.
            let _ = worker.await;
        }
        let book = std::mem::take(&mut *self.shared.book());
        Ledger {
            longest_gap: longest_gap(self.began, book.acknowledged.values().copied(), Instant::now()),
            acknowledged: book.acknowledged,
            unknown: book.unknown,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn work(shared: Arc<Shared>, number: i32) {
    let mut session = None;
    while !shared.stop.is_cancelled() {
        {
            let _writing = shared.still.read().await;
            if let Err(trouble) = write(&shared, &mut session, number).await {
                session = None;
                shared.book().trouble = format!("{trouble:#}");
            }
        }
        sleep(PACE).await;
    }
}

/// Writes one row. After an error the session is not to be used again.
async fn write(shared: &Shared, session: &mut Option<Session>, number: i32) -> Result<()> {
    let session = match session {
        Some(session) => session,
        None => session.insert(shared.door.open().await?),
    };
    let id = shared.next.fetch_add(1, Ordering::SeqCst);
    let answer = timeout(ANSWER, session.client().execute(INSERT, &[&id, &number])).await;
    let at = Instant::now();
    let mut book = shared.book();
    match answer {
        Ok(Ok(_)) => {
            book.acknowledged.insert(id, at);
            Ok(())
        }
        Ok(Err(error)) => {
            book.unknown.insert(id);
            Err(anyhow!(error))
        }
        Err(_) => {
            book.unknown.insert(id);
            Err(anyhow!("no answer to an insert within {ANSWER:?}"))
        }
    }
}

/// What a load left behind.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Rows that the database said it has, and when it said so. They must be there.
    pub acknowledged: BTreeMap<i64, Instant>,
    /// Rows whose transaction ended without an answer. They may be there.
    pub unknown: BTreeSet<i64>,
    /// The longest time without an acknowledged row.
    pub longest_gap: Duration,
}

impl Ledger {
    /// The acknowledged rows that the table lacks.
    ///
    /// # Errors
    /// When the database does not answer, or holds a row that nobody wrote.
    pub async fn check(&self, door: &Door) -> Result<Vec<i64>> {
        let session = door.open().await?;
        let rows = session.client().query("select id from ledger", &[]).await.context("the ledger")?;
        let mut there = BTreeSet::new();
        for row in rows {
            there.insert(row.try_get::<_, i64>(0)?);
        }
        let strange: Vec<&i64> = there.iter().filter(|id| !self.knows(**id)).take(10).collect();
        ensure!(strange.is_empty(), "the ledger holds rows that nobody wrote: {strange:?}");
        Ok(self.acknowledged.keys().filter(|id| !there.contains(id)).copied().collect())
    }

    fn knows(&self, id: i64) -> bool {
        self.acknowledged.contains_key(&id) || self.unknown.contains(&id)
    }
}

/// The longest time from one of `times` to the next, with `began` before the first and `ended` behind the last.
fn longest_gap(began: Instant, times: impl Iterator<Item = Instant>, ended: Instant) -> Duration {
    let mut all: Vec<Instant> = times.chain([began, ended]).collect();
    all.sort_unstable();
    all.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_count_from_the_beginning_to_the_end() {
        let began = Instant::now();
        let at = |second: u64| began + Duration::from_secs(second);
        let gap = |times: &[u64]| longest_gap(began, times.iter().map(|t| at(*t)), at(10)).as_secs();
        assert_eq!(gap(&[]), 10);
        assert_eq!(gap(&[1, 2, 9]), 7);
        // Answers to several workers do not come in the order of the rows.
        assert_eq!(gap(&[9, 3, 6]), 3);
        assert_eq!(gap(&[1, 2, 4]), 6);
    }
}
