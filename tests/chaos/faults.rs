//! Stripe that does not answer, answers half, late, or wrongly, while replicas collect.

use serde_json::Value;

use crate::audit::assert_books_agree;
use crate::line::Line;
use crate::real::scene::{Sandbox, Shop, customers, rows};
use crate::town::{Dice, on_postgres, on_sqlite, replicas, say, sized, stop, wait};

const REPLICAS: usize = 3;
/// Each replica's, so that the faults meet it at work.
const PAYMENTS_PER_SEC: &str = "40";

/// What becomes of requests, each in so many of 100 cases. A 5xx that was not carried out is not among them: Stripe may
/// still do so for three days, so nobody charges again before.
const FAULTS: [(&str, u32); 9] = [
    ("no-answer", 6),
    ("no-answer not-executed", 4),
    ("arrives-late 2s", 3),
    ("cut 30", 6),
    ("late 500ms", 5),
    ("500", 2),
    ("502 retry=true", 2),
    ("429", 4),
    ("409", 2),
];

#[test]
fn lost_answers_end_as_one_collection_each() {
    let sandbox = Sandbox::start();
    let Some(shop) = on_postgres(&sandbox) else { return };
    let charges = sized(900, 5000);
    shop.import(&sandbox, &customers(charges, "pm_card_visa"));
    for (fault, percent) in FAULTS {
        let rule = format!(
            r#"{{"fault":"{fault}","method":"POST","path":"/v1/payment_intents","percent":{percent}}}"#
        );
        sandbox.control("faults", &rule);
    }
    sandbox.control(
        "faults",
        r#"{"fault":"no-answer","method":"GET","path":"/v1/payment_intents","percent":3}"#,
    );
    let all = replicas(&shop, REPLICAS);
    wait("only what is unknown is left", || shop.open() == shop.resting());
    stop(all);
    let unknown = shop.unanswered();
    assert!(unknown > 0, "the client's own repetitions hid every fault");
    let failed = |row: &&Value| row["method"] == "POST" && row["status"].as_u64().is_none_or(|one| one > 499);
    let lost = rows(&sandbox.books(), "requests").iter().filter(failed).count();
    sandbox.clear_faults();
    shop.run_until_collected();
    assert_books_agree(&sandbox, &shop, charges, 0);
    say(&format!(
        "{charges} charges under {REPLICAS} replicas: {lost} answers were lost, {unknown} charges stayed unknown for a while"
    ));
}

fn a_line_that_is_cut(sandbox: &Sandbox, shop: Shop, line: &Line, what: &str) {
    let (charges, cuts) = (sized(900, 5000), sized(10, 40));
    let mut dice = Dice::new(what);
    shop.import(sandbox, &customers(charges, "pm_card_visa"));
    let shop = shop.set("STRIPE__ENDPOINT_PER_SEC", PAYMENTS_PER_SEC).set("LIMITS__BATCH", "50");
    let mut all = replicas(&shop, REPLICAS);
    wait("the replicas are at work", || !sandbox.paid().is_empty());
    // On a busy machine there may be nothing on its way when the line breaks.
    let mut done = 0;
    while done < cuts || (done < 5 * cuts && shop.unanswered() == 0 && shop.open() > 0) {
        dice.moment(900);
        line.cut();
        dice.moment(500);
        line.mend();
        done += 1;
    }
    wait("only what is unknown is left", || shop.open() == shop.resting());
    for one in &mut all {
        assert!(one.process.is_running(), "a replica did not outlive the cuts");
    }
    stop(all);
    let unknown = shop.unanswered();
    assert!(unknown > 0, "no cut met a payment on its way");
    shop.run_until_collected();
    assert_books_agree(sandbox, &shop, charges, 0);
    say(&format!(
        "{what}: {done} times, {} connections, {charges} charges, of {unknown} the answer was lost",
        line.cuts()
    ));
}

#[test]
fn a_line_that_is_cut_loses_no_charge_on_postgres() {
    let sandbox = Sandbox::start();
    let Some(shop) = on_postgres(&sandbox) else { return };
    let line = Line::to(&sandbox.url);
    let shop = shop.set("STRIPE__API_BASE", &line.url);
    a_line_that_is_cut(&sandbox, shop, &line, "the line to Stripe cut, on PostgreSQL");
}

#[test]
fn a_line_that_is_cut_loses_no_charge_on_sqlite() {
    let sandbox = Sandbox::start();
    let line = Line::to(&sandbox.url);
    let shop = on_sqlite(&sandbox).set("STRIPE__API_BASE", &line.url);
    a_line_that_is_cut(&sandbox, shop, &line, "the line to Stripe cut, on SQLite");
}

impl Shop {
    /// Charges that wait for something else than a worker: an answer, or a while.
    fn resting(&self) -> usize {
        let now = recurd::clock::Clock::system().now_secs();
        self.database.count(&format!("charge WHERE lease_owner IS NULL AND wake_at > {now} + 5"))
    }
}

impl Sandbox {
    fn clear_faults(&self) {
        let answer = crate::real::http::send("DELETE", &format!("{}/_sandbox/faults", self.url), &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}
