//! Every order of two people who do something with the same charge at the same time.
//!
//! One acts and is stopped at each place between two durable steps, before each request to Stripe and before each
//! answer. There the other acts from beginning to end. Then the first goes on, or dies; whatever the customer still
//! holds in hand is paid; and everything runs until it rests. What counts is what Stripe's books and the mailbox say.
//!
//! A share of the orders is walked through, spread over all pairs; `RECURD_RACES=all` walks through each, and another number
//! through one in so many.

mod acts;
mod judge;
mod stage;
mod walk;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use recurd::simulation::bugs::{self, Bug};

use acts::{First, Second};
use stage::Situation;

/// What may be under way in each situation. What does nothing there would have no place to be stopped at.
const TABLE: [(Situation, &[First]); 8] = [
    (Situation::Due, &[First::Collect, First::Click, First::CancelSubscription, First::CancelCharge]),
    (Situation::Declined, &[First::Notify, First::Click, First::CancelSubscription]),
    (
        Situation::RetryDue,
        &[First::Collect, First::Click, First::CancelSubscription, First::CancelCharge, First::MarkPaid],
    ),
    (Situation::PageOpen, &[First::Reconcile, First::Click, First::CancelSubscription, First::MarkPaid]),
    (Situation::Authenticating, &[First::Reconcile, First::CancelCharge]),
    (
        Situation::PaidUnheard,
        &[First::Receive, First::Return, First::Reconcile, First::CancelSubscription, First::MarkPaid],
    ),
    (Situation::LastStep, &[First::Dun, First::Click]),
    (Situation::AnswerLost, &[First::Reconcile, First::CancelSubscription, First::CancelCharge]),
];

/// One order in so many, where nothing else is asked for.
const ONE_IN: usize = 8;
/// Limit: with fewer places something no longer does what it did, and the table shows nothing.
const PLACES_MIN: usize = 200;

/// Mistakes that this table must find: built in one at a time.
const MISTAKES: [Bug; 6] = [
    Bug::PaidPageIsDead,
    Bug::ExpiryIsTrusted,
    Bug::CancelIgnored,
    Bug::HoldIgnored,
    Bug::CancelRaces,
    Bug::NoVersionGuard,
];

/// One order of things.
#[derive(Clone, Copy, Debug)]
struct Case {
    situation: Situation,
    first: First,
    second: Second,
    /// At which of its places the first is stopped, counted from nought.
    stopped: usize,
    /// Or goes on.
    dies: bool,
}

/// What came of some cases.
#[derive(Default)]
struct Tally {
    cases: usize,
    wrong: Vec<String>,
    places: BTreeMap<&'static str, usize>,
}

#[test]
fn no_order_of_two_acts_collects_twice_or_asks_for_what_was_paid() {
    let begun = Instant::now();
    let (cases, stops) = cases();
    let tally = run(&share_of(&cases), None, usize::MAX);
    let (all, secs) = (cases.len(), begun.elapsed().as_secs());
    eprintln!("{} of {all} orders, {stops} places, {} wrong, {secs} s", tally.cases, tally.wrong.len());
    eprintln!("{:#?}", tally.places);
    assert!(
        tally.wrong.is_empty(),
        "{} wrong:\n{}",
        tally.wrong.len(),
        tally.wrong[..tally.wrong.len().min(40)].join("\n")
    );
    assert!(stops >= PLACES_MIN, "only {stops} places");
}

#[test]
fn each_of_these_mistakes_is_seen() {
    let cases = share_of(&cases().0);
    let mut missed = Vec::new();
    for bug in MISTAKES {
        let tally = run(&cases, Some(bug), 1);
        match tally.wrong.first() {
            Some(wrong) => eprintln!("{} after {} orders: {wrong}", bug.as_str(), tally.cases),
            None => missed.push(bug.as_str()),
        }
    }
    assert!(missed.is_empty(), "not seen: {missed:?}");
}

/// Some of them, in an order that is no order: a prime's multiples lead through all pairs and places.
fn share_of(cases: &[Case]) -> Vec<Case> {
    let one_in = match std::env::var("RECURD_RACES").as_deref() {
        Ok("all") => 1,
        Ok(number) => number.parse().expect("RECURD_RACES is `all` or a number"),
        Err(_) => ONE_IN,
    };
    const PRIME: usize = 7919;
    (0..cases.len() / one_in).map(|number| cases[number * PRIME % cases.len()]).collect()
}

/// All cases, and at how many places somebody is stopped.
fn cases() -> (Vec<Case>, usize) {
    let mut cases = Vec::new();
    let mut stops = 0;
    for (situation, firsts) in TABLE {
        for first in firsts {
            let places = alone(|| walk::places(situation, *first));
            stops += places;
            for second in Second::ALL {
                for stopped in 0..places {
                    cases.push(Case { situation, first: *first, second, stopped, dies: false });
                    cases.push(Case { situation, first: *first, second, stopped, dies: true });
                }
            }
        }
    }
    (cases, stops)
}

/// Runs cases until so many are wrong.
fn run(cases: &[Case], bug: Option<Bug>, wrong_max: usize) -> Tally {
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    // One more than there are cores: each case waits for its database now and then.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                bugs::switch_on(bug);
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if tally.lock().unwrap().wrong.len() >= wrong_max {
                        return;
                    }
                    let (place, found) = alone(|| walk::walk(*case));
                    let mut tally = tally.lock().unwrap();
                    tally.cases += 1;
                    *tally.places.entry(place).or_default() += 1;
                    if !found.is_empty() {
                        tally.wrong.push(format!("{case:?} at {place:?}: {found:?}"));
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// Runs something on a runtime of its own: what one case leaves behind does not reach the next.
fn alone<T, F: Future<Output = T>>(what: impl FnOnce() -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(what())
}
