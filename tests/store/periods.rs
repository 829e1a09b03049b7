//! Plan revisions, and periods that become charges once.

use futures::future::join_all;
use recurd::billing::apply::Step;
use recurd::billing::charge::{Charge, State};
use recurd::billing::subscription::SubscriptionState;
use recurd::store::{Materialized, NewCharge, Settlement};

use crate::*;

/// Subscription `number` reaches period `index`; the next one falls due 1000 seconds later.
fn reached(number: u32, index: u32) -> Materialized {
    let due = i64::from(index + 1) * 1000;
    let id = subscription_id(number);
    let charge = recurd::billing::charge::Charge {
        id: id.charge(index),
        period: Some((id, index)),
        ..due_charge(0, 0, due)
    };
    Materialized {
        id,
        was_index: index,
        charges: vec![new_charge(charge)],
        notices: Vec::new(),
        next_index: index + 1,
        next_due_at: Some(at(due + 1000)),
    }
}

on_both! {
    async fn the_same_terms_are_the_same_revision_and_changed_terms_the_next(db: Db) {
        let dearer = recurd::billing::plan::Terms { price_minor: 3900, ..terms() };
        for (terms, revision) in [(terms(), 1), (terms(), 1), (dearer.clone(), 2), (dearer, 2), (terms(), 3)] {
            let ensured = db.store.ensure_plan("pro", &terms, at(0)).await.unwrap();
            assert_eq!((ensured.revision, ensured.terms), (revision, terms));
        }
        assert_eq!(db.store.ensure_plan("sofa", &terms(), at(0)).await.unwrap().revision, 1);
        let all = db.store.plan_revisions().await.unwrap();
        let prices: Vec<_> = all.iter().map(|one| (one.plan.as_str(), one.revision, one.terms.price_minor)).collect();
        assert_eq!(prices, [("pro", 1, 2900), ("pro", 2, 3900), ("pro", 3, 2900), ("sofa", 1, 2900)]);
    }

    async fn a_subscription_without_a_further_period_is_complete_when_everything_is_settled(db: Db) {
        add_subscriptions(&db.store, 0..2).await;
        let last = Materialized { next_due_at: None, ..reached(0, 0) };
        db.store.materialize(&[last, reached(1, 0)], at(1000)).await.unwrap();
        let state = async || db.store.find_subscription(subscription_id(0)).await.unwrap().unwrap();
        assert_eq!(db.store.complete_subscriptions(at(1001)).await.unwrap(), 0);
        assert_eq!(state().await.state, "active", "its last charge is open");
        let id = subscription_id(0).charge(0);
        let before = db.store.find_charge(id).await.unwrap().unwrap();
        let charge = Charge { state: State::Paid { at: at(1500), payment_intent: "pi_paid".into() }, version: 1, ..before.charge.clone() };
        settle(&db.store, &[Settlement::new(&before, Step { charge, effects: Vec::new() }, at(1500))], 1500).await;
        assert_eq!(db.store.complete_subscriptions(at(2000)).await.unwrap(), 1, "the other one has a next period");
        assert_eq!((state().await.state.as_str(), state().await.ended_at), ("completed", Some(1500)));
    }

    /// Two replicas with different configurations start together: nobody is sold the other's terms.
    async fn a_revision_handed_out_is_the_one_that_is_stored(db: Db) {
        let replica = db.replica().await;
        for round in 0..20 {
            let offer = |price: i64| recurd::billing::plan::Terms { price_minor: price, ..terms() };
            let (cheap, dear) = (offer(1000 + round), offer(5000 + round));
            let (one, other) = futures::join!(
                db.store.ensure_plan("pro", &cheap, at(0)),
                replica.ensure_plan("pro", &dear, at(0))
            );
            let stored = db.store.plan_revisions().await.unwrap();
            for ensured in [one.unwrap(), other.unwrap()] {
                assert!(stored.contains(&ensured), "{} is not what is stored", ensured.revision);
            }
        }
        replica.close().await;
    }

    async fn a_reached_period_becomes_one_charge_and_the_subscription_moves_on_by_one(db: Db) {
        add_subscriptions(&db.store, 0..1).await;
        assert_eq!(db.store.due_subscriptions(at(999), 10).await.unwrap().len(), 0);
        let due = db.store.due_subscriptions(at(1000), 10).await.unwrap();
        assert_eq!((due.len(), due[0].next_index().unwrap()), (1, 0));
        for index in 0..3 {
            assert_eq!(db.store.materialize(&[reached(0, index)], at(5000)).await.unwrap(), 1);
            assert_eq!(db.store.materialize(&[reached(0, index)], at(5000)).await.unwrap(), 0, "again, nothing");
            let row = db.store.find_subscription(subscription_id(0)).await.unwrap().unwrap();
            assert_eq!((row.next_index, row.next_due_at), (i64::from(index) + 1, Some((i64::from(index) + 2) * 1000)));
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM charge").await, 3);
        let charge = db.store.find_charge(subscription_id(0).charge(2)).await.unwrap().unwrap();
        assert_eq!(charge.charge.period, Some((subscription_id(0), 2)));
        assert_eq!(charge.charge.state, State::Due { at: at(3000) });
    }

    async fn a_period_that_already_has_a_charge_is_left_alone(db: Db) {
        add_subscriptions(&db.store, 0..1).await;
        let mut other = reached(0, 0);
        other.charges[0].charge.id = charge_id(77);
        assert_eq!(db.store.insert_charges(&other.charges, at(0)).await.unwrap(), 1);
        assert_eq!(db.store.materialize(&[reached(0, 0)], at(5000)).await.unwrap(), 0, "UNIQUE decides");
        assert_eq!(db.number("SELECT COUNT(*) FROM charge").await, 1);
    }

    async fn two_workers_with_the_same_periods_insert_each_once(db: Db) {
        add_subscriptions(&db.store, 0..200).await;
        let replica = db.replica().await;
        let forwards: Vec<Materialized> = (0..200).map(|number| reached(number, 0)).collect();
        let backwards: Vec<Materialized> = forwards.iter().rev().cloned().collect();
        let (one, other) =
            futures::join!(db.store.materialize(&forwards, at(5000)), replica.materialize(&backwards, at(5000)));
        assert_eq!(one.unwrap() + other.unwrap(), 200);
        assert_eq!(db.number("SELECT COUNT(*) FROM subscription WHERE next_index = 1").await, 200);
        replica.close().await;
    }

    async fn a_canceled_subscription_gets_no_charge(db: Db) {
        add_subscriptions(&db.store, 0..1).await;
        let (id, now) = (subscription_id(0), at(5000));
        let from = [SubscriptionState::Active];
        let cancel = || db.store.change_subscription(id, &from, SubscriptionState::Canceled, None, Some("why"), now);
        assert!(cancel().await.unwrap());
        assert!(!cancel().await.unwrap(), "it has ended already");
        assert_eq!(db.store.materialize(&[reached(0, 0)], at(5000)).await.unwrap(), 0);
        assert_eq!(db.number("SELECT COUNT(*) FROM charge").await, 0);
    }

    async fn a_timetable_reads_back_as_it_was_frozen(db: Db) {
        add_subscriptions(&db.store, 0..1).await;
        let row = db.store.find_subscription(subscription_id(0)).await.unwrap().unwrap();
        let frozen = row.frozen().unwrap();
        assert_eq!((frozen.anchor, frozen.zone.as_str()), (jiff::civil::date(2026, 1, 31), "Europe/Berlin"));
        assert_eq!(frozen.time, jiff::civil::time(9, 30, 15, 0));
        assert_eq!(row.subscription_id(), subscription_id(0));
        assert_eq!(row.customer(), customer_id(0));
    }

    async fn adding_twice_adds_once(db: Db) {
        add_subscriptions(&db.store, 0..2).await;
        add_subscriptions(&db.store, 0..3).await;
        assert_eq!(db.number("SELECT COUNT(*) FROM subscription").await, 3);
        let charges: Vec<NewCharge> = [0, 1, 0].map(|number| new_charge(due_charge(number, 0, 0))).into();
        let adds = join_all([db.store.insert_charges(&charges, at(0)), db.store.insert_charges(&charges, at(0))]).await;
        assert_eq!(adds.into_iter().map(Result::unwrap).sum::<u64>(), 2);
    }
}
