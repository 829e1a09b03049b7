//! Settle: all of a decision or nothing of it, and only on the version it was made on.

use recurd::billing::apply::{Event, Outcome};
use recurd::billing::charge::{Phase, State};
use recurd::billing::network_rules::Try;
use recurd::store::{Admit, AttemptUpdate, NetworkTry, OutboxInsert, Settlement};

use crate::*;

/// Rows of everything that a decision writes.
async fn rows(db: &Db) -> [i64; 5] {
    let mut counts = [0; 5];
    for (count, table) in counts.iter_mut().zip(["attempt", "collector", "outbox", "network_budget", "audit"])
    {
        *count = db.number(&format!("SELECT COUNT(*) FROM {table}")).await;
    }
    counts
}

fn network_try(id: &str, tried_at: i64) -> NetworkTry {
    NetworkTry {
        id: id.into(),
        card_fingerprint: "fp_1".into(),
        amount_minor: 2900,
        currency: "usd",
        tried_at,
        brand: Some("visa".into()),
        refused_at: None,
        not_before: None,
    }
}

/// A settlement of a first attempt that writes into every table.
fn everything(claimed: &recurd::store::Claimed) -> Settlement {
    let mut settlement = begin(claimed, 0);
    let alarm = OutboxInsert::alarm(claimed.charge.id.to_string(), "step", "text".into(), at(0));
    settlement.outbox.push(alarm);
    settlement.network_try = Some(network_try(&claimed.charge.id.to_string(), 0));
    settlement.subscription = Some(("paused", "why".into()));
    settlement
}

