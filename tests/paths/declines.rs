//! What a decline means decides what the machine does, and what the customer hears.

use std::time::Duration;

use jiff::Timestamp;
use recurd::billing::charge::State;
use recurd::billing::dunning::Action;
use recurd::billing::share::Share;
use recurd::flows::manage::ChargeCommand;
use recurd::flows::{figures, manage, pay_link};

use crate::card_links::token;
use crate::web::Web;
use crate::{DUE, Scene};

/// What happens in the four days after a charge got these answers.
async fn story_of(script: &str) -> (Scene, Vec<String>) {
    let (scene, _) = Scene::scripted(script).await;
    scene.days(4).await;
    let story = scene.story();
    (scene, story)
}

#[tokio::test]
async fn what_may_work_later_is_mailed_and_tried_again() {
    for code in [
        "insufficient_funds",
        "card_velocity_exceeded",
        "generic_decline",
        "do_not_honor",
        "code_of_tomorrow",
    ] {
        let (scene, story) = story_of(&format!("{code}, ok")).await;
        let declined = format!("day 0: declined, {code}");
        assert_eq!(
            story,
            [declined.as_str(), "day 0: mail: failed", "day 3: paid", "day 3: mail: thank you"],
            "{code}"
        );
        scene.agree().await;
    }
}

#[tokio::test]
async fn the_second_try_is_silent() {
    let (_, story) = story_of("insufficient_funds x9").await;
    let expected =
        ["day 0: declined, insufficient_funds", "day 0: mail: failed", "day 3: declined, insufficient_funds"];
    assert_eq!(story, expected);
}

#[tokio::test]
async fn a_card_that_only_the_customer_can_mend_is_not_tried_again() {
    for (code, mail) in [
        ("expired_card", "failed"),
        ("incorrect_cvc", "failed"),
        ("incorrect_number", "failed"),
        ("authentication_required", "please confirm"),
        ("lost_card", "failed"),
        ("stolen_card", "failed"),
        ("pickup_card", "failed"),
        ("fraudulent", "failed"),
        ("restricted_card", "failed"),
    ] {
        let (scene, _) = Scene::scripted(&format!("{code}, ok")).await;
        scene.weeks(3).await;
        assert_eq!(scene.tries(), [format!("declined, {code}")], "{code}: tried again by machine");
        assert_eq!(scene.letters()[0], mail, "{code}");
        let at_once = scene.customer_mails()[0].date.as_second() - scene.books().charges[0].created;
        assert!(at_once < 60, "{code}: the link came {at_once} s after the decline");
        assert_eq!(scene.state().await.as_str(), "uncollectible", "{code}");
    }
}

