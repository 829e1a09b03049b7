//! What is written is read back equal: every state, with and without an attempt, a collector and a ladder.

use recurd::billing::apply::Step;
use recurd::billing::charge::{
    Attempt, Charge, Collector, CollectorKind, End, Need, Operation, Phase, Sent, State,
};
use recurd::billing::decline::Class;
use recurd::billing::dunning::{Action, Dunning, Next};
use recurd::billing::ladder::LadderId;
use recurd::store::{AttemptUpdate, Settlement};

use crate::*;

fn phases() -> Vec<Phase> {
    let sent = Sent { first_at: at(100), last_at: at(200), sends: 3, misses: 1, poisoned: false };
    vec![
        Phase::Prepared { not_before: at(50) },
        Phase::Sending(Sent::now(at(100))),
        Phase::Unknown(sent),
        Phase::Unknown(Sent { poisoned: true, ..sent }),
    ]
}

fn attempts() -> Vec<Attempt> {
    let attempt = |operation, phase| Attempt { number: 4, operation, phase };
    let both = phases()
        .into_iter()
        .flat_map(|phase| [attempt(Operation::Create, phase), attempt(Operation::Confirm, phase)]);
    both.collect()
}

fn states() -> Vec<State> {
    let plans = [Action::Collect, Action::Remind, Action::GiveUp].map(|action| Next { at: at(900), action });
    let mut states = vec![
        State::Due { at: at(10) },
        State::Processing { poll_at: at(700) },
        State::Missed,
        State::Paid { at: at(5), payment_intent: "pi_paid".into() },
        State::Uncollectible { at: at(6) },
        State::Canceled { at: at(7) },
        State::Settled { at: at(8) },
    ];
    for next in plans {
        states.push(State::PastDue { next });
        states.push(State::LinkOpen { until: at(600), then: next });
    }
    let maybe = || attempts().into_iter().map(Some).chain([None]);
    states.extend(attempts().into_iter().map(|attempt| State::Collecting { attempt }));
    let ends = [End::Canceled, End::Uncollectible, End::PaidOutside];
    for then in ends {
        states.extend(maybe().map(|attempt| State::Closing { attempt, then, at: at(300) }));
    }
    let why = "ünïcode, \"quotes\" and 'apostrophes'\n\u{1F4B8}";
    for end in ends.map(Some).into_iter().chain([None]) {
        for needs in [Need::Decision, Need::Address] {
            let review =
                |attempt| State::NeedsReview { attempt, end, needs, since: at(400), why: why.into() };
            states.extend(maybe().map(review));
        }
    }
    states
}

fn collectors() -> Vec<Option<Collector>> {
    let collector =
        |kind, id: Option<&str>| Some(Collector { generation: 3, kind, stripe_id: id.map(Into::into) });
    vec![
        None,
        collector(CollectorKind::PaymentIntent, None),
        collector(CollectorKind::PaymentIntent, Some("pi")),
        collector(CollectorKind::CheckoutSession, None),
        collector(CollectorKind::CheckoutSession, Some("cs")),
    ]
}

fn ladders() -> Vec<Option<Dunning>> {
    use Class::{Authenticate, Configuration, FixData, Funds, Generic, Never, Technical};
    let ladder = |class| {
        let aside = (class == Funds).then(|| Next { at: at(44), action: Action::Remind });
        Some(Dunning {
            since: at(33),
            step: 2,
            declines: 5,
            late_refusals: 1,
            class,
            ladder: LadderId(7),
            aside,
        })
    };
    let classes = [Technical, Funds, Generic, FixData, Authenticate, Never, Configuration];
    [None].into_iter().chain(classes.map(ladder)).collect()
}

