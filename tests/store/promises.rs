//! Promises to act and Stripe's events: stored once, taken by one worker, kept or tried again.

use recurd::store::{Leaving, OutboxInsert, OutboxItem, OutboxKind, OutboxResult, Store};

use crate::*;

fn mail(customer: u32, step: &str, template: &str, now: i64) -> OutboxInsert {
    OutboxInsert::mail("subject".into(), step, customer_id(customer), template, "{}".into(), at(now))
}

async fn claim(store: &Store, owner: &str, now: i64) -> Vec<OutboxItem> {
    store.claim_outbox(owner, at(now), at(now + HOUR), 10).await.unwrap()
}

on_both! {
    async fn the_same_promise_is_kept_once(db: Db) {
        add_customers(&db.store, 0..1).await;
        let promises = [mail(0, "one", "receipt", 5), mail(0, "one", "receipt", 6), mail(0, "two", "receipt", 7)];
        db.store.promise(&promises).await.unwrap();
        db.store.promise(&promises).await.unwrap();
        let items = db.store.claim_outbox("me", at(9), at(99), 10).await.unwrap();
        let steps: Vec<_> = items.iter().map(|item| (item.step.as_str(), item.created_at)).collect();
        assert_eq!(steps, [("one", at(5)), ("two", at(7))]);
        assert_eq!((items[0].kind, items[0].template.as_deref(), items[0].tries), (OutboxKind::Mail, Some("receipt"), 1));
        assert_eq!((items[0].customer, items[0].charge), (Some(customer_id(0)), None));
    }

    async fn a_corrected_address_promises_the_newest_lost_mail_of_each_open_charge_anew(db: Db) {
        one_due_charge(&db).await;
        let charge = read(&db.store, 0).await.charge;
        let customer = charge.customer;
        let about = |step: &str, now| OutboxInsert::about(&charge, step, "payment_failed", at(now));
        db.store.promise(&[about("ladder-0", 1), about("ladder-2", 2), mail(0, "expires", "card_expiring", 3)]).await.unwrap();
        for item in claim(&db.store, "me", 9).await {
            db.store.finish_outbox(&item, "me", &OutboxResult::Failed("no such mailbox".into()), at(9)).await.unwrap();
        }
        db.store.mark_address_dead(customer).await.unwrap();
        assert_eq!(db.store.undelivered(customer).await.unwrap(), 1);
        assert_eq!(db.store.correct_address(customer, "new@example.com", at(20)).await.unwrap(), 1);
        assert_eq!(db.store.correct_address(customer, "new@example.com", at(21)).await.unwrap(), 0);
        let again = claim(&db.store, "me", 20).await;
        let promised: Vec<_> = again.iter().map(|item| (item.step.as_str(), item.created_at, item.tries)).collect();
        assert_eq!(promised, [("ladder-2", at(20), 1)]);
        let known = db.store.find_customer(customer).await.unwrap().unwrap();
        assert_eq!((known.email.as_str(), known.mail_state.as_str()), ("new@example.com", "ok"));
    }

    async fn a_promise_is_taken_by_one_worker_until_its_lease_ends(db: Db) {
        db.store.promise(&[OutboxInsert::alarm("s".into(), "one", "text".into(), at(5))]).await.unwrap();
        assert!(claim(&db.store, "me", 4).await.is_empty());
        let mine = claim(&db.store, "me", 5).await;
        assert_eq!(mine.len(), 1);
        assert!(claim(&db.store, "you", 5 + HOUR - 1).await.is_empty());
        let yours = claim(&db.store, "you", 5 + HOUR).await;
        assert_eq!(yours[0].id, mine[0].id, "the same id, hence the same Message-ID");
        db.store.finish_outbox(&mine[0], "me", &OutboxResult::Done, at(9)).await.unwrap();
        assert_eq!(db.number("SELECT COUNT(*) FROM outbox WHERE state = 'pending'").await, 1, "not mine any more");
        db.store.finish_outbox(&yours[0], "you", &OutboxResult::Done, at(9)).await.unwrap();
        assert_eq!(db.number("SELECT COUNT(*) FROM outbox WHERE state = 'done' AND done_at = 9").await, 1);
        assert!(claim(&db.store, "me", 99_999).await.is_empty());
        let again = OutboxInsert::alarm("s".into(), "one", "text".into(), at(5));
        db.store.promise(&[again]).await.unwrap();
        assert!(claim(&db.store, "me", 99_999).await.is_empty(), "a kept promise is not made anew");
    }

    async fn a_promise_that_waits_counts_the_answers_that_were_lost(db: Db) {
        db.store.promise(&[OutboxInsert::alarm("s".into(), "one", "text".into(), at(0))]).await.unwrap();
        for (now, maybe_sent, unknowns) in [(0, true, 1), (100, false, 1), (200, true, 2)] {
            let item = claim(&db.store, "me", now).await.remove(0);
            let later = OutboxResult::Later { at: at(now + 100), why: "busy".into(), maybe_sent };
            db.store.finish_outbox(&item, "me", &later, at(now)).await.unwrap();
            assert!(claim(&db.store, "me", now + 99).await.is_empty());
            assert_eq!(db.number("SELECT unknowns FROM outbox").await, unknowns);
        }
        let item = db.store.claim_outbox("me", at(300), at(999), 10).await.unwrap().remove(0);
        assert_eq!((item.tries, item.unknowns), (4, 2));
        let waits = OutboxResult::Waits { at: at(300), why: "not yet".into() };
        db.store.finish_outbox(&item, "me", &waits, at(300)).await.unwrap();
        let item = db.store.claim_outbox("me", at(300), at(999), 10).await.unwrap().remove(0);
        assert_eq!((item.tries, item.unknowns), (1, 2), "it was not tried");
        assert_eq!(db.store.outbox_backlog().await.unwrap(), (1, Some(at(0))));
        db.store.finish_outbox(&item, "me", &OutboxResult::Failed("no".into()), at(300)).await.unwrap();
        assert_eq!(db.store.outbox_backlog().await.unwrap(), (0, None));
    }

    async fn a_mail_that_is_about_to_leave_is_marked_by_who_holds_the_lease(db: Db) {
        let alarms = ["one", "two"].map(|step| OutboxInsert::alarm("s".into(), step, "text".into(), at(0)));
        db.store.promise(&alarms).await.unwrap();
        let mine = claim(&db.store, "me", 0).await;
        let ids = [mine[0].id, mine[1].id];
        let rows = ids.map(|id| Leaving { id, alone_since: None });
        assert!(db.store.mark_leaving(&rows, "you", at(5)).await.unwrap().is_empty(), "not yours");
        assert!(db.store.mark_leaving(&rows, "me", at(HOUR)).await.unwrap().is_empty(), "the lease is over");
        assert_eq!(db.store.mark_leaving(&rows[..1], "me", at(5)).await.unwrap(), ids[..1]);
        let later = OutboxResult::Later { at: at(100), why: "451".into(), maybe_sent: false };
        db.store.finish_outbox(&mine[1], "me", &later, at(6)).await.unwrap();
        let next = claim(&db.store, "you", HOUR).await;
        let unknowns: Vec<_> = next.iter().map(|item| (item.id == ids[0], item.unknowns)).collect();
        assert_eq!(unknowns, [(true, 1), (false, 0)], "who died after the mark may have sent it");
        db.store.mark_leaving(&rows[..1], "you", at(HOUR + 1)).await.unwrap();
        db.store.finish_outbox(&next[0], "you", &later, at(HOUR + 2)).await.unwrap();
        assert_eq!(db.number("SELECT MAX(unknowns) FROM outbox").await, 1, "a refused mail did not leave");
    }

    async fn of_two_dunning_mails_to_one_customer_one_leaves(db: Db) {
        const PAIRS: u32 = 20;
        add_customers(&db.store, 0..PAIRS).await;
        for customer in 0..PAIRS {
            let names = [format!("{customer} one"), format!("{customer} two")];
            let mails = names.each_ref().map(|name| mail(customer, name, "payment_failed", 0));
            db.store.promise(&mails).await.unwrap();
            let mine = db.store.claim_outbox("me", at(0), at(HOUR), 1).await.unwrap().remove(0).id;
            let yours = db.store.claim_outbox("you", at(0), at(HOUR), 1).await.unwrap().remove(0).id;
            let mark = async |id, owner, alone_since| {
                let marked = db.store.mark_leaving(&[Leaving { id, alone_since }], owner, at(5)).await.unwrap();
                marked.len()
            };
            let (one, other) = tokio::join!(mark(mine, "me", Some(-9)), mark(yours, "you", Some(-9)));
            assert_eq!(one + other, 1, "both processes write to customer {customer}");
            let (waits, who) = if one == 0 { (mine, "me") } else { (yours, "you") };
            assert_eq!(mark(waits, who, Some(-9)).await, 0, "the other has perhaps left");
            assert_eq!(mark(waits, who, None).await, 1, "what has left before is sent again whatever else has");
        }
    }

    async fn dunning_mails_that_left_are_counted_and_no_others(db: Db) {
        add_customers(&db.store, 0..2).await;
        let mails = [
            (0, "payment_failed", OutboxResult::Done),
            (0, "last_notice", OutboxResult::Done),
            (0, "receipt", OutboxResult::Done),
            (0, "payment_failed", OutboxResult::Dropped("paid".into())),
            (1, "authentication_required", OutboxResult::Done),
        ];
        for (number, (customer, template, result)) in mails.into_iter().enumerate() {
            db.store.promise(&[mail(customer, &number.to_string(), template, 0)]).await.unwrap();
            let item = claim(&db.store, "me", 0).await.remove(0);
            let done = at(100 + i64::try_from(number).unwrap());
            db.store.finish_outbox(&item, "me", &result, done).await.unwrap();
        }
        let since = async |customer, secs| db.store.mails_since(customer_id(customer), at(secs)).await.unwrap();
        assert_eq!((since(0, 99).await, since(0, 100).await, since(0, 101).await), (2, 1, 0));
        for (result, at_least) in [
            (OutboxResult::Failed("550".into()), 0),
            (OutboxResult::PerhapsSent("the connection broke".into()), 1),
            (OutboxResult::Later { at: at(999), why: "the connection broke".into(), maybe_sent: true }, 2),
        ] {
            db.store.promise(&[mail(0, &format!("{result:?}"), "last_notice", 0)]).await.unwrap();
            let item = claim(&db.store, "me", 0).await.remove(0);
            db.store.finish_outbox(&item, "me", &result, at(200)).await.unwrap();
            assert_eq!(since(0, 150).await, at_least, "what may have left counts: {result:?}");
        }
        assert_eq!((since(1, 99).await, since(9, 99).await), (1, 0));
    }

    async fn an_event_is_stored_once_and_applied_once(db: Db) {
        assert!(db.store.store_event(&event("evt_1"), at(5)).await.unwrap());
        assert!(!db.store.store_event(&event("evt_1"), at(6)).await.unwrap(), "Stripe delivers some twice");
        let claimed = db.store.claim_events(at(9), at(99), 10).await.unwrap();
        assert_eq!((claimed.len(), claimed[0].id.as_str(), claimed[0].tries), (1, "evt_1", 1));
        assert_eq!((claimed[0].kind.as_str(), claimed[0].received_at), ("payment_intent.succeeded", 5));
        assert!(db.store.claim_events(at(98), at(999), 10).await.unwrap().is_empty());
        db.store.finish_event("evt_1", "applied", None, None).await.unwrap();
        assert!(db.store.claim_events(at(999), at(9999), 10).await.unwrap().is_empty());
        db.store.finish_event("evt_1", "failed", Some("late"), None).await.unwrap();
        let events = db.store.events_of(&charge_id(0).to_string()).await.unwrap();
        assert_eq!((events[0].state.as_str(), events[0].error.as_deref()), ("applied", None), "applied stays applied");
    }

    async fn an_event_that_could_not_be_applied_comes_back_at_its_time(db: Db) {
        db.store.store_event(&event("evt_1"), at(0)).await.unwrap();
        assert_eq!(db.store.claim_events(at(0), at(50), 10).await.unwrap().len(), 1);
        db.store.finish_event("evt_1", "pending", Some("busy"), Some(at(300))).await.unwrap();
        assert!(db.store.claim_events(at(299), at(999), 10).await.unwrap().is_empty());
        let again = db.store.claim_events(at(300), at(999), 10).await.unwrap();
        assert_eq!((again.len(), again[0].tries), (1, 2));
    }

    async fn parallel_deliveries_of_one_event_store_one(db: Db) {
        let replica = db.replica().await;
        let stores = [&db.store, &replica];
        let deliveries = (0..20).map(|n| { let store = stores[n % 2]; async move { store.store_event(&event("evt_1"), at(0)).await.unwrap() } });
        let new = futures::future::join_all(deliveries).await.into_iter().filter(|new| *new).count();
        assert_eq!(new, 1);
        replica.close().await;
    }
}
