//! An operator's command at each stage of a charge: what stops, what goes on, and what Stripe collects afterwards.

use std::time::Duration;

use recurd::flows::Job;
use recurd::flows::manage::{self, ChargeCommand};
use recurd::flows::reversals::refund_duplicates;

use crate::scene::Person;
use crate::web::Web;
use crate::{DUE, Scene};

/// How far Ann's charge has come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Its period has come; nobody has tried.
    Due,
    /// Written down; Stripe would not take it now.
    Prepared,
    /// Sent, no answer, and Stripe has done nothing.
    Lost,
    /// Sent, no answer, and Stripe has taken the money.
    Taken,
    /// Answered with a 500, and Stripe finishes its work a day later.
    Forwarded,
    /// Declined; a retry is planned.
    PastDue,
    /// Declined; a page is open for the customer.
    PageOpen,
    /// The operator's own configuration is at fault: a person must look.
    Review,
}

const STAGES: [Stage; 8] = [
    Stage::Due,
    Stage::Prepared,
    Stage::Lost,
    Stage::Taken,
    Stage::Forwarded,
    Stage::PastDue,
    Stage::PageOpen,
    Stage::Review,
];

impl Stage {
    fn state(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Prepared | Self::Lost | Self::Taken | Self::Forwarded => "collecting",
            Self::PastDue => "past_due",
            Self::PageOpen => "link_open",
            Self::Review => "needs_review",
        }
    }

    /// Whether the money is Stripe's to take whatever the operator says now.
    fn is_taken(self) -> bool {
        matches!(self, Self::Taken | Self::Forwarded)
    }
}

/// Ann's charge at a stage. From then on her card pays.
async fn at(stage: Stage) -> (Scene, Person) {
    let script = match stage {
        Stage::PastDue | Stage::PageOpen => "insufficient_funds, ok",
        Stage::Review => "merchant_blacklist, ok",
        _ => "ok",
    };
    let (scene, ann) = Scene::scripted(script).await;
    // Where it is three times, all sends of one call are struck.
    let fault = match stage {
        Stage::Prepared => Some(("429", 3)),
        Stage::Lost => Some(("no-answer not-executed", 3)),
        Stage::Taken => Some(("no-answer", 3)),
        Stage::Forwarded => Some(("500 forward 26h", 1)),
        _ => None,
    };
    if let Some((effect, times)) = fault {
        let effect = recurd::sandbox::Effect::parse(effect).unwrap();
        let rule = recurd::sandbox::Rule::once("POST", "/v1/payment_intents", effect);
        scene.world.sandbox.add_fault(recurd::sandbox::Rule { times: Some(times), ..rule });
    }
    scene.world.clock.set(DUE.parse().unwrap());
    let jobs: &[Job] =
        if stage == Stage::Due { &[Job::Materialize] } else { &[Job::Materialize, Job::Collect] };
    scene.run(jobs).await;
    scene.run(&[Job::Notify]).await;
    if stage == Stage::PageOpen {
        Web::open(&scene).await.click(&scene.token()).await.session();
    }
    assert_eq!(scene.state().await.as_str(), stage.state(), "{stage:?}");
    (scene, ann)
}