/// Writes a charge by way of settlements, as flows do.
async fn write(db: &Db, number: u32, wanted: &Charge) {
    add_charges(&db.store, [due_charge(number, number, 0)]).await;
    let mut before = read(&db.store, number).await;
    if let Some(attempt) = wanted.open_attempt() {
        let phase = Phase::Prepared { not_before: at(0) };
        let state = State::Collecting { attempt: Attempt { phase, ..attempt } };
        let charge = Charge { state, attempts: attempt.number, version: 1, ..before.charge.clone() };
        let row = attempt_row(&charge);
        let step = Step { charge, effects: Vec::new() };
        let begun = Settlement { new_attempt: Some(row), ..Settlement::new(&before, step, at(0)) };
        settle(&db.store, &[begun], 0).await;
        before = read(&db.store, number).await;
    }
    let charge = Charge { version: before.charge.version + 1, ..wanted.clone() };
    let attempt = wanted.open_attempt().map(|attempt| AttemptUpdate::open(wanted.id, attempt, at(0)));
    let step = Step { charge, effects: Vec::new() };
    settle(&db.store, &[Settlement { attempt, ..Settlement::new(&before, step, at(0)) }], 0).await;
}

fn charge_with(number: u32, state: State, collector: Option<Collector>, dunning: Option<Dunning>) -> Charge {
    let collector =
        collector.map(|one| Collector { stripe_id: one.stripe_id.map(|id| format!("{id}_{number}")), ..one });
    Charge { state, collector, dunning, generation: 3, attempts: 4, ..due_charge(number, number, 0) }
}

async fn reads_back(db: &Db, charges: Vec<Charge>) {
    add_customers(&db.store, 0..u32::try_from(charges.len()).unwrap()).await;
    for (number, wanted) in (0..).zip(charges) {
        write(db, number, &wanted).await;
        let found = read(&db.store, number).await.charge;
        assert_eq!(found, Charge { version: found.version, ..wanted.clone() });
        assert_eq!(found.wake(), wanted.wake());
    }
}

on_both! {
    async fn every_state_reads_back(db: Db) {
        let named = || collectors()[2].clone();
        let charges = (0..).zip(states()).map(|(number, state)| charge_with(number, state, named(), None));
        reads_back(&db, charges.collect()).await;
    }

    async fn every_collector_and_every_ladder_reads_back(db: Db) {
        let state = State::PastDue { next: Next { at: at(900), action: Action::Remind } };
        let pairs = collectors().into_iter().flat_map(|one| ladders().into_iter().map(move |ladder| (one.clone(), ladder)));
        let charges = (0..).zip(pairs).map(|(number, (one, ladder))| charge_with(number, state.clone(), one, ladder));
        reads_back(&db, charges.collect()).await;
    }

    async fn a_first_state_is_inserted_as_it_is(db: Db) {
        let review = State::NeedsReview { attempt: None, end: None, needs: Need::Address, since: at(4), why: "late".into() };
        let first = [State::Due { at: at(10) }, State::Missed, review, State::Settled { at: at(8) }];
        add_customers(&db.store, 0..4).await;
        for (number, state) in (0..).zip(first) {
            let wanted = Charge { state, ..due_charge(number, number, 0) };
            add_charges(&db.store, [wanted.clone()]).await;
            assert_eq!(read(&db.store, number).await.charge, wanted);
        }
    }

    async fn odd_texts_and_the_largest_amount_read_back(db: Db) {
        add_customers(&db.store, 0..1).await;
        let description = "'; DROP TABLE charge; -- \u{202E}\t\"\\ 薪水".to_owned();
        let amount = recurd::billing::money::Money::from_minor(999_999_999_999, "kwd".parse().unwrap()).unwrap();
        let wanted = Charge { description, amount, due_at: at(-5), ..due_charge(0, 0, 0) };
        add_charges(&db.store, [wanted.clone()]).await;
        assert_eq!(read(&db.store, 0).await.charge, wanted);
    }

    async fn a_damaged_row_says_which_charge_it_is(db: Db) {
        one_due_charge(&db).await;
        db.execute("UPDATE charge SET currency = 'xxx'").await.unwrap();
        let error = db.store.find_charge(charge_id(0)).await.unwrap_err().to_string();
        assert!(error.contains(&charge_id(0).to_string()), "{error}");
    }
}
