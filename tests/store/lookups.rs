//! What people ask: customers, charges, links, enrolments, sums.

use recurd::billing::apply::Event;
use recurd::billing::charge::{Charge, End};
use recurd::store::{Card, ChargeFilter, NewEnrolment, Settlement};
use uuid::Uuid;

use crate::*;

/// What people type where an id is asked for.
const ODD: [&str; 11] = [
    "",
    "zz",
    "g0000000",
    "-",
    "%",
    "_",
    "'; DROP TABLE customer; --",
    "a0000000-0000-0000-0000-000000000000-and-more",
    "ü",
    "a000000\u{e9}",
    " ",
];

on_both! {
    async fn odd_input_finds_nothing_and_breaks_nothing(db: Db) {
        one_due_charge(&db).await;
        for odd in ODD {
            let everything = odd.is_empty();
            let customers = db.store.customers_named(odd).await.unwrap();
            assert_eq!(customers.len(), usize::from(everything), "{odd:?}");
            assert_eq!(db.store.charges_by_prefix(odd).await.unwrap().len(), usize::from(everything), "{odd:?}");
            assert_eq!(db.store.subscriptions_by_prefix(odd).await.unwrap().len(), 0, "{odd:?}");
        }
        // Differs: PostgreSQL has no NUL in its texts and says so; SQLite finds nothing.
        assert_eq!(db.store.customers_named("\0").await.is_err(), db.store.kind() == "postgres");
        assert_eq!(db.number("SELECT COUNT(*) FROM customer").await, 1);
    }

    async fn customers_are_found_by_id_prefix_stripe_id_and_address(db: Db) {
        add_customers(&db.store, 0..3).await;
        let full = customer_id(1).to_string();
        for name in [full.as_str(), &full.to_uppercase(), "cus_1", "pat1@example.com"] {
            let found = db.store.customers_named(name).await.unwrap();
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].customer_id(), customer_id(1));
        }
        assert_eq!(db.store.customers_named("c000").await.unwrap().len(), 2, "two tell that it is not unique");
        assert_eq!(db.store.customers_named(&full[..23]).await.unwrap().len(), 2);
        assert!(db.store.customers_named("CUS_1").await.unwrap().is_empty());
    }

    async fn charges_and_subscriptions_are_found_by_the_beginning_of_their_id(db: Db) {
        add_subscriptions(&db.store, 0..2).await;
        add_charges(&db.store, [due_charge(0, 0, 0), due_charge(0x10, 0, 0)]).await;
        let full = charge_id(0).to_string();
        for (prefix, count) in [("a", 2), (&full[..8], 2), (&full[..9], 2), (&full[..35], 1), (&full, 1), ("b", 0)] {
            assert_eq!(db.store.charges_by_prefix(prefix).await.unwrap().len(), count, "{prefix}");
            assert_eq!(db.store.charges_by_prefix(&prefix.to_uppercase()).await.unwrap().len(), count, "{prefix}");
        }
        assert_eq!(db.store.subscriptions_by_prefix("5").await.unwrap().len(), 2);
        assert_eq!(db.store.subscriptions_by_prefix(&subscription_id(1).to_string()).await.unwrap().len(), 1);
    }

    async fn charges_are_listed_newest_first_and_filtered(db: Db) {
        add_subscriptions(&db.store, 0..1).await;
        add_customers(&db.store, 1..2).await;
        let period = Some((subscription_id(0), 0));
        let charges = [due_charge(0, 0, 10), Charge { period, ..due_charge(1, 0, 30) }, due_charge(2, 1, 20)];
        add_charges(&db.store, charges).await;
        let claimed = read(&db.store, 2).await;
        settle(&db.store, &[paid(&claimed, 50)], 50).await;
        let all = || ChargeFilter { limit: 10, ..ChargeFilter::default() };
        let list = async |filter| {
            let found = db.store.list_charges(&filter).await.unwrap();
            found.iter().map(|one| one.charge.id.0.as_u128() & 0xff).collect::<Vec<_>>()
        };
        assert_eq!(list(all()).await, [1, 2, 0]);
        assert_eq!(list(ChargeFilter { offset: 1, limit: 1, ..all() }).await, [2]);
        assert_eq!(list(ChargeFilter { state: Some("paid".into()), ..all() }).await, [2]);
        assert_eq!(list(ChargeFilter { customer: Some(customer_id(0)), ..all() }).await, [1, 0]);
        assert_eq!(list(ChargeFilter { subscription: Some(subscription_id(0)), ..all() }).await, [1]);
    }

    async fn totals_count_and_sum_by_state_and_currency(db: Db) {
        assert!(db.store.totals().await.unwrap().is_empty());
        add_customers(&db.store, 0..5).await;
        let amount = |number, text: &str| Charge { amount: text.parse().unwrap(), ..due_charge(number, number, 0) };
        let huge = ["9999999999.99 USD", "9999999999.99 USD", "5.00 EUR", "5.00 EUR", "1.00 EUR"];
        add_charges(&db.store, (0..).zip(huge).map(|(number, text)| amount(number, text))).await;
        for stage in [begin, mark, declined] {
            settle(&db.store, &[stage(&read(&db.store, 4).await, 0)], 0).await;
        }
        let claimed = read(&db.store, 3).await;
        let stop = decide(&claimed, &Event::Stop(End::PaidOutside), 5);
        settle(&db.store, &[Settlement::new(&claimed, stop, at(5))], 5).await;
        let totals = db.store.totals().await.unwrap();
        let rows: Vec<_> = totals
            .iter()
            .map(|one| (one.state.as_str(), one.currency.as_str(), one.count, one.sum_minor, one.declined))
            .collect();
        let expected = [
            ("due", "eur", 1, 500, 0),
            ("due", "usd", 2, 1_999_999_999_998, 0),
            ("past_due", "eur", 1, 100, 1),
            ("settled", "eur", 1, 500, 0),
        ];
        assert_eq!(rows, expected);
        assert_eq!(db.store.oldest_awake(at(100)).await.unwrap(), Some(at(0)));
        assert_eq!(db.store.oldest_awake(at(-1)).await.unwrap(), None);
    }

    async fn a_pay_link_leads_to_its_charge_and_a_stripe_id_to_its_collector(db: Db) {
        let claimed = one_due_charge(&db).await;
        for _ in 0..2 {
            db.store.add_pay_link("hash", charge_id(0), at(0)).await.unwrap();
        }
        assert_eq!(db.store.charge_of_link("hash").await.unwrap(), Some(charge_id(0)));
        assert_eq!(db.store.charge_of_link("other").await.unwrap(), None);
        assert!(db.store.living_collector(charge_id(0)).await.unwrap().is_none());
        assert_eq!(db.store.count_close(charge_id(0)).await.unwrap(), 0);
        let open = Settlement::new(&claimed, decide(&claimed, &Event::OpenLink { until: at(600) }, 0), at(0))
            .with_session_request("key".into(), "body".into(), at(500));
        settle(&db.store, &[open], 0).await;
        let opening = read(&db.store, 0).await;
        let opened = decide(&opening, &Event::LinkOpened { session: "cs_1".into() }, 5);
        let opened = Settlement::new(&opening, opened, at(5)).with_session_url(Some("https://pay".into()));
        settle(&db.store, &[opened], 5).await;
        let living = db.store.living_collector(charge_id(0)).await.unwrap().unwrap();
        assert_eq!((living.stripe_id.as_deref(), living.url.as_deref()), (Some("cs_1"), Some("https://pay")));
        assert_eq!((living.idempotency_key.as_deref(), living.body.as_deref()), (Some("key"), Some("body")));
        assert_eq!((living.generation, living.expires_at, living.opened_at), (1, Some(500), 0));
        assert_eq!(db.store.charge_of_collector("cs_1").await.unwrap(), Some(charge_id(0)));
        assert_eq!(db.store.charge_of_collector("cs_2").await.unwrap(), None);
        assert_eq!(db.store.count_close(charge_id(0)).await.unwrap(), 1);
        assert_eq!(db.store.count_close(charge_id(0)).await.unwrap(), 2, "each try has a key of its own");
    }

    async fn an_enrolment_is_opened_and_ended_once(db: Db) {
        add_subscriptions(&db.store, 0..1).await;
        let id = Uuid::from_u128(9);
        let new = NewEnrolment {
            id,
            customer: customer_id(0),
            subscription: Some(subscription_id(0)),
            charge: None,
            key: "key".into(),
            body: "body".into(),
            consent_text: "I agree".into(),
        };
        db.store.add_enrolment(&new, at(5)).await.unwrap();
        let again = NewEnrolment { body: "other".into(), ..new.clone() };
        db.store.add_enrolment(&again, at(6)).await.unwrap();
        assert_eq!(db.number("SELECT COUNT(*) FROM enrolment").await, 1, "the same again is left alone");
        assert!(db.store.open_enrolments(at(4), 10).await.unwrap().is_empty());
        assert_eq!(db.store.open_enrolments(at(5), 10).await.unwrap()[0].state, "opening");
        assert!(db.store.enrolment_opened(id, "cs_1", Some("https://card"), Some(99)).await.unwrap());
        let open = db.store.enrolment_of_session("cs_1").await.unwrap().unwrap();
        assert_eq!((open.id.clone(), open.state.as_str(), open.expires_at), (id.to_string(), "open", Some(99)));
        assert_eq!((open.body.as_str(), open.consent_text.as_str()), ("body", "I agree"));
        assert!(db.store.finish_enrolment(&open.id, "complete", at(9)).await.unwrap());
        assert!(!db.store.finish_enrolment(&open.id, "expired", at(10)).await.unwrap());
        assert!(!db.store.enrolment_opened(id, "cs_2", None, None).await.unwrap());
        let done = db.store.find_enrolment(&open.id).await.unwrap().unwrap();
        assert_eq!((done.state.as_str(), done.session_id.as_deref(), done.completed_at), ("complete", Some("cs_1"), Some(9)));
        assert!(db.store.open_enrolments(at(99), 10).await.unwrap().is_empty());
    }

    async fn a_card_link_leads_to_its_customer_and_a_page_is_found_until_it_is_over(db: Db) {
        add_customers(&db.store, 0..2).await;
        db.store.add_card_link("hash", customer_id(1), at(0)).await.unwrap();
        assert_eq!(db.store.customer_of_link("hash").await.unwrap(), Some(customer_id(1)));
        assert_eq!(db.store.customer_of_link("other").await.unwrap(), None);
        assert_eq!(db.store.charge_of_link("hash").await.unwrap(), None, "a card link pays nothing");
        let page = |id: u128, customer, key: &str| NewEnrolment {
            id: Uuid::from_u128(id),
            customer: customer_id(customer),
            subscription: None,
            charge: None,
            key: key.into(),
            body: key.into(),
            consent_text: "I agree".into(),
        };
        db.store.add_enrolment(&page(1, 0, "other"), at(9)).await.unwrap();
        db.store.add_enrolment(&page(2, 1, "older"), at(1)).await.unwrap();
        db.store.add_enrolment(&page(3, 1, "newer"), at(2)).await.unwrap();
        let open = || async { db.store.open_card_page(customer_id(1)).await.unwrap().map(|one| one.body) };
        let over = || async { db.store.count_finished_pages(customer_id(1)).await.unwrap() };
        assert_eq!((open().await.as_deref(), over().await), (Some("newer"), 0));
        for (id, state) in [(3, "complete"), (2, "expired")] {
            let id = Uuid::from_u128(id).to_string();
            assert!(db.store.finish_enrolment(&id, state, at(5)).await.unwrap());
        }
        assert_eq!((open().await, over().await), (None, 2));
    }

    async fn a_detached_card_is_forgotten_and_a_held_customer_says_why(db: Db) {
        one_due_charge(&db).await;
        let card = Card {
            payment_method: "pm_1".into(),
            brand: "visa".into(),
            last4: "4242".into(),
            exp_month: 1,
            exp_year: 2031,
            fingerprint: None,
            entered_at: 0,
        };
        db.store.set_default_card(customer_id(0), &card, None).await.unwrap();
        assert_eq!(db.store.hold_customer("cus_0", Some("dispute")).await.unwrap(), 1);
        let claimed = read(&db.store, 0).await;
        assert_eq!((claimed.payment_method.as_deref(), claimed.hold_why.as_deref()), (Some("pm_1"), Some("dispute")));
        assert_eq!(db.store.forget_card("pm_2").await.unwrap(), 0);
        assert_eq!(db.store.forget_card("pm_1").await.unwrap(), 1);
        assert_eq!(db.store.hold_customer("cus_0", None).await.unwrap(), 1);
        db.store.mark_address_dead(customer_id(0)).await.unwrap();
        let customer = db.store.find_customer(customer_id(0)).await.unwrap().unwrap();
        assert_eq!((customer.payment_method, customer.hold_why, customer.mail_state.as_str()), (None, None, "dead"));
    }

    async fn a_card_number_that_several_customers_saved_is_counted(db: Db) {
        add_customers(&db.store, 0..4).await;
        for (number, fingerprint) in [(0, Some("same")), (1, Some("same")), (2, Some("other")), (3, None)] {
            let card = Card {
                payment_method: format!("pm_{number}"),
                brand: "visa".into(),
                last4: "4242".into(),
                exp_month: 1,
                exp_year: 2031,
                fingerprint: fingerprint.map(Into::into),
                entered_at: 0,
            };
            db.store.set_default_card(customer_id(number), &card, None).await.unwrap();
        }
        for (number, others) in [(0, 1), (1, 1), (2, 0), (3, 0)] {
            let customer = db.store.find_customer(customer_id(number)).await.unwrap().unwrap();
            assert_eq!(db.store.others_with_card(&customer).await.unwrap(), others, "{number}");
        }
    }

    async fn runs_and_audit_lines_are_kept_in_order(db: Db) {
        let first = db.store.begin_run("collect", at(0)).await.unwrap();
        db.store.finish_run(first, "{}", None, at(1)).await.unwrap();
        let second = db.store.begin_run("collect", at(5)).await.unwrap();
        db.store.begin_run("notify", at(3)).await.unwrap();
        let last = db.store.last_runs().await.unwrap();
        assert_eq!((last.len(), last[0].id.clone(), last[0].finished_at), (2, second.to_string(), None));
        assert_eq!(db.store.forget_runs(at(1)).await.unwrap(), 0);
        assert_eq!(db.store.forget_runs(at(2)).await.unwrap(), 1, "unfinished runs stay");
        db.store.audit("pat", "cancel", "it", "why", at(2)).await.unwrap();
        db.store.audit("pat", "resume", "it", "", at(1)).await.unwrap();
        let lines = db.store.audit_of("it").await.unwrap();
        assert_eq!(lines.iter().map(|line| line.what.as_str()).collect::<Vec<_>>(), ["resume", "cancel"]);
    }
}
