//! Our own faults, the network's and Stripe's: no customer hears of them, and nothing is collected twice.

use std::time::Duration;

use recurd::flows::Job;
use recurd::sandbox::{Effect, RateLimits, Rule};

use crate::web::Web;
use crate::{DUE, Scene};

/// Everything that can happen to one request. All but the last are settled within hours.
const FAULTS: [&str; 13] = [
    "no-answer",
    "no-answer not-executed",
    "cut 0",
    "cut 40",
    "500",
    "502",
    "503 not-executed",
    "409",
    "429",
    "lock-timeout",
    "not-sent",
    "late 30s",
    "500 forward 26h",
];

#[tokio::test]
async fn whatever_happens_to_a_retry_it_collects_once_and_mails_as_if_nothing_had_happened() {
    for effect in FAULTS {
        let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
        scene.days(2).await;
        scene.fault("POST", "/v1/payment_intents/*/confirm", effect);
        scene.days(4).await;
        assert_eq!(scene.times_collected(), 1, "{effect}: {:?}", scene.story());
        assert_eq!(scene.letters(), ["failed", "thank you"], "{effect}");
        assert_eq!(scene.tries().len(), 2, "{effect}: a retry was sent that was none: {:?}", scene.story());
        let declines = scene.charge().await.charge.dunning.map(|dunning| dunning.declines);
        assert_eq!(declines, Some(1), "{effect}: the first decline was counted again");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_decline_whose_answer_was_lost_is_one_decline() {
    for effect in ["no-answer", "cut 40", "500", "502", "late 100s"] {
        let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
        scene.fault("POST", "/v1/payment_intents", effect);
        scene.days(2).await;
        assert_eq!(scene.story(), ["day 0: declined, insufficient_funds", "day 0: mail: failed"], "{effect}");
        scene.days(2).await;
        assert_eq!((scene.times_collected(), scene.letters().len()), (1, 2), "{effect}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn while_stripe_cannot_be_read_nothing_is_sent_and_afterwards_all_is_collected() {
    for effect in ["500", "429", "no-answer", "cut 40", "not-sent"] {
        let (scene, _) = Scene::ann("pm_card_visa").await;
        let lists = Rule { method: Some("GET".into()), ..Rule::always(Effect::parse(effect).unwrap()) };
        scene.world.sandbox.add_fault(lists);
        scene.due().await;
        scene.hours(1).await;
        assert_eq!(scene.requests("POST", "/v1/payment_intents"), 0, "{effect}");
        scene.world.sandbox.clear_faults();
        scene.hours(1).await;
        assert_eq!((scene.times_collected(), scene.mails.mails().len()), (1, 0), "{effect}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn an_outage_of_three_days_delays_and_does_nothing_else() {
    for effect in ["not-sent", "503 not-executed", "429", "no-answer not-executed", "409"] {
        let (scene, _) = Scene::ann("pm_card_visa").await;
        scene.outage(effect);
        scene.days(3).await;
        assert!(scene.tries().is_empty() && scene.letters().is_empty(), "{effect}: {:?}", scene.story());
        scene.world.sandbox.clear_faults();
        scene.days(1).await;
        assert_eq!((scene.times_collected(), scene.letters().len()), (1, 0), "{effect}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_refused_key_stops_the_run_and_a_new_one_goes_on() {
    for stage in ["first try", "retry"] {
        let (mut scene, _) =
            Scene::scripted(if stage == "retry" { "insufficient_funds, ok" } else { "ok" }).await;
        if stage == "retry" {
            scene.days(2).await;
        }
        let (letters, tries) = (scene.letters(), scene.tries());
        scene.world.sandbox.revoke_key("sk_test_sandbox");
        let report = scene.days(2).await;
        assert!(report.stopped.is_some_and(|why| why.contains("401")), "{stage}");
        let alarms = scene.alarms();
        assert!((2..=3).contains(&alarms.len()), "{stage}: one a day, not {}", alarms.len());
        assert!(
            alarms.iter().all(|alarm| alarm.contains("401") && alarm.contains("Charging: stopped")),
            "{alarms:?}"
        );
        assert_eq!((scene.letters(), scene.tries()), (letters, tries), "{stage}");
        scene.world.ctx.stripe = scene.with_key("sk_test_new");
        scene.days(1).await;
        assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1), "{stage}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_key_that_is_refused_in_the_middle_of_a_run_leaves_the_rest_for_later() {
    let mut scene = Scene::new().await;
    for number in 0..5 {
        scene.person(&format!("p{number}"), "pm_card_visa", "basic", DUE).await;
    }
    scene.world.clock.set(DUE.parse().unwrap());
    scene.run(&[Job::Materialize]).await;
    scene.world.sandbox.revoke_key("sk_test_sandbox");
    let report = scene.world.ctx.run_once(Job::Collect, 500).await.unwrap();
    assert!(report.stopped.is_some());
    scene.world.ctx.stripe = scene.with_key("sk_test_new");
    scene.hours(1).await;
    assert_eq!(scene.times_collected(), 5);
    assert!(scene.letters().is_empty());
    scene.agree().await;
}

#[tokio::test]
async fn stripes_own_rate_limits_only_slow_things_down() {
    let scene = Scene::new().await;
    for number in 0..60 {
        scene.person(&format!("p{number}"), "pm_card_visa", "basic", DUE).await;
    }
    scene.world.sandbox.set_rate_limits(Some(RateLimits { account_per_sec: 10, endpoint_per_sec: 5 }));
    scene.due().await;
    scene.hours(3).await;
    assert_eq!(scene.times_collected(), 60);
    assert!(scene.mails.mails().is_empty(), "{:?}", scene.letters());
    scene.agree().await;
}

#[tokio::test]
async fn a_request_that_stripe_refuses_waits_for_a_person_and_the_others_go_on() {
    let scene = Scene::new().await;
    scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.person("bob", "pm_card_visa", "basic", DUE).await;
    scene.no_events();
    let request = recurd::sandbox::Request::new(http::Method::DELETE, "/v1/customers/cus_ann")
        .header("authorization", "Bearer sk_test_sandbox");
    assert_eq!(scene.world.sandbox.handle(&request).response().unwrap().status, 200);
    let report = scene.due().await;
    scene.hours(1).await;
    assert_eq!(scene.times_collected(), 1, "Bob");
    assert!(report.needs_a_person(), "a charge that can never be collected is silent: {report:?}");
    assert!(scene.letters().is_empty(), "{:?}", scene.letters());
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_with_a_person_and_an_alarm() {
    let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
    scene.days(2).await;
    scene.fault("POST", "/v1/payment_intents/*/confirm", "500 not-executed");
    scene.days(3).await;
    assert_eq!(scene.states().await, ["collecting"]);
    scene.days(2).await;
    assert_eq!(scene.states().await, ["needs_review"]);
    assert_eq!((scene.alarms().len(), scene.letters().len(), scene.times_collected()), (1, 1, 0));
}

#[tokio::test]
async fn whatever_happens_at_the_end_of_the_ladder_it_ends_once() {
    for effect in
        ["500", "500 not-executed", "no-answer", "no-answer not-executed", "429", "409", "lock-timeout"]
    {
        let (scene, _) = Scene::scripted("expired_card").await;
        scene.until("2026-01-20T09:00:00Z", Duration::from_secs(6 * 3600)).await;
        for _ in 0..3 {
            scene.fault("POST", "/v1/payment_intents/*/cancel", effect);
        }
        scene.days(2).await;
        assert_eq!(scene.states().await, ["uncollectible"], "{effect}");
        let ends = scene.letters().iter().filter(|mail| *mail == "subscription ended").count();
        assert_eq!((ends, scene.books().payment_intents[0].status), (1, "canceled"), "{effect}");
    }
}

#[tokio::test]
async fn a_card_saved_on_the_page_is_adopted_when_stripe_can_be_asked_again() {
    let (scene, _) = Scene::scripted("lost_card").await;
    scene.due().await;
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&session, "pm_card_mastercard").unwrap();
    let cards =
        Rule { path: Some("/v1/payment_methods".into()), ..Rule::always(Effect::parse("500").unwrap()) };
    scene.world.sandbox.add_fault(cards);
    scene.hours(3).await;
    scene.world.sandbox.clear_faults();
    scene.days(32).await;
    assert_eq!(scene.times_collected(), 2, "{:?}", scene.story());
    scene.agree().await;
}
