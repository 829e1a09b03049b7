//! A dispute holds the customer until a person decides; a refund is the merchant's own business.

use recurd::flows::manage;

use crate::{DUE, Scene};

#[tokio::test]
async fn a_dispute_holds_everything_of_the_customer_until_a_person_releases_it() {
    let scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-10T10:00:00Z").await;
    scene.person("bob", "pm_card_visa", "basic", "2026-01-10T10:00:00Z").await;
    scene.due().await;
    scene.world.sandbox.dispute(&scene.books().charges[0].id);
    scene.days(7).await;
    assert_eq!(scene.times_collected(), 2, "Ann's first and Bob's: {:?}", scene.story());
    assert!(scene.letters().is_empty(), "{:?}", scene.letters());
    assert_eq!(scene.alarms().len(), 1, "{:?}", scene.alarms());
    assert!(scene.alarms()[0].contains("cus_ann") && scene.alarms()[0].contains("release"));
    scene.world.ctx.store.hold_customer(&ann.stripe_customer, None).await.unwrap();
    scene.days(1).await;
    assert_eq!(scene.times_collected(), 3);
    scene.agree().await;
}

#[tokio::test]
async fn a_warning_of_fraud_holds_as_a_dispute_does() {
    let scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:01:00Z").await;
    scene.world.sandbox.script_card(&ann.card, "ok, insufficient_funds, ok").unwrap();
    scene.until("2026-01-05T11:00:00Z", std::time::Duration::from_secs(60)).await;
    scene.world.sandbox.warn_of_fraud(&scene.books().charges[0].id);
    scene.days(6).await;
    assert_eq!(scene.tries(), ["paid", "declined, insufficient_funds"], "{:?}", scene.story());
    let alarms = scene.alarms();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(alarms[0].contains("reports fraud") && alarms[0].contains("cus_ann"), "{alarms:?}");
}

#[tokio::test]
async fn what_was_given_back_is_on_record_and_a_refund_that_fails_is_told() {
    let (scene, _) = Scene::ann("pm_card_visa").await;
    scene.due().await;
    let charge = scene.books().charges[0].id.clone();
    let refunded = async || scene.charge().await.refunded_minor;
    for (part, sum) in [("400", 400), ("500", 900)] {
        scene.at_stripe("/v1/refunds", &[("charge", charge.as_str()), ("amount", part)]);
        scene.days(1).await;
        assert_eq!(refunded().await, sum);
    }
    assert_eq!(scene.state().await.as_str(), "paid");
    assert!(scene.alarms().is_empty(), "{:?}", scene.alarms());
    let (scene, _) = Scene::ann("pm_card_refundFail").await;
    scene.due().await;
    let charge = scene.books().charges[0].id.clone();
    scene.at_stripe("/v1/refunds", &[("charge", charge.as_str())]);
    scene.days(20).await;
    assert_eq!(scene.charge().await.refunded_minor, 0, "it came back");
    assert_eq!(scene.alarms().len(), 1, "{:?}", scene.alarms());
    assert!(scene.alarms()[0].contains("failed: the customer has not got the money back"));
}

#[tokio::test]
async fn a_dispute_told_twice_is_one_alarm() {
    let (scene, _) = Scene::ann("pm_card_visa").await;
    let twice = recurd::sandbox::WebhookRules { duplicate_percent: 100, ..Default::default() };
    scene.world.sandbox.set_webhook_rules(twice);
    scene.due().await;
    scene.world.sandbox.dispute(&scene.books().charges[0].id);
    scene.days(1).await;
    assert_eq!(scene.alarms().len(), 1);
}

#[tokio::test]
async fn a_retry_is_held_too() {
    let scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:01:00Z").await;
    scene.world.sandbox.script_card(&ann.card, "ok, insufficient_funds, ok").unwrap();
    scene.until("2026-01-05T11:00:00Z", std::time::Duration::from_secs(60)).await;
    assert_eq!(scene.tries(), ["paid", "declined, insufficient_funds"]);
    scene.world.sandbox.dispute(&scene.books().charges[0].id);
    scene.days(6).await;
    assert_eq!(scene.tries().len(), 2, "{:?}", scene.story());
}

#[tokio::test]
async fn a_dispute_of_somebody_elses_charge_is_ignored() {
    let (scene, _) = Scene::ann("pm_card_visa").await;
    let _ = scene.world.sandbox.seed_customer("cus_stranger", None, None);
    let card = recurd::sandbox::SeedCard {
        id: "pm_stranger".into(),
        customer: "cus_stranger".into(),
        ..Default::default()
    };
    scene.world.sandbox.seed_card(&card).unwrap();
    let fields = [
        ("amount", "500"),
        ("currency", "eur"),
        ("customer", "cus_stranger"),
        ("payment_method", "pm_stranger"),
        ("off_session", "true"),
        ("confirm", "true"),
        ("payment_method_types[]", "card"),
    ];
    scene.at_stripe("/v1/payment_intents", &fields);
    scene.world.sandbox.dispute(&scene.books().charges[0].id);
    scene.due().await;
    assert_eq!((scene.times_collected(), scene.alarms().len()), (2, 0));
}

#[tokio::test]
async fn a_refund_leaves_the_charge_paid_and_is_not_collected_again() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.due().await;
    let charge = scene.books().charges[0].id.clone();
    scene.at_stripe("/v1/refunds", &[("charge", charge.as_str())]);
    scene.days(20).await;
    assert_eq!((scene.state().await.as_str(), scene.tries().len()), ("paid", 1));
    assert_eq!(scene.books().charges[0].amount_refunded, 900);
    assert!(scene.mails.mails().is_empty());
    manage::cancel(&scene.world.ctx, ann.subscription, "test", "refunded").await.unwrap();
    scene.days(20).await;
    assert_eq!(scene.tries().len(), 1);
}

#[tokio::test]
async fn who_disputes_is_not_asked_for_money() {
    let scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:01:00Z").await;
    scene.world.sandbox.script_card(&ann.card, "ok, expired_card").unwrap();
    scene.until("2026-01-05T11:00:00Z", std::time::Duration::from_secs(60)).await;
    assert_eq!((scene.tries().len(), scene.letters().len()), (2, 1), "{:?}", scene.story());
    scene.world.sandbox.dispute(&scene.books().charges[0].id);
    scene.days(12).await;
    assert_eq!(scene.letters().len(), 1, "{:?}", scene.letters());
}