on_both! {
    async fn who_lost_the_guard_writes_nothing_at_all(db: Db) {
        add_subscriptions(&db.store, 0..1).await;
        let (id, period) = (charge_id(0), Some((subscription_id(0), 0)));
        add_charges(&db.store, [recurd::billing::charge::Charge { period, ..due_charge(0, 0, 0) }]).await;
        let stale = read(&db.store, 0).await;
        assert_eq!(collect(&db.store, "somebody", 0, 1).await.len(), 1);
        let settled = db.store.settle(&[everything(&stale)], at(5)).await.unwrap();
        assert_eq!(settled.lost, [id]);
        assert_eq!(rows(&db).await, [0; 5]);
        let subscription = db.store.find_subscription(subscription_id(0)).await.unwrap().unwrap();
        assert_eq!(subscription.state, "active");
        let fresh = read(&db.store, 0).await;
        assert_eq!((fresh.charge.state, fresh.charge.version), (stale.charge.state, 1));
        settle(&db.store, &[everything(&read(&db.store, 0).await)], 5).await;
        assert_eq!(rows(&db).await, [1, 1, 1, 1, 0]);
        let subscription = db.store.find_subscription(subscription_id(0)).await.unwrap().unwrap();
        assert_eq!((subscription.state.as_str(), subscription.end_reason.as_deref()), ("paused", Some("why")));
    }

    async fn a_loser_in_a_batch_does_not_hold_up_the_others(db: Db) {
        add_customers(&db.store, 0..3).await;
        add_charges(&db.store, (0..3).map(|number| due_charge(number, number, 0))).await;
        let batch: Vec<Settlement> = futures::future::join_all((0..3).map(|number| read(&db.store, number)))
            .await
            .iter()
            .map(everything)
            .collect();
        assert!(db.store.claim_charge(charge_id(1), "somebody", at(0), at(99)).await.unwrap().is_some());
        let settled = db.store.settle(&batch, at(5)).await.unwrap();
        assert_eq!(settled.lost, [charge_id(1)]);
        assert_eq!(rows(&db).await, [2, 2, 2, 2, 0]);
        assert_eq!(read(&db.store, 2).await.charge.state.as_str(), "collecting");
    }

    async fn three_hundred_charges_settle_together(db: Db) {
        add_customers(&db.store, 0..300).await;
        add_charges(&db.store, (0..300).map(|number| due_charge(number, number, 0))).await;
        for stage in [begin, mark, declined] {
            let claimed = futures::future::join_all((0..300).map(|number| read(&db.store, number))).await;
            let batch: Vec<Settlement> = claimed.iter().map(|one| stage(one, 100)).collect();
            settle(&db.store, &batch, 100).await;
        }
        assert_eq!(rows(&db).await, [300, 300, 300, 0, 0]);
        let last = read(&db.store, 299).await;
        assert_eq!((last.charge.state.as_str(), last.charge.version, last.prepared), ("past_due", 3, None));
        let attempts = db.store.attempts(charge_id(299)).await.unwrap();
        assert_eq!((attempts.len(), attempts[0].state.as_str()), (1, "declined"));
        assert_eq!(attempts[0].decline().unwrap().reason(), "insufficient_funds");
    }

    async fn a_statement_that_fails_late_undoes_the_whole_batch(db: Db) {
        add_customers(&db.store, 0..2).await;
        add_charges(&db.store, [due_charge(0, 0, 0), due_charge(1, 1, 0)]).await;
        let good = everything(&read(&db.store, 0).await);
        let mut bad = everything(&read(&db.store, 1).await);
        // The outbox is written near the end: this charge does not exist.
        let stranger = recurd::billing::charge::Charge { id: charge_id(99), ..due_charge(99, 1, 0) };
        let step = recurd::billing::apply::Step {
            charge: stranger,
            effects: vec![recurd::billing::apply::Effect::Alarm { step: "s".into(), text: "t".into() }],
        };
        bad.outbox = Settlement::new(&read(&db.store, 1).await, step, at(0)).outbox;
        assert!(db.store.settle(&[good.clone(), bad], at(5)).await.is_err());
        assert_eq!(rows(&db).await, [0; 5]);
        let charge = read(&db.store, 0).await.charge;
        assert_eq!((charge.state, charge.version), (State::Due { at: at(0) }, 0));
        settle(&db.store, &[good], 5).await;
    }

    async fn a_key_is_used_once_in_the_whole_history(db: Db) {
        add_customers(&db.store, 0..2).await;
        add_charges(&db.store, [due_charge(0, 0, 0), due_charge(1, 1, 0)]).await;
        let first = begin(&read(&db.store, 0).await, 0);
        let key = first.new_attempt.as_ref().unwrap().idempotency_key.clone();
        settle(&db.store, &[first], 0).await;
        let mut second = begin(&read(&db.store, 1).await, 0);
        second.new_attempt.as_mut().unwrap().idempotency_key = key;
        assert!(db.store.settle(&[second], at(0)).await.is_err());
        assert_eq!(read(&db.store, 1).await.charge.state.as_str(), "due");
    }

    async fn a_second_open_attempt_is_refused(db: Db) {
        let claimed = one_due_charge(&db).await;
        settle(&db.store, &[begin(&claimed, 0)], 0).await;
        let open = read(&db.store, 0).await;
        let mut second = begin(&claimed, 0);
        second.was_version = open.charge.version;
        let row = second.new_attempt.as_mut().unwrap();
        (row.number, row.idempotency_key) = (2, "another".into());
        assert!(db.store.settle(&[second], at(0)).await.is_err());
        assert_eq!(read(&db.store, 0).await.charge, open.charge);
    }

    async fn one_decision_ends_an_attempt_and_its_collector_and_the_next_begins(db: Db) {
        one_due_charge(&db).await;
        for stage in [begin, mark, declined] {
            settle(&db.store, &[stage(&read(&db.store, 0).await, 0)], 0).await;
        }
        let past_due = read(&db.store, 0).await;
        let dead = decide(&past_due, &Event::CollectorDead, 5);
        settle(&db.store, &[Settlement::new(&past_due, dead, at(5))], 5).await;
        assert_eq!(db.number("SELECT COUNT(*) FROM collector WHERE state = 'dead' AND closed_at = 5").await, 1);
        settle(&db.store, &[begin(&read(&db.store, 0).await, 9)], 9).await;
        settle(&db.store, &[mark(&read(&db.store, 0).await, 9)], 9).await;
        let sent = read(&db.store, 0).await;
        assert_eq!((sent.charge.generation, sent.charge.attempts), (2, 2));
        let done = AttemptUpdate::finished(sent.charge.id, 2, "paid", at(9)).with_payment_intent(Some("pi_2".into()));
        settle(&db.store, &[Settlement { attempt: Some(done), ..paid(&sent, 9) }], 9).await;
        let story = db.store.story(charge_id(0)).await.unwrap();
        let states: Vec<_> = story.collectors.iter().map(|one| (one.generation, one.state.as_str())).collect();
        assert_eq!(states, [(1, "dead"), (2, "paid")]);
        let states: Vec<_> = story.attempts.iter().map(|one| (one.number, one.state.as_str())).collect();
        assert_eq!(states, [(1, "declined"), (2, "paid")]);
        assert_eq!(story.promises.len(), 2, "payment_failed and recovered");
    }

    async fn what_never_left_keeps_its_key_and_forgets_when_it_was_sent(db: Db) {
        one_due_charge(&db).await;
        settle(&db.store, &[begin(&read(&db.store, 0).await, 0)], 0).await;
        let key = read(&db.store, 0).await.prepared.unwrap().key;
        settle(&db.store, &[mark(&read(&db.store, 0).await, 7)], 7).await;
        let sent = read(&db.store, 0).await;
        let outcome = Outcome::NotRun { not_before: at(60) };
        let step = decide(&sent, &Event::Answered { attempt: 1, outcome }, 8);
        let update = AttemptUpdate::open(charge_id(0), step.charge.open_attempt().unwrap(), at(8));
        settle(&db.store, &[Settlement { attempt: Some(update), ..Settlement::new(&sent, step, at(8)) }], 8).await;
        let again = read(&db.store, 0).await;
        assert_eq!(again.charge.open_attempt().unwrap().phase, Phase::Prepared { not_before: at(60) });
        assert_eq!(again.prepared.unwrap().key, key);
        assert_eq!(db.number("SELECT COUNT(*) FROM attempt WHERE first_sent_at IS NULL").await, 1);
    }

    async fn an_attempt_that_is_over_does_not_change_any_more(db: Db) {
        one_due_charge(&db).await;
        for stage in [begin, mark, declined] {
            settle(&db.store, &[stage(&read(&db.store, 0).await, 0)], 0).await;
        }
        let claimed = read(&db.store, 0).await;
        let late = AttemptUpdate::finished(charge_id(0), 1, "paid", at(9));
        settle(&db.store, &[Settlement { attempt: Some(late), ..paid(&claimed, 9) }], 9).await;
        assert_eq!(db.store.attempts(charge_id(0)).await.unwrap()[0].state, "declined");
    }

    async fn a_kept_lease_is_not_awake_and_a_floor_moves_the_wake_up(db: Db) {
        one_due_charge(&db).await;
        let claimed = collect(&db.store, "me", 0, 1).await.remove(0);
        settle(&db.store, &[begin(&claimed, 0).keep_lease("me", at(500))], 0).await;
        assert_eq!(collect(&db.store, "you", 499, 1).await.len(), 0);
        let again = collect(&db.store, "you", 500, 1).await.remove(0);
        let resumed = Settlement { not_before: Some(at(800)), ..mark(&again, 500) };
        settle(&db.store, &[resumed], 500).await;
        assert_eq!(db.number("SELECT COUNT(*) FROM charge WHERE lease_owner IS NULL AND wake_at = 800").await, 1);
    }

    async fn a_try_counts_once_and_only_within_the_networks_window(db: Db) {
        add_customers(&db.store, 0..4).await;
        add_charges(&db.store, (0..4).map(|number| due_charge(number, number, 0))).await;
        let now = 40 * DAY;
        let tries = [("ch_1", 10 * DAY), ("ch_2", 10 * DAY + 1), ("ch_2", 12 * DAY), ("ch_3", 39 * DAY)];
        for (number, (id, tried_at)) in (0..).zip(tries) {
            let tried = NetworkTry { not_before: Some(tried_at + 5), ..network_try(id, tried_at) };
            let settlement = Settlement { network_try: Some(tried), ..begin(&read(&db.store, number).await, 0) };
            settle(&db.store, &[settlement], 0).await;
        }
        let amount = "29.00 USD".parse().unwrap();
        let history = db.store.network_history("fp_1", amount, at(now)).await.unwrap();
        let not_before = |secs| Some(at(secs + 5));
        let tried = |secs, same_amount| Try { at: at(secs), same_amount, brand: Some("visa".into()), not_before: not_before(secs) };
        assert_eq!(history, [tried(10 * DAY + 1, true), tried(39 * DAY, true)]);
        for amount in ["29.01 USD", "29.00 EUR"] {
            let history = db.store.network_history("fp_1", amount.parse().unwrap(), at(now)).await.unwrap();
            assert_eq!(history, [tried(10 * DAY + 1, false), tried(39 * DAY, false)], "{amount}");
        }
        assert!(db.store.network_history("fp_2", amount, at(now)).await.unwrap().is_empty());
    }

    async fn a_card_that_was_refused_for_ever_is_known_until_it_is_entered_anew(db: Db) {
        one_due_charge(&db).await;
        let card = || ["fp_1"].into_iter();
        db.store.count_tries(&[network_try("ch_1", 5)]).await.unwrap();
        assert!(!db.store.is_refused_for_ever("fp_1", None).await.unwrap());
        assert!(db.store.worn_cards(card(), at(9)).await.unwrap().is_empty());
        let lost = NetworkTry { refused_at: Some(309), ..network_try("ch_2", 9) };
        let claimed = read(&db.store, 0).await;
        settle(&db.store, &[Settlement { network_try: Some(lost), ..begin(&claimed, 9) }], 9).await;
        for (card, entered_at, refused) in
            [("fp_1", None, true), ("fp_1", Some(309), true), ("fp_1", Some(310), false), ("fp_2", None, false)]
        {
            assert_eq!(db.store.is_refused_for_ever(card, entered_at).await.unwrap(), refused, "{card} {entered_at:?}");
        }
        assert_eq!(db.store.worn_cards(card(), at(9)).await.unwrap().len(), 1, "its history binds a first try");
        assert!(db.store.worn_cards(["fp_2"].into_iter(), at(9)).await.unwrap().is_empty());
    }

    async fn of_two_retries_with_one_card_one_leaves(db: Db) {
        const PAIRS: u32 = 20;
        add_customers(&db.store, 0..2 * PAIRS).await;
        add_charges(&db.store, (0..2 * PAIRS).map(|number| due_charge(number, number, 0))).await;
        let retry_since = async |number: u32, since: i64| {
            let settlement = mark(&read(&db.store, number).await, 5);
            let all: Admit<'_> = &|_| (1, None);
            let alone = Settlement { alone_on_card: Some(("fp_1".into(), at(since))), ..settlement };
            db.store.settle_booked(&[alone], at(5), all).await.unwrap().lost.len()
        };
        let retry = async |number| retry_since(number, 4).await;
        for pair in 0..PAIRS {
            let (one, other) = (2 * pair, 2 * pair + 1);
            for number in [one, other] {
                settle(&db.store, &[begin(&read(&db.store, number).await, 0)], 0).await;
            }
            // Both are written down, and neither has left: that holds nobody up.
            let (lost_one, lost_other) = tokio::join!(retry(one), retry(other));
            assert_eq!(lost_one + lost_other, 1, "pair {pair}");
            let (first, waits) = if lost_one == 0 { (one, other) } else { (other, one) };
            assert_eq!(retry(waits).await, 1, "the first has no answer yet");
            if pair % 2 == 0 {
                settle(&db.store, &[declined(&read(&db.store, first).await, 6)], 6).await;
                assert_eq!(retry(waits).await, 0, "the first has its answer");
            } else {
                assert_eq!(retry_since(waits, 5).await, 0, "the first left long ago");
                settle(&db.store, &[declined(&read(&db.store, first).await, 6)], 6).await;
            }
            settle(&db.store, &[declined(&read(&db.store, waits).await, 7)], 7).await;
        }
    }

    async fn an_empty_batch_is_no_work(db: Db) {
        assert!(db.store.settle(&[], at(0)).await.unwrap().lost.is_empty());
        assert_eq!(db.store.materialize(&[], at(0)).await.unwrap(), 0);
    }
}
