//! The ladder: mails and retries on their days, an end, and the ways out of it before that.

use std::sync::Arc;
use std::time::Duration;

use recurd::billing::ladder::Ladder;
use recurd::flows::ladders;
use recurd::flows::manage::ChargeCommand;
use recurd::flows::pay_link::{self, Opened};
use recurd::flows::service::{Service, service};

use crate::scene::session_in;
use crate::web::Web;
use crate::{DUE, Scene};

/// What Stripe and the customer see of a ladder that nobody stops, until its end.
const ALL_THE_WAY: [&str; 7] = [
    "day 0: declined, insufficient_funds",
    "day 0: mail: failed",
    "day 3: declined, insufficient_funds",
    "day 7: declined, insufficient_funds",
    "day 7: mail: reminder",
    "day 12: declined, insufficient_funds",
    "day 12: mail: last notice",
];

#[tokio::test]
async fn a_ladder_that_nobody_stops_ends_as_its_plan_says() {
    for (finally, mail, subscription, next_period) in [
        ("cancel", "subscription ended", "canceled", false),
        ("pause", "subscription paused", "paused", false),
        ("uncollectible", "given up", "active", true),
    ] {
        let scene = Scene::with(&format!("finally = \"{finally}\"\n")).await;
        let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
        scene.world.sandbox.script_card(&ann.card, "insufficient_funds").unwrap();
        scene.days(16).await;
        let mut story: Vec<String> = ALL_THE_WAY.map(str::to_owned).to_vec();
        story.push(format!("day 15: mail: {mail}"));
        assert_eq!(scene.story(), story, "{finally}");
        assert_eq!(scene.states().await, ["uncollectible"], "{finally}");
        assert_eq!(scene.subscription_state(&ann).await, subscription, "{finally}");
        let intents = scene.books().payment_intents;
        assert!(
            intents.iter().all(|one| one.status == "canceled"),
            "{finally}: nothing may be paid any more"
        );
        scene.world.sandbox.script_card(&ann.card, "ok").unwrap();
        scene.days(16).await;
        assert_eq!(scene.times_collected(), usize::from(next_period), "{finally}: the next period");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_retry_recovers_the_charge_at_each_rung() {
    for (declines, day) in [(1, 3), (2, 7), (3, 12)] {
        let (scene, ann) = Scene::scripted(&format!("insufficient_funds x{declines}, ok")).await;
        scene.days(16).await;
        let story = scene.story();
        let end = [format!("day {day}: paid"), format!("day {day}: mail: thank you")];
        assert_eq!(story[story.len() - 2..], end, "{story:?}");
        assert_eq!(scene.books().payment_intents.len(), 1, "the same PaymentIntent each time");
        assert_eq!(scene.subscription_state(&ann).await, "active");
        scene.agree().await;
    }
}

#[tokio::test]
async fn where_no_machine_may_try_the_ladder_still_has_its_mails_and_its_end() {
    let (scene, _) = Scene::scripted("expired_card").await;
    scene.days(16).await;
    let story = [
        "day 0: declined, expired_card",
        "day 0: mail: failed",
        "day 7: mail: reminder",
        "day 12: mail: last notice",
        "day 15: mail: subscription ended",
    ];
    assert_eq!(scene.story(), story);
}

#[tokio::test]
async fn a_link_recovers_the_charge_and_its_card_is_charged_from_then_on() {
    let (scene, _) = Scene::scripted("lost_card").await;
    scene.days(1).await;
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&session, "pm_card_mastercard").unwrap();
    scene.days(31).await;
    let story = [
        "day 0: declined, lost_card",
        "day 0: mail: failed",
        "day 0: paid on the page",
        "day 0: mail: thank you",
        "day 31: paid",
    ];
    assert_eq!(scene.story(), story);
    let charges = scene.books().charges;
    assert_eq!(charges[1].fingerprint, charges[2].fingerprint, "the new card");
    assert_ne!(charges[0].fingerprint, charges[2].fingerprint, "not the lost one");
    scene.agree().await;
}

#[tokio::test]
async fn a_card_refused_on_the_page_can_be_followed_by_another() {
    let (scene, _) = Scene::scripted("lost_card").await;
    scene.due().await;
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&session, "pm_card_visa_chargeDeclined").unwrap();
    scene.tick().await;
    assert_eq!(scene.letters(), ["failed"], "a refusal on the page is between the customer and the page");
    scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
    scene.hours(1).await;
    assert_eq!(
        (scene.times_collected(), scene.letters()),
        (1, vec!["failed".to_owned(), "thank you".to_owned()])
    );
    scene.agree().await;
}

