//! What happens at Stripe around the daemon: disputes that end, cards and customers that other tools change, an account that
//! may not charge. Each is told by events that come twice, late and in any order.

use std::time::Duration;

use http::Method;
use recurd::flows::{Job, address, enrol, guard};
use recurd::sandbox::{Request, WebhookRules};
use serde_json::json;

use crate::scene::{Person, session_in};
use crate::{DUE, Scene};

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

/// Ann has paid once, and every event comes twice and in any order.
async fn paid(card: &str) -> (Scene, Person) {
    let (scene, ann) = Scene::ann(card).await;
    let rules = WebhookRules { duplicate_percent: 100, shuffle: true, ..WebhookRules::default() };
    scene.world.sandbox.set_webhook_rules(rules);
    scene.due().await;
    scene.hours(1).await;
    assert_eq!(scene.times_collected(), 1);
    (scene, ann)
}

async fn hold(scene: &Scene, ann: &Person) -> Option<String> {
    scene.world.ctx.store.find_customer(ann.customer).await.unwrap().unwrap().hold_why
}

async fn card(scene: &Scene, ann: &Person) -> Option<String> {
    scene.world.ctx.store.find_customer(ann.customer).await.unwrap().unwrap().payment_method
}

async fn disputed() -> (Scene, Person, String) {
    let (scene, ann) = paid("pm_card_visa").await;
    scene.world.sandbox.dispute(&scene.books().charges[0].id);
    scene.hours(1).await;
    let id = scene.books().disputes[0].id.clone();
    (scene, ann, id)
}

#[tokio::test]
async fn a_dispute_that_was_won_is_told_and_charges_nothing_until_a_person_lifts_it() {
    let (scene, ann, dispute) = disputed().await;
    assert!(scene.world.sandbox.close_dispute(&dispute, "won"));
    scene.weeks(5).await;
    assert_eq!((scene.times_collected(), scene.states().await), (1, vec!["paid", "due"]), "the hold stays");
    let alarms = scene.alarms();
    assert_eq!(alarms.len(), 2, "{alarms:?}");
    assert!(
        alarms[1].contains("the dispute was won") && alarms[1].contains("recurd customers release cus_ann")
    );
    let told = scene
        .number("SELECT COUNT(*) FROM outbox WHERE step = 'dispute-won' AND charge_id IS NOT NULL")
        .await;
    assert_eq!(told, 1, "the charge's story has it");
    scene.world.ctx.store.hold_customer(&ann.stripe_customer, None).await.unwrap();
    // Late news of the same dispute takes nothing back.
    scene.world.sandbox.announce("charge.dispute.updated", &json!({ "id": dispute, "object": "dispute" }));
    scene.days(1).await;
    assert_eq!((hold(&scene, &ann).await, scene.times_collected(), scene.alarms().len()), (None, 2, 2));
    scene.agree().await;
}

#[tokio::test]
async fn what_a_person_lifted_while_a_dispute_goes_on_is_not_held_again_by_its_next_event() {
    let (scene, ann, dispute) = disputed().await;
    scene.world.ctx.store.hold_customer(&ann.stripe_customer, None).await.unwrap();
    scene.world.sandbox.announce("charge.dispute.updated", &json!({ "id": dispute, "object": "dispute" }));
    scene.hours(1).await;
    assert_eq!((hold(&scene, &ann).await, scene.alarms().len()), (None, 1));
}

#[tokio::test]
async fn a_dispute_whose_beginning_got_lost_holds_when_it_is_lost() {
    let (scene, ann) = paid("pm_card_visa").await;
    scene.no_events();
    scene.world.sandbox.dispute(&scene.books().charges[0].id);
    scene.hours(1).await;
    assert_eq!(hold(&scene, &ann).await, None);
    scene.world.sandbox.set_webhook_rules(WebhookRules::default());
    assert!(scene.world.sandbox.close_dispute(&scene.books().disputes[0].id, "lost"));
    scene.hours(1).await;
    assert!(hold(&scene, &ann).await.is_some());
    let alarms = scene.alarms();
    assert!(alarms.len() == 2 && alarms[1].contains("the money is the cardholder's again"), "{alarms:?}");
    let reads = |path| scene.requests("GET", path);
    assert!(
        reads("/v1/disputes/") > 0 && reads("/v1/charges/") == reads("/v1/disputes/"),
        "each is read once"
    );
}

