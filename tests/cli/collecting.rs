//! Each due charge once, whatever happens to the processes that collect it.

use serde_json::{Value, json};

use crate::real::process::{Ended, until};
use crate::real::scene::{Sandbox, Shop, customers};

fn collected(run: &Ended) -> u64 {
    let paid = |job: &Value| job["outcomes"]["paid"].as_u64().unwrap_or(0);
    run.json()["jobs"].as_object().unwrap().values().map(paid).sum()
}

#[test]
fn a_thousand_customers_are_imported_and_collected_once() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let imported = shop.import(&sandbox, &customers(1000, "pm_card_visa")).json();
    assert_eq!(imported, json!({ "lines": 1000, "customers": 1000, "subscriptions": 1000, "bad": [] }));

    let before = shop.database.everything();
    let again = shop.done(&["customers", "import", "customers.csv", "--json"]).json();
    assert_eq!(again, json!({ "lines": 1000, "customers": 0, "subscriptions": 0, "bad": [] }));
    assert!(before == shop.database.everything(), "a second import changed something");

    let run = shop.done(&["run", "--json"]);
    assert_eq!(run.json()["jobs"]["collect"]["outcomes"], json!({ "paid": 1000 }), "{run}");
    assert_eq!(run.json()["collected_minor"], json!({ "eur": 900_000 }));
    sandbox.assert_each_paid_once(1000);

    let second = shop.done(&["run", "--json"]).json();
    assert_eq!(second["jobs"]["collect"]["taken"], 0);
    assert_eq!(second["collected_minor"], json!({}));
    sandbox.assert_each_paid_once(1000);
}

fn two_runs_at_once(sandbox: &Sandbox, shop: &Shop) {
    const COUNT: usize = 150;
    shop.import(sandbox, &customers(COUNT, "pm_card_visa"));
    let (one, other) = (shop.start(&["run", "--json"]), shop.start(&["run", "--json"]));
    let (one, other) = (one.end(), other.end());
    assert_eq!((one.code, other.code), (Some(0), Some(0)), "{one}\n{other}");
    sandbox.assert_each_paid_once(COUNT);
    assert_eq!(collected(&one) + collected(&other), COUNT as u64, "{one}\n{other}");
    assert_eq!(collected(&shop.done(&["run", "--json"])), 0);
}

#[test]
fn two_runs_at_once_collect_each_charge_once_on_sqlite() {
    let sandbox = Sandbox::start();
    two_runs_at_once(&sandbox, &Shop::new(&sandbox));
}

#[test]
fn two_runs_at_once_collect_each_charge_once_on_postgres() {
    let sandbox = Sandbox::start();
    if let Some(shop) = Shop::on_postgres(&sandbox) {
        two_runs_at_once(&sandbox, &shop);
    }
}

/// A run dies again and again: at its first request, at its first payment, in the middle, towards the end.
fn killed_runs(sandbox: &Sandbox, shop: &Shop) {
    const COUNT: usize = 120;
    shop.import(sandbox, &customers(COUNT, "pm_card_visa"));
    for moment in [0, 1, COUNT / 3, COUNT * 2 / 3] {
        let (before, paid_before) = (sandbox.requests(), sandbox.paid().len());
        let mut run = shop.start(&["run", "--json"]);
        until("the run has come to the moment when it dies", || match moment {
            0 => sandbox.requests() > before,
            _ => sandbox.paid().len() >= moment.max(paid_before + 1) || !run.is_running(),
        });
        run.signal("KILL");
        let killed = run.end();
        assert_eq!(killed.code, None, "it ended before it was killed: {killed}");
        shop.let_leases_run_out();
    }
    let paid = sandbox.paid().len();
    assert!(paid < COUNT, "a run that was killed had nothing left to do");
    let rest = shop.done(&["run", "--json"]);
    sandbox.assert_each_paid_once(COUNT);
    let missing = shop.done(&["charges", "list", "--state", "paid", "--limit", "1000", "--json"]).json();
    assert_eq!(missing.as_array().unwrap().len(), COUNT, "{rest}");
    assert_eq!(collected(&shop.done(&["run", "--json"])), 0);
    shop.done(&["status"]);
}

/// Slow enough that a run can be met in its middle.
const PAYMENTS_PER_SEC: &str = "30";

#[test]
fn killed_runs_collect_each_charge_once_on_sqlite() {
    let sandbox = Sandbox::start();
    killed_runs(&sandbox, &Shop::new(&sandbox).set("STRIPE__ENDPOINT_PER_SEC", PAYMENTS_PER_SEC));
}

#[test]
fn killed_runs_collect_each_charge_once_on_postgres() {
    let sandbox = Sandbox::start();
    if let Some(shop) = Shop::on_postgres(&sandbox) {
        killed_runs(&sandbox, &shop.set("STRIPE__ENDPOINT_PER_SEC", PAYMENTS_PER_SEC));
    }
}