#[tokio::test]
async fn a_bank_that_wants_a_confirmation_gets_it_on_the_page() {
    let (scene, _) = Scene::ann("pm_card_authenticationRequired").await;
    scene.due().await;
    assert_eq!(scene.letters(), ["please confirm"]);
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    let entry = recurd::sandbox::CardEntry {
        card: "pm_card_authenticationRequired".into(),
        terms_accepted: true,
        ..Default::default()
    };
    let step = scene.world.sandbox.submit_card(&session, &entry).unwrap();
    assert_eq!(step, recurd::sandbox::PageStep::Authenticate);
    scene.hours(1).await;
    assert_eq!(scene.times_collected(), 0);
}

#[tokio::test]
async fn the_end_of_one_ladder_ends_the_subscriptions_other_open_charge_without_a_mail() {
    let weekly = "[plans.weekly]\nname = \"Weekly\"\nprice = \"5.00 EUR\"\nevery = \"1 week\"\n";
    let scene = Scene::with(weekly).await;
    let ann = scene.person("ann", "pm_card_visa", "weekly", DUE).await;
    scene.world.sandbox.script_card(&ann.card, "expired_card").unwrap();
    scene.days(30).await;
    assert_eq!(scene.states().await, ["uncollectible", "canceled", "canceled"]);
    let ends = scene.letters().iter().filter(|mail| *mail == "subscription ended").count();
    assert_eq!(ends, 1, "{:?}", scene.story());
    assert_eq!(scene.subscription_state(&ann).await, "canceled");
    let open = scene.books().payment_intents.into_iter().filter(|one| one.status != "canceled").count();
    assert_eq!(open, 0, "nothing may be paid any more");
}

#[tokio::test]
async fn without_http_each_mail_carries_stripes_own_page_and_polling_settles_it() {
    let scene = Scene::direct().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.world.sandbox.script_card(&ann.card, "insufficient_funds").unwrap();
    scene.no_events();
    scene.until("2026-01-13T00:00:00Z", Duration::from_secs(3600)).await;
    let mails = scene.customer_mails();
    assert_eq!(scene.letters(), ["failed", "reminder"]);
    let link =
        |at: usize| session_in(mails[at].text.split_whitespace().find(|word| word.contains("/cs_")).unwrap());
    let (first, second) = (link(0), link(1));
    let status = |id: &str| scene.books().sessions.into_iter().find(|one| one.id == id).unwrap().status;
    assert_eq!((status(&first), status(&second)), ("expired", "open"), "at most one can be paid");
    scene.world.sandbox.complete_session(&second, "pm_card_visa").unwrap();
    scene.days(2).await;
    assert_eq!((scene.states().await, scene.times_collected()), (vec!["paid"], 1));
    scene.agree().await;
}

#[tokio::test]
async fn a_link_made_by_hand_for_a_charge_that_was_given_up_opens_nothing() {
    let (scene, _) = Scene::scripted("expired_card").await;
    scene.days(16).await;
    let charge = scene.charge().await.charge;
    let opened = pay_link::open(&scene.world.ctx, charge.id, pay_link::CLICK_LIFE).await.unwrap();
    assert_eq!((opened, scene.books().sessions.len()), (Opened::Closed, 0));
}