#[tokio::test]
async fn a_customer_who_was_deleted_is_neither_charged_nor_written_to() {
    let scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.world.sandbox.script_card(&ann.card, "insufficient_funds, ok").unwrap();
    scene.due().await;
    assert_eq!((scene.tries().len(), scene.letters().len()), (1, 1));
    let delete = Request { method: Method::DELETE, ..Request::get("/v1/customers/cus_ann") };
    assert_eq!(scene.world.sandbox.handle(&delete).response().unwrap().status, 200);
    scene.weeks(6).await;
    assert_eq!((scene.tries().len(), scene.letters().len()), (1, 1), "{:?}", scene.story());
    assert_eq!(hold(&scene, &ann).await.as_deref(), Some("the customer was deleted at Stripe"));
    let told =
        scene.alarms().into_iter().filter(|text| text.contains("cus_ann was deleted at Stripe")).count();
    assert_eq!(told, 1, "the operator is told once");
}

#[tokio::test]
async fn an_event_that_a_customer_was_deleted_who_is_there_holds_nobody() {
    let (scene, ann) = paid("pm_card_visa").await;
    scene.world.sandbox.announce("customer.deleted", &json!({ "id": "cus_ann", "object": "customer" }));
    scene.hours(1).await;
    assert_eq!(hold(&scene, &ann).await, None);
}

#[tokio::test]
async fn a_mandate_that_ended_ends_its_card() {
    let (scene, ann) = paid("pm_card_visa").await;
    let mandate = |status: &str| json!({ "id": "mandate_1", "object": "mandate", "status": status, "payment_method": ann.card });
    scene.world.sandbox.announce("mandate.updated", &mandate("active"));
    scene.hours(1).await;
    assert_eq!(card(&scene, &ann).await, Some(ann.card.clone()));
    scene.world.sandbox.announce("mandate.updated", &mandate("inactive"));
    scene.weeks(5).await;
    assert_eq!((card(&scene, &ann).await, scene.times_collected()), (None, 1), "{:?}", scene.story());
    assert_eq!(scene.letters().first().unwrap(), "failed", "the customer is asked for another card");
}

/// Another tool makes a card the default at Stripe.
fn default_elsewhere(scene: &Scene, card: &str) {
    scene.at_stripe("/v1/customers/cus_ann", &[("invoice_settings[default_payment_method]", card)]);
}

/// Ann saves another card on a page of ours; it becomes the default here.
async fn saves_another(scene: &Scene, ann: &Person) -> String {
    let ctx = &scene.world.ctx;
    let customer = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let page = session_in(&enrol::open(ctx, &customer, None).await.unwrap());
    scene.world.sandbox.complete_session(&page, "pm_card_mastercard").unwrap();
    scene.hours(1).await;
    card(scene, ann).await.unwrap()
}

#[tokio::test]
async fn a_default_card_that_another_tool_set_is_told_and_not_charged() {
    let (scene, ann) = paid("pm_card_visa").await;
    let ours = saves_another(&scene, &ann).await;
    default_elsewhere(&scene, &ours);
    scene.hours(1).await;
    assert!(scene.alarms().is_empty(), "it is the same: {:?}", scene.alarms());
    scene.no_events();
    default_elsewhere(&scene, &ann.card);
    scene.world.sandbox.set_webhook_rules(WebhookRules::default());
    scene.at_stripe("/v1/customers/cus_ann", &[("name", "Ann the Second")]);
    scene.hours(1).await;
    assert!(scene.alarms().is_empty(), "another change says nothing of the card: {:?}", scene.alarms());
    default_elsewhere(&scene, &ours);
    default_elsewhere(&scene, &ann.card);
    scene.weeks(5).await;
    let alarms = scene.alarms();
    assert!(alarms.len() == 1 && alarms[0].contains(&format!("recurd goes on with {ours}")), "{alarms:?}");
    assert_eq!(card(&scene, &ann).await, Some(ours));
    assert_eq!(scene.times_collected(), 2);
    scene.agree().await;
}

