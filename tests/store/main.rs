//! One contract for both databases. Every test runs on SQLite, and on PostgreSQL when `RECURD_TEST_POSTGRES_URL`
//! names a superuser of a throwaway server; otherwise it says so aloud.

mod claims;
mod database;
mod folders;
mod ladders;
mod lookups;
mod notices;
mod periods;
mod promises;
mod round_trip;
mod scenery;
mod schema;
mod settling;

pub(crate) use database::Db;
pub(crate) use database::on_both;
pub(crate) use scenery::*;
