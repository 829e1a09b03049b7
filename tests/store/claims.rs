//! Who gets which charge, when, and until when.

use std::collections::HashMap;

use futures::future::join_all;
use recurd::billing::apply::Event;
use recurd::billing::charge::{End, Work};
use recurd::store::{Card, Claimed, OutboxInsert, Settlement, Store};

use crate::*;

fn card(payment_method: &str, fingerprint: &str) -> Card {
    Card {
        payment_method: payment_method.into(),
        brand: "visa".into(),
        last4: "4242".into(),
        exp_month: 12,
        exp_year: 2030,
        fingerprint: Some(fingerprint.into()),
        entered_at: 0,
    }
}

on_both! {
    async fn only_what_is_awake_for_this_work_is_claimed(db: Db) {
        add_customers(&db.store, 0..3).await;
        add_charges(&db.store, [due_charge(0, 0, 100), due_charge(1, 1, 101), due_charge(2, 2, 0)]).await;
        let sent = settle_sent(&db.store, 2).await;
        let (work, wakes) = sent.charge.wake().unwrap();
        assert_eq!(work, Work::Reconcile);
        assert_eq!(numbers(&collect(&db.store, "me", 100, 10).await), [0]);
        let reconcile = |now| db.store.claim_charges(Work::Reconcile, "me", now, at(9000), 10);
        assert_eq!(reconcile(at(wakes.as_second() - 1)).await.unwrap().len(), 0);
        assert_eq!(numbers(&reconcile(wakes).await.unwrap()), [2]);
        let dun = db.store.claim_charges(Work::Dun, "me", at(9000), at(9999), 10).await.unwrap();
        assert_eq!(dun.len(), 0);
    }

    async fn a_claim_brings_what_is_needed_to_collect(db: Db) {
        one_due_charge(&db).await;
        let card = card("pm_1", "fp_1");
        db.store.set_default_card(customer_id(0), &card, None).await.unwrap();
        let claimed = collect(&db.store, "me", 0, 10).await.remove(0);
        assert_eq!((claimed.stripe_customer.as_str(), claimed.payment_method.as_deref()), ("cus_0", Some("pm_1")));
        assert_eq!((claimed.plan.as_str(), claimed.revision), ("pro", 1));
        assert_eq!((claimed.card_fingerprint.as_deref(), claimed.statement_suffix.as_deref()), (Some("fp_1"), Some("PRO")));
        assert_eq!((claimed.charge.version, claimed.subscription_state), (2, None), "the card, and the claim");
        settle(&db.store, &[begin(&claimed, 0)], 0).await;
        let prepared = read(&db.store, 0).await.prepared.unwrap();
        assert_eq!(prepared.key, attempt_row(&read(&db.store, 0).await.charge).idempotency_key);
        assert_eq!((prepared.body.as_str(), prepared.payment_method.as_str()), ("amount=2900", "pm_1"));
    }

    async fn one_charge_of_a_customer_at_a_time_the_first_due_first(db: Db) {
        add_customers(&db.store, 0..2).await;
        add_charges(&db.store, [due_charge(0, 0, 20), due_charge(1, 0, 10), due_charge(2, 1, 30)]).await;
        let first = collect(&db.store, "me", 50, 10).await;
        assert_eq!(numbers(&first), [1, 2]);
        assert_eq!(collect(&db.store, "you", 50, 10).await.len(), 0, "a leased charge blocks its siblings");
        let mine = first.iter().find(|one| one.charge.id == charge_id(1)).unwrap();
        settle(&db.store, &[paid(mine, 50)], 50).await;
        assert_eq!(numbers(&collect(&db.store, "you", 50, 10).await), [0]);
    }

    async fn charges_due_at_the_same_instant_are_claimed_one_by_one(db: Db) {
        add_customers(&db.store, 0..1).await;
        add_charges(&db.store, (0..3).map(|number| due_charge(number, 0, 10))).await;
        for expected in 0..3 {
            let claimed = collect(&db.store, "me", 50, 10).await;
            assert_eq!(numbers(&claimed), [expected]);
            settle(&db.store, &[paid(&claimed[0], 50)], 50).await;
        }
    }

    async fn an_expired_lease_is_taken_over_before_its_siblings(db: Db) {
        add_customers(&db.store, 0..1).await;
        add_charges(&db.store, [due_charge(0, 0, 10), due_charge(1, 0, 20)]).await;
        let dead = collect(&db.store, "dead", 50, 1).await;
        assert_eq!(numbers(&dead), [0]);
        add_charges(&db.store, [due_charge(2, 0, 0)]).await;
        assert_eq!(collect(&db.store, "me", 50 + HOUR - 1, 10).await.len(), 0);
        let taken = collect(&db.store, "me", 50 + HOUR, 10).await;
        assert_eq!(numbers(&taken), [0], "what its worker may have sent comes first");
        let late = db.store.settle(&[paid(&dead[0], 51)], at(51)).await.unwrap();
        assert_eq!(late.lost, [charge_id(0)], "the dead worker comes back and has lost its lease");
    }

    async fn who_claimed_a_charge_looks_again_when_the_customer_saves_another_card(db: Db) {
        add_customers(&db.store, 0..2).await;
        add_charges(&db.store, [due_charge(0, 0, 10), due_charge(1, 1, 20)]).await;
        let save = async |number, own| db.store.set_default_card(customer_id(0), &card(number, number), own).await.unwrap();
        save("old", None).await;
        let [ann, bob] = collect(&db.store, "me", 50, 10).await.try_into().unwrap();
        save("old", None).await;
        save("backup", Some(ann.charge.id)).await;
        assert!(db.store.settle(&[begin(&bob, 50)], at(50)).await.unwrap().lost.is_empty());
        assert_eq!(read(&db.store, 0).await.charge.version, ann.charge.version, "the same card, and one's own charge");
        save("new", None).await;
        assert_eq!(db.store.settle(&[begin(&ann, 50)], at(50)).await.unwrap().lost, [charge_id(0)]);
    }

    async fn a_card_that_is_heard_of_late_replaces_none_that_was_entered_after_it(db: Db) {
        one_due_charge(&db).await;
        let entered = |id: &str, entered_at| Card { entered_at, ..card(id, id) };
        let is = async |id: &str| {
            let customer = db.store.find_customer(customer_id(0)).await.unwrap().unwrap();
            assert_eq!(customer.payment_method.as_deref(), Some(id));
        };
        assert!(db.store.offer_card(customer_id(0), &entered("pm_2", 20)).await.unwrap());
        let claimed = collect(&db.store, "me", 50, 10).await.remove(0);
        assert!(!db.store.offer_card(customer_id(0), &entered("pm_1", 10)).await.unwrap());
        is("pm_2").await;
        assert_eq!(read(&db.store, 0).await.charge.version, claimed.charge.version, "and nobody has to look again");
        assert!(db.store.offer_card(customer_id(0), &entered("pm_2", 20)).await.unwrap());
        assert!(db.store.offer_card(customer_id(0), &entered("pm_3", 30)).await.unwrap());
        is("pm_3").await;
        assert_eq!(db.store.settle(&[begin(&claimed, 50)], at(50)).await.unwrap().lost, [charge_id(0)]);
        db.store.set_default_card(customer_id(0), &entered("pm_1", 10), None).await.unwrap();
        is("pm_1").await;
        db.store.forget_card("pm_1").await.unwrap();
        assert!(db.store.offer_card(customer_id(0), &entered("pm_0", 5)).await.unwrap());
        is("pm_0").await;
    }

    async fn a_row_that_does_not_read_back_holds_up_no_other(db: Db) {
        add_customers(&db.store, 0..3).await;
        add_charges(&db.store, (0..3).map(|number| due_charge(number, number, i64::from(number)))).await;
        db.execute(&format!("UPDATE charge SET currency = 'xxx' WHERE id = '{}'", charge_id(1))).await.unwrap();
        assert_eq!(numbers(&collect(&db.store, "me", 50, 10).await), [0, 2]);
    }

    async fn the_leases_of_the_dead_end_and_those_of_others_last(db: Db) {
        add_customers(&db.store, 0..4).await;
        add_charges(&db.store, (0..4).map(|number| due_charge(number, number, i64::from(number)))).await;
        assert_eq!(db.store.under_way(at(50)).await.unwrap(), recurd::store::UnderWay::default());
        let dead = collect(&db.store, "dead", 50, 2).await;
        assert_eq!(numbers(&collect(&db.store, "alive", 60, 1).await), [2]);
        let under_way = db.store.under_way(at(61)).await.unwrap();
        assert_eq!((under_way.held, under_way.held_until), (3, Some(60 + HOUR)));
        let mut owners = db.store.lease_owners().await.unwrap();
        owners.sort();
        assert_eq!(owners, ["alive", "dead"]);
        assert_eq!(db.store.end_leases("dead", at(70)).await.unwrap(), 2);
        assert_eq!(db.store.end_leases("dead", at(70)).await.unwrap(), 0, "they have ended");
        assert_eq!(db.store.under_way(at(70)).await.unwrap().held, 1);
        assert_eq!(numbers(&collect(&db.store, "me", 70, 10).await), [0, 1, 3]);
        let late = db.store.settle(&[paid(&dead[0], 71)], at(71)).await.unwrap();
        assert_eq!(late.lost, [charge_id(0)], "who was called dead by mistake has lost its lease");
    }

    async fn what_got_no_answer_is_unfinished_until_it_is_asked_about(db: Db) {
        add_customers(&db.store, 0..1).await;
        add_charges(&db.store, [due_charge(0, 0, 0)]).await;
        let sent = settle_sent(&db.store, 0).await;
        let (_, wakes) = sent.charge.wake().unwrap();
        let under_way = db.store.under_way(at(0)).await.unwrap();
        assert_eq!((under_way.held, under_way.unfinished), (0, 1));
        assert_eq!(under_way.taken_up_at, Some(wakes.as_second()));
    }

    async fn the_longest_waiting_are_claimed_first_and_no_more_than_the_limit(db: Db) {
        add_customers(&db.store, 0..10).await;
        add_charges(&db.store, (0..10).map(|number| due_charge(number, number, i64::from(100 - number)))).await;
        assert_eq!(numbers(&collect(&db.store, "me", 200, 3).await), [7, 8, 9]);
        assert_eq!(numbers(&collect(&db.store, "me", 200, 2).await), [5, 6]);
        assert_eq!(collect(&db.store, "me", 200, 0).await.len(), 0);
        assert_eq!(db.store.count_awake(Work::Collect, at(200)).await.unwrap(), 5);
    }

    /// PostgreSQL, knowing a table as tiny, may run a subquery with LIMIT anew for each row.
    async fn the_limit_holds_in_a_young_database(db: Db) {
        let fill = async |range: std::ops::Range<u32>| {
            add_customers(&db.store, range.clone()).await;
            add_charges(&db.store, range.clone().map(|number| due_charge(number, number, 0))).await;
            for number in range {
                let alarm = OutboxInsert::alarm(format!("subject {number}"), "step", String::new(), at(0));
                db.store.promise(&[alarm]).await.unwrap();
                db.store.store_event(&event(&format!("evt_{number}")), at(0)).await.unwrap();
            }
        };
        fill(0..1).await;
        db.execute("ANALYZE").await.unwrap();
        fill(1..6).await;
        assert_eq!(collect(&db.store, "me", 10, 2).await.len(), 2);
        assert_eq!(db.store.claim_outbox("me", at(10), at(99), 2).await.unwrap().len(), 2);
        assert_eq!(db.store.claim_events(at(10), at(99), 2).await.unwrap().len(), 2);
        assert_eq!(db.number("SELECT COUNT(*) FROM charge WHERE lease_owner IS NULL").await, 4);
    }

    async fn eight_claimers_get_every_charge_exactly_once(db: Db) {
        add_customers(&db.store, 0..2000).await;
        add_charges(&db.store, (0..2000).map(|number| due_charge(number, number, i64::from(number % 7)))).await;
        let stores = join_all((0..8).map(|_| db.replica())).await;
        let claimers = stores.iter().enumerate().map(|(index, store)| {
            let store = store.clone();
            tokio::spawn(async move { claim_all(&store, &format!("worker-{index}")).await })
        });
        let mut taken: HashMap<u128, usize> = HashMap::new();
        for claimed in join_all(claimers).await {
            for number in claimed.unwrap() {
                *taken.entry(number).or_default() += 1;
            }
        }
        assert_eq!(taken.len(), 2000, "some charges were lost");
        assert!(taken.values().all(|times| *times == 1), "some charges were claimed twice");
        assert_eq!(db.number("SELECT COUNT(*) FROM charge WHERE version = 1").await, 2000);
        join_all(stores.iter().map(Store::close)).await;
    }

    async fn crowded_customers_are_collected_by_eight_workers_without_an_error(db: Db) {
        add_customers(&db.store, 0..40).await;
        add_charges(&db.store, (0..200).map(|number| due_charge(number, number % 40, i64::from(number / 40)))).await;
        let stores = join_all((0..8).map(|_| db.replica())).await;
        let workers = stores.iter().enumerate().map(|(index, store)| {
            let store = store.clone();
            tokio::spawn(async move { pay_all(&store, &format!("worker-{index}")).await })
        });
        let done: usize = join_all(workers).await.into_iter().map(Result::unwrap).sum();
        assert_eq!((done, db.number("SELECT COUNT(*) FROM charge WHERE state = 'paid'").await), (200, 200));
        join_all(stores.iter().map(Store::close)).await;
    }

    async fn a_command_takes_one_charge_unless_a_worker_has_it(db: Db) {
        add_customers(&db.store, 0..1).await;
        add_charges(&db.store, [due_charge(0, 0, 10), due_charge(1, 0, 20)]).await;
        let claim = |number, owner, now| {
            let store = db.store.clone();
            async move { store.claim_charge(charge_id(number), owner, at(now), at(now + HOUR)).await.unwrap() }
        };
        assert!(claim(9, "me", 50).await.is_none(), "it does not exist");
        assert!(claim(1, "me", 50).await.is_some());
        assert!(claim(1, "you", 50).await.is_none(), "leased elsewhere");
        assert!(claim(0, "you", 50).await.is_none(), "its sibling is leased");
        let later = 50 + HOUR;
        let taken = claim(0, "you", later).await.expect("a dead lease of a sibling is freed");
        assert!(claim(1, "me", later).await.is_none());
        settle(&db.store, &[paid(&taken, later)], later).await;
        assert!(claim(1, "me", later).await.is_some());
    }

    async fn a_command_takes_a_charge_that_sleeps_without_waking_it(db: Db) {
        let claimed = one_due_charge(&db).await;
        let stop = decide(&claimed, &Event::Stop(End::Canceled), 5);
        settle(&db.store, &[Settlement::new(&claimed, stop, at(5))], 5).await;
        let taken = db.store.claim_charge(charge_id(0), "me", at(9), at(99)).await.unwrap().unwrap();
        assert_eq!(taken.charge.wake(), None);
        assert_eq!(db.number("SELECT COUNT(*) FROM charge WHERE wake_at IS NULL AND lease_owner IS NULL").await, 1);
        db.store.release_charge(&taken.charge, Some(at(500))).await.unwrap();
        assert_eq!(db.number("SELECT COUNT(*) FROM charge WHERE wake_at IS NULL").await, 1);
    }

    async fn a_released_charge_wakes_when_its_state_says_but_not_before_the_floor(db: Db) {
        one_due_charge(&db).await;
        let claimed = collect(&db.store, "me", 50, 1).await.remove(0);
        db.store.release_charge(&claimed.charge, Some(at(500))).await.unwrap();
        assert_eq!(collect(&db.store, "you", 499, 1).await.len(), 0);
        let taken = collect(&db.store, "you", 500, 1).await.remove(0);
        db.store.release_charge(&claimed.charge, None).await.unwrap();
        assert_eq!(collect(&db.store, "she", 500, 1).await.len(), 0, "an old worker cannot give back another's lease");
        db.store.release_charge(&taken.charge, None).await.unwrap();
        assert_eq!(collect(&db.store, "she", 500, 1).await.len(), 1);
    }
}

