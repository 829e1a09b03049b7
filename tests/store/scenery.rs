//! Customers, plans, subscriptions and charges to play with.

use jiff::Timestamp;
use recurd::billing::apply::{Event, Outcome, Policy, Receipt, Step, apply};
use recurd::billing::calendar::{Anchor, Interval, Unit};
use recurd::billing::charge::{Charge, State, Work};
use recurd::billing::decline::Decline;
use recurd::billing::dunning::Rules;
use recurd::billing::ids::{ChargeId, CustomerId, SubscriptionId};
use recurd::billing::ladder::Ladder;
use recurd::billing::network_rules::Try;
use recurd::billing::plan::{CatchUp, Terms, Window};
use recurd::billing::subscription::{Frozen, SubscriptionState};
use recurd::store::{
    AttemptUpdate, Claimed, NewAttempt, NewCharge, NewCustomer, NewEvent, NewSubscription, Prepared,
    Settlement, Store,
};
use uuid::Uuid;

use crate::Db;

pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 86_400;

pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(secs).unwrap()
}

pub(crate) fn customer_id(number: u32) -> CustomerId {
    CustomerId(Uuid::from_u128(0xc000_0000_0000_0000_0000_0000_0000_0000 + u128::from(number)))
}

pub(crate) fn subscription_id(number: u32) -> SubscriptionId {
    SubscriptionId(Uuid::from_u128(0x5000_0000_0000_0000_0000_0000_0000_0000 + u128::from(number)))
}

pub(crate) fn charge_id(number: u32) -> ChargeId {
    ChargeId(Uuid::from_u128(0xa000_0000_0000_0000_0000_0000_0000_0000 + u128::from(number)))
}

pub(crate) fn terms() -> Terms {
    Terms {
        name: "Pro".into(),
        price_minor: 2900,
        currency: "usd".into(),
        every: Interval { count: 1, unit: Unit::Month },
        anchor: Anchor::Start,
        trial: None,
        installments: None,
        catch_up: CatchUp::Latest,
        window: Window::default(),
        statement_suffix: None,
        notice_secs: 0,
        notice_for: recurd::billing::plan::NoticeFor::default(),
    }
}

pub(crate) fn new_customer(number: u32) -> NewCustomer {
    NewCustomer {
        id: customer_id(number),
        stripe_customer: format!("cus_{number}"),
        email: format!("pat{number}@example.com"),
        name: "Pat".into(),
        locale: "en".into(),
        time_zone: "Europe/Berlin".into(),
    }
}

pub(crate) async fn add_customers(store: &Store, numbers: std::ops::Range<u32>) {
    let customers: Vec<NewCustomer> = numbers.map(new_customer).collect();
    store.add_customers(&customers, at(0)).await.unwrap();
}

/// Active subscriptions of customer 0 to plan `pro`, revision 1, that fall due at 1000.
pub(crate) async fn add_subscriptions(store: &Store, numbers: std::ops::Range<u32>) {
    add_customers(store, 0..1).await;
    store.ensure_plan("pro", &terms(), at(0)).await.unwrap();
    let new: Vec<NewSubscription> = numbers
        .map(|number| NewSubscription {
            id: subscription_id(number),
            customer: customer_id(0),
            plan: "pro".into(),
            revision: 1,
            quantity: 1,
            state: SubscriptionState::Active,
            frozen: Frozen {
                anchor: "2026-01-31".parse().unwrap(),
                time: "09:30:15".parse().unwrap(),
                zone: "Europe/Berlin".into(),
            },
            first_due_at: at(1000),
            ahead_secs: 0,
        })
        .collect();
    store.add_subscriptions(&new, at(0)).await.unwrap();
}

/// A one-off charge of a customer, due at an instant.
pub(crate) fn due_charge(number: u32, customer: u32, due: i64) -> Charge {
    Charge {
        id: charge_id(number),
        customer: customer_id(customer),
        period: None,
        amount: "29.00 USD".parse().unwrap(),
        due_at: at(due),
        description: "Pro, one month".into(),
        generation: 0,
        attempts: 0,
        collector: None,
        dunning: None,
        state: State::Due { at: at(due) },
        version: 0,
    }
}

pub(crate) fn new_charge(charge: Charge) -> NewCharge {
    NewCharge { charge, plan: "pro".into(), revision: 1, statement_suffix: Some("PRO".into()) }
}

pub(crate) async fn add_charges(store: &Store, charges: impl IntoIterator<Item = Charge>) {
    let charges: Vec<NewCharge> = charges.into_iter().map(new_charge).collect();
    let added = store.insert_charges(&charges, at(0)).await.unwrap();
    assert_eq!(added, charges.len() as u64);
}

