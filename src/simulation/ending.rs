//! When everything has worked for days, each charge is finished or says what it waits for, and the books agree.

use std::collections::BTreeMap;

use memchr::memmem;

use super::Violation;
use super::invariants::broken;
use super::mirror::Mirror;
use super::rows::ChargeRow;
use super::sim::Sim;
use super::stage;
use super::truth::{Letter, Truth};
use super::world::{SECRET_KEY, WEBHOOK_SECRET};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Checks the end of a run.
///
/// # Errors
/// INV10 for what is due and silent, INV20 where database and Stripe disagree.
pub(super) async fn check(sim: &Sim) -> Result<(), Violation> {
    let now = stage::now_ms() / 1000;
    let wakes = sim.main.store.wakes().await.unwrap_or_default();
    if let Some(wake) = wakes.iter().find(|wake| wake.at < now - HOUR && wake.job != "enrol") {
        broken("INV10", format!("{} has had work since {} and did not do it", wake.job, now - wake.at))?;
    }
    let asked: BTreeMap<&str, i64> = wakes.iter().map(|wake| (wake.job.as_str(), wake.at)).collect();
    let told = sim.main.mirror.wakes();
    if asked != told {
        broken("INV10", format!("the database has work at {asked:?}, and its journal told of {told:?}"))?;
    }
    stage::with(|stage| {
        for charge in sim.main.mirror.charges.values() {
            explained(&sim.main.mirror, &stage.truth, charge, now)?;
        }
        promises(&sim.main.mirror)?;
        books(&sim.main.mirror, &sim.past, &stage.truth)
    })?;
    secrets(sim).await
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
        "collecting" => {
            young || ((waits || held) && mirror.attempts_of(id).any(|one| one.state == "prepared"))
        }
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
fn books(mirror: &Mirror, past: &[Mirror], truth: &Truth) -> Result<(), Violation> {
    for (id, charge) in &mirror.charges {
        let taken = truth.succeeded(id).len();
        let booked = usize::from(charge.state == "paid");
        if taken != booked && charge.state != "needs_review" && !is_written_anew(past, charge) {
            broken(
                "INV20",
                format!("charge {id} is {}, and Stripe took its money {taken} times", charge.state),
            )?;
        }
    }
    let unknown = truth.of_charge.keys().filter(|id| !mirror.charges.contains_key(*id));
    match unknown.into_iter().find(|id| !is_lost(mirror, past, id)) {
        Some(id) => broken("INV20", format!("Stripe knows charge {id}, the database does not")),
        None => Ok(()),
    }
}

/// Whether a period that a lost database had collected was reached again by a subscription that was paused meanwhile: it is
/// missed, and what people decide of it moves no money.
fn is_written_anew(past: &[Mirror], charge: &ChargeRow) -> bool {
    let was_paid = past.iter().any(|one| one.charges.get(&charge.id).is_some_and(|one| one.state == "paid"));
    was_paid && matches!(charge.state.as_str(), "missed" | "settled" | "canceled")
}

/// Whether only a database that is gone knew of this charge: it was ordered by hand, or of a subscription that this one does
/// not know or does not let run.
fn is_lost(mirror: &Mirror, past: &[Mirror], id: &str) -> bool {
    let known = past.iter().find_map(|one| one.charges.get(id));
    known.is_some_and(|charge| {
        let subscription = charge.subscription.as_ref().and_then(|id| mirror.subscriptions.get(id));
        subscription.is_none_or(|one| one.state != "active")
    })
}

/// INV19: no secret and no link is in the database.
async fn secrets(sim: &Sim) -> Result<(), Violation> {
    let file = sim.dir.join("last.db");
    let copied = sim.main.store.copy_to(&file).await;
    let bytes = std::fs::read(&file).unwrap_or_default();
    let has = |text: &str| memmem::find(&bytes, text.as_bytes()).is_some();
    if !has("webhook_event") {
        return broken("INV19", format!("the database cannot be read: {copied:?}"));
    }
    let links = stage::with(|stage| stage.truth.letters.iter().filter_map(Letter::token).collect::<Vec<_>>());
    let secrets = [WEBHOOK_SECRET, SECRET_KEY].map(str::to_owned);
    match secrets.iter().chain(&links).find(|secret| has(secret)) {
        Some(secret) => broken("INV19", format!("{secret} is in the database")),
        None => Ok(()),
    }
}
