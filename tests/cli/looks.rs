//! What only these tests look at.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::real::database::{Database, block_on};
use crate::real::scene::{Sandbox, Shop, rows};

/// The rows of each table as text.
pub(crate) type Everything = BTreeMap<String, Vec<String>>;

impl Database {
    /// Every row of every table, as text. SQLite only.
    pub(crate) fn everything(&self) -> Everything {
        let Self::Sqlite { url } = self else { panic!("only on SQLite") };
        let options: SqliteConnectOptions = url.parse().unwrap();
        block_on(async {
            let pool = SqlitePool::connect_with(options.read_only(true)).await.unwrap();
            let ask = async |sql: String| -> Vec<String> {
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&pool).await.unwrap()
            };
            let mut all = Everything::new();
            for table in ask("SELECT name FROM sqlite_master WHERE type = 'table'".into()).await {
                let columns = ask(format!("SELECT name FROM pragma_table_info('{table}')")).await;
                let text: Vec<String> =
                    columns.iter().map(|name| format!("'{name}=' || quote({name})")).collect();
                let rows = format!("SELECT {} FROM {table} ORDER BY 1", text.join(" || ' ' || "));
                let rows = ask(rows).await;
                all.insert(table, rows);
            }
            pool.close().await;
            all
        })
    }
}

impl Sandbox {
    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        rows(&self.books(), "requests").len()
    }

    /// Asserts that exactly so many charges were paid, each once and each by another customer.
    pub(crate) fn assert_each_paid_once(&self, count: usize) {
        let paid = self.paid();
        let twice: Vec<_> = paid.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "collected twice: {twice:?}");
        assert_eq!(paid.len(), count, "charges collected");
        let books = self.books();
        let charges = rows(&books, "charges").iter().filter(|row| row["status"] == "succeeded");
        let customers: BTreeSet<&str> = charges.filter_map(|row| row["customer"].as_str()).collect();
        assert_eq!(customers.len(), count, "customers charged");
    }
}

impl Shop {
    /// Leaves a key to the file.
    pub(crate) fn unset(mut self, key: &str) -> Self {
        self.env.remove(&format!("RECURD__{key}"));
        self
    }

    /// The mails that were written so far.
    pub(crate) fn mails(&self) -> Vec<String> {
        let Ok(dir) = std::fs::read_dir(self.dir.join("mail")) else { return Vec::new() };
        let files = dir.flatten().map(|entry| entry.path());
        let mails = files.filter(|path| path.extension().is_some_and(|end| end == "eml"));
        mails.map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }
}
