//! Card links: another card is saved before (or after) a charge is declined, and what is open is tried with it.

use std::time::Duration;

use recurd::billing::charge::State;
use recurd::billing::dunning::Action;
use recurd::flows::{card_link, manage};

use crate::scene::Person;
use crate::web::Web;
use crate::{DUE, Scene};

pub(crate) async fn token(scene: &Scene, person: &Person) -> String {
    let ctx = &scene.world.ctx;
    let customer = ctx.store.find_customer(person.customer).await.unwrap().unwrap();
    let url = card_link::for_mail(ctx, &customer).await.unwrap();
    let (before, token) = url.rsplit_once('/').unwrap();
    assert_eq!((before, token.len()), ("http://127.0.0.1:8080/card", 32), "128 random bits in hex");
    token.to_owned()
}

/// The fingerprints of the cards that were charged, in order.
fn charged(scene: &Scene) -> Vec<String> {
    scene.books().charges.into_iter().map(|charge| charge.fingerprint).collect()
}

/// Ann saves another card with a click on her link.
async fn saves(scene: &Scene, web: &Web, token: &str, card: &str) {
    let session = web.post(&format!("/card/{token}")).await.session();
    scene.world.sandbox.complete_session(&session, card).unwrap();
}

#[tokio::test]
async fn looking_at_a_card_link_changes_nothing_and_shows_what_the_card_is_for() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
    let requests = scene.books().requests.len();
    for _ in 0..3 {
        let page = web.get(&format!("/card/{token}")).await;
        assert_eq!(page.status, 200);
        for shown in
            ["€9.00", "January 5, 2026", "I allow the merchant to charge this card", "<form method=\"post\">"]
        {
            assert!(page.text.contains(shown), "no {shown}: {}", page.text);
        }
        assert!(
            !page.text.contains("ann") && !page.text.contains("4242"),
            "links get forwarded: {}",
            page.text
        );
    }
    assert_eq!(scene.books().requests.len(), requests, "nothing was asked of Stripe");
    assert_eq!(scene.number("SELECT COUNT(*) FROM enrolment").await, 0);
    let stored = scene.number("SELECT COUNT(*) FROM card_link WHERE length(token_hash) = 64").await;
    assert_eq!(stored, 1, "only the hash of the token is kept");
}

#[tokio::test]
async fn every_miss_is_the_same_404() {
    let (scene, ann) = Scene::scripted("insufficient_funds").await;
    scene.due().await;
    let web = Web::open(&scene).await;
    let (card, pay) = (token(&scene, &ann).await, scene.token());
    let miss = web.get(&format!("/card/{}", "0".repeat(32))).await;
    assert_eq!(miss.status, 404);
    let misses =
        ["/card/short".into(), format!("/card/{pay}"), format!("/pay/{card}"), format!("/card/{card}0")];
    for path in misses {
        for page in [web.get(&path).await, web.post(&path).await] {
            assert_eq!((page.status, &page.text), (404, &miss.text), "{path}");
        }
    }
}

#[tokio::test]
async fn clicks_open_one_page_until_it_is_over() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
    let path = format!("/card/{token}");
    let (one, other) = tokio::join!(web.post(&path), web.post(&path));
    let first = web.post(&path).await.session();
    assert_eq!([one.session(), other.session()], [first.clone(), first.clone()]);
    assert_eq!((one.status, scene.books().sessions.len()), (303, 1));
    scene.world.clock.advance(Duration::from_secs(25 * 3600));
    scene.no_events();
    scene.world.sandbox.tick();
    let second = web.post(&path).await.session();
    assert!(second != first, "the first has expired");
    scene.world.sandbox.complete_session(&second, "pm_card_mastercard").unwrap();
    let page = web.post(&path).await;
    assert!(page.status == 200 && page.text.contains("Your card is saved"), "{page:?}");
    assert!(web.post(&path).await.session() != second, "whoever comes back later may save yet another card");
    assert_eq!(scene.number("SELECT COUNT(*) FROM consent").await, 2, "the import's and the page's");
}

#[tokio::test]
async fn after_an_outage_the_next_click_opens_a_page_that_works() {
    for effect in ["no-answer", "500 not-executed"] {
        let (scene, ann) = Scene::ann("pm_card_visa").await;
        let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
        scene.outage(effect);
        assert_eq!(web.post(&format!("/card/{token}")).await.status, 503, "{effect}");
        scene.world.sandbox.clear_faults();
        scene.until("2026-01-05T09:30:00Z", Duration::from_secs(300)).await;
        saves(&scene, &web, &token, "pm_card_mastercard").await;
        scene.due().await;
        let known = scene.world.ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
        assert_eq!(charged(&scene), [known.card_fingerprint.unwrap()], "{effect}");
        assert_eq!(known.card_brand.as_deref(), Some("mastercard"), "{effect}");
    }
}