/// Some forty charges, of which a killed run has paid some, was sending others, and held the rest.
fn after_a_kill(sandbox: &Sandbox) -> Shop {
    let shop = Shop::new(sandbox).set("STRIPE__ENDPOINT_PER_SEC", "20");
    shop.import(sandbox, &customers(FORTY, "pm_card_visa"));
    let run = shop.start(&["run"]);
    until("something is paid", || !sandbox.paid().is_empty());
    run.signal("KILL");
    run.end();
    shop
}

const FORTY: usize = 40;

#[test]
fn what_a_killed_run_held_is_taken_up_by_the_next_at_once() {
    let sandbox = Sandbox::start();
    let shop = after_a_kill(&sandbox);
    let next = shop.done(&["run", "--wait", "0s", "--json"]).json();
    assert_eq!(next["under_way"]["held"], 0, "{next}");
    let unfinished = next["under_way"]["unfinished"].as_u64().unwrap();
    let unpaid = shop.done(&["charges", "list", "--state", "collecting", "--json"]).json();
    assert_eq!(
        unpaid.as_array().unwrap().len() as u64,
        unfinished,
        "all but what may have been sent is paid: {next}"
    );
    shop.let_pass(57);
    let last = shop.done(&["run", "--json"]).json();
    assert_eq!(last["under_way"]["unfinished"], 0, "it stays the seconds until it may ask: {last}");
    sandbox.assert_each_paid_once(FORTY);
}

#[test]
fn while_the_lease_of_another_machine_lasts_nobody_else_takes_its_charges() {
    let sandbox = Sandbox::start();
    let shop = after_a_kill(&sandbox);
    shop.database
        .execute("UPDATE charge SET lease_owner = 'worker-1@elsewhere:1:1' WHERE lease_owner IS NOT NULL");
    let paid = sandbox.paid();
    let second = shop.done(&["run", "--json"]);
    assert_eq!(collected(&second), 0, "the lease still lasts: {second}");
    let booked = shop.done(&["charges", "list", "--state", "paid", "--json"]).json();
    let open = FORTY - booked.as_array().unwrap().len();
    assert_eq!(second.json()["under_way"]["held"], open, "{second}");
    let said = shop.done(&["run"]);
    assert!(said.out.contains("are held by another process until"), "{said}");
    assert_eq!(sandbox.paid(), paid);
    shop.let_leases_run_out();
    shop.done(&["run"]);
    sandbox.assert_each_paid_once(FORTY);
}

#[test]
fn a_halt_reaches_a_run_within_one_call_of_each_worker() {
    const WORKERS: u32 = 8;
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox).set("LIMITS__CONCURRENCY", &WORKERS.to_string());
    shop.import(&sandbox, &customers(200, "pm_card_visa"));
    sandbox.control("faults", r#"{"fault":"late 50ms","method":"POST","path":"/v1/payment_intents"}"#);
    let run = shop.start(&["run", "--json"]);
    let paid = || sandbox.paid().values().sum::<u32>();
    until("the run is in the middle", || paid() > 20);
    shop.done(&["halt", "--why", "wrong prices"]);
    let halted_at = paid();
    let run = run.end();
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.err.contains("wrong prices"), "{run}");
    assert!(halted_at < 180, "the run was over before the halt: {halted_at}");
    let more = paid() - halted_at;
    assert!(more <= WORKERS, "{more} calls began after the halt");
    assert_eq!(collected(&run), u64::from(paid()), "what was under way is settled: {run}");
}

#[test]
fn what_was_sold_stays_as_it_was_sold_whatever_the_file_says_later() {
    const SAMPLE: &str = include_str!("../../schedules.toml");
    for (sold, later) in [
        ("price = \"9.00 EUR\"", "price = \"9.00 USD\""),
        ("price = \"9.00 EUR\"", "price = \"90.00 EUR\""),
        ("every = \"1 month\"", "every = \"1 day\""),
        ("[plans.basic]", "[plans.other]"),
    ] {
        let sandbox = Sandbox::start();
        let shop = Shop::new(&sandbox);
        shop.import(&sandbox, &customers(3, "pm_card_visa"));
        assert!(SAMPLE.contains(sold), "{sold}");
        shop.write("schedules.toml", &SAMPLE.replacen(sold, later, 1));
        let run = shop.done(&["run", "--json"]);
        assert_eq!(run.json()["collected_minor"], json!({ "eur": 2700 }), "{later}: {run}");
        assert_eq!(collected(&shop.done(&["run", "--json"])), 0, "{later}");
        sandbox.assert_each_paid_once(3);
    }
}
