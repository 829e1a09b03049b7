//! iDEAL on the payment page: the customer says yes or no on a page of the bank, and Stripe's page ends paid or not at all.

use recurd::sandbox::Request;
use serde_json::Value;

use crate::scene::Person;
use crate::web::Web;
use crate::{DUE, Scene};

/// Ann's card is declined, she has clicked on the link, and has chosen iDEAL: the bank's page is in front of her.
async fn at_the_bank(card: &str) -> (Scene, Web, Person, String) {
    let scene = Scene::with("[stripe.page_methods]\neur = [\"ideal\"]\n").await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.world.sandbox.script_card(&ann.card, card).unwrap();
    scene.due().await;
    let web = Web::open(&scene).await;
    let page = web.click(&scene.token()).await.session();
    let (status, to, _) = sees(&scene, &Request::post(format!("/c/pay/{page}"), &[("ideal", "yes")]));
    assert_eq!((status, to), (303, Some(format!("/c/pay/{page}/bank"))));
    (scene, web, ann, page)
}

/// What a page of Stripe's or of the bank's answers: status, where it leads, text.
fn sees(scene: &Scene, request: &Request) -> (u16, Option<String>, String) {
    let outcome = scene.world.sandbox.handle(request);
    let answer = outcome.response().expect("an answer");
    let location = answer.headers.get("location").map(|to| to.to_str().unwrap().to_owned());
    (answer.status, location, String::from_utf8_lossy(&answer.body).into_owned())
}

fn looks_at_the_bank(scene: &Scene, page: &str) -> String {
    let (status, _, text) = sees(scene, &Request::get(format!("/c/pay/{page}/bank")));
    format!("{status} {text}")
}

fn answers(scene: &Scene, page: &str, answer: &str) -> (u16, Option<String>, String) {
    sees(scene, &Request::post(format!("/c/pay/{page}/bank"), &[("answer", answer)]))
}

fn session(scene: &Scene, page: &str) -> Value {
    let path = format!("/v1/checkout/sessions/{page}?expand[]=payment_intent.payment_method");
    scene.shown_at_stripe(&path)
}

#[tokio::test]
async fn who_authorises_at_the_bank_has_paid_at_once_and_saved_nothing() {
    for events in [true, false] {
        let (scene, web, ann, page) = at_the_bank("insufficient_funds, ok").await;
        if !events {
            scene.no_events();
        }
        let seen = looks_at_the_bank(&scene, &page);
        assert!(seen.starts_with("200") && seen.contains("9.00 EUR") && seen.contains("Authorise"), "{seen}");
        let (status, back, _) = answers(&scene, &page, "complete");
        let back = back.unwrap_or_default();
        assert!(status == 303 && back.contains(&format!("/return/paid?session_id={page}")), "{back}");
        let intent = session(&scene, &page)["payment_intent"].clone();
        assert_eq!(
            (&intent["status"], &intent["payment_method"]["type"]),
            (&"succeeded".into(), &"ideal".into())
        );
        let (_, path) = back.split_once("/return/").unwrap();
        assert_eq!(web.get(&format!("/return/{path}")).await.status, 200);
        assert_eq!(scene.state().await.as_str(), "paid", "the return page settles it; events: {events}");
        scene.days(4).await;
        let story = [
            "day 0: declined, insufficient_funds",
            "day 0: paid on the page",
            "day 0: mail: failed",
            "day 0: mail: thank you",
        ];
        assert_eq!(scene.story(), story, "events: {events}");
        assert_eq!(scene.number("SELECT COUNT(*) FROM network_budget").await, 1, "no try of a card");
        scene.goes_on_with_the_card(&ann).await;
    }
}

#[tokio::test]
async fn who_refuses_at_the_bank_is_back_on_the_page_and_can_pay_by_card() {
    for pays in [true, false] {
        let (scene, _, ann, page) = at_the_bank("insufficient_funds, ok").await;
        let (status, _, text) = answers(&scene, &page, "fail");
        assert!(status == 402 && text.contains("did not authorise the payment"), "{status} {text}");
        let told = session(&scene, &page);
        assert_eq!(
            (&told["status"], &told["payment_intent"]["status"]),
            (&"open".into(), &"requires_payment_method".into())
        );
        if pays {
            let number = [("card", "5555 5555 5555 4444")];
            assert_eq!(sees(&scene, &Request::post(format!("/c/pay/{page}"), &number)).0, 303);
        }
        scene.days(4).await;
        let mut story = vec!["day 0: declined, insufficient_funds", "day 0: mail: failed"];
        match pays {
            true => {
                story.insert(1, "day 0: paid on the page");
                story.push("day 0: mail: thank you");
            }
            false => story.extend(["day 3: paid", "day 3: mail: thank you"]),
        }
        assert_eq!(scene.story(), story, "a refusal at the bank is no decline of a card");
        assert_eq!(scene.default_card(&ann).await == Some(ann.card.clone()), !pays);
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_bank_page_left_open_ends_with_the_session_and_takes_nothing_later() {
    let (scene, web, _, page) = at_the_bank("insufficient_funds, ok").await;
    assert!(looks_at_the_bank(&scene, &page).starts_with("200"));
    assert_eq!(web.click(&scene.token()).await.session(), page, "the link leads to the same page meanwhile");
    scene.hours(2).await;
    let over = session(&scene, &page);
    assert_eq!((&over["status"], &over["payment_intent"]["status"]), (&"expired".into(), &"canceled".into()));
    assert_eq!(scene.state().await.as_str(), "past_due");
    let (status, _, text) = answers(&scene, &page, "complete");
    assert!(status == 410 && text.contains("expired"), "{status} {text}");
    scene.days(4).await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1), "{:?}", scene.story());
    assert!(scene.story().contains(&"day 3: paid".to_owned()), "{:?}", scene.story());
    scene.agree().await;
}