#[tokio::test]
async fn a_card_saved_before_the_charge_is_the_one_that_is_charged() {
    // e: the event comes; r: Ann comes back; p: neither, so the page is asked after.
    for who in ["e", "r", "p"] {
        let (scene, ann) = Scene::ann("pm_card_visa_chargeDeclined").await;
        let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
        if who != "e" {
            scene.no_events();
        }
        let session = web.post(&format!("/card/{token}")).await.session();
        scene.world.sandbox.complete_session(&session, "pm_card_mastercard").unwrap();
        if who == "r" {
            let page = web.get(&format!("/return/saved?session_id={session}")).await;
            assert!(page.text.contains("Your card is saved"), "{}", page.text);
        }
        scene.world.clock.advance(Duration::from_secs(300));
        scene.tick().await;
        scene.due().await;
        assert_eq!(scene.story(), ["day 0: paid"], "{who}");
        let consents = "SELECT COUNT(*) FROM consent WHERE how = 'checkout' AND text LIKE 'I allow%' AND setup_intent LIKE 'seti_%'";
        assert_eq!(scene.number(consents).await, 1, "{who}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_card_saved_after_the_decline_is_tried_at_once_on_all_that_is_open() {
    let (scene, ann) = Scene::scripted("expired_card, expired_card").await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:01:00Z").await;
    scene.due().await;
    scene.hours(2).await;
    assert_eq!(scene.states().await, ["past_due", "past_due"]);
    let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
    let page = web.get(&format!("/card/{token}")).await;
    assert!(page.text.contains("as soon as it is saved"), "the page says so before: {}", page.text);
    saves(&scene, &web, &token, "pm_card_mastercard").await;
    // Twice in a row for what the events and the page ask: nothing is done twice.
    scene.tick().await;
    scene.hours(2).await;
    assert_eq!(scene.states().await, ["paid", "paid"], "{:?}", scene.story());
    assert_eq!(scene.times_collected(), 2);
    assert!(scene.letters().contains(&"thank you".to_owned()), "{:?}", scene.letters());
    scene.agree().await;
}

#[tokio::test]
async fn the_card_that_paid_one_link_is_tried_on_the_other_open_charge() {
    let (scene, _) = Scene::scripted("expired_card, expired_card").await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:01:00Z").await;
    scene.due().await;
    scene.hours(2).await;
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&session, "pm_card_mastercard").unwrap();
    scene.hours(2).await;
    assert_eq!(scene.states().await, ["paid", "paid"], "{:?}", scene.story());
    scene.agree().await;
}

#[tokio::test]
async fn a_customer_without_a_card_saves_one_and_the_open_charge_is_collected() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.at_stripe(&format!("/v1/payment_methods/{}/detach", ann.card), &[]);
    scene.due().await;
    scene.hours(1).await;
    assert_eq!((scene.states().await, scene.tries().len()), (vec!["past_due"], 0));
    let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
    saves(&scene, &web, &token, "pm_card_visa").await;
    scene.hours(1).await;
    assert_eq!(scene.story()[1..], ["day 0: paid", "day 0: mail: thank you"]);
    scene.agree().await;
}

#[tokio::test]
async fn the_same_card_saved_again_waits_as_the_card_networks_say() {
    let (scene, ann) = Scene::scripted("insufficient_funds, insufficient_funds, ok").await;
    scene.due().await;
    let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
    for _ in 0..2 {
        saves(&scene, &web, &token, "pm_card_visa").await;
        scene.hours(1).await;
    }
    let State::PastDue { next } = scene.state().await else { panic!("{:?}", scene.charge().await) };
    assert_eq!(
        (next.action, next.at),
        (Action::Collect, "2026-01-08T10:00:00Z".parse().unwrap()),
        "as planned"
    );
    assert_eq!(scene.tries().len(), 1);
    let dropped = "SELECT COUNT(*) FROM outbox WHERE kind = 'try_card' AND state = 'dropped' AND error LIKE 'the card networks%'";
    assert_eq!(scene.number(dropped).await, 2);
}

