//! When everything has worked for days, each charge is finished or says what it waits for, and the books agree.

use super::Violation;
use super::invariants::broken;
use super::mirror::{ChargeRow, Mirror};
use super::sim::Sim;
use super::stage;
use super::truth::Truth;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Checks the end of a run.
///
/// # Errors
/// INV10 for what is due and silent, INV20 where database and Stripe disagree.
pub(super) fn check(sim: &Sim) -> Result<(), Violation> {
    let now = stage::now_ms() / 1000;
    if let Some(wake) = sim.wakes.iter().find(|wake| wake.at < now - HOUR && wake.job != "enrol") {
        broken("INV10", format!("{} has had work since {} and did not do it", wake.job, now - wake.at))?;
    }
    stage::with(|stage| {
        for charge in sim.mirror.charges.values() {
            explained(&sim.mirror, &stage.truth, charge, now)?;
        }
        promises(&sim.mirror)?;
        books(&sim.mirror, &stage.truth)
    })
}

/// INV10: a charge says why it is not finished.
fn explained(mirror: &Mirror, truth: &Truth, charge: &ChargeRow, now: i64) -> Result<(), Violation> {
    let (id, state) = (&charge.id, charge.state.as_str());
    let subscription = charge.subscription.as_ref().and_then(|id| mirror.subscriptions.get(id));
    let waits = subscription.is_some_and(|one| matches!(one.state.as_str(), "paused" | "pending"));
    let held = mirror.customers.get(&charge.customer).is_some_and(|one| one.hold.is_some());
    let planned = charge.next_at.is_some_and(|at| at > now - HOUR);
    let young = mirror.attempts_of(id).any(|one| one.first_sent_at.is_some_and(|at| at > now - 5 * DAY));
    let processing = truth
        .of_charge
        .get(id)
        .into_iter()
        .flatten()
        .any(|id| truth.intents.get(id).is_some_and(|one| one.status == "processing"));
    let fine = match state {
        "paid" | "uncollectible" | "canceled" | "settled" | "missed" => true,
        "due" | "past_due" => planned || waits || held || shares_customer(mirror, charge),
        "collecting" => young,
        "link_open" => charge.until_at.is_some_and(|at| at > now - HOUR),
        "processing" | "closing" => processing || young,
        "needs_review" => mirror.has_alarm(id),
        _ => false,
    };
    if fine {
        return Ok(());
    }
    broken(
        "INV10",
        format!("charge {id} is {state} and nobody knows why (next {:?}, now {now})", charge.next_at),
    )
}

/// One customer's charges are collected one after another: another one may be on its way.
fn shares_customer(mirror: &Mirror, charge: &ChargeRow) -> bool {
    mirror
        .charges
        .values()
        .any(|one| one.customer == charge.customer && one.id != charge.id && one.state == "collecting")
}

/// INV10: promises were kept, or somebody knows why not.
fn promises(mirror: &Mirror) -> Result<(), Violation> {
    match mirror.promises.values().find(|one| one.state == "pending" && one.kind != "mail") {
        Some(one) => broken("INV10", format!("promise {} of {} is still pending", one.step, one.subject)),
        None => Ok(()),
    }
}

/// INV20: what Stripe took is what the database says.
fn books(mirror: &Mirror, truth: &Truth) -> Result<(), Violation> {
    for (id, charge) in &mirror.charges {
        let taken = truth.succeeded(id).len();
        let booked = usize::from(charge.state == "paid");
        if taken != booked && charge.state != "needs_review" {
            broken(
                "INV20",
                format!("charge {id} is {}, and Stripe took its money {taken} times", charge.state),
            )?;
        }
    }
    match truth.of_charge.keys().find(|id| !mirror.charges.contains_key(*id)) {
        Some(id) => broken("INV20", format!("Stripe knows charge {id}, the database does not")),
        None => Ok(()),
    }
}
