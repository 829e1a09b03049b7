//! A shop that does not wait long, the dice, and what a test says about itself.

use std::time::{Duration, Instant};

use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::real::database::{Database, block_on};
use crate::real::process::WAIT_MAX;
use crate::real::scene::{Sandbox, Served, Shop};

/// The shortest lease that the configuration allows.
pub(crate) const LEASE: Duration = Duration::from_secs(20);
/// An attempt that was sent is asked about after a minute (`billing::unknown::ask_at`).
pub(crate) const ASKED_AFTER: Duration = Duration::from_secs(60);

/// The size for `make test`, or the one for `make chaos`.
pub(crate) fn sized(small: usize, full: usize) -> usize {
    let full_wanted = std::env::var("RECURD_CHAOS").is_ok_and(|value| value == "full");
    if full_wanted { full } else { small }
}

/// A line for whoever reads the log: `make chaos` shows it.
pub(crate) fn say(line: &str) {
    eprintln!("chaos: {line}");
}

/// Every job each second, and the shortest lease.
pub(crate) fn hasty(shop: Shop) -> Shop {
    const EVERY_SECOND: &str = "* * * * * *";
    ["MATERIALIZE", "COLLECT", "RECONCILE", "DUN", "NOTIFY"]
        .iter()
        .fold(shop, |shop, job| shop.set(&format!("SCHEDULES__{job}"), EVERY_SECOND))
        .set("STRIPE__TIMEOUT_SECS", "10")
        .set("LIMITS__LEASE_SECS", &LEASE.as_secs().to_string())
}

/// A hasty shop on SQLite.
pub(crate) fn on_sqlite(sandbox: &Sandbox) -> Shop {
    hasty(Shop::new(sandbox))
}

/// A hasty shop on PostgreSQL, if there is a server.
pub(crate) fn on_postgres(sandbox: &Sandbox) -> Option<Shop> {
    Shop::on_postgres(sandbox).map(hasty)
}

/// So many daemons on one database.
pub(crate) fn replicas(shop: &Shop, count: usize) -> Vec<Served> {
    (0..count).map(|_| Served::start(shop)).collect()
}

/// They end as daemons should.
pub(crate) fn stop(replicas: Vec<Served>) {
    for one in &replicas {
        one.process.signal("TERM");
    }
    for one in replicas {
        let ended = one.process.end();
        assert_eq!(ended.code, Some(0), "{ended}");
    }
}

/// Gives each `every`-th customer of a list a card without funds. They all have one number, so that few may owe the same amount:
/// the card networks' ceilings would hold the others back.
pub(crate) fn some_without_funds(customers: &str, every: usize) -> String {
    let line = |(index, line): (usize, &str)| match index % every {
        0 if index > 0 => {
            let card = line.replace("pm_card_visa_cli", "pm_card_visa_chargeDeclinedInsufficientFunds_cli");
            card.replace(",basic,1,", &format!(",basic,{},", 1 + index / every % 200)) + "\n"
        }
        _ => format!("{line}\n"),
    };
    customers.lines().enumerate().map(line).collect()
}

impl Shop {
    /// Charges that are neither paid nor declined, and subscriptions whose period has no charge yet.
    pub(crate) fn open(&self) -> usize {
        // In this order: what becomes a charge between the two is counted twice, and not left out.
        self.database.count("subscription WHERE next_index = 0")
            + self.database.count("charge WHERE state NOT IN ('paid', 'past_due')")
    }

    /// Attempts that may have been sent, whose answer is not known.
    pub(crate) fn unanswered(&self) -> usize {
        self.database.count("attempt WHERE finished_at IS NULL")
    }

    /// Waits until the replicas have nothing left to collect, as long as they go on: a busy machine is no failure.
    pub(crate) fn wait_until_collected(&self) {
        let (mut left, mut since) = (self.open(), Instant::now());
        while left > 0 {
            assert!(since.elapsed() < WAIT_MAX, "nothing moves any more: {}", self.how_it_stands());
            std::thread::sleep(Duration::from_millis(100));
            let now_left = self.open();
            if now_left != left {
                (left, since) = (now_left, Instant::now());
            }
        }
    }

