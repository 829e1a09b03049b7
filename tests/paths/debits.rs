//! A bank debit on the payment page: days pass until Stripe knows, and nobody else may take the money meanwhile.

use recurd::billing::ids::ChargeId;
use recurd::flows::enrol;
use recurd::flows::manage::{self, ChargeCommand};
use recurd::flows::pay_link::{self, Opened};
use recurd::mail::Fault;
use recurd::sandbox::PageStep;
use serde_json::json;

use crate::scene::{Person, session_in};
use crate::web::Web;
use crate::{DUE, Scene};

/// A bank account that is debited after five days.
const PAYS: &str = "DE03 0000 0000 0000 0000 12";
/// And one that turns out not to be, after five days.
const FAILS: &str = "DE73 0000 0000 0000 0000 13";

/// Ann's card is declined, and she has clicked on the link: the page in front of her takes debits too.
async fn on_the_page(card: &str) -> (Scene, Web, Person, String) {
    let scene = Scene::with("[stripe.page_methods]\neur = [\"sepa_debit\"]\n").await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.world.sandbox.script_card(&ann.card, card).unwrap();
    scene.due().await;
    let web = Web::open(&scene).await;
    let page = web.click(&scene.token()).await.session();
    (scene, web, ann, page)
}

fn gives(scene: &Scene, page: &str, account: &str) {
    let step = scene.world.sandbox.complete_session(page, account).unwrap();
    assert!(matches!(step, PageStep::Done { .. }), "{step:?}");
}

async fn id(scene: &Scene) -> ChargeId {
    scene.charge().await.charge.id
}

#[tokio::test]
async fn a_debit_is_waited_for_and_pays_once_and_saves_nothing() {
    for events in [true, false] {
        let (scene, _, ann, page) = on_the_page("insufficient_funds, ok").await;
        if !events {
            scene.no_events();
        }
        gives(&scene, &page, PAYS);
        scene.days(4).await;
        assert_eq!(scene.state().await.as_str(), "processing", "events: {events}");
        assert_eq!(
            (scene.tries().len(), scene.letters()),
            (2, vec!["failed".to_owned()]),
            "the retry of day 3 waits"
        );
        scene.days(2).await;
        let story = [
            "day 0: declined, insufficient_funds",
            "day 0: paid on the page",
            "day 0: mail: failed",
            "day 5: mail: thank you",
        ];
        assert_eq!(scene.story(), story, "events: {events}");
        let thanks = &scene.customer_mails()[1].text;
        assert!(thanks.contains("Paid on January 10, 2026.") && !thanks.contains("card"), "{thanks}");
        let saved = scene.shown_at_stripe("/v1/customers/cus_ann/payment_methods");
        assert_eq!(saved["data"].as_array().unwrap().len(), 1, "{saved}");
        scene.goes_on_with_the_card(&ann).await;
    }
}

#[tokio::test]
async fn a_debit_that_fails_is_told_and_the_ladder_goes_on() {
    for events in [true, false] {
        let (scene, _, _, page) = on_the_page("insufficient_funds x2, ok").await;
        if !events {
            scene.no_events();
        }
        gives(&scene, &page, FAILS);
        scene.days(10).await;
        let story = [
            "day 0: declined, insufficient_funds",
            "day 0: declined on the page, debit_not_authorized",
            "day 0: mail: failed",
            "day 5: declined, insufficient_funds",
            "day 5: mail: failed",
            "day 9: paid",
            "day 9: mail: thank you",
        ];
        let mut told = scene.story();
        told.sort();
        assert_eq!(
            told,
            {
                let mut story = story;
                story.sort_unstable();
                story
            },
            "events: {events}"
        );
        let mail = &scene.customer_mails()[1].text;
        assert!(
            mail.contains("/pay/") && !mail.contains("card's balance") && !mail.contains("We tried"),
            "{mail}"
        );
        assert_eq!(
            scene.number("SELECT COUNT(*) FROM network_budget").await,
            2,
            "a debit is no try of a card"
        );
        scene.agree().await;
    }
}

