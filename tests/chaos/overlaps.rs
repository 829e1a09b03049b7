//! Runs that overlap, as a slow CronJob's do.

use crate::audit::assert_books_agree;
use crate::real::scene::{Sandbox, Shop, customers};
use crate::town::{Dice, on_postgres, on_sqlite, say, sized};

const RUNS: usize = 4;
/// Between two starts at most.
const STAGGER_MS_MAX: u64 = 300;
/// Small enough that each run gets its share.
const BATCH: &str = "20";

fn overlapping_runs(sandbox: &Sandbox, shop: Shop, what: &str) {
    let charges = sized(1000, 4000);
    let shop = shop.set("LIMITS__BATCH", BATCH);
    let mut dice = Dice::new(what);
    shop.import(sandbox, &customers(charges, "pm_card_visa"));
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(shop.start(&["run", "--json"]));
        dice.moment(STAGGER_MS_MAX);
    }
    let mut shares = Vec::new();
    for run in runs {
        let ended = run.end();
        assert_eq!(ended.code, Some(0), "{ended}");
        shares.push(ended.json()["collected_minor"]["eur"].as_i64().unwrap_or(0) / 900);
    }
    let all: i64 = shares.iter().sum();
    assert_eq!(usize::try_from(all).unwrap(), charges, "each run counts what it collected: {shares:?}");
    assert!(shares.iter().filter(|share| **share > 0).count() > 1, "they did not overlap: {shares:?}");
    assert_eq!(shop.open(), 0);
    assert_books_agree(sandbox, &shop, charges, 0);
    say(&format!("{what}: {RUNS} runs at once collected {shares:?} of {charges} charges"));
}

#[test]
fn overlapping_runs_collect_each_charge_once_on_sqlite() {
    let sandbox = Sandbox::start();
    overlapping_runs(&sandbox, on_sqlite(&sandbox), "overlapping runs on SQLite");
}

#[test]
fn overlapping_runs_collect_each_charge_once_on_postgres() {
    let sandbox = Sandbox::start();
    if let Some(shop) = on_postgres(&sandbox) {
        overlapping_runs(&sandbox, shop, "overlapping runs on PostgreSQL");
    }
}