    /// What a person would look at when nothing moves.
    fn how_it_stands(&self) -> String {
        let charges = "SELECT state || ' ' || COALESCE(wake_for, 'asleep') || ' from ' || COALESCE(MIN(wake_at), 0) || ' to ' \
                       || COALESCE(MAX(wake_at), 0) || ': ' || COUNT(*) FROM charge GROUP BY state, wake_for";
        let periods = "SELECT 'no period yet: ' || COUNT(*) FROM subscription WHERE next_index = 0";
        let halted = "SELECT 'halted: ' || COALESCE(halted_why, 'no') FROM instance";
        let runs = "SELECT job || ' at ' || MAX(started_at) || ', ' || COUNT(*) || ' runs, errors: ' || COALESCE(MAX(error), 'none') \
                    FROM run GROUP BY job";
        let told: Vec<_> =
            [charges, periods, halted, runs].iter().flat_map(|sql| self.database.texts(sql)).collect();
        format!("\n{}\nat {}", told.join("\n"), recurd::clock::Clock::system().now().as_second())
    }

    /// Runs until nothing is open, with hours between the runs.
    pub(crate) fn run_until_collected(&self) {
        /// Limit: a lost answer is found at the first or second asking.
        const RUNS_MAX: usize = 10;
        for _ in 0..RUNS_MAX {
            self.let_leases_run_out();
            self.done(&["run"]);
            if self.open() == 0 {
                return;
            }
        }
        let left = self.database.texts("SELECT id FROM charge WHERE state <> 'paid'");
        let stories = left.iter().map(|id| self.recurd(&["explain", id]).out);
        panic!("still open after {RUNS_MAX} runs:\n{}", stories.collect::<Vec<_>>().join("\n"));
    }
}

impl Database {
    /// The first column of each row.
    pub(crate) fn texts(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        block_on(async {
            match self {
                Self::Sqlite { url } => {
                    let options: SqliteConnectOptions = url.parse().unwrap();
                    let pool = SqlitePool::connect_with(options.read_only(true)).await.unwrap();
                    let rows = sqlx::raw_sql(sql).fetch_all(&pool).await.unwrap();
                    pool.close().await;
                    rows.iter().map(|row| row.get(0)).collect()
                }
                Self::Postgres { url, .. } => {
                    let pool = PgPool::connect(url).await.unwrap();
                    let rows = sqlx::raw_sql(sql).fetch_all(&pool).await.unwrap();
                    pool.close().await;
                    rows.iter().map(|row| row.get(0)).collect()
                }
            }
        })
    }

    /// How many rows of a table there are: `charge WHERE state = 'due'`.
    pub(crate) fn count(&self, of: &str) -> usize {
        self.texts(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {of}"))[0].parse().unwrap()
    }
}

impl Database {
    /// Whether some process has begun to write and not ended. Asked while all of them stand still.
    pub(crate) fn is_locked(&self) -> bool {
        // A busy server may not have read yet what a process sent before it fell asleep.
        std::thread::sleep(Duration::from_millis(100));
        match self {
            Self::Sqlite { url } => block_on(async {
                let options: SqliteConnectOptions = url.parse().unwrap();
                let mut file = options.busy_timeout(Duration::ZERO).connect().await.unwrap();
                sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(&mut file).await.is_err()
            }),
            // Also a session whose statement has not ended, or which has just begun: neither is at rest.
            Self::Postgres { .. } => {
                const NOT_AT_REST: &str = "pg_stat_activity WHERE datname = current_database() \
                                           AND pid <> pg_backend_pid() AND state IS DISTINCT FROM 'idle'";
                self.count(NOT_AT_REST) > 0
            }
        }
    }

    /// Does something while nobody else can write to a table. PostgreSQL's.
    pub(crate) fn while_locked<T: Send>(&self, table: &str, act: impl FnOnce() -> T + Send) -> T {
        let Self::Postgres { url, .. } = self else { panic!("SQLite has one lock") };
        block_on(async {
            let mut holder = PgConnection::connect(url).await.unwrap();
            let lock = format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE");
            sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut holder).await.unwrap();
            let done = std::thread::scope(|scope| scope.spawn(act).join().unwrap());
            sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
            done
        })
    }
}

/// Looks ten times a second whether something has happened, at most [`WAIT_MAX`].
pub(crate) fn wait(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < WAIT_MAX, "this did not happen: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Chance from a seed that is said, so that a failure can be drawn again.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(what: &str) -> Self {
        let given = std::env::var("RECURD_CHAOS_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32);
        say(&format!("{what}: RECURD_CHAOS_SEED={seed}"));
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Waits for a moment shorter than `ms_max`.
    pub(crate) fn moment(&mut self, ms_max: u64) {
        std::thread::sleep(Duration::from_millis(self.below(ms_max)));
    }
}
