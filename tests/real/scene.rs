//! A sandbox that plays Stripe, and a shop: a directory with a configuration, from which commands are typed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use recurd::clock::Clock;
use serde_json::Value;

use super::database::Database;
use super::http;
use super::process::{Ended, Process};

/// `recurd sandbox`, a process of its own.
pub(crate) struct Sandbox {
    pub(crate) url: String,
    _process: Process,
}

impl Sandbox {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recurd"));
        command.args(["sandbox", "--listen", "127.0.0.1:0"]);
        let mut process = Process::start(command);
        let line = process.says("http://");
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        Self { url, _process: process }
    }

    /// Calls a control endpoint.
    pub(crate) fn control(&self, path: &str, body: &str) -> Value {
        http::post(&format!("{}/_sandbox/{path}", self.url), body).json()
    }

    /// What really happened.
    pub(crate) fn books(&self) -> Value {
        http::get(&format!("{}/_sandbox/books", self.url)).json()
    }

    /// How often each of our charges was paid, by its id.
    pub(crate) fn paid(&self) -> BTreeMap<String, u32> {
        let mut paid = BTreeMap::new();
        for row in rows(&self.books(), "charges").iter().filter(|row| row["status"] == "succeeded") {
            let id = row["metadata"]["recurd_charge"].as_str().expect("each payment carries our id");
            *paid.entry(id.to_owned()).or_default() += 1;
        }
        paid
    }
}

pub(crate) fn rows<'a>(books: &'a Value, table: &str) -> &'a Vec<Value> {
    books[table].as_array().unwrap_or_else(|| panic!("{table}"))
}

/// A merchant's directory. It goes away with the value.
pub(crate) struct Shop {
    pub(crate) dir: PathBuf,
    pub(crate) database: Database,
    pub(crate) env: BTreeMap<String, String>,
}

impl Shop {
    /// With the sample configuration and a SQLite file.
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let dir = fresh_dir();
        let database = Database::sqlite(&dir);
        Self::with_database(sandbox, dir, database)
    }

    /// The same on PostgreSQL, if there is a server.
    pub(crate) fn on_postgres(sandbox: &Sandbox) -> Option<Self> {
        Some(Self::with_database(sandbox, fresh_dir(), Database::postgres()?))
    }

    /// With the sample configuration and this database.
    pub(crate) fn with_database(sandbox: &Sandbox, dir: PathBuf, database: Database) -> Self {
        let shop = Self { dir, database, env: BTreeMap::new() };
        shop.write("schedules.toml", include_str!("../../schedules.toml"));
        let url = shop.database.url().to_owned();
        shop.set("DATABASE__URL", &url)
            .set("STRIPE__API_BASE", &sandbox.url)
            .set("STRIPE__SECRET_KEY", "sk_test_cli")
            .set("STRIPE__ENDPOINT_PER_SEC", "0")
            .set("STRIPE__ACCOUNT_PER_SEC", "0")
            .set("HTTP__LISTEN", "127.0.0.1:0")
    }

    /// Sets a key of the configuration: `STRIPE__SECRET_KEY`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.env.insert(format!("RECURD__{key}"), value.to_owned());
        self
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }

    pub(crate) fn start(&self, args: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recurd"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(args).current_dir(&self.dir).env_clear().env("PATH", path).env("USER", "tester");
        command.envs(&self.env);
        Process::start(command)
    }

    /// Runs a command to its end.
    pub(crate) fn recurd(&self, args: &[&str]) -> Ended {
        self.start(args).end()
    }

    /// Runs a command that must succeed.
    pub(crate) fn done(&self, args: &[&str]) -> Ended {
        let ended = self.recurd(args);
        assert_eq!(ended.code, Some(0), "recurd {}: {ended}", args.join(" "));
        ended
    }

    /// Makes customers exist at Stripe and here, from the same file.
    pub(crate) fn import(&self, sandbox: &Sandbox, customers: &str) -> Ended {
        sandbox.control("seed_csv", customers);
        self.write("customers.csv", customers);
        self.done(&["customers", "import", "customers.csv", "--json"])
    }

    /// The leases of dead workers run out, and what has no answer is old enough to be asked about.
    pub(crate) fn let_leases_run_out(&self) {
        self.let_pass(3600);
    }

    /// As if so many seconds had passed for everything that sleeps or has no answer.
    pub(crate) fn let_pass(&self, secs: u32) {
        for earlier in [
            format!("UPDATE charge SET wake_at = wake_at - {secs} WHERE wake_at IS NOT NULL"),
            format!("UPDATE outbox SET wake_at = wake_at - {secs} WHERE wake_at IS NOT NULL"),
            format!(
                "UPDATE attempt SET not_before = not_before - {secs}, first_sent_at = first_sent_at - {secs}, last_sent_at = last_sent_at - {secs} \
                 WHERE finished_at IS NULL"
            ),
        ] {
            self.database.execute(&earlier);
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A daemon that is ready, and where it listens.
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) url: String,
}

impl Served {
    pub(crate) fn start(shop: &Shop) -> Self {
        let mut process = shop.start(&["serve"]);
        let line = process.logs("recurd serves on ");
        let url = format!("http://{}", line.rsplit(' ').next().unwrap());
        Self { process, url }
    }
}

pub(crate) fn fresh_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("recurd-test-cli-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The day before today, in UTC: a monthly plan that began then has one charge due.
pub(crate) fn yesterday() -> String {
    let now = Clock::system().now();
    let day = now.checked_sub(std::time::Duration::from_secs(86_400)).unwrap();
    day.strftime("%Y-%m-%d").to_string()
}

/// A list of customers on the plan "basic" (9.00 EUR a month) whose first charge is due. `card` is the beginning of
/// the payment method's id, by which the sandbox knows how the card behaves.
pub(crate) fn customers(count: usize, card: &str) -> String {
    let mut csv = format!("{}\n", recurd::flows::import::HEADER);
    let start = yesterday();
    for index in 0..count {
        csv.push_str(&format!(
            "cus_cli{index},{card}_cli{index},c{index}@example.com,Customer {index},en,UTC,basic,1,{start},{start},I agree.\n"
        ));
    }
    csv
}