#[tokio::test]
async fn after_a_failed_debit_the_link_opens_another_page_and_its_card_is_saved() {
    let (scene, web, ann, page) = on_the_page("lost_card").await;
    gives(&scene, &page, FAILS);
    scene.days(6).await;
    assert_eq!((scene.state().await.as_str(), scene.letters().len()), ("past_due", 2));
    let again = web.click(&scene.token()).await.session();
    assert_ne!(again, page);
    gives(&scene, &again, "pm_card_mastercard");
    scene.days(1).await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1));
    let customer = scene.world.ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    assert_eq!(customer.card_brand.as_deref(), Some("mastercard"));
    assert_eq!(scene.number("SELECT COUNT(*) FROM consent WHERE how = 'checkout'").await, 1);
    scene.weeks(5).await;
    assert_eq!(scene.times_collected(), 2, "the next period is collected from it");
    scene.agree().await;
}

#[tokio::test]
async fn who_gives_accounts_that_fail_again_and_again_puts_off_the_end_only_twice() {
    let (scene, web, _, _) = on_the_page("lost_card").await;
    let (mut debits, mut refused) = (0, 0);
    for _ in 0..45 {
        if let Some(page) = web.click(&scene.token()).await.location.as_deref().map(session_in) {
            let methods =
                scene.shown_at_stripe(&format!("/v1/checkout/sessions/{page}"))["payment_method_types"]
                    .clone();
            match scene.world.sandbox.complete_session(&page, FAILS).unwrap() {
                PageStep::Done { .. } => debits += 1,
                PageStep::Refused { .. } => {
                    assert_eq!(methods, json!(["card"]), "{:?}", scene.story());
                    refused += 1;
                }
                PageStep::Authenticate => panic!("an account asks for nothing"),
            }
        }
        scene.days(1).await;
    }
    assert!(debits == 2 && refused > 0, "{debits} debits, {refused} refused: {:?}", scene.story());
    assert_eq!(
        (scene.state().await.as_str(), scene.letters().last().unwrap().as_str()),
        ("uncollectible", "subscription ended")
    );
    scene.agree().await;
}

#[tokio::test]
async fn while_the_bank_works_the_link_says_so_and_opens_nothing() {
    let (scene, web, _, page) = on_the_page("insufficient_funds, ok").await;
    gives(&scene, &page, PAYS);
    let back = web.get(&format!("/return/paid?session_id={page}")).await;
    for seen in [back, web.look(&scene.token()).await, web.click(&scene.token()).await] {
        assert!(seen.status == 200 && seen.location.is_none(), "{seen:?}");
        assert!(
            seen.text.contains("on its way") && seen.text.contains("do not pay it a second time"),
            "{}",
            seen.text
        );
        assert!(!seen.text.contains("<form"), "{}", seen.text);
    }
    assert!(scene.command(id(&scene).await, ChargeCommand::CollectNow).await.is_err());
    scene.days(6).await;
    assert_eq!((scene.books().sessions.len(), scene.times_collected()), (1, 1));
    scene.agree().await;
}