/// Begins and marks a charge, without a lease.
async fn settle_sent(store: &Store, number: u32) -> Claimed {
    settle(store, &[begin(&read(store, number).await, 0)], 0).await;
    settle(store, &[mark(&read(store, number).await, 0)], 0).await;
    read(store, number).await
}

async fn claim_all(store: &Store, owner: &str) -> Vec<u128> {
    const LIMIT: usize = 37;
    let mut all = Vec::new();
    let mut empty = 0;
    // SKIP LOCKED may pass by what another worker is just taking: empty twice in a row is the end.
    while empty < 2 {
        let claimed = collect(store, owner, 100, LIMIT).await;
        assert!(claimed.len() <= LIMIT);
        empty = if claimed.is_empty() { empty + 1 } else { 0 };
        all.extend(numbers(&claimed));
    }
    all
}

async fn pay_all(store: &Store, owner: &str) -> usize {
    let mut done = 0;
    while store.count_awake(Work::Collect, at(100)).await.unwrap() > 0 {
        let claimed = collect(store, owner, 100, 9).await;
        let batch: Vec<Settlement> = claimed.iter().map(|one| paid(one, 100)).collect();
        settle(store, &batch, 100).await;
        done += batch.len();
        tokio::task::yield_now().await;
    }
    done
}