#[tokio::test]
async fn nobody_reads_that_their_card_was_stolen() {
    for code in ["lost_card", "stolen_card", "fraudulent", "pickup_card", "revocation_of_all_authorizations"]
    {
        let (scene, _) = story_of(code).await;
        for mail in scene.customer_mails() {
            let text = format!("{} {} {}", mail.subject.as_str(), mail.text, mail.html.unwrap_or_default());
            for word in ["lost", "stolen", "fraud", "pick up", "pickup", "revo", code] {
                assert!(!text.to_lowercase().contains(word), "{code}: the mail says {word:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_technical_decline_is_tried_again_before_anybody_hears_of_it() {
    for code in ["processing_error", "issuer_not_available", "try_again_later"] {
        let (scene, story) = story_of(&format!("{code}, ok")).await;
        let declined = format!("day 0: declined, {code}");
        assert_eq!(story, [declined.as_str(), "day 1: paid"], "{code}");
        scene.agree().await;
    }
    let (_, story) = story_of("issuer_not_available x9").await;
    assert_eq!(
        story,
        [
            "day 0: declined, issuer_not_available",
            "day 1: declined, issuer_not_available",
            "day 1: mail: failed"
        ],
        "after a day the customer hears of it; the next try is three days later"
    );
}

#[tokio::test]
async fn what_is_ours_to_mend_is_told_to_the_operator_and_to_no_customer() {
    for code in ["merchant_blacklist", "testmode_decline", "currency_not_supported"] {
        let (scene, story) = story_of(&format!("{code}, ok")).await;
        assert_eq!(story, [format!("day 0: declined, {code}")]);
        assert_eq!(scene.state().await.as_str(), "needs_review", "{code}");
        assert!(scene.alarms().iter().any(|alarm| alarm.contains(code)), "{code}: {:?}", scene.alarms());
    }
}

#[tokio::test]
async fn a_withdrawn_permission_stops_the_whole_series() {
    for code in ["revocation_of_all_authorizations", "revocation_of_authorization", "stop_payment_order"] {
        let (scene, ann) = Scene::scripted(&format!("{code}, ok")).await;
        scene.weeks(6).await;
        assert_eq!(
            scene.tries(),
            [format!("declined, {code}")],
            "nothing is tried, not the next period either"
        );
        assert_ne!(scene.subscription_state(&ann).await, "active");
    }
}

#[tokio::test]
async fn a_card_that_was_refused_for_ever_is_tried_for_nothing_else_until_it_is_entered_anew() {
    let (scene, ann) = Scene::scripted("lost_card, ok, ok").await;
    // Her second subscription, and a customer with the same card.
    scene.person("ann", "pm_card_visa", "basic", "2026-01-07T10:00:00Z").await;
    scene.person("bob", "pm_card_visa", "basic", "2026-01-08T10:00:00Z").await;
    scene.days(4).await;
    assert_eq!(scene.tries(), ["declined, lost_card"]);
    assert_eq!(scene.states().await, ["past_due"; 3]);
    assert_eq!(scene.letters(), ["failed"; 3]);
    let of_the_second = &scene.customer_mails()[1].text;
    assert!(of_the_second.contains("Please pay with another card."), "{of_the_second}");
    assert!(!of_the_second.contains("4242"), "nothing was tried: {of_the_second}");
    let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
    let page = web.post(&format!("/card/{token}")).await.session();
    scene.world.sandbox.complete_session(&page, "pm_card_visa").unwrap();
    scene.days(1).await;
    assert_eq!(scene.tries(), ["declined, lost_card", "paid"], "of the charge that the bank never saw");
    assert_eq!(scene.states().await, ["past_due", "paid", "past_due"]);
}

#[tokio::test]
async fn a_card_that_the_bank_refused_for_ever_on_a_page_is_tried_by_no_machine() {
    const LOST: &str = "pm_card_visa_chargeDeclinedLostCard";
    let (scene, _) = Scene::scripted("insufficient_funds").await;
    scene.person("bob", LOST, "basic", "2026-01-08T10:00:00Z").await;
    scene.due().await;
    let session = Web::open(&scene).await.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&session, LOST).unwrap();
    scene.days(4).await;
    let refused = scene.tries().iter().filter(|one| one.contains("lost_card")).count();
    assert_eq!(refused, 1, "on the page, and never by us: {:?}", scene.story());
    assert_eq!(scene.states().await, ["past_due"; 2]);
}

#[tokio::test]
async fn what_was_not_tried_on_a_refused_card_is_tried_when_the_network_sends_its_new_number() {
    let (scene, ann) = Scene::scripted("lost_card").await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-07T10:00:00Z").await;
    scene.days(3).await;
    assert_eq!(scene.tries(), ["declined, lost_card"]);
    scene.world.sandbox.update_card(&ann.card);
    scene.hours(1).await;
    assert_eq!(scene.tries(), ["declined, lost_card", "paid", "paid"]);
    assert_eq!(scene.states().await, ["paid"; 2]);
    scene.agree().await;
}

#[tokio::test]
async fn the_card_networks_limits_hold_whatever_the_ladder_says() {
    let steps: Vec<String> = (0..20).map(|_| "{ after = \"1 hours\", retry = true }".to_owned()).collect();
    let ladder = format!("[dunning]\nsteps = [{}]\nfinally_after = \"1 days\"\n", steps.join(", "));
    let scene = Scene::laddered(&ladder).await;
    let ann = scene.person("ann", "pm_card_visa", "basic", crate::DUE).await;
    scene.world.sandbox.script_card(&ann.card, "insufficient_funds").unwrap();
    scene.weeks(4).await;
    let tries: Vec<i64> = scene.books().charges.iter().map(|charge| charge.created).collect();
    for (most, days) in [(1, 1), (3, 7), (8, 30)] {
        for start in &tries {
            let within = tries.iter().filter(|at| (*start..*start + days * 86_400).contains(*at)).count();
            assert!(within <= most, "{within} tries within {days} days: {:?}", scene.story());
        }
    }
    assert!(tries.len() >= 8, "the ladder wants more: {:?}", scene.story());
}

#[tokio::test]
async fn a_payment_that_stays_pending_is_asked_after_until_it_is_known() {
    let (scene, _) = Scene::ann("pm_card_sandbox_processingThenPaid").await;
    scene.due().await;
    assert!(matches!(scene.state().await, State::Processing { .. }));
    scene.days(4).await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1));
    assert!(scene.letters().is_empty(), "{:?}", scene.letters());
    scene.agree().await;
}

#[tokio::test]
async fn a_pending_payment_that_fails_is_a_decline() {
    let (scene, _) = Scene::ann("pm_card_sandbox_processingThenFailed").await;
    scene.days(4).await;
    assert_eq!(scene.letters(), ["failed"], "{:?}", scene.story());
    assert!(matches!(scene.state().await, State::PastDue { next } if next.action == Action::Collect));
    scene.days(4).await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1));
    scene.agree().await;
}