#[tokio::test]
async fn a_cancel_meanwhile_waits_for_the_bank() {
    for (account, state, collected) in [(PAYS, "paid", 1), (FAILS, "canceled", 0)] {
        let (scene, _, ann, page) = on_the_page("insufficient_funds, ok").await;
        gives(&scene, &page, account);
        scene.hours(2).await;
        if account == PAYS {
            manage::cancel(&scene.world.ctx, ann.subscription, "test", "moved away").await.unwrap();
        } else {
            scene.command(id(&scene).await, ChargeCommand::Cancel).await.unwrap();
        }
        scene.days(4).await;
        assert_eq!(scene.state().await.as_str(), "closing", "{account}");
        scene.days(8).await;
        assert_eq!(
            (scene.charges().await[0].charge.state.as_str(), scene.times_collected()),
            (state, collected)
        );
        assert_eq!(scene.told_of_late_money(), account == PAYS, "{:?}", scene.alarms());
        assert_eq!(scene.letters().iter().filter(|mail| *mail == "failed").count(), 1, "{:?}", scene.story());
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_debit_that_goes_back_stays_back() {
    let (scene, _, _, page) = on_the_page("insufficient_funds, ok").await;
    gives(&scene, &page, PAYS);
    scene.days(6).await;
    let charge = scene.books().charges.last().unwrap().id.clone();
    scene.at_stripe("/v1/refunds", &[("charge", charge.as_str())]);
    scene.days(10).await;
    assert_eq!((scene.state().await.as_str(), scene.charge().await.refunded_minor), ("paid", 900));
    assert_eq!((scene.tries().len(), scene.letters()), (2, vec!["failed".into(), "thank you".into()]));
}

#[tokio::test]
async fn a_ladder_that_ended_meanwhile_gives_the_time_to_pay_again() {
    let (scene, web, _, first) = on_the_page("lost_card").await;
    scene.days(14).await;
    assert!(scene.letters().contains(&"last notice".to_owned()), "{:?}", scene.story());
    assert!(scene.world.sandbox.complete_session(&first, PAYS).is_err(), "that page is over");
    let page = web.click(&scene.token()).await.session();
    gives(&scene, &page, FAILS);
    scene.days(7).await;
    assert_eq!(scene.state().await.as_str(), "past_due", "it was to end on day 15: {:?}", scene.story());
    assert_eq!(scene.letters().last().unwrap(), "failed");
    scene.days(2).await;
    assert_eq!(
        (scene.state().await.as_str(), scene.letters().last().unwrap().as_str()),
        ("uncollectible", "subscription ended")
    );
    scene.agree().await;
}

#[tokio::test]
async fn a_daemon_that_slept_while_the_bank_said_no_tells_it_all_the_same() {
    let (scene, _, _, page) = on_the_page("lost_card").await;
    gives(&scene, &page, FAILS);
    scene.no_events();
    scene.world.clock.advance(std::time::Duration::from_secs(6 * 86_400));
    assert_eq!(scene.state().await.as_str(), "link_open", "nobody has looked");
    scene.hours(6).await;
    assert_eq!(
        (scene.state().await.as_str(), scene.letters()),
        ("past_due", vec!["failed".into(), "failed".into()])
    );
    scene.agree().await;
}

#[tokio::test]
async fn a_reminder_that_falls_due_meanwhile_waits_and_leaves_only_if_the_bank_says_no() {
    for (account, told) in [(PAYS, vec![]), (FAILS, vec!["failed", "failed"])] {
        let scene = Scene::with("[stripe.page_methods]\neur = [\"sepa_debit\"]\n").await;
        scene.person("ann", "pm_card_sandbox_lost", "basic", DUE).await;
        scene.mails.fail_always(Some(Fault::Temporary));
        scene.due().await;
        let charge = scene.charge().await;
        let link = pay_link::open(&scene.world.ctx, charge.charge.id, pay_link::CLICK_LIFE).await.unwrap();
        let Opened::Url(url) = link else { panic!("{link:?}") };
        gives(&scene, &session_in(&url), account);
        scene.hours(1).await;
        scene.mails.fail_always(None);
        scene.days(4).await;
        assert!(scene.letters().is_empty(), "the first mail waits: {:?}", scene.story());
        scene.days(3).await;
        assert_eq!(scene.letters(), told, "who never heard of a decline is not thanked: {:?}", scene.story());
    }
}

#[tokio::test]
async fn only_the_page_that_collects_in_this_currency_takes_debits() {
    let usd = "[plans.us]\nname = \"US\"\nprice = \"9.00 USD\"\nevery = \"1 month\"\n\
        [stripe.page_methods]\neur = [\"sepa_debit\"]\n";
    let scene = Scene::with(usd).await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    let bob = scene.person("bob", "pm_card_visa", "us", DUE).await;
    for one in [&ann, &bob] {
        scene.world.sandbox.script_card(&one.card, "lost_card").unwrap();
    }
    scene.due().await;
    let ctx = &scene.world.ctx;
    let customer = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let mut pages = vec![(session_in(&enrol::open(ctx, &customer, None).await.unwrap()), json!(["card"]))];
    let (_, new) = scene.bob_signs_up().await;
    pages.push((session_in(&enrol::open_pay_now(ctx, &new).await.unwrap()), json!(["card"])));
    let web = Web::open(&scene).await;
    for mail in scene.customer_mails() {
        let (_, rest) = mail.text.split_once("/pay/").unwrap();
        let token: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        let methods =
            if mail.to.email().starts_with("ann") { json!(["card", "sepa_debit"]) } else { json!(["card"]) };
        pages.push((web.click(&token).await.session(), methods));
    }
    assert_eq!(pages.len(), 4);
    for (page, methods) in pages {
        assert_eq!(
            scene.shown_at_stripe(&format!("/v1/checkout/sessions/{page}"))["payment_method_types"],
            methods
        );
    }
}
