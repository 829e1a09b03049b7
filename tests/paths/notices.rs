//! Mails that must leave before something happens: notices of charges, cards that expire, the end of a subscription. And
//! receipts, which leave after.

use std::time::Duration;

use jiff::Timestamp;
use recurd::billing::charge::State;
use recurd::flows::address;
use recurd::flows::manage::{self, ChargeCommand};
use recurd::mail::Fault;
use recurd::sandbox::SeedCard;

use crate::scene::Person;
use crate::web::Web;
use crate::{DUE, Scene};

/// A plan whose customers are told of each charge a week before, and what a merchant would set beside it.
const TOLD: &str = r#"
[brand]
cancel_url = "https://example.com/cancel"
[plans.told]
name = "Told"
price = "9.00 EUR"
every = "1 month"
notice_before = "7 days"
[plans.tried]
name = "Tried"
price = "9.00 EUR"
every = "1 month"
trial = "10 days"
notice_before = "7 days"
"#;

/// When Ann's first charge falls due: a month after she is known.
const FIRST: &str = "2026-02-05T10:00:00Z";

async fn told() -> (Scene, Person) {
    let scene = Scene::with(TOLD).await;
    let ann = scene.person("ann", "pm_card_visa", "told", FIRST).await;
    (scene, ann)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// When the charges were tried, in order.
fn tried_at(scene: &Scene) -> Vec<Timestamp> {
    scene.books().charges.iter().map(|one| Timestamp::from_second(one.created).unwrap()).collect()
}

#[tokio::test]
async fn a_charge_is_told_of_a_week_before_and_then_collected_when_it_is_due() {
    let (scene, _) = told().await;
    scene.until("2026-01-29T08:00:00Z", Duration::from_secs(3600)).await;
    assert!(scene.charges().await.is_empty(), "too early");
    scene.until("2026-01-29T09:00:00Z", Duration::from_secs(3600)).await;
    let charge = scene.charge().await.charge;
    assert_eq!(
        (charge.state, charge.due_at),
        (State::Due { at: at(FIRST) }, at(FIRST)),
        "due_at stays the period's instant"
    );
    let mail = scene.customer_mails().remove(0);
    for said in ["€9.00", "February 5, 2026", "https://example.com/cancel", "http://127.0.0.1:8080/card/"] {
        assert!(mail.text.contains(said), "no {said}: {}", mail.text);
    }
    scene.until("2026-02-06T10:00:00Z", Duration::from_secs(3600)).await;
    assert_eq!((scene.letters(), tried_at(&scene)), (vec!["notice".to_owned()], vec![at(FIRST)]));
    scene.days(30).await;
    assert_eq!(scene.letters(), ["notice", "notice"], "each charge has its own");
    assert_eq!(tried_at(&scene)[1], at("2026-03-05T10:00:00Z"));
    scene.agree().await;
}

#[tokio::test]
async fn a_charge_waits_until_the_notice_was_accepted_and_its_time_has_passed() {
    let (scene, _) = told().await;
    scene.mails.fail_always(Some(Fault::Temporary));
    scene.until("2026-01-30T15:00:00Z", Duration::from_secs(3600)).await;
    scene.mails.fail_always(None);
    scene.until("2026-02-10T00:00:00Z", Duration::from_secs(3600)).await;
    let accepted = scene.customer_mails()[0].date;
    assert!(accepted > at("2026-01-30T00:00:00Z"), "{accepted}");
    let shown = scene.customer_mails().remove(0).text;
    assert!(shown.contains("February 6, 2026"), "the mail says the day on which it is collected: {shown}");
    assert_eq!(tried_at(&scene).len(), 1);
    let waited = tried_at(&scene)[0].duration_since(accepted).as_secs();
    assert!((7 * 86_400..7 * 86_400 + 3600).contains(&waited), "{waited}");
    scene.agree().await;
}

#[tokio::test]
async fn a_charge_whose_notice_had_no_address_is_told_of_and_collected_after_the_correction() {
    let (scene, ann) = told().await;
    scene.until("2026-01-29T08:00:00Z", Duration::from_secs(3600)).await;
    scene.mails.fail_next(Fault::Permanent);
    scene.until("2026-02-01T12:00:00Z", Duration::from_secs(3600)).await;
    assert_eq!(scene.states().await, ["needs_review"]);
    let ctx = &scene.world.ctx;
    let before = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let plan = address::look(ctx, &before, "ann@new.example.com").await.unwrap();
    assert_eq!(address::correct(ctx, &before, "ann@new.example.com", plan, "test").await.unwrap().charges, 1);
    scene.days(9).await;
    assert_eq!((scene.states().await, scene.letters()), (vec!["paid"], vec!["notice".to_owned()]));
    let told_at = scene.customer_mails()[0].date;
    assert!(tried_at(&scene)[0].duration_since(told_at).as_hours() >= 7 * 24, "{:?}", scene.story());
    scene.agree().await;
}

#[tokio::test]
async fn a_charge_whose_notice_cannot_be_delivered_goes_to_a_person_and_is_collected_when_that_says_so() {
    for fault in [Fault::Permanent, Fault::Temporary] {
        let (scene, _) = told().await;
        scene.until("2026-01-29T08:00:00Z", Duration::from_secs(3600)).await;
        if fault == Fault::Permanent {
            scene.mails.fail_next(fault)
        } else {
            scene.mails.fail_always(Some(fault))
        }
        scene.until("2026-01-31T18:00:00Z", Duration::from_secs(3600)).await;
        assert_eq!(scene.states().await, ["needs_review"], "{fault:?}: before it is due");
        scene.mails.fail_always(None);
        scene.days(5).await;
        assert_eq!((scene.times_collected(), scene.letters().len()), (0, 0), "{fault:?}");
        assert!(
            scene.alarms().iter().any(|alarm| alarm.contains("recurd charges collect")),
            "{:?}",
            scene.alarms()
        );
        scene.command(scene.charge().await.charge.id, ChargeCommand::CollectNow).await.unwrap();
        scene.tick().await;
        assert_eq!(scene.states().await, ["paid"], "{fault:?}: a person decided");
    }
}

#[tokio::test]
async fn whoever_dies_before_a_lost_notice_is_told_leaves_a_charge_that_asks_when_it_is_due() {
    let (scene, _) = told().await;
    scene.until("2026-01-29T09:00:00Z", Duration::from_secs(3600)).await;
    scene
        .execute("UPDATE outbox SET state = 'failed', error = 'no such address' WHERE step = 'notice'")
        .await;
    scene.until("2026-02-05T09:00:00Z", Duration::from_secs(3600)).await;
    assert_eq!(scene.states().await, ["due"]);
    scene.days(2).await;
    assert_eq!((scene.states().await, scene.times_collected()), (vec!["needs_review"], 0));
    assert_eq!(scene.alarms().len(), 1);
}

#[tokio::test]
async fn a_subscription_canceled_after_the_notice_is_not_charged() {
    for mail_server_is_down in [false, true] {
        let (scene, ann) = told().await;
        if mail_server_is_down {
            scene.mails.fail_always(Some(Fault::Temporary));
        }
        scene.until("2026-01-29T12:00:00Z", Duration::from_secs(3600)).await;
        manage::cancel(&scene.world.ctx, ann.subscription, "test", "").await.unwrap();
        scene.mails.fail_always(None);
        scene.days(40).await;
        assert_eq!((scene.times_collected(), scene.states().await), (0, vec!["canceled"]));
        let mails = usize::from(!mail_server_is_down);
        assert_eq!(scene.letters().len(), mails, "no notice of what was canceled: {:?}", scene.letters());
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_paused_subscription_is_told_when_it_goes_on_and_charged_after_that() {
    let (scene, ann) = told().await;
    scene.mails.fail_next(Fault::Temporary);
    scene.until("2026-01-29T09:00:00Z", Duration::from_secs(3600)).await;
    manage::pause(&scene.world.ctx, ann.subscription, "test", "").await.unwrap();
    scene.until("2026-02-05T00:00:00Z", Duration::from_secs(3600)).await;
    assert!(scene.letters().is_empty());
    manage::resume(&scene.world.ctx, ann.subscription, "test").await.unwrap();
    scene.days(3).await;
    assert_eq!((scene.letters(), scene.times_collected()), (vec!["notice".to_owned()], 0));
    let accepted = scene.customer_mails()[0].date;
    scene.days(6).await;
    assert!(tried_at(&scene)[0].duration_since(accepted).as_secs() >= 7 * 86_400);
}

#[tokio::test]
async fn a_charge_that_falls_due_before_its_notice_could_leave_waits() {
    let scene = Scene::with(TOLD).await;
    // Imported when the trial has a day left, and the mail server is down until after that.
    scene.person("bob", "pm_card_visa", "tried", "2025-12-27T10:00:00Z").await;
    scene.mails.fail_always(Some(Fault::Temporary));
    scene.until("2026-01-06T20:00:00Z", Duration::from_secs(3600)).await;
    assert_eq!((scene.states().await, scene.tries().len()), (vec!["due"], 0));
    scene.mails.fail_always(None);
    scene.days(9).await;
    let accepted = scene.customer_mails()[0].date;
    assert_eq!((scene.letters(), tried_at(&scene).len()), (vec!["notice".to_owned()], 1));
    assert!(tried_at(&scene)[0].duration_since(accepted).as_secs() >= 7 * 86_400, "{accepted}");
}

#[tokio::test]
async fn what_was_just_agreed_to_needs_no_notice_and_the_end_of_a_trial_does() {
    let scene = Scene::with(TOLD).await;
    scene.person("ann", "pm_card_visa", "told", DUE).await;
    scene.person("bob", "pm_card_visa", "tried", DUE).await;
    scene.days(12).await;
    assert_eq!(scene.story(), ["day 0: paid", "day 2: mail: notice", "day 10: paid"]);
    scene.agree().await;
}

#[tokio::test]
async fn a_plan_that_tells_of_one_kind_of_charge_collects_the_others_without_a_mail() {
    for (told, story) in [
        ("trial end", ["day 2: mail: notice", "day 10: paid", "day 41: paid"]),
        ("renewal", ["day 10: paid", "day 33: mail: notice", "day 41: paid"]),
    ] {
        let plan = "[plans.one]\nname = \"One\"\nprice = \"9.00 EUR\"\nevery = \"1 month\"\ntrial = \"10 days\"\nnotice_before = \"7 days\"";
        let scene = Scene::with(&format!("{plan}\nnotice_for = [\"{told}\"]\n")).await;
        scene.person("ann", "pm_card_visa", "one", DUE).await;
        scene.until("2026-02-20T00:00:00Z", Duration::from_secs(6 * 3600)).await;
        assert_eq!(scene.story(), story, "{told}");
    }
}

#[tokio::test]
async fn a_decline_after_a_notice_is_retried_without_another() {
    let (scene, ann) = told().await;
    scene.world.sandbox.script_card(&ann.card, "insufficient_funds, ok").unwrap();
    scene.until("2026-02-09T10:00:00Z", Duration::from_secs(3600)).await;
    assert_eq!(scene.letters(), ["notice", "failed", "thank you"]);
    assert_eq!(tried_at(&scene), [at(FIRST), at("2026-02-08T10:00:00Z")]);
}

#[tokio::test]
async fn a_notice_that_may_have_arrived_counts_from_when_it_surely_did() {
    let (scene, _) = told().await;
    scene.mails.fail_next(Fault::Unknown { arrived: true });
    scene.until("2026-01-29T09:00:00Z", Duration::from_secs(3600)).await;
    scene.mails.fail_always(Some(Fault::Temporary));
    scene.until("2026-01-30T15:00:00Z", Duration::from_secs(3600)).await;
    scene.mails.fail_always(None);
    scene.until("2026-02-10T00:00:00Z", Duration::from_secs(3600)).await;
    let mails = scene.customer_mails();
    assert_eq!((mails.len(), &mails[0].message_id), (2, &mails[1].message_id));
    assert_eq!(tried_at(&scene).len(), 1);
    assert!(tried_at(&scene)[0].duration_since(mails[1].date).as_secs() >= 7 * 86_400);
}

/// Ann's card ends with this month; her charges fall due on the fifth.
async fn expiring(month: i64) -> Scene {
    let scene = Scene::new().await;
    let _ = scene.world.sandbox.seed_customer("cus_ann", None, None);
    let card = SeedCard {
        id: "pm_card_visa_ann".into(),
        customer: "cus_ann".into(),
        expires: Some((month, 2026)),
        ..SeedCard::default()
    };
    scene.world.sandbox.seed_card(&card).unwrap();
    scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene
}

#[tokio::test]
async fn whose_card_expires_hears_of_it_a_month_and_a_week_before_once_each() {
    let scene = expiring(2).await;
    scene.until("2026-03-04T00:00:00Z", Duration::from_secs(6 * 3600)).await;
    assert_eq!(
        scene.story(),
        [
            "day 0: paid",
            // Until the fifth of February the next charge falls before the card's end.
            "day 31: paid",
            "day 31: mail: card expires soon",
            "day 47: mail: card about to expire",
        ]
    );
    let mail = scene.customer_mails().remove(0);
    assert!(mail.text.contains("February 28, 2026") && mail.text.contains("ending in 4242"), "{}", mail.text);
    let (_, token) = mail.text.split_once("/card/").unwrap();
    let token: String = token.chars().take_while(char::is_ascii_hexdigit).collect();
    let web = Web::open(&scene).await;
    let session = web.post(&format!("/card/{token}")).await.session();
    scene.world.sandbox.complete_session(&session, "pm_card_mastercard").unwrap();
    scene.until("2026-03-06T00:00:00Z", Duration::from_secs(6 * 3600)).await;
    assert_eq!(scene.times_collected(), 3);
}

#[tokio::test]
async fn a_card_that_was_replaced_or_has_nothing_to_pay_is_not_written_about() {
    let scene = expiring(2).await;
    scene.until("2026-02-05T18:00:00Z", Duration::from_secs(6 * 3600)).await;
    assert_eq!(scene.letters(), ["card expires soon"]);
    scene.world.sandbox.update_card("pm_card_visa_ann");
    scene.until("2026-03-04T00:00:00Z", Duration::from_secs(6 * 3600)).await;
    assert_eq!(scene.letters().len(), 1, "the bank has sent a new one: {:?}", scene.letters());

    let scene = expiring(1).await;
    let ctx = &scene.world.ctx;
    let ann = ctx.store.list_subscriptions(None, 0, 1).await.unwrap().remove(0);
    manage::cancel(ctx, ann.subscription_id(), "test", "").await.unwrap();
    scene.until("2026-02-02T00:00:00Z", Duration::from_secs(6 * 3600)).await;
    assert!(scene.letters().is_empty(), "nothing will be charged: {:?}", scene.letters());
}

#[tokio::test]
async fn each_payment_has_one_mail_where_receipts_are_wanted() {
    let receipts = |script: &'static str| async move {
        let scene = Scene::with("").await;
        let mut config = (*scene.world.ctx.config).clone();
        config.mail.receipts = true;
        let mut scene = scene;
        scene.world.ctx.config = config.into();
        let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
        scene.world.sandbox.script_card(&ann.card, script).unwrap();
        scene
    };
    let scene = receipts("ok").await;
    scene.days(1).await;
    assert_eq!(scene.letters(), ["receipt"]);
    let mail = scene.customer_mails().remove(0);
    assert!(mail.text.contains("€9.00") && mail.text.contains("Paid on January 5, 2026"), "{}", mail.text);

    let scene = receipts("insufficient_funds, ok").await;
    scene.days(4).await;
    assert_eq!(scene.letters(), ["failed", "thank you"], "one mail for one payment");

    // The mail about the decline never left, so a word of thanks would surprise.
    let scene = receipts("insufficient_funds, ok").await;
    scene.mails.fail_next(Fault::Temporary);
    scene.until("2026-01-05T10:00:00Z", Duration::from_secs(3600)).await;
    scene.execute("UPDATE outbox SET wake_at = 1767988800 WHERE template = 'payment_failed'").await;
    scene.days(6).await;
    assert_eq!(scene.letters(), ["receipt"], "{:?}", scene.story());
}
