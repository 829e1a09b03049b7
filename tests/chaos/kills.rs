//! `kill -9` at random moments, until everything is collected.

use crate::audit::assert_books_agree;
use crate::real::scene::{Sandbox, Shop, customers};
use crate::town::{Dice, on_postgres, on_sqlite, say, sized};

/// Limit: long enough to start, look and send; short enough to die in all of them.
const LIFE_MS_MAX: u64 = 1500;
/// Slow enough that many lives are needed.
const PAYMENTS_PER_SEC: &str = "400";
/// Small enough that a short life comes to all steps.
const BATCH: &str = "40";

fn killed_until_collected(sandbox: &Sandbox, shop: Shop, what: &str) {
    let (more, wanted) = (sized(500, 2000), sized(22, 60));
    let mut dice = Dice::new(what);
    shop.import(sandbox, &customers(more, "pm_card_visa"));
    let paced = shop.set("STRIPE__ENDPOINT_PER_SEC", PAYMENTS_PER_SEC).set("LIMITS__BATCH", BATCH);
    let (mut charges, mut kills, mut in_flight, mut deadly) = (more, 0, 0, 0);
    // On a busy machine many die before they have come to sending.
    while kills < wanted || (deadly == 0 && kills < 5 * wanted) {
        if paced.open() == 0 {
            charges += more;
            paced.import(sandbox, &customers(charges, "pm_card_visa"));
        }
        let verb: &[&str] = if dice.below(2) == 0 { &["run"] } else { &["serve"] };
        let process = paced.start(verb);
        dice.moment(LIFE_MS_MAX);
        process.signal("KILL");
        let ended = process.end();
        assert!([None, Some(0)].contains(&ended.code), "{ended}");
        kills += usize::from(ended.code.is_none());
        let unanswered = paced.unanswered();
        in_flight += unanswered;
        deadly += usize::from(unanswered > 0);
        // Nobody lives who holds a lease.
        paced.let_pass(100);
    }
    assert!(deadly > 0, "no kill met an attempt on its way");
    let left = paced.open();
    let shop = paced.set("STRIPE__ENDPOINT_PER_SEC", "0");
    shop.run_until_collected();
    assert_books_agree(sandbox, &shop, charges, 0);
    say(&format!(
        "{what}: {kills} kills, {deadly} of them with attempts on their way ({in_flight} in all), {charges} charges, \
         {left} left for the last run"
    ));
}

#[test]
fn killed_processes_collect_each_charge_once_on_sqlite() {
    let sandbox = Sandbox::start();
    killed_until_collected(&sandbox, on_sqlite(&sandbox), "kill -9 on SQLite");
}

#[test]
fn killed_processes_collect_each_charge_once_on_postgres() {
    let sandbox = Sandbox::start();
    if let Some(shop) = on_postgres(&sandbox) {
        killed_until_collected(&sandbox, shop, "kill -9 on PostgreSQL");
    }
}
