//! Mails: exactly one for each reason, whatever the mail server does; none that is no longer true.

use recurd::flows::{Job, address, manage};
use recurd::mail::Fault;

use crate::web::Web;
use crate::{DUE, Scene};

#[tokio::test]
async fn a_mail_server_that_is_down_delays_the_mail_and_sends_it_once() {
    for (fault, hours) in [(Fault::Temporary, 6), (Fault::Unknown { arrived: false }, 0)] {
        let (scene, _) = Scene::scripted("expired_card").await;
        if hours == 0 {
            scene.mails.fail_next(fault);
        } else {
            scene.mails.fail_always(Some(fault));
        }
        scene.due().await;
        scene.hours(hours).await;
        assert!(scene.letters().is_empty(), "{fault:?}");
        scene.mails.fail_always(None);
        scene.days(1).await;
        assert_eq!(scene.letters(), ["failed"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_mail_that_waited_for_days_is_not_given_up_at_the_first_refusal() {
    let (scene, ann) = Scene::scripted("expired_card").await;
    scene.mails.fail_always(Some(Fault::Temporary));
    scene.due().await;
    let ctx = &scene.world.ctx;
    manage::pause(ctx, ann.subscription, "test", "away").await.unwrap();
    scene.days(5).await;
    manage::resume(ctx, ann.subscription, "test").await.unwrap();
    scene.hours(4).await;
    assert!(scene.letters().is_empty());
    scene.mails.fail_always(None);
    scene.days(1).await;
    assert_eq!(scene.letters(), ["failed"]);
}

#[tokio::test]
async fn a_mail_that_may_have_arrived_is_sent_again_as_the_same_mail() {
    let (scene, _) = Scene::scripted("expired_card").await;
    scene.mails.fail_next(Fault::Unknown { arrived: true });
    scene.days(1).await;
    let mails = scene.customer_mails();
    assert_eq!(mails.len(), 2, "sent again, since nobody knows");
    assert_eq!(mails[0].message_id, mails[1].message_id, "one Message-ID, so that the second can be dropped");
    let web = Web::open(&scene).await;
    for mail in &mails {
        let token: String =
            mail.text.split_once("/pay/").unwrap().1.chars().take_while(char::is_ascii_hexdigit).collect();
        assert!(web.look(&token).await.text.contains("<form"), "both links work");
    }
}

#[tokio::test]
async fn a_mail_whose_answer_is_lost_twice_is_not_sent_a_third_time() {
    let (scene, _) = Scene::scripted("expired_card").await;
    scene.mails.fail_next(Fault::Unknown { arrived: true });
    scene.mails.fail_next(Fault::Unknown { arrived: true });
    scene.days(6).await;
    assert_eq!(scene.letters().len(), 2);
}

#[tokio::test]
async fn a_mail_whose_sender_dies_again_and_again_arrives_twice_at_most() {
    let (scene, _) = Scene::scripted("expired_card").await;
    scene.world.clock.set(DUE.parse().unwrap());
    scene.run(&[Job::Materialize, Job::Collect]).await;
    let dies = "CREATE TRIGGER dies BEFORE UPDATE ON outbox WHEN NEW.lease_owner IS NULL \
        BEGIN SELECT RAISE(ABORT, 'the worker dies before it can say what became of the mail'); END";
    scene.execute(dies).await;
    for hour in 1..9 {
        scene.world.clock.set(scene.now() + jiff::SignedDuration::from_hours(hour));
        assert!(scene.world.ctx.run_once(Job::Notify, 500).await.is_err());
    }
    assert_eq!(scene.letters(), ["failed", "failed"]);
    scene.execute("DROP TRIGGER dies").await;
    let report = scene.days(1).await;
    assert_eq!(scene.letters().len(), 2);
    assert!(report.problems.iter().any(|one| one.contains("perhaps sent")), "{:?}", report.problems);
}

#[tokio::test]
async fn an_address_that_takes_no_mail_is_tried_once_and_told_to_the_operator() {
    let (scene, ann) = Scene::scripted("expired_card").await;
    scene.mails.fail_next(Fault::Permanent);
    let report = scene.days(16).await;
    assert!(scene.letters().is_empty(), "{:?}", scene.letters());
    assert!(report.problems.iter().any(|problem| problem.contains("takes no mail")), "{:?}", report.problems);
    assert_eq!(scene.states().await, ["needs_review"], "the ladder goes its way, but ends nothing");
    assert_eq!(scene.subscription_state(&ann).await, "active");
    let alarms = scene.alarms();
    assert!(alarms.len() == 1 && alarms[0].contains("accepted no notice"), "{alarms:?}");
    manage::cancel(&scene.world.ctx, ann.subscription, "test", "told by telephone").await.unwrap();
    scene.tick().await;
    assert_eq!(scene.states().await, ["canceled"], "a person can end it");
}

#[tokio::test]
async fn a_subscription_ends_only_after_the_time_that_its_last_notice_gave() {
    let (scene, ann) = Scene::scripted("expired_card").await;
    scene.until("2026-01-17T09:00:00Z", std::time::Duration::from_secs(3600)).await;
    scene.mails.fail_always(Some(Fault::Temporary));
    scene.days(1).await;
    scene.mails.fail_always(None);
    scene.until("2026-01-20T12:00:00Z", std::time::Duration::from_secs(3600)).await;
    assert_eq!(scene.letters().last().unwrap(), "last notice");
    assert_eq!(
        scene.subscription_state(&ann).await,
        "active",
        "three days from the notice on, not from its step"
    );
    let told = scene.customer_mails().last().unwrap().date;
    scene.days(2).await;
    assert_eq!((scene.subscription_state(&ann).await.as_str(), scene.letters().len()), ("canceled", 4));
    let ended = scene.customer_mails().last().unwrap().date;
    assert!(ended.duration_since(told).as_secs() >= 3 * 86_400, "{:?}", scene.story());
}

#[tokio::test]
async fn while_the_mail_server_is_down_no_subscription_ends() {
    let (scene, ann) = Scene::scripted("expired_card").await;
    scene.mails.fail_always(Some(Fault::Temporary));
    scene.days(30).await;
    assert_eq!(
        (scene.states().await, scene.subscription_state(&ann).await.as_str()),
        (vec!["needs_review"], "active")
    );
}

#[tokio::test]
async fn a_mail_that_is_no_longer_true_does_not_leave() {
    let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
    scene.mails.fail_always(Some(Fault::Temporary));
    scene.days(1).await;
    // The card networks allow no second try on the day of the decline, to operators neither.
    scene.hours(6).await;
    let charge = scene.charge().await.charge.id;
    scene.command(charge, recurd::flows::manage::ChargeCommand::CollectNow).await.unwrap();
    scene.run(&[Job::Collect]).await;
    assert_eq!(scene.times_collected(), 1);
    scene.mails.fail_always(None);
    scene.days(1).await;
    assert_eq!(
        scene.letters(),
        Vec::<String>::new(),
        "neither \"failed\" nor thanks for what was never asked for"
    );
}

#[tokio::test]
async fn one_customer_gets_one_mail_that_asks_for_money_a_day() {
    let scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    for minute in 1..4 {
        scene.person("ann", "pm_card_visa", "basic", &format!("2026-01-05T10:0{minute}:00Z")).await;
    }
    scene.world.sandbox.script_card(&ann.card, "expired_card").unwrap();
    scene.world.clock.set("2026-01-05T10:05:00Z".parse().unwrap());
    scene.days(6).await;
    assert_eq!(scene.states().await, ["past_due"; 4]);
    let times: Vec<i64> = scene.customer_mails().iter().map(|mail| mail.date.as_second()).collect();
    assert_eq!(times.len(), 4, "each charge has its mail in the end: {:?}", scene.story());
    assert!(times.is_sorted_by(|one, next| one + 20 * 3600 <= *next), "{:?}", scene.story());
    let first = &scene.customer_mails()[0];
    assert!(first.text.contains("€36.00"), "the first mail lists all that is open: {}", first.text);
}

#[tokio::test]
async fn an_alarm_reaches_the_operator_when_the_mail_server_is_back() {
    let (scene, _) = Scene::scripted("merchant_blacklist").await;
    scene.mails.fail_always(Some(Fault::Temporary));
    scene.days(1).await;
    scene.mails.fail_always(None);
    scene.days(1).await;
    assert_eq!((scene.alarms().len(), scene.letters().len()), (1, 0));
}

#[tokio::test]
async fn after_an_address_was_corrected_what_could_not_be_delivered_leaves_once() {
    let (scene, ann) = Scene::scripted("expired_card").await;
    scene.mails.fail_next(Fault::Permanent);
    scene.days(8).await;
    assert!(scene.letters().is_empty(), "two mails could not be delivered: {:?}", scene.letters());
    let ctx = &scene.world.ctx;
    let before = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    assert!(address::look(ctx, &before, "no address").await.is_err());
    let plan = address::look(ctx, &before, "ann@new.example.com").await.unwrap();
    assert_eq!((plan.mails, plan.at_stripe), (1, false), "the newest; the customer at Stripe is not ours");
    assert_eq!(ctx.store.find_customer(ann.customer).await.unwrap().unwrap().mail_state, "dead");
    for mails in [1, 0] {
        let done = address::correct(ctx, &before, "ann@new.example.com", plan, "test").await.unwrap();
        assert_eq!(done.mails, mails, "the same command again promises nothing anew");
    }
    scene.days(8).await;
    assert_eq!(scene.letters(), ["reminder", "last notice", "subscription ended"], "{:?}", scene.story());
    assert!(scene.customer_mails().iter().all(|mail| mail.to.email() == "ann@new.example.com"));
    assert_eq!(
        (scene.states().await, scene.subscription_state(&ann).await),
        (vec!["uncollectible"], "canceled".into())
    );
}

/// The ladder ran out unheard, and the charge waits for a person.
async fn unheard() -> (Scene, crate::scene::Person) {
    let (scene, ann) = Scene::scripted("expired_card").await;
    scene.mails.fail_next(Fault::Permanent);
    scene.days(16).await;
    assert_eq!((scene.states().await, scene.letters().len()), (vec!["needs_review"], 0));
    (scene, ann)
}

#[tokio::test]
async fn a_ladder_that_nobody_heard_of_goes_on_to_its_end_when_the_address_is_corrected() {
    let (scene, ann) = unheard().await;
    let ctx = &scene.world.ctx;
    let before = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let plan = address::look(ctx, &before, "ann@new.example.com").await.unwrap();
    assert_eq!((plan.mails, plan.charges), (1, 1));
    let done = address::correct(ctx, &before, "ann@new.example.com", plan, "test").await.unwrap();
    assert_eq!((done.mails, done.charges), (1, 1));
    assert_eq!(address::correct(ctx, &before, "ann@new.example.com", plan, "test").await.unwrap().charges, 0);
    scene.days(2).await;
    assert_eq!((scene.states().await, scene.letters()), (vec!["past_due"], vec!["last notice".to_owned()]));
    scene.days(2).await;
    assert_eq!(scene.letters(), ["last notice", "subscription ended"], "three days after the notice");
    assert_eq!(scene.subscription_state(&ann).await, "canceled");
    assert_eq!(scene.alarms().len(), 1, "no second alarm: {:?}", scene.alarms());
    scene.agree().await;
}

#[tokio::test]
async fn what_waits_for_a_person_for_another_reason_does_not_go_on_with_a_new_address() {
    let (scene, ann) = unheard().await;
    scene.execute("UPDATE charge SET needs = 'decision' WHERE state = 'needs_review'").await;
    let ctx = &scene.world.ctx;
    let before = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let plan = address::look(ctx, &before, "ann@new.example.com").await.unwrap();
    assert_eq!(address::correct(ctx, &before, "ann@new.example.com", plan, "test").await.unwrap().charges, 0);
    scene.days(5).await;
    assert_eq!((scene.states().await, scene.letters().len()), (vec!["needs_review"], 0));
}

#[tokio::test]
async fn a_customer_that_we_made_at_stripe_gets_the_address_there_also_when_an_answer_is_lost() {
    let scene = Scene::new().await;
    let (bob, _) = scene.bob_signs_up().await;
    let ctx = &scene.world.ctx;
    let plan = address::look(ctx, &bob, "bob@new.example.com").await.unwrap();
    assert!(plan.at_stripe);
    let email = || scene.books().customers[0].email.clone().unwrap();
    scene.outage("500 not-executed");
    assert!(address::correct(ctx, &bob, "bob@new.example.com", plan, "test").await.is_err());
    scene.world.sandbox.clear_faults();
    assert_eq!(email(), "bob@example.com");
    // There and back again within a day: no key replays an old answer.
    for address in ["bob@new.example.com", "bob@example.com", "bob@new.example.com"] {
        address::correct(ctx, &bob, address, plan, "test").await.unwrap();
        assert_eq!(email(), address);
        assert_eq!(ctx.store.find_customer(bob.customer_id()).await.unwrap().unwrap().email, address);
    }
}