/// Funds wait for a Friday; everything else is tried again after three days.
const BY_CLASS: &str = r#"
[dunning]
steps = [ { after = "0 days", mail = "payment_failed" }, { after = "3 days", retry = true } ]
finally_after = "3 days"
[dunning.classes.funds]
steps = [ { after = "0 days", mail = "payment_failed" }, { after = "2 days", retry = true, on = ["friday"] } ]
"#;

#[tokio::test]
async fn each_class_goes_its_own_ladder_and_keeps_it() {
    for (script, day) in [
        ("do_not_honor, ok", 3),
        // From Monday the 5th on.
        ("insufficient_funds, ok", 4),
    ] {
        let scene = Scene::laddered(BY_CLASS).await;
        let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
        scene.world.sandbox.script_card(&ann.card, script).unwrap();
        scene.days(8).await;
        assert_eq!(scene.story()[2], format!("day {day}: paid"), "{script}: {:?}", scene.story());
    }
    // The second decline is of another class: the ladder stays that of the first, and ends three days later.
    let scene = Scene::laddered(BY_CLASS).await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.world.sandbox.script_card(&ann.card, "insufficient_funds, do_not_honor x9").unwrap();
    scene.days(8).await;
    assert_eq!(scene.story()[2..], ["day 4: declined, do_not_honor", "day 7: mail: subscription ended"]);
}

#[tokio::test]
async fn steps_wait_for_the_customers_hours() {
    let ladder = "[dunning]\nsteps = [ { after = \"0 days\", mail = \"payment_failed\" }, { after = \"3 days\", \
        retry = true } ]\nwindow = \"14-16\"\nweekdays = [\"tuesday\", \"monday\"]\n";
    let scene = Scene::laddered(ladder).await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.world.sandbox.script_card(&ann.card, "do_not_honor, ok").unwrap();
    scene.due().await;
    assert!(scene.letters().is_empty(), "not at ten in the morning: {:?}", scene.story());
    scene.days(9).await;
    assert_eq!(scene.story()[1..3], ["day 0: mail: failed", "day 7: paid"]);
    let paid = jiff::Timestamp::from_second(scene.books().charges[1].created).unwrap();
    assert_eq!(paid.strftime("%A %H").to_string(), "Monday 14");
}

/// The configuration as it is after an edit and a restart.
fn restarted_with(scene: &mut Scene, ladder: Ladder) {
    let mut config = (*scene.world.ctx.config).clone();
    config.dunning.all.ladder = ladder;
    scene.world.ctx.config = Arc::new(config);
}

#[tokio::test]
async fn a_changed_ladder_is_for_new_cases_until_somebody_moves_the_open_ones() {
    for moves in [false, true] {
        let mut scene = Scene::new().await;
        let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
        scene.world.sandbox.script_card(&ann.card, "do_not_honor x2, ok").unwrap();
        scene.days(1).await;
        let mut slower = scene.world.ctx.config.dunning.all.ladder.clone();
        for step in &mut slower.steps[2..] {
            step.after_secs = 9 * 86_400;
        }
        restarted_with(&mut scene, slower);
        let ctx = scene.world.ctx.clone();
        let found = ladders::moves(&ctx, None).await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].possible && found[0].from != found[0].to, "{found:?}");
        assert!(ladders::moves(&ctx, Some("other")).await.unwrap().is_empty());
        if moves {
            scene.command(found[0].charge, ChargeCommand::TakeLadder).await.unwrap();
            assert!(ladders::moves(&ctx, None).await.unwrap().is_empty());
            scene.command(found[0].charge, ChargeCommand::TakeLadder).await.unwrap_err();
        }
        // Of another brand: the networks count tries by card.
        let bob = scene.person("bob", "pm_card_mastercard", "basic", "2026-01-06T11:00:00Z").await;
        scene.world.sandbox.script_card(&bob.card, "do_not_honor x2, ok").unwrap();
        scene.days(14).await;
        let paid: Vec<String> = scene.story().into_iter().filter(|line| line.ends_with(": paid")).collect();
        let expected = if moves { ["day 12: paid", "day 13: paid"] } else { ["day 7: paid", "day 13: paid"] };
        assert_eq!(paid, expected, "{:?}", scene.story());
    }
}