/// One customer with one charge that is due since 0.
pub(crate) async fn one_due_charge(db: &Db) -> Claimed {
    add_customers(&db.store, 0..1).await;
    add_charges(&db.store, [due_charge(0, 0, 0)]).await;
    read(&db.store, 0).await
}

pub(crate) async fn read(store: &Store, number: u32) -> Claimed {
    store.find_charge(charge_id(number)).await.unwrap().expect("the charge is there")
}

/// Claims for collecting at `now`, leased for an hour.
pub(crate) async fn collect(store: &Store, owner: &str, now: i64, limit: usize) -> Vec<Claimed> {
    store.claim_charges(Work::Collect, owner, at(now), at(now + HOUR), limit).await.unwrap()
}

pub(crate) fn numbers(claimed: &[Claimed]) -> Vec<u128> {
    let mut numbers: Vec<u128> = claimed.iter().map(|one| one.charge.id.0.as_u128() & 0xffff_ffff).collect();
    numbers.sort_unstable();
    numbers
}

pub(crate) fn decide(claimed: &Claimed, event: &Event, now: i64) -> Step {
    let ladder = Ladder::default();
    let policy = Policy {
        rules: Rules::of(&ladder),
        history: &[Try { at: at(now), same_amount: true, brand: None, not_before: None }],
        last_decline: None,
    };
    apply(&claimed.charge, event, &policy, at(now)).unwrap()
}

pub(crate) fn receipt(claimed: &Claimed, now: i64) -> Receipt {
    Receipt {
        payment_intent: "pi_1".into(),
        session: None,
        amount: claimed.charge.amount,
        customer: claimed.charge.customer,
        new_card: None,
        at: at(now),
    }
}

pub(crate) fn funds_missing(intent: &str) -> Decline {
    Decline {
        code: Some("card_declined".into()),
        decline_code: Some("insufficient_funds".into()),
        payment_intent: Some(intent.into()),
        stripe_charge: Some(format!("ch_{intent}")),
        ..Decline::default()
    }
}

/// The attempt row that goes with the charge's open attempt.
pub(crate) fn attempt_row(charge: &Charge) -> NewAttempt {
    let attempt = charge.open_attempt().expect("an attempt is open");
    let request = Prepared {
        key: format!("key:{}:{}", charge.id, attempt.number),
        path: "/v1/payment_intents".into(),
        body: "amount=2900".into(),
        payment_method: "pm_1".into(),
        fingerprint: Some("fp_1".into()),
    };
    NewAttempt::new(charge, attempt, &request, at(0))
}

/// A first attempt, written down.
pub(crate) fn begin(claimed: &Claimed, now: i64) -> Settlement {
    let step = decide(claimed, &Event::Begin, now);
    let row = attempt_row(&step.charge);
    Settlement { new_attempt: Some(row), ..Settlement::new(claimed, step, at(now)) }
}

/// The open attempt, marked as leaving.
pub(crate) fn mark(claimed: &Claimed, now: i64) -> Settlement {
    let step = decide(claimed, &Event::Sending, now);
    let update = AttemptUpdate::open(claimed.charge.id, step.charge.open_attempt().unwrap(), at(now));
    Settlement { attempt: Some(update), ..Settlement::new(claimed, step, at(now)) }
}

/// The open attempt, declined.
pub(crate) fn declined(claimed: &Claimed, now: i64) -> Settlement {
    let decline = funds_missing(&format!("pi_{}", claimed.charge.id));
    let number = claimed.charge.attempts;
    let step = decide(
        claimed,
        &Event::Answered { attempt: number, outcome: Outcome::Declined(decline.clone()) },
        now,
    );
    let update =
        AttemptUpdate::finished(claimed.charge.id, number, "declined", at(now)).with_decline(&decline);
    Settlement { attempt: Some(update), ..Settlement::new(claimed, step, at(now)) }
}

/// Paid, by whoever learned of it.
pub(crate) fn paid(claimed: &Claimed, now: i64) -> Settlement {
    Settlement::new(claimed, decide(claimed, &Event::Paid(receipt(claimed, now)), now), at(now))
}

/// Writes decisions that nobody else contests.
pub(crate) async fn settle(store: &Store, batch: &[Settlement], now: i64) {
    let settled = store.settle(batch, at(now)).await.unwrap();
    assert!(settled.lost.is_empty(), "{:?}", settled.lost);
}

/// An event of Stripe's about charge 0.
pub(crate) fn event(id: &str) -> NewEvent {
    NewEvent {
        id: id.into(),
        kind: "payment_intent.succeeded".into(),
        object_id: Some("pi_1".into()),
        object_type: Some("payment_intent".into()),
        charge_id: Some(charge_id(0).to_string()),
        created: 7,
    }
}