#[tokio::test]
async fn a_canceled_subscription_collects_nothing_more() {
    for stage in STAGES {
        let (scene, ann) = at(stage).await;
        manage::cancel(&scene.world.ctx, ann.subscription, "test", "moved away").await.unwrap();
        scene.weeks(6).await;
        let expected = if stage.is_taken() { ("paid", 1) } else { ("canceled", 0) };
        assert_eq!((scene.state().await.as_str(), scene.times_collected()), expected, "{stage:?}");
        assert_eq!(scene.told_of_late_money(), stage.is_taken(), "{stage:?}: money after the end is told");
        let alive = scene.books().payment_intents.into_iter().any(|one| one.status.starts_with("requires"));
        assert!(!alive, "{stage:?}: something may still be paid");
        assert!(scene.books().sessions.iter().all(|one| one.status != "open"), "{stage:?}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_charge_that_is_canceled_or_paid_by_other_means_is_not_collected_and_the_next_period_is() {
    for (command, end) in [(ChargeCommand::Cancel, "canceled"), (ChargeCommand::MarkPaid, "settled")] {
        for stage in STAGES {
            let (scene, ann) = at(stage).await;
            let charge = scene.charge().await.charge.id;
            scene.command(charge, command).await.unwrap();
            scene.weeks(4).await;
            let expected = if stage.is_taken() { ("paid", 1) } else { (end, 0) };
            assert_eq!(
                (scene.state().await.as_str(), scene.times_collected()),
                expected,
                "{stage:?} {command:?}"
            );
            assert!(scene.letters().iter().all(|mail| mail != "reminder"), "{stage:?} {command:?}");
            scene.weeks(1).await;
            assert_eq!(scene.subscription_state(&ann).await, "active", "{stage:?} {command:?}");
            assert_eq!(scene.times_collected(), expected.1 + 1, "{stage:?} {command:?}: the next period");
            scene.agree().await;
        }
    }
}

#[tokio::test]
async fn a_paused_subscription_rests_and_goes_on_after_resume() {
    for stage in [Stage::Due, Stage::Prepared, Stage::PastDue] {
        let (scene, ann) = at(stage).await;
        let tried = scene.tries().len();
        manage::pause(&scene.world.ctx, ann.subscription, "test", "holiday").await.unwrap();
        scene.days(5).await;
        assert_eq!(scene.tries().len(), tried, "{stage:?}: {:?}", scene.story());
        manage::resume(&scene.world.ctx, ann.subscription, "test").await.unwrap();
        scene.days(1).await;
        assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1), "{stage:?}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn while_a_subscription_is_paused_its_ladder_rests_and_its_link_still_takes_the_money() {
    for pays in [false, true] {
        let (scene, ann) = Scene::scripted("expired_card, ok").await;
        scene.days(1).await;
        manage::pause(&scene.world.ctx, ann.subscription, "test", "holiday").await.unwrap();
        scene.weeks(3).await;
        assert_eq!(scene.letters(), ["failed"], "neither reminded nor given up: {:?}", scene.story());
        assert_eq!(
            (scene.state().await.as_str(), scene.subscription_state(&ann).await),
            ("past_due", "paused".into())
        );
        if pays {
            let session = Web::open(&scene).await.click(&scene.token()).await.session();
            scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
            scene.days(1).await;
            assert_eq!((scene.state().await.as_str(), scene.letters().len()), ("paid", 2));
            continue;
        }
        manage::resume(&scene.world.ctx, ann.subscription, "test").await.unwrap();
        scene.weeks(1).await;
        assert_eq!(scene.letters(), ["failed", "reminder"], "it goes on where it stood: {:?}", scene.story());
        scene.agree().await;
    }
}

#[tokio::test]
async fn periods_of_a_pause_follow_the_plans_catch_up() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.due().await;
    manage::pause(&scene.world.ctx, ann.subscription, "test", "holiday").await.unwrap();
    scene.until("2026-04-10T10:00:00Z", Duration::from_secs(6 * 3600)).await;
    assert_eq!(scene.times_collected(), 1);
    manage::resume(&scene.world.ctx, ann.subscription, "test").await.unwrap();
    scene.days(1).await;
    assert_eq!(scene.states().await, ["paid", "missed", "missed", "paid"]);
    assert_eq!(scene.times_collected(), 2);
}

#[tokio::test]
async fn what_a_person_mended_is_collected_at_their_word() {
    let (scene, _) = at(Stage::Review).await;
    scene.days(2).await;
    assert_eq!(scene.times_collected(), 0, "the machine waits for the person");
    scene.command(scene.charge().await.charge.id, ChargeCommand::CollectNow).await.unwrap();
    scene.hours(1).await;
    assert_eq!(
        (scene.state().await.as_str(), scene.times_collected(), scene.letters().len()),
        ("paid", 1, 0)
    );
    scene.agree().await;
}

#[tokio::test]
async fn a_command_that_comes_too_late_is_refused_and_says_so() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.due().await;
    let charge = scene.charge().await.charge.id;
    for command in [ChargeCommand::Cancel, ChargeCommand::MarkPaid, ChargeCommand::CollectNow] {
        let refused = scene.command(charge, command).await.unwrap_err().to_string();
        assert!(refused.contains("is paid"), "{command:?}: {refused}");
    }
    manage::cancel(&scene.world.ctx, ann.subscription, "test", "").await.unwrap();
    let refused =
        manage::cancel(&scene.world.ctx, ann.subscription, "test", "").await.unwrap_err().to_string();
    assert!(refused.contains("canceled"), "{refused}");
    assert!(manage::pause(&scene.world.ctx, ann.subscription, "test", "").await.is_err());
    assert!(manage::resume(&scene.world.ctx, ann.subscription, "test").await.is_err());
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1));
}