#[tokio::test]
async fn a_case_that_has_gone_further_than_the_new_ladder_is_long_keeps_its_own() {
    let mut scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.world.sandbox.script_card(&ann.card, "do_not_honor x9").unwrap();
    scene.days(8).await;
    let mut shorter = scene.world.ctx.config.dunning.all.ladder.clone();
    shorter.steps.truncate(1);
    restarted_with(&mut scene, shorter);
    let ctx = scene.world.ctx.clone();
    let found = ladders::moves(&ctx, None).await.unwrap();
    assert!(!found[0].possible, "{found:?}");
    scene.command(found[0].charge, ChargeCommand::TakeLadder).await.unwrap_err();
    scene.days(9).await;
    let mails: Vec<String> = scene.letters().into_iter().map(|mail| mail.to_string()).collect();
    assert_eq!(mails, ["failed", "reminder", "last notice", "subscription ended"]);
}

#[tokio::test]
async fn a_plan_may_end_its_ladder_otherwise() {
    let scene = Scene::with("[plans.basic.dunning]\nfinally = \"pause\"\nfinally_after = \"1 day\"\n").await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.world.sandbox.script_card(&ann.card, "do_not_honor x9").unwrap();
    scene.days(14).await;
    assert_eq!(scene.story().last().unwrap(), "day 13: mail: subscription paused");
    assert_eq!(scene.subscription_state(&ann).await, "paused");
}

#[tokio::test]
async fn another_retry_policy_decides_or_only_watches() {
    // Without advice from Stripe by advice nothing is tried again; as a shadow it changes nothing.
    for (more, tries) in [("retry = \"stripe_advice\"\n", 1), ("shadow = \"stripe_advice\"\n", 2)] {
        let scene = Scene::with(more).await;
        let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
        scene.world.sandbox.script_card(&ann.card, "code_of_tomorrow, ok").unwrap();
        scene.days(16).await;
        assert_eq!(scene.tries().len(), tries, "{more}: {:?}", scene.story());
    }
}

#[tokio::test]
async fn the_service_stays_on_for_its_grace() {
    let own = "[plans.basic.dunning]\nfinally = \"pause\"\n";
    for (grace, days) in [
        ("", [("grace", 1), ("grace", 14), ("off", 16)]),
        ("grace = \"5 days\"\n", [("grace", 1), ("grace", 4), ("off", 6)]),
    ] {
        let scene = Scene::with(&format!("{own}{grace}")).await;
        let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
        let store = &scene.world.ctx.store;
        let said = async || {
            let found = store.find_subscription(ann.subscription).await.unwrap().unwrap();
            match service(store, &found, scene.world.ctx.now()).await.unwrap() {
                Service::On => "on",
                Service::Grace { until } => {
                    assert_eq!(until.is_some(), !grace.is_empty());
                    "grace"
                }
                Service::Off => "off",
            }
        };
        assert_eq!(said().await, "on");
        scene.world.sandbox.script_card(&ann.card, "do_not_honor x9").unwrap();
        let mut day = 0;
        for (word, until) in days {
            scene.days(until - day).await;
            day = until;
            assert_eq!(said().await, word, "{grace:?} day {until}");
        }
    }
}

#[tokio::test]
async fn whoever_withdrew_the_permission_is_reminded_all_the_same_until_the_ladder_ends() {
    let (scene, ann) = Scene::scripted("revocation_of_all_authorizations").await;
    scene.days(16).await;
    assert_eq!(
        scene.letters(),
        ["failed", "reminder", "last notice", "subscription ended"],
        "{:?}",
        scene.story()
    );
    assert_eq!((scene.tries().len(), scene.subscription_state(&ann).await), (1, "canceled".into()));
}