#[tokio::test]
async fn what_was_declined_days_later_is_on_record_with_its_attempt() {
    let (scene, _) = Scene::ann("pm_card_sandbox_processingThenFailed").await;
    scene.due().await;
    scene.days(8).await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1));
    let attempts = scene.world.ctx.store.attempts(scene.charge().await.charge.id).await.unwrap();
    let told: Vec<_> = attempts.iter().map(|one| (one.state.as_str(), one.class.as_deref())).collect();
    assert_eq!(told, [("declined", Some("funds")), ("paid", None)]);
    let timing = figures::timing(&scene.world.ctx.store, Timestamp::UNIX_EPOCH, |_| {}).await.unwrap();
    assert_eq!((timing.tries, timing.by_class.len()), (2, 1), "{timing:?}");
    assert_eq!(timing.by_class["funds"], Share::new(1, 1));
}

#[tokio::test]
async fn a_retry_that_the_card_networks_put_off_says_until_when() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    // The retry of the first is planned for ten o'clock on this day.
    scene.person("ann", "pm_card_visa", "basic", "2026-01-08T09:30:00Z").await;
    scene.world.sandbox.script_card(&ann.card, "insufficient_funds, insufficient_funds, ok, ok").unwrap();
    scene.until("2026-01-08T10:30:00Z", Duration::from_secs(1800)).await;
    let first = scene.charges().await.remove(0);
    let State::PastDue { next } = first.charge.state else { panic!("{:?}", first.charge) };
    assert!(next.at > scene.now(), "{next:?}");
    assert_eq!(scene.tries().len(), 2, "{:?}", scene.story());
    scene.until(&next.at.to_string(), Duration::from_secs(1800)).await;
    assert_eq!(scene.times_collected(), 1, "{:?}", scene.story());
}

/// A request that gets lost before it arrives.
const NEVER: &str = "no-answer not-executed";

#[tokio::test]
async fn a_retry_that_got_lost_is_not_sent_again_where_another_charge_was_declined_meanwhile() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    // The client itself sends it again twice.
    let script = "insufficient_funds, insufficient_funds, ok, ok";
    scene.lose_a_retry(&ann, "pm_card_visa", script, &[NEVER; 3]).await;
    assert_eq!(scene.states().await, ["collecting", "past_due"], "{:?}", scene.story());
    scene.hours(23).await;
    assert_eq!(scene.tries().len(), 2, "one try a day on one card and amount: {:?}", scene.story());
    scene.days(8).await;
    assert_eq!((scene.states().await, scene.times_collected()), (vec!["paid", "paid"], 2));
    scene.agree().await;
}

#[tokio::test]
async fn a_retry_without_an_answer_counts_as_a_try_for_the_cards_other_charges() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-05T09:30:00Z").await;
    let script = "insufficient_funds, insufficient_funds, insufficient_funds, ok, ok";
    scene.world.sandbox.script_card(&ann.card, script).unwrap();
    scene.no_events();
    scene.days(2).await;
    // The bank declines the first retry and nobody hears of it; the other charge's retry is due at the same time.
    for _ in 0..3 {
        scene.fault("POST", "/v1/payment_intents/*/confirm", "no-answer");
    }
    scene.until("2026-01-09T08:00:00Z", Duration::from_secs(1800)).await;
    assert_eq!(scene.tries().len(), 3, "one try a day on one card and amount: {:?}", scene.story());
    scene.days(8).await;
    assert_eq!((scene.states().await, scene.times_collected()), (vec!["paid", "paid"], 2));
    scene.agree().await;
}

