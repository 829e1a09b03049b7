//! A replica that sleeps (SIGSTOP) until others have taken over, and then wakes up.

use std::time::{Duration, Instant};

use crate::audit::assert_books_agree;
use crate::real::process::{Process, until};
use crate::real::scene::{Sandbox, Shop, customers, rows};
use crate::town::{ASKED_AFTER, Dice, LEASE, on_postgres, on_sqlite, replicas, say, stop, wait};

/// All of them are claimed at once by the one that will sleep.
const CHARGES: usize = 100;
/// So slow that it can be met in the middle of its requests.
const REQUESTS_PER_SEC: &str = "20";

/// Sessions that wait for another's lock.
const WAITING: &str = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// When it falls asleep.
#[derive(Clone, Copy)]
enum Asleep {
    /// It holds leases and reads Stripe's lists.
    Claimed,
    /// Attempts are marked, some have been sent, some answers wait to be read.
    Sending,
    /// It marks attempts, and holds the locks of what it has changed.
    Writing,
}

/// When it wakes up.
#[derive(Clone, Copy)]
enum Wakes {
    /// The others have done all of its work.
    Late,
    /// The others have its leases, but have not asked about what it sent yet.
    Between,
}

fn posts(sandbox: &Sandbox) -> usize {
    rows(&sandbox.books(), "requests").iter().filter(|row| row["method"] == "POST").count()
}

fn story(shop: impl FnOnce(&Sandbox) -> Option<Shop>, asleep: Asleep, wakes: Wakes, what: &str) {
    let sandbox = Sandbox::start();
    let Some(shop) = shop(&sandbox) else { return };
    let mut dice = Dice::new(what);
    shop.import(&sandbox, &customers(CHARGES, "pm_card_visa"));
    shop.done(&["run", "--job", "materialize"]);
    let shop = shop.set("STRIPE__ENDPOINT_PER_SEC", REQUESTS_PER_SEC).set("LIMITS__WORKERS", "1");
    let before = sandbox.books()["requests"].as_array().unwrap().len();
    let sleeper = || shop.start(&["run", "--job", "collect", "--json"]);
    let sleeper = match asleep {
        Asleep::Claimed => falls_asleep(
            &shop,
            sleeper(),
            || rows(&sandbox.books(), "requests").len() > before + 2,
            &mut dice,
        ),
        Asleep::Sending => falls_asleep(&shop, sleeper(), || !sandbox.paid().is_empty(), &mut dice),
        Asleep::Writing => shop.database.while_locked("attempt", || {
            let sleeper = sleeper();
            until("the sleeper waits within its transaction", || shop.database.count(WAITING) > 0);
            sleeper.signal("STOP");
            sleeper
        }),
    };
    let slept = Instant::now();
    let paid = sandbox.paid().len();
    assert!(paid < CHARGES, "it had done everything");
    let shop = shop.set("STRIPE__ENDPOINT_PER_SEC", "0");
    let others = replicas(&shop, 2);
    match wakes {
        Wakes::Late => {
            shop.wait_until_collected();
            if let Asleep::Sending | Asleep::Writing = asleep {
                sleep_until(slept, ASKED_AFTER + Duration::from_secs(2));
            }
        }
        Wakes::Between => {
            sleep_until(slept, LEASE + Duration::from_secs(3));
            assert!(shop.unanswered() > 0, "nothing that it sent is unanswered");
        }
    }
    let (sent, versions) = (posts(&sandbox), shop.versions());
    sleeper.signal("CONT");
    let ended = sleeper.end();
    // The server has ended the transaction that it slept in, and a person should know.
    let expected = if let Asleep::Writing = asleep { 1 } else { 0 };
    assert_eq!(ended.code, Some(expected), "{ended}");
    if let Wakes::Late = wakes {
        assert_eq!(posts(&sandbox), sent, "it sent something after all was done: {ended}");
        assert!(shop.versions() == versions, "it wrote something after all was done: {ended}");
    }
    wait("everything is collected", || shop.open() == 0);
    stop(others);
    assert_books_agree(&sandbox, &shop, CHARGES, 0);
    let settled = match asleep {
        Asleep::Writing => 0,
        Asleep::Claimed | Asleep::Sending => {
            ended.json()["collected_minor"]["eur"].as_i64().unwrap_or(0) / 900
        }
    };
    say(&format!(
        "{what}: {:.0} s, when {paid} of {CHARGES} charges were paid; {settled} of them it had settled itself",
        slept.elapsed().as_secs_f64(),
    ));
}

/// It sleeps from some moment on after it has come so far.
fn falls_asleep(shop: &Shop, sleeper: Process, so_far: impl FnMut() -> bool, dice: &mut Dice) -> Process {
    until("the sleeper has come so far", so_far);
    dice.moment(600);
    sleeper.signal("STOP");
    // Within a transaction is a story of its own, and on SQLite nobody can take the lock from a process that sleeps.
    while shop.database.is_locked() {
        sleeper.signal("CONT");
        dice.moment(10);
        sleeper.signal("STOP");
    }
    sleeper
}

fn sleep_until(since: Instant, age: Duration) {
    std::thread::sleep(age.saturating_sub(since.elapsed()));
}

impl Shop {
    /// Every charge with its version, which every change of it raises.
    fn versions(&self) -> Vec<String> {
        self.database
            .texts("SELECT id || ' ' || state || ' ' || CAST(version AS TEXT) FROM charge ORDER BY id")
    }
}

// They mostly wait, so they wait together.
#[test]
fn a_replica_that_slept_beyond_its_lease_neither_sends_nor_overwrites() {
    let sqlite = |sandbox: &Sandbox| Some(on_sqlite(sandbox));
    std::thread::scope(|scope| {
        scope.spawn(|| story(on_postgres, Asleep::Claimed, Wakes::Late, "asleep after the claim"));
        scope.spawn(|| story(on_postgres, Asleep::Sending, Wakes::Late, "asleep while sending"));
        scope.spawn(|| story(on_postgres, Asleep::Sending, Wakes::Between, "asleep, and back too early"));
        scope.spawn(|| story(on_postgres, Asleep::Writing, Wakes::Late, "asleep within a transaction"));
        scope.spawn(|| story(sqlite, Asleep::Sending, Wakes::Late, "asleep while sending, on SQLite"));
    });
}
