//! Stripe's events: welcome, never trusted, never needed.

use std::time::Duration;

use jiff::Timestamp;
use recurd::billing::ids::ChargeId;
use recurd::flows::guard;
use recurd::sandbox::{Delivery, Effect, Rule, WebhookRules};
use recurd::stripe::webhook::sign;

use crate::Scene;
use crate::web::Web;

/// A signature as Stripe would make it with this secret at this moment.
pub fn signature(delivery: &Delivery, at: Timestamp, secret: &str) -> String {
    sign(&delivery.body, &secret.into(), at)
}

/// Ann's card declines, she pays on the page, and the next period is collected: the story under some rules.
async fn story_under(rules: WebhookRules) -> Vec<String> {
    let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
    scene.world.sandbox.set_webhook_rules(rules);
    scene.due().await;
    scene.hours(1).await;
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&session, "pm_card_mastercard").unwrap();
    scene.weeks(5).await;
    assert_eq!(scene.states().await, ["paid", "paid"]);
    assert!(scene.alarms().is_empty(), "{:?}", scene.alarms());
    scene.agree().await;
    scene.story()
}

#[tokio::test]
async fn duplicates_disorder_delay_and_loss_change_nothing() {
    let story = [
        "day 0: declined, insufficient_funds",
        "day 0: mail: failed",
        "day 0: paid on the page",
        "day 0: mail: thank you",
        "day 31: paid",
    ];
    let rules = WebhookRules::default;
    assert_eq!(story_under(rules()).await, story);
    assert_eq!(story_under(WebhookRules { duplicate_percent: 100, ..rules() }).await, story, "each twice");
    assert_eq!(story_under(WebhookRules { shuffle: true, ..rules() }).await, story, "in any order");
    let late = WebhookRules { delay_ms_max: 3 * 86_400_000, duplicate_percent: 50, ..rules() };
    assert_eq!(story_under(late).await, story, "days late");
    assert_eq!(story_under(WebhookRules { drop_percent: 100, ..rules() }).await, story, "none at all");
}

/// Ann has paid on the page, and the event that says so is about to arrive.
async fn paid_on_the_page() -> (Scene, Web, Delivery) {
    let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
    scene.due().await;
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    scene.world.deliver_webhooks().await;
    scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
    let deliveries = scene.world.sandbox.take_deliveries();
    let paid = deliveries.into_iter().find(|one| one.event_type == "checkout.session.completed").unwrap();
    (scene, web, paid)
}

#[tokio::test]
async fn what_stripe_did_not_sign_now_is_refused_and_leaves_no_trace() {
    let (scene, web, delivery) = paid_on_the_page().await;
    let stored = scene.number("SELECT COUNT(*) FROM webhook_event").await;
    let now = scene.now();
    let good = signature(&delivery, now, "whsec_sandbox");
    let ago = |secs: i64| now.checked_sub(jiff::SignedDuration::from_secs(secs)).unwrap();
    let mut changed = delivery.body.clone();
    *changed.last_mut().unwrap() = b' ';
    for (what, body, header) in [
        ("no signature", &delivery.body, String::new()),
        ("nonsense", &delivery.body, "t=1,v1=00".to_owned()),
        ("another secret", &delivery.body, signature(&delivery, now, "whsec_other")),
        ("no secret", &delivery.body, signature(&delivery, now, "")),
        ("ten minutes old", &delivery.body, signature(&delivery, ago(600), "whsec_sandbox")),
        ("from the future", &delivery.body, signature(&delivery, ago(-600), "whsec_sandbox")),
        ("a changed body", &changed, good.clone()),
        ("a later time with the old signature", &delivery.body, good.replacen("t=1", "t=2", 1)),
        ("another scheme", &delivery.body, good.replace("v1=", "v0=")),
    ] {
        assert_eq!(web.event(body, &header).await, 400, "{what}");
    }
    assert_eq!(scene.number("SELECT COUNT(*) FROM webhook_event").await, stored);
    assert_eq!(web.event(&delivery.body, &good).await, 200);
    assert_eq!(scene.number("SELECT COUNT(*) FROM webhook_event").await, stored + 1);
}

#[tokio::test]
async fn an_event_is_stored_once_and_applied_once() {
    let (scene, web, delivery) = paid_on_the_page().await;
    let stored = scene.number("SELECT COUNT(*) FROM webhook_event").await;
    for _ in 0..3 {
        let header = signature(&delivery, scene.now(), "whsec_sandbox");
        assert_eq!(web.event(&delivery.body, &header).await, 200);
    }
    assert_eq!(scene.number("SELECT COUNT(*) FROM webhook_event").await, stored + 1);
    scene.hours(1).await;
    assert_eq!(scene.letters(), ["failed", "thank you"]);
    assert_eq!(web.event(&delivery.body, &signature(&delivery, scene.now(), "whsec_sandbox")).await, 200);
    scene.hours(1).await;
    assert_eq!((scene.letters().len(), scene.times_collected()), (2, 1));
}