#[tokio::test]
async fn a_new_card_is_not_tried_on_what_was_canceled_or_is_on_hold() {
    for hold in [false, true] {
        let (scene, ann) = Scene::scripted("expired_card").await;
        scene.due().await;
        let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
        let ctx = &scene.world.ctx;
        match hold {
            true => {
                assert_eq!(ctx.store.hold_customer(&ann.stripe_customer, Some("a dispute")).await.unwrap(), 1)
            }
            false => drop(manage::cancel(ctx, ann.subscription, "test", "").await.unwrap()),
        }
        saves(&scene, &web, &token, "pm_card_mastercard").await;
        scene.days(3).await;
        assert_eq!(scene.times_collected(), 0, "on hold: {hold}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn without_http_the_link_is_stripes_own_page() {
    let scene = Scene::direct().await;
    let ann = scene.person("ann", "pm_card_visa_chargeDeclined", "basic", DUE).await;
    let ctx = &scene.world.ctx;
    let customer = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let url = card_link::for_mail(ctx, &customer).await.unwrap();
    scene.world.sandbox.complete_session(&crate::scene::session_in(&url), "pm_card_mastercard").unwrap();
    scene.due().await;
    assert_eq!(scene.story(), ["day 0: paid"]);
}

#[tokio::test]
async fn new_cards_that_are_declined_too_neither_hasten_nor_delay_the_ladder() {
    let (scene, ann) = Scene::scripted("expired_card").await;
    scene.due().await;
    let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
    for card in ["pm_card_sandbox_lost", "pm_card_chargeCustomerFail"] {
        scene.days(1).await;
        saves(&scene, &web, &token, card).await;
    }
    scene.days(14).await;
    let mails: Vec<String> = scene.story().into_iter().filter(|line| line.contains("mail")).collect();
    assert_eq!(
        mails,
        [
            "day 0: mail: failed",
            "day 7: mail: reminder",
            "day 12: mail: last notice",
            "day 15: mail: subscription ended"
        ]
    );
    assert_eq!(scene.tries()[1], "declined, lost_card", "{:?}", scene.story());
    assert!(scene.tries().len() >= 3, "each was tried at once: {:?}", scene.story());
    scene.agree().await;
}

/// Ann saved a second card on a page; the one she was imported with is still at Stripe, and she agreed to both.
async fn with_two_cards(newest: &str, backup: bool) -> (Scene, Person) {
    let scene = Scene::laddered(&format!("{}backup_card = {backup}\n", crate::scene::LADDER)).await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    let (web, token) = (Web::open(&scene).await, token(&scene, &ann).await);
    saves(&scene, &web, &token, newest).await;
    scene.due().await;
    scene.hours(1).await;
    (scene, ann)
}

#[tokio::test]
async fn a_backup_card_is_tried_once_where_the_merchant_wants_it() {
    let (scene, _) = with_two_cards("pm_card_sandbox_lost", false).await;
    assert_eq!(scene.story(), ["day 0: declined, lost_card", "day 0: mail: failed"], "off by default");
    let (scene, ann) = with_two_cards("pm_card_sandbox_lost", true).await;
    assert_eq!(scene.tries(), ["declined, lost_card", "paid"], "{:?}", scene.story());
    assert_eq!(charged(&scene).iter().collect::<std::collections::BTreeSet<_>>().len(), 2, "two cards");
    scene.weeks(5).await;
    assert_eq!(scene.tries()[2..], ["paid"], "the card that paid is charged from now on");
    assert!(!scene.letters().contains(&"reminder".to_owned()), "{:?}", scene.letters());
    let known = scene.world.ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    assert_eq!(known.payment_method.as_deref(), Some(ann.card.as_str()));
    scene.agree().await;
}

#[tokio::test]
async fn a_backup_card_waits_until_no_retry_is_left_and_is_tried_once() {
    let (scene, ann) = with_two_cards("pm_card_chargeCustomerFail", true).await;
    scene.world.sandbox.script_card(&ann.card, "insufficient_funds").unwrap();
    scene.days(20).await;
    let of_backup = "insufficient_funds";
    let tries = scene.tries();
    assert_eq!(tries.iter().filter(|one| one.contains(of_backup)).count(), 1, "{:?}", scene.story());
    assert_eq!(tries.len(), 5, "the ladder's four tries of the first card, then one: {:?}", scene.story());
    assert!(tries[4].contains(of_backup), "{tries:?}");
    assert_eq!(scene.story().last().unwrap(), "day 15: mail: subscription ended", "the end is where it was");
    scene.agree().await;
}

#[tokio::test]
async fn no_card_is_a_backup_that_the_customer_never_agreed_to_or_whose_number_was_declined() {
    for same_number in [false, true] {
        let scene = Scene::laddered(&format!("{}backup_card = true\n", crate::scene::LADDER)).await;
        let person = scene.person("ann", "pm_card_sandbox_lost", "basic", DUE).await;
        assert_eq!(person.card, "pm_card_sandbox_lost_ann");
        match same_number {
            // The same number again, with consent.
            true => {
                let (web, token) = (Web::open(&scene).await, token(&scene, &person).await);
                saves(&scene, &web, &token, "pm_card_sandbox_lost").await;
            }
            // Another card, which the merchant's shop saved for something else.
            false => {
                let card = recurd::sandbox::SeedCard {
                    id: "pm_shop".into(),
                    customer: person.stripe_customer.clone(),
                    ..Default::default()
                };
                scene.world.sandbox.seed_card(&card).unwrap();
            }
        }
        scene.days(2).await;
        assert_eq!(scene.tries(), ["declined, lost_card"], "same number: {same_number}");
    }
}
