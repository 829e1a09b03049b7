//! Mails that something waits for: notices of charges, the mails of a ladder, cards that expire.

use recurd::billing::dunning::MailKind;
use recurd::billing::expiry::expiring;
use recurd::billing::farewell::{Fate, Told};
use recurd::store::{Card, Materialized, OutboxInsert, OutboxResult, Store};

use crate::*;

/// Everything that was promised becomes this.
async fn keep(store: &Store, result: &OutboxResult, now: i64) {
    for item in store.claim_outbox("me", at(now), at(now + HOUR), 100).await.unwrap() {
        store.finish_outbox(&item, "me", result, at(now)).await.unwrap();
    }
}

on_both! {
    async fn a_period_becomes_a_charge_ahead_of_its_time_with_its_notice(db: Db) {
        add_subscriptions(&db.store, 0..2).await;
        let ahead = format!("UPDATE subscription SET ahead_secs = 300 WHERE id = '{}'", subscription_id(1));
        db.execute(&ahead).await.unwrap();
        assert_eq!(db.store.due_subscriptions(at(699), 10).await.unwrap().len(), 0);
        let due = db.store.due_subscriptions(at(700), 10).await.unwrap();
        assert_eq!((due.len(), due[0].row.subscription_id()), (1, subscription_id(1)));
        assert_eq!(db.store.count_due_subscriptions(at(700)).await.unwrap(), 1);
        let both = db.store.due_subscriptions(at(1000), 10).await.unwrap();
        assert_eq!(both[0].row.subscription_id(), subscription_id(1), "the one whose time came first");
        let charge = due_charge(7, 0, 1000);
        let notice = OutboxInsert::about(&charge, "notice", "upcoming_charge", at(700));
        let step = Materialized {
            id: subscription_id(1),
            was_index: 0,
            charges: vec![new_charge(charge)],
            notices: vec![notice],
            next_index: 1,
            next_due_at: Some(at(2000)),
        };
        for _ in 0..2 {
            db.store.materialize(std::slice::from_ref(&step), at(700)).await.unwrap();
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM outbox WHERE template = 'upcoming_charge'").await, 1);
        let notice = db.store.notice_of(charge_id(7)).await.unwrap().unwrap();
        assert_eq!((notice.state.as_str(), notice.done_at, notice.waived), ("pending", None, 0));
        keep(&db.store, &OutboxResult::Done, 800).await;
        db.store.audit("ops", "collect", &charge_id(7).to_string(), "", at(900)).await.unwrap();
        db.store.audit("ops", "cancel", &charge_id(7).to_string(), "", at(900)).await.unwrap();
        let notice = db.store.notice_of(charge_id(7)).await.unwrap().unwrap();
        assert_eq!((notice.state.as_str(), notice.done_at, notice.waived), ("done", Some(800), 1));
        assert!(db.store.notice_of(charge_id(8)).await.unwrap().is_none());
    }

    async fn the_mails_of_a_ladder_say_what_became_of_them(db: Db) {
        one_due_charge(&db).await;
        let charge = due_charge(0, 0, 0);
        let mail = |step: &str, template: &str| OutboxInsert::about(&charge, step, template, at(5));
        let told = || async { db.store.ladder_mails(charge_id(0)).await.unwrap() };
        db.store.promise(&[mail("ladder-0", "payment_failed"), mail("recovered", "recovered")]).await.unwrap();
        assert_eq!(told().await, [Told { kind: MailKind::PaymentFailed, fate: Fate::Waiting }]);
        keep(&db.store, &OutboxResult::Done, 9).await;
        db.store.promise(&[mail("ladder-3", "last_notice")]).await.unwrap();
        keep(&db.store, &OutboxResult::Failed("no such address".into()), 10).await;
        let mut mails = told().await;
        mails.sort_by_key(|mail| mail.kind.as_str());
        let lost = Told { kind: MailKind::LastNotice, fate: Fate::Lost };
        assert_eq!(mails, [lost, Told { kind: MailKind::PaymentFailed, fate: Fate::Accepted(at(9)) }]);
    }

    async fn whose_card_expires_before_a_coming_charge_is_found_once_for_each_step(db: Db) {
        add_customers(&db.store, 0..3).await;
        add_subscriptions(&db.store, 0..1).await;
        for (number, month) in [(0, 1), (1, 1), (2, 2)] {
            let card = Card {
                payment_method: format!("pm_{number}"),
                brand: "visa".into(),
                last4: "4242".into(),
                exp_month: month,
                exp_year: 2026,
                fingerprint: None,
                entered_at: 0,
            };
            db.store.set_default_card(customer_id(number), &card, None).await.unwrap();
        }
        let january = expiring("2026-01-25T00:00:00Z".parse().unwrap())[0];
        let found = |step: &'static str| {
            let store = db.store.clone();
            async move {
                let cards = store.expiring_cards(&january, step, 10).await.unwrap();
                cards.into_iter().map(|one| one.customer_id()).collect::<Vec<_>>()
            }
        };
        assert!(found("a").await.is_empty(), "the next charge falls before the card's end");
        db.execute("UPDATE subscription SET next_due_at = 1769904000").await.unwrap();
        assert_eq!(found("a").await, [customer_id(0)], "only this one has anything to pay");
        let mail = OutboxInsert::mail("pm_0".into(), "a", customer_id(0), "card_expiring", "pm_0".into(), at(0));
        db.store.promise(&[mail]).await.unwrap();
        assert_eq!((found("a").await, found("b").await), (vec![], vec![customer_id(0)]));
        for changed in ["UPDATE subscription SET state = 'paused'", "UPDATE customer SET mail_state = 'dead'"] {
            db.execute(changed).await.unwrap();
            assert!(found("b").await.is_empty(), "{changed}");
            db.execute("UPDATE subscription SET state = 'active'").await.unwrap();
        }
    }
}