#[tokio::test]
async fn a_cancel_while_a_worker_has_the_charge_is_kept_by_whoever_looks_at_it_next() {
    for stage in [Stage::Due, Stage::Prepared, Stage::Lost, Stage::PastDue, Stage::PageOpen] {
        let (scene, ann) = at(stage).await;
        let store = &scene.world.ctx.store;
        let lease_until = scene.now().checked_add(Duration::from_secs(300)).unwrap();
        let id = scene.charge().await.charge.id;
        store.claim_charge(id, "another worker", scene.now(), lease_until).await.unwrap().unwrap();
        manage::cancel(&scene.world.ctx, ann.subscription, "test", "moved away").await.unwrap();
        scene.days(16).await;
        assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("canceled", 0), "{stage:?}");
        assert!(scene.books().sessions.iter().all(|one| one.status != "open"), "{stage:?}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn money_that_stripe_took_for_a_canceled_charge_is_booked_with_an_alarm() {
    let (scene, ann) = at(Stage::Due).await;
    let charge = scene.charge().await.charge;
    scene.command(charge.id, ChargeCommand::Cancel).await.unwrap();
    assert_eq!(scene.state().await.as_str(), "canceled");
    // A copy of the database that somebody forgot to stop collects it all the same.
    scene.collected_elsewhere(&ann, charge.id);
    scene.hours(1).await;
    assert_eq!(scene.state().await.as_str(), "paid");
    assert!(scene.told_of_late_money(), "{:?}", scene.alarms());
    scene.agree().await;
}

#[tokio::test]
async fn money_that_stripe_took_twice_is_told_to_the_operator_once() {
    for paid_by_link in [false, true] {
        let (scene, ann) = at(if paid_by_link { Stage::PageOpen } else { Stage::Due }).await;
        if paid_by_link {
            let session = scene.books().sessions[0].id.clone();
            scene.world.sandbox.complete_session(&session, "pm_card_mastercard").unwrap();
        }
        scene.hours(1).await;
        assert_eq!((scene.times_collected(), scene.alarms().len()), (1, 0));
        scene.collected_elsewhere(&ann, scene.charge().await.charge.id);
        scene.days(1).await;
        assert_eq!((scene.times_collected(), scene.alarms().len()), (2, 1), "{:?}", scene.alarms());
        assert!(scene.alarms()[0].contains("collected 2 times"), "{:?}", scene.alarms());
        assert!(scene.alarms()[0].contains("recurd charges refund-duplicate"), "{:?}", scene.alarms());
    }
}

#[tokio::test]
async fn what_was_taken_twice_goes_back_once_and_the_charge_stays_paid() {
    let (scene, ann) = at(Stage::Due).await;
    scene.hours(1).await;
    let charge = scene.charge().await.charge;
    let ctx = &scene.world.ctx;
    let refund = async |dry_run| refund_duplicates(ctx, charge.id, "test", "taken twice", dry_run).await;
    assert_eq!(refund(false).await.unwrap(), [], "collected once: nothing goes back");
    scene.collected_elsewhere(&ann, charge.id);
    scene.days(1).await;
    // Somebody has begun in the Dashboard.
    let charges = scene.books().charges;
    let second = charges.iter().find(|one| Some(&*one.payment_intent) != charge.state.payment_intent());
    let second = second.unwrap().id.clone();
    scene.at_stripe("/v1/refunds", &[("charge", second.as_str()), ("amount", "300")]);

    let would = refund(true).await.unwrap();
    assert_eq!((would.len(), would[0].left_minor, &would[0].refund), (1, 600, &None));
    assert_eq!(scene.books().refunds.len(), 1, "a dry run gives nothing back");

    scene.fault("POST", "/v1/refunds", "no-answer");
    let _ = refund(false).await;
    let _ = refund(false).await;
    assert_eq!(refund(true).await.unwrap(), [], "nothing is left to give back");
    scene.days(1).await;
    let given_back: Vec<_> =
        scene.books().charges.iter().map(|one| (one.id == second, one.amount_refunded)).collect();
    assert_eq!(given_back, [(false, 0), (true, 900)]);
    let after = scene.charge().await;
    assert_eq!((after.charge.state.as_str(), after.refunded_minor), ("paid", 0), "what counts is still paid");
}

#[tokio::test]
async fn a_charge_that_is_not_paid_has_no_duplicates() {
    let (scene, _) = at(Stage::PastDue).await;
    let charge = scene.charge().await.charge.id;
    let refused = refund_duplicates(&scene.world.ctx, charge, "test", "", false).await.unwrap_err();
    assert!(refused.to_string().contains("is not paid"), "{refused}");
}

#[tokio::test]
async fn a_cancel_that_a_review_interrupted_is_still_a_cancel() {
    let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
    scene.fault("POST", "/v1/payment_intents", "500 forward 100h");
    scene.due().await;
    let charge = scene.charge().await.charge.id;
    scene.command(charge, ChargeCommand::Cancel).await.unwrap();
    scene.days(3).await;
    scene.hours(2).await;
    assert_eq!(scene.state().await.as_str(), "needs_review", "three days of silence: a person must look");
    // Then Stripe finishes its work after all, and the event tells of a decline.
    scene.days(3).await;
    assert_eq!(scene.tries(), ["declined, insufficient_funds"]);
    assert_eq!(scene.state().await.as_str(), "canceled");
    assert!(scene.letters().is_empty(), "{:?}", scene.letters());
    assert_eq!(scene.books().payment_intents[0].status, "canceled", "nothing may be paid any more");
}

/// Ann's charge was marked as paid before anybody tried it.
async fn settled(card: &str) -> (Scene, Person) {
    let (scene, ann) = Scene::ann(card).await;
    scene.world.clock.advance(Duration::from_secs(86_400));
    scene.run(&[Job::Materialize]).await;
    scene.command(scene.charge().await.charge.id, ChargeCommand::MarkPaid).await.unwrap();
    assert_eq!(scene.state().await.as_str(), "settled");
    (scene, ann)
}

#[tokio::test]
async fn what_a_lost_database_had_asked_for_and_stripe_makes_after_the_end_is_followed_to_its_end() {
    let (scene, ann) = settled("pm_card_sandbox_processingThenPaid").await;
    scene.collected_elsewhere(&ann, scene.charge().await.charge.id);
    scene.hours(1).await;
    assert_eq!(scene.state().await.as_str(), "closing", "its bank has not said no");
    scene.no_events();
    scene.days(4).await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1));
    assert!(scene.told_of_late_money());
}

#[tokio::test]
async fn what_nobody_has_tried_to_pay_with_after_the_end_is_canceled() {
    let (scene, ann) = settled("pm_card_visa").await;
    scene.made_elsewhere(&ann, scene.charge().await.charge.id, &[]);
    scene.hours(1).await;
    assert_eq!(
        (scene.state().await.as_str(), scene.books().payment_intents[0].status),
        ("settled", "canceled")
    );
    let told = scene.alarms().iter().any(|alarm| alarm.contains("did not know of pi_"));
    assert!(told, "{:?}", scene.alarms());
}