#[tokio::test]
async fn an_event_that_lies_is_checked_with_stripe() {
    // Signed with the right secret, but what it says is not so: the object decides, not the payload.
    let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
    scene.due().await;
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    let intent = scene.books().payment_intents[0].id.clone();
    for (kind, object, id) in [
        ("checkout.session.completed", "checkout.session", session.as_str()),
        ("payment_intent.succeeded", "payment_intent", intent.as_str()),
    ] {
        let body = format!(
            r#"{{"id":"evt_{object}","object":"event","api_version":"2026-05-27.dahlia","created":{},"livemode":false,
            "type":"{kind}","data":{{"object":{{"id":"{id}","object":"{object}","status":"succeeded","payment_status":"paid",
            "metadata":{{}}}}}}}}"#,
            scene.now().as_second()
        );
        let header = sign(body.as_bytes(), &"whsec_sandbox".into(), scene.now());
        assert_eq!(web.event(body.as_bytes(), &header).await, 200, "{kind}");
    }
    scene.tick().await;
    assert_eq!(scene.state().await.as_str(), "link_open");
    assert_eq!(scene.letters(), ["failed"]);
}

#[tokio::test]
async fn what_belongs_to_another_installation_or_to_nobody_is_ignored() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.world.clock.set(crate::DUE.parse().unwrap());
    scene.run(&[recurd::flows::Job::Materialize]).await;
    let charge = scene.charge().await.charge.id.to_string();
    let other = uuid::Uuid::new_v4().to_string();
    // A person has said that both may use the account.
    let (store, now) = (&scene.world.ctx.store, scene.now());
    guard::halt(store, "ana", "another shop is there", now).await.unwrap();
    guard::resume(store, "ana", "it is ours too", now).await.unwrap();
    for instance in [other.as_str(), ""] {
        let fields = [
            ("amount", "900"),
            ("currency", "eur"),
            ("customer", ann.stripe_customer.as_str()),
            ("payment_method", ann.card.as_str()),
            ("off_session", "true"),
            ("confirm", "true"),
            ("payment_method_types[]", "card"),
            ("metadata[recurd_instance]", instance),
            ("metadata[recurd_charge]", charge.as_str()),
        ];
        scene.at_stripe("/v1/payment_intents", &fields);
    }
    scene.world.deliver_webhooks().await;
    scene.run(&[recurd::flows::Job::Receive]).await;
    assert_eq!(scene.state().await.as_str(), "due", "somebody else's money is not ours");
    scene.tick().await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 3));
    assert!(scene.alarms().is_empty(), "{:?}", scene.alarms());
}

#[tokio::test]
async fn an_object_of_ours_that_the_database_does_not_know_is_told_to_the_operator() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.made_elsewhere(&ann, ChargeId(uuid::Uuid::new_v4()), &[]);
    scene.tick().await;
    assert!(scene.alarms().iter().any(|alarm| alarm.contains("backup")), "{:?}", scene.alarms());
}

#[tokio::test]
async fn an_event_that_cannot_be_applied_now_is_applied_later() {
    let (scene, web, delivery) = paid_on_the_page().await;
    assert_eq!(web.event(&delivery.body, &signature(&delivery, scene.now(), "whsec_sandbox")).await, 200);
    for effect in ["500", "429", "no-answer", "not-sent"] {
        scene.outage(effect);
        scene.run(&[recurd::flows::Job::Receive]).await;
        scene.world.sandbox.clear_faults();
        assert_eq!(scene.state().await.as_str(), "link_open", "{effect}");
        scene.world.clock.advance(Duration::from_secs(180));
    }
    scene.run(&[recurd::flows::Job::Receive]).await;
    assert_eq!(scene.state().await.as_str(), "paid");
    scene.agree().await;
}

#[tokio::test]
async fn an_event_that_can_never_be_applied_is_given_up_and_holds_up_no_other() {
    let (scene, _) = Scene::ann("pm_card_visa").await;
    scene.due().await;
    let intent = format!("/v1/payment_intents/{}", scene.books().payment_intents[0].id);
    let fails = Rule { times: None, ..Rule::once("GET", &intent, Effect::parse("500").unwrap()) };
    scene.world.sandbox.add_fault(fails);
    scene.hours(1).await;
    let failed = "SELECT COUNT(*) FROM webhook_event WHERE state = 'failed'";
    let waiting = "SELECT COUNT(*) FROM webhook_event WHERE state = 'pending'";
    assert_eq!((scene.number(failed).await, scene.number(waiting).await > 0), (0, true));
    let bob = scene.person("bob", "pm_card_mastercard", "basic", "2026-01-05T12:00:00Z").await;
    scene.hours(1).await;
    scene.at_stripe(&format!("/v1/payment_methods/{}/detach", bob.card), &[]);
    scene.hours(1).await;
    assert_eq!(scene.default_card(&bob).await, None, "Bob's events pass Ann's");
    let report = scene.hours(12).await;
    assert!(scene.number(failed).await > 0 && scene.number(waiting).await == 0);
    assert!(report.problems.iter().any(|one| one.starts_with("event evt_")), "{:?}", report.problems);
    assert_eq!(scene.times_collected(), 2);
}