#[tokio::test]
async fn a_retry_that_was_given_up_and_is_declined_after_all_counts_for_the_card_networks() {
    // Its PaymentIntent is left alone after the decline, or canceled by another tool, or by us for a customer who opens a page.
    let cases = [("alone", true), ("alone", false), ("canceled", true), ("canceled", false), ("page", false)];
    for (then, is_told) in cases {
        let case = format!("{then}, told: {is_told}");
        let (scene, ann) = Scene::ann("pm_card_visa").await;
        let script = "insufficient_funds, insufficient_funds, insufficient_funds, ok, ok";
        scene.lose_a_retry(&ann, "pm_card_visa", script, &["arrives-late 20h", NEVER, NEVER]).await;
        assert_eq!(scene.states().await, ["collecting", "past_due"], "{case}: {:?}", scene.story());
        if !is_told {
            scene.no_events();
        }
        scene.hours(18).await;
        assert_eq!(
            (scene.states().await, scene.tries().len()),
            (vec!["past_due", "past_due"], 2),
            "given up"
        );
        let (ctx, id) = (&scene.world.ctx, scene.charges().await[0].charge.id);
        if then == "alone" {
            scene.hours(10).await;
        } else {
            scene.world.clock.set(scene.now().checked_add(Duration::from_secs(2 * 3600)).unwrap());
            scene.world.sandbox.tick();
            assert_eq!(scene.tries().len(), 3, "{case}: {:?}", scene.story());
            if then == "page" {
                pay_link::open(ctx, id, pay_link::CLICK_LIFE).await.unwrap();
                assert_eq!((scene.states().await[0], scene.books().sessions.len()), ("link_open", 1));
            } else {
                scene.touched_at_stripe(then);
            }
            scene.hours(22).await;
        }
        assert_eq!(
            scene.tries().len(),
            3,
            "{case}: one try a day on one card and amount: {:?}",
            scene.story()
        );
        let attempts = ctx.store.attempts(id).await.unwrap();
        let states: Vec<_> = attempts.iter().map(|one| one.state.as_str()).collect();
        assert_eq!(states, ["declined", "declined"], "{case}: {:?}", scene.story());
        scene.days(9).await;
        assert_eq!((scene.states().await, scene.times_collected()), (vec!["paid", "paid"], 2), "{case}");
        scene.agree().await;
    }
}

const ONE_RETRY: &str = r#"
[dunning]
steps = [
  { after = "0 days", mail = "payment_failed" },
  { after = "3 days", retry = true },
  { after = "20 days", mail = "last_notice" },
]
finally_after = "3 days"
"#;

#[tokio::test]
async fn a_retry_that_was_given_up_and_is_paid_after_all_is_booked_also_where_the_charge_rests() {
    // What becomes of the charge when the lost retry is given up, and how often another retry is declined before that.
    for (rests, more) in [("held", 0), ("paused", 0), ("paused", 1)] {
        let scene = Scene::laddered(ONE_RETRY).await;
        let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
        scene.no_events();
        let script = format!("insufficient_funds x{}, ok", 2 + more);
        scene.lose_a_retry(&ann, "pm_card_visa", &script, &["arrives-late 60h", NEVER, NEVER]).await;
        scene.hours(18 + 12 * more).await;
        assert_eq!(
            (scene.states().await[0], scene.tries().len()),
            ("past_due", 2 + more as usize),
            "{rests}"
        );
        let ctx = &scene.world.ctx;
        match rests {
            "held" => {
                assert_eq!(ctx.store.hold_customer(&ann.stripe_customer, Some("a call")).await.unwrap(), 1)
            }
            _ => manage::pause(ctx, ann.subscription, "test", "holiday").await.unwrap(),
        }
        scene.days(22).await;
        assert_eq!(scene.states().await[0], "paid", "{rests}, {more}: {:?}", scene.story());
        scene.agree().await;
    }
}

#[tokio::test]
async fn of_a_retry_that_was_given_up_the_bank_is_heard_also_where_a_later_try_hides_it() {
    let (scene, ann) = Scene::ann("pm_card_mastercard").await;
    scene.no_events();
    let script = "code_of_tomorrow, code_of_tomorrow, insufficient_funds, code_of_tomorrow, ok";
    let effects = ["arrives-late 25h", NEVER, NEVER, "arrives-late 50m", NEVER, NEVER];
    scene.lose_a_retry(&ann, "pm_card_mastercard", script, &effects).await;
    scene.command(scene.charges().await[1].charge.id, ChargeCommand::Cancel).await.unwrap();
    scene.until("2026-01-09T12:00:00Z", Duration::from_secs(120)).await;
    assert_eq!((scene.states().await, scene.tries().len()), (vec!["past_due", "canceled"], 4));
    // Three of four are known to have been within seven days, and the oldest of them is a week old on the twelfth.
    let advised = "SELECT COUNT(*) FROM network_budget WHERE not_before IS NOT NULL";
    assert_eq!(scene.number(advised).await, 0, "{:?}", scene.story());
    scene.until("2026-01-15T10:00:00Z", Duration::from_secs(3600)).await;
    assert_eq!((scene.times_collected(), scene.number(advised).await), (0, 1), "{:?}", scene.story());
    scene.until("2026-01-15T11:00:00Z", Duration::from_secs(1800)).await;
    assert_eq!(scene.times_collected(), 1, "{:?}", scene.story());
    scene.agree().await;
}