#[tokio::test]
async fn who_has_no_card_left_is_charged_on_the_default_of_another_tool_if_they_agreed_to_it() {
    for agreed in [true, false] {
        let (scene, ann) = paid("pm_card_visa").await;
        let second = saves_another(&scene, &ann).await;
        let third = saves_another(&scene, &ann).await;
        if !agreed {
            scene.execute("UPDATE consent SET payment_method = NULL").await;
        }
        scene.at_stripe(&format!("/v1/payment_methods/{third}/detach"), &[]);
        scene.hours(1).await;
        assert_eq!(card(&scene, &ann).await, None);
        default_elsewhere(&scene, &second);
        scene.hours(1).await;
        assert_eq!(card(&scene, &ann).await, agreed.then_some(second), "agreed: {agreed}");
        assert_eq!(scene.alarms().len(), usize::from(!agreed), "{:?}", scene.alarms());
        scene.weeks(5).await;
        assert_eq!(scene.times_collected(), if agreed { 2 } else { 1 });
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_mail_address_that_another_tool_changed_is_told_once_and_not_taken_over() {
    let (scene, ann) = paid("pm_card_visa").await;
    let store = &scene.world.ctx.store;
    let changed = async |email: &str| {
        scene.at_stripe("/v1/customers/cus_ann", &[("email", email)]);
        scene.hours(1).await;
        scene.alarms()
    };
    assert!(changed("Ann@example.com").await.is_empty(), "that is ours");
    let alarms = changed("ann@new.example.com").await;
    assert!(alarms.len() == 1 && alarms[0].contains("goes on writing to the one it has"), "{alarms:?}");
    assert!(alarms[0].contains("recurd customers email cus_ann") && !alarms[0].contains("new.example"));
    assert_eq!(changed("").await.len(), 1);
    assert_eq!(changed("ann@new.example.com").await.len(), 1, "this one was told");
    let ours = store.find_customer(ann.customer).await.unwrap().unwrap();
    assert_eq!(ours.email, "ann@example.com");
    store.mark_address_dead(ann.customer).await.unwrap();
    let alarms = changed("ann@newer.example.com").await;
    assert!(alarms.len() == 2 && alarms[1].contains("takes no mail"), "{alarms:?}");
    let plan = address::look(&scene.world.ctx, &ours, "ann@right.example.com").await.unwrap();
    address::correct(&scene.world.ctx, &ours, "ann@right.example.com", plan, "test").await.unwrap();
    assert_eq!(changed("ann@right.example.com").await.len(), 2, "a person has corrected it");
}

#[tokio::test]
async fn an_address_that_a_person_corrects_here_is_no_news_from_stripe() {
    let scene = Scene::new().await;
    let (bob, _) = scene.bob_signs_up().await;
    let plan = address::look(&scene.world.ctx, &bob, "bob@new.example.com").await.unwrap();
    address::correct(&scene.world.ctx, &bob, "bob@new.example.com", plan, "test").await.unwrap();
    scene.hours(1).await;
    let heard = "SELECT COUNT(*) FROM webhook_event WHERE type = 'customer.updated' AND state = 'applied'";
    assert_eq!((scene.number(heard).await, scene.alarms().len()), (1, 0));
}

#[tokio::test]
async fn a_card_that_an_api_call_changed_is_read_again() {
    let (scene, ann) = paid("pm_card_visa").await;
    scene.no_events();
    scene.world.sandbox.update_card(&ann.card);
    scene.hours(1).await;
    let last4 = async || scene.world.ctx.store.find_customer(ann.customer).await.unwrap().unwrap().card_last4;
    assert_eq!(last4().await.as_deref(), Some("4242"));
    scene.world.sandbox.set_webhook_rules(WebhookRules::default());
    scene
        .world
        .sandbox
        .announce("payment_method.updated", &json!({ "id": ann.card, "object": "payment_method" }));
    scene.hours(1).await;
    let there = scene.books().payment_methods.iter().find(|one| one.id == ann.card).unwrap().last4.clone();
    assert_eq!(last4().await, Some(there));
}

#[tokio::test]
async fn an_account_that_may_not_charge_halts_by_itself_and_a_person_resumes() {
    let (scene, _) = paid("pm_card_visa").await;
    let (ctx, sandbox) = (&scene.world.ctx, &scene.world.sandbox);
    sandbox.enable_charges(false);
    scene.hours(1).await;
    assert!(ctx.store.halted().await.unwrap().unwrap().contains("charges_enabled is false"));
    scene.weeks(5).await;
    assert_eq!((scene.times_collected(), scene.states().await), (1, vec!["paid", "due"]), "nothing is sent");
    sandbox.enable_charges(true);
    scene.days(1).await;
    assert!(scene.alarms().iter().any(|alarm| alarm.contains("may charge again")), "{:?}", scene.alarms());
    assert_eq!(scene.times_collected(), 1, "not by itself");
    assert!(guard::resume(&ctx.store, "ana", "Stripe has the papers", scene.now()).await.unwrap());
    scene.days(1).await;
    assert_eq!((scene.times_collected(), ctx.store.halted().await.unwrap()), (2, None));
    // An old event says nothing of the account as it is now.
    sandbox.announce(
        "account.updated",
        &json!({ "id": "acct_1", "object": "account", "charges_enabled": false }),
    );
    scene.hours(1).await;
    assert_eq!(ctx.store.halted().await.unwrap(), None);
}

#[tokio::test]
async fn a_payout_that_failed_and_a_review_are_told_once() {
    let (scene, ann) = paid("pm_card_visa").await;
    let charge = scene.books().charges[0].id.clone();
    let review = |reason: &str| json!({ "id": "prv_1", "object": "review", "charge": charge, "reason": reason, "open": reason == "rule" });
    let sandbox = &scene.world.sandbox;
    sandbox.announce("payout.failed", &json!({ "id": "po_1", "object": "payout", "status": "failed" }));
    sandbox.announce("review.opened", &review("rule"));
    sandbox.announce(
        "review.opened",
        &json!({ "id": "prv_2", "object": "review", "charge": null, "reason": "rule" }),
    );
    scene.hours(2).await;
    let mut alarms = scene.alarms();
    alarms.sort();
    assert_eq!(alarms.len(), 2, "{alarms:?}");
    assert!(alarms.iter().any(|one| one.contains("payout po_1 failed")), "{alarms:?}");
    assert!(alarms.iter().any(|one| one.contains("to be reviewed (rule)")), "{alarms:?}");
    sandbox.announce("review.closed", &review("approved"));
    scene.hours(1).await;
    assert_eq!((scene.alarms().len(), hold(&scene, &ann).await), (2, None));
    sandbox.announce("review.closed", &review("refunded_as_fraud"));
    scene.hours(1).await;
    assert_eq!(scene.alarms().len(), 3);
    assert!(hold(&scene, &ann).await.unwrap().contains("a review found fraud"));
}

#[tokio::test]
async fn a_page_whose_setup_was_given_up_is_over_at_once() {
    let scene = Scene::new().await;
    let (bob, _) = scene.bob_signs_up().await;
    let page = session_in(&enrol::open(&scene.world.ctx, &bob, None).await.unwrap());
    scene.at_stripe(&format!("/v1/checkout/sessions/{page}/expire"), &[]);
    for delivery in scene.world.sandbox.take_deliveries() {
        if delivery.event_type == "setup_intent.canceled" {
            let signature = crate::webhooks::signature(&delivery, scene.now(), "whsec_sandbox");
            recurd::flows::receive::accept(&scene.world.ctx, &delivery.body, &signature).await.unwrap();
        }
    }
    scene.run(&[Job::Receive]).await;
    assert_eq!(scene.number("SELECT COUNT(*) FROM enrolment WHERE state = 'expired'").await, 1);
}

fn hence(scene: &Scene, minutes: i64) -> String {
    scene.now().checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap().to_string()
}

#[tokio::test]
async fn a_decline_that_nobody_heard_counts_although_its_payment_was_canceled_or_changed_meanwhile() {
    for (operation, path) in [("create", "/v1/payment_intents"), ("confirm", "/v1/payment_intents/*/confirm")]
    {
        let canceled = [("500", true), ("500", false), ("no-answer", true), ("no-answer", false)];
        let cases = canceled.map(|(effect, is_told)| ("canceled", effect, is_told));
        for (how, effect, is_told) in cases.into_iter().chain([("changed", "500", false)]) {
            let case = format!("{operation} {effect}, {how}, told: {is_told}");
            let (scene, _) = Scene::scripted("insufficient_funds, insufficient_funds, ok").await;
            let declines = if operation == "create" { 1 } else { 2 };
            if !is_told {
                scene.no_events();
            }
            if operation == "confirm" {
                scene.days(1).await;
            }
            // The client itself sends it again twice, under the same key.
            for _ in 0..if effect == "500" { 1 } else { 3 } {
                scene.fault("POST", path, effect);
            }
            while scene.tries().len() < declines {
                assert!(scene.now() < "2026-01-16T00:00:00Z".parse().unwrap(), "{case}: {:?}", scene.story());
                scene.until(&hence(&scene, 30), HALF_AN_HOUR).await;
            }
            scene.touched_at_stripe(how);
            scene.until(&hence(&scene, 23 * 60), HALF_AN_HOUR).await;
            let heard = scene.charge().await.charge.dunning.map(|dunning| dunning.declines);
            assert_eq!(
                (heard, scene.tries().len(), scene.books().payment_intents.len()),
                (Some(u32::try_from(declines).unwrap()), declines, 1),
                "{case}: {:?}",
                scene.story()
            );
            scene.weeks(3).await;
            assert_eq!((scene.states().await[0], scene.times_collected()), ("paid", 1), "{case}");
            scene.agree().await;
        }
    }
}
