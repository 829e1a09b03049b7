//! Pay links, and everything that can happen beside them.

use std::sync::Arc;
use std::time::Duration;

use recurd::billing::charge::State;
use recurd::clock::Clock;
use recurd::demo::InProcess;
use recurd::flows::manage::{self, ChargeCommand};
use recurd::flows::{Job, enrol, reconcile};
use recurd::sandbox::{CardEntry, PageStep, Request};
use recurd::stripe::{self, Client, ClientOptions, Response, Transport, TransportError};
use serde_json::{Value, json};

use crate::web::Web;
use crate::{DUE, Scene};

/// Ann's card was declined for now, and a retry is planned for day 3. She has a mail with a link.
async fn declined() -> (Scene, Web) {
    let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
    scene.due().await;
    let web = Web::open(&scene).await;
    (scene, web)
}

#[tokio::test]
async fn looking_at_a_link_changes_nothing() {
    let (scene, web) = declined().await;
    let (state, requests) = (scene.state().await, scene.books().requests.len());
    for _ in 0..3 {
        let page = web.look(&scene.token()).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("€9.00") && page.text.contains("<form"), "{}", page.text);
    }
    assert_eq!((scene.state().await, scene.books().requests.len()), (state, requests));
}

#[tokio::test]
async fn a_click_kills_the_payment_intent_before_it_opens_the_page() {
    let (scene, web) = declined().await;
    let page = web.click(&scene.token()).await;
    assert_eq!(page.status, 303);
    let books = scene.books();
    assert_eq!(books.payment_intents[0].status, "canceled");
    let order: Vec<&str> = books
        .requests
        .iter()
        .filter(|one| {
            one.method == "POST" && (one.path.contains("/cancel") || one.path.contains("/checkout/"))
        })
        .map(|one| if one.path.contains("/cancel") { "cancel" } else { "open" })
        .collect();
    assert_eq!(order, ["cancel", "open"]);
    let session = &books.sessions[0];
    assert_eq!((session.id.clone(), session.amount, session.status), (page.session(), Some(900), "open"));
}

#[tokio::test]
async fn a_second_click_finds_the_same_page_and_two_at_once_open_one() {
    let (scene, web) = declined().await;
    let token = scene.token();
    let (one, other) = tokio::join!(web.click(&token), web.click(&token));
    let third = web.click(&token).await.session();
    for page in [one, other] {
        assert!(page.status == 200 || page.session() == third, "{page:?}");
    }
    assert_eq!(scene.books().sessions.len(), 1);
}

#[tokio::test]
async fn a_retry_that_falls_due_waits_for_the_customer() {
    let (scene, web) = declined().await;
    scene.until("2026-01-08T09:50:00Z", Duration::from_secs(3600)).await;
    let session = web.click(&scene.token()).await.session();
    scene.until("2026-01-08T10:20:00Z", Duration::from_secs(60)).await;
    assert_eq!(scene.tries().len(), 1, "no machine tries while the page is open");
    scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
    scene.days(1).await;
    assert_eq!(scene.story()[2..], ["day 3: paid on the page", "day 3: mail: thank you"]);
    scene.agree().await;
}

#[tokio::test]
async fn a_page_that_nobody_paid_expires_and_the_ladder_goes_on() {
    let (scene, web) = declined().await;
    scene.until("2026-01-08T09:50:00Z", Duration::from_secs(3600)).await;
    let session = web.click(&scene.token()).await.session();
    scene.hours(2).await;
    assert_eq!(scene.books().sessions[0].status, "expired");
    assert_eq!(scene.story()[2..], ["day 3: paid", "day 3: mail: thank you"]);
    assert_eq!(scene.books().payment_intents.len(), 2, "a new PaymentIntent: the old one was canceled");
    assert!(scene.world.sandbox.complete_session(&session, "pm_card_visa").is_err());
    scene.agree().await;
}

/// Stripe as it would be if it expired a page while its customer is busy with 3-D Secure, and canceled the PaymentIntent later.
struct LateCancel(InProcess);

#[async_trait::async_trait]
impl Transport for LateCancel {
    async fn send(&self, request: stripe::Request) -> Result<Response, TransportError> {
        let is_page = request.path.starts_with("/v1/checkout/sessions/");
        let mut answer = self.0.send(request).await?;
        let mut page: Value = serde_json::from_slice(&answer.body).unwrap();
        if is_page && page["status"] == "expired" && page["payment_intent"].is_object() {
            page["payment_intent"]["status"] = "requires_action".into();
            answer.body = serde_json::to_vec(&page).unwrap().into();
        }
        Ok(answer)
    }
}

#[tokio::test]
async fn a_page_is_not_over_while_its_payment_may_be_finished() {
    let (scene, web) = declined().await;
    let session = web.click(&scene.token()).await.session();
    let card = CardEntry {
        card: "pm_card_authenticationRequired".into(),
        terms_accepted: true,
        ..CardEntry::default()
    };
    assert_eq!(scene.world.sandbox.submit_card(&session, &card).unwrap(), PageStep::Authenticate);
    scene.no_events();
    let timeout = scene.world.ctx.config.stripe.timeout;
    let line = LateCancel(InProcess::new(scene.world.sandbox.clone(), timeout));
    let mut late = scene.world.ctx.clone();
    late.stripe =
        Client::new(Arc::new(line), ClientOptions::new("sk_test_late".into(), late.clock.clone())).unwrap();
    for _ in 0..4 {
        scene.world.clock.advance(Duration::from_secs(6 * 3600));
        scene.world.sandbox.tick();
        late.run_once(Job::Reconcile, 100).await.unwrap();
    }
    assert_eq!(scene.books().sessions[0].status, "expired");
    assert_eq!(scene.state().await.as_str(), "link_open", "somebody may be busy with it");
    scene.hours(12).await;
    assert_eq!(scene.state().await.as_str(), "past_due", "the PaymentIntent is canceled now");
}

#[tokio::test]
async fn a_page_that_outlives_its_time_is_closed_and_read_back_before_the_retry() {
    for pays in [false, true] {
        let (scene, web) = declined().await;
        let session = web.click(&scene.token()).await.session();
        scene.no_events();
        if pays {
            scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
        }
        // Our clock runs two hours ahead of Stripe's: by ours the page should be over.
        let mut ctx = scene.world.ctx.clone();
        ctx.clock = Clock::manual(scene.now().checked_add(Duration::from_secs(7200)).unwrap());
        reconcile::run_once(&ctx, 100).await.unwrap();
        let (status, state) = if pays { ("complete", "paid") } else { ("expired", "past_due") };
        assert_eq!((scene.books().sessions[0].status, scene.state().await.as_str()), (status, state));
        scene.days(4).await;
        assert_eq!(scene.times_collected(), 1, "paid on the page: {pays}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_page_paid_while_the_charge_is_being_canceled_is_booked_with_an_alarm() {
    let (scene, web) = declined().await;
    let session = web.click(&scene.token()).await.session();
    scene.command(scene.charge().await.charge.id, ChargeCommand::Cancel).await.unwrap();
    scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
    scene.hours(1).await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1));
    assert!(scene.told_of_late_money(), "{:?}", scene.alarms());
    scene.agree().await;
}

#[tokio::test]
async fn a_canceled_charges_page_can_no_longer_be_paid() {
    let (scene, web) = declined().await;
    let token = scene.token();
    let session = web.click(&token).await.session();
    scene.command(scene.charge().await.charge.id, ChargeCommand::Cancel).await.unwrap();
    let requests = scene.requests("POST", "/v1/checkout/sessions");
    let page = web.click(&token).await;
    assert_eq!((page.status, scene.requests("POST", "/v1/checkout/sessions")), (200, requests));
    scene.tick().await;
    assert!(scene.world.sandbox.complete_session(&session, "pm_card_visa").is_err());
    assert_eq!(scene.state().await.as_str(), "canceled");
    scene.days(5).await;
    assert_eq!((scene.times_collected(), scene.letters().len()), (0, 1));
}

#[tokio::test]
async fn a_link_tells_the_truth_after_the_end() {
    let (scene, web) = declined().await;
    let token = scene.token();
    scene.days(4).await;
    for page in [web.look(&token).await, web.click(&token).await] {
        assert!(page.status == 200 && page.location.is_none(), "{page:?}");
        assert!(page.text.contains("Paid, thank you") && !page.text.contains("<form"), "{}", page.text);
    }
    assert_eq!((scene.books().sessions.len(), scene.times_collected()), (0, 1));
}

#[tokio::test]
async fn a_click_on_a_charge_without_an_answer_opens_nothing() {
    let (scene, web) = declined().await;
    let token = scene.token();
    scene.fault("POST", "/v1/payment_intents", "500 not-executed");
    scene.until("2026-01-08T11:00:00Z", Duration::from_secs(3600)).await;
    assert!(matches!(scene.state().await, State::Collecting { .. }));
    let page = web.click(&token).await;
    assert!(page.status == 200 && page.location.is_none() && !page.text.contains("<form"), "{page:?}");
    assert_eq!(scene.books().sessions.len(), 0, "two collectors at once");
}

#[tokio::test]
async fn a_token_that_nobody_has_finds_nothing() {
    let (scene, web) = declined().await;
    let almost = {
        let token = scene.token();
        let last = if token.ends_with('0') { "1" } else { "0" };
        format!("{}{last}", &token[..31])
    };
    for token in [almost.as_str(), "0", "../../etc/passwd", "%00", ""] {
        assert_eq!(web.look(token).await.status, 404, "{token:?}");
        assert_ne!(web.click(token).await.status, 303, "{token:?}");
    }
    assert_eq!(scene.books().sessions.len(), 0);
}

#[tokio::test]
async fn two_open_charges_have_a_link_each_and_know_of_each_other() {
    let scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-06T11:00:00Z").await;
    scene.world.sandbox.script_card(&ann.card, "lost_card").unwrap();
    scene.due().await;
    let first = scene.token();
    scene.days(2).await;
    assert_eq!(scene.letters(), ["failed", "failed"]);
    assert!(scene.customer_mails()[1].text.contains("€18.00"), "{}", scene.customer_mails()[1].text);
    let second = scene.token();
    let web = Web::open(&scene).await;
    let page = web.look(&first).await;
    assert!(
        page.text.contains("from the same card"),
        "what becomes of the other is said before: {}",
        page.text
    );
    // Both pages are open at the same time: neither card is tried on what the other page collects.
    let sessions = [web.click(&first).await.session(), web.click(&second).await.session()];
    for session in sessions {
        scene.world.sandbox.complete_session(&session, "pm_card_mastercard").unwrap();
        scene.tick().await;
    }
    scene.hours(1).await;
    assert_eq!(scene.states().await, ["paid", "paid"]);
    assert_eq!(scene.times_collected(), 2);
    scene.agree().await;
}

#[tokio::test]
async fn a_page_whose_answer_was_lost_is_found_by_the_next_click() {
    for effect in
        ["no-answer", "no-answer not-executed", "cut 40", "409", "429", "not-sent", "503 not-executed"]
    {
        let (scene, web) = declined().await;
        let token = scene.token();
        for _ in 0..3 {
            scene.fault("POST", "/v1/checkout/sessions", effect);
        }
        let page = web.click(&token).await;
        assert!(page.status == 200 && page.location.is_none(), "{effect}: {page:?}");
        scene.world.sandbox.clear_faults();
        let session = web.click(&token).await.session();
        assert_eq!(scene.books().sessions.len(), 1, "{effect}");
        scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
        scene.days(4).await;
        assert_eq!(scene.times_collected(), 1, "{effect}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_page_whose_answer_was_lost_and_whose_payment_fails_days_later_does_not_stay_pending() {
    let (scene, web) = declined().await;
    scene.no_events();
    for _ in 0..3 {
        scene.fault("POST", "/v1/checkout/sessions", "no-answer");
    }
    web.click(&scene.token()).await;
    let session = scene.books().sessions[0].id.clone();
    scene.world.sandbox.complete_session(&session, "pm_card_sandbox_processingThenFailed").unwrap();
    scene.hours(2).await;
    assert_eq!(scene.state().await.as_str(), "processing");
    scene.days(8).await;
    assert_eq!((scene.state().await.as_str(), scene.times_collected()), ("paid", 1), "{:?}", scene.story());
    scene.agree().await;
}

#[tokio::test]
async fn a_page_that_stripe_failed_to_answer_is_over_after_its_hour_and_the_next_click_opens_another() {
    for effect in ["500", "500 not-executed"] {
        let (scene, web) = declined().await;
        let token = scene.token();
        scene.fault("POST", "/v1/checkout/sessions", effect);
        assert_eq!(web.click(&token).await.status, 200, "{effect}");
        scene.hours(2).await;
        let session = web.click(&token).await.session();
        scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
        scene.days(4).await;
        assert_eq!((scene.times_collected(), scene.state().await.as_str()), (1, "paid"), "{effect}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn while_the_old_payment_intent_cannot_be_canceled_no_page_opens() {
    for effect in ["500 not-executed", "no-answer not-executed", "429", "lock-timeout"] {
        let (scene, web) = declined().await;
        let token = scene.token();
        scene.outage(effect);
        assert_eq!(web.click(&token).await.status, 200, "{effect}");
        scene.world.sandbox.clear_faults();
        assert_eq!(scene.books().sessions.len(), 0, "{effect}: two collectors at once");
        scene.hours(1).await;
        let session = web.click(&token).await.session();
        scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
        scene.days(4).await;
        assert_eq!(scene.times_collected(), 1, "{effect}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn after_a_recovery_the_page_of_what_may_have_been_paid_says_from_when_on_it_can_be() {
    let (scene, web) = declined().await;
    let token = scene.token();
    web.click(&token).await.session();
    scene.hours(2).await;
    let (store, now) = (&scene.world.ctx.store, scene.now());
    let nonce = store.instance(now).await.unwrap().nonce.unwrap();
    store.fall_behind(now, "restored from a backup", now).await.unwrap();
    store.recovered("", &nonce, now).await.unwrap();
    for page in [web.look(&token).await, web.click(&token).await] {
        assert_eq!(page.status, 200);
        assert!(page.text.contains("you can pay it here after January 8, 2026"), "{}", page.text);
        assert!(!page.text.contains("<form"), "{}", page.text);
    }
    assert_eq!(scene.books().sessions.len(), 1);
    scene.days(4).await;
    assert_eq!((scene.times_collected(), scene.state().await.as_str()), (1, "paid"));
    scene.agree().await;
}

#[tokio::test]
async fn the_return_page_settles_without_an_event() {
    let (scene, web) = declined().await;
    scene.no_events();
    let session = web.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
    let path = format!("/return/paid?session_id={session}");
    for _ in 0..2 {
        assert_eq!(web.get(&path).await.status, 200);
    }
    assert_eq!(scene.state().await.as_str(), "paid");
    scene.tick().await;
    assert_eq!(scene.letters(), ["failed", "thank you"]);
    for stranger in ["/return/paid?session_id=cs_test_nobody", "/return/paid?session_id=x", "/return/paid"] {
        assert!(web.get(stranger).await.status < 500, "{stranger}");
    }
    scene.agree().await;
}

#[tokio::test]
async fn an_old_payment_intent_is_no_proof_against_a_new_one() {
    // The first PaymentIntent was canceled for a page that nobody paid; the second one's answer is a 500, and Stripe
    // finishes its work a day later. That the first one is dead says nothing of the second.
    let (scene, web) = declined().await;
    web.click(&scene.token()).await.session();
    scene.hours(2).await;
    scene.fault("POST", "/v1/payment_intents", "500 forward 26h");
    scene.days(10).await;
    assert_eq!(scene.times_collected(), 1, "{:?}", scene.story());
    scene.agree().await;
}

#[tokio::test]
async fn a_late_event_of_an_old_payment_intent_says_nothing_of_a_new_one() {
    let (scene, web) = declined().await;
    scene.tick().await;
    web.click(&scene.token()).await.session();
    // The event that tells of the canceled one is on its way for days.
    let late = scene.world.sandbox.take_deliveries();
    assert!(late.iter().any(|one| one.event_type == "payment_intent.canceled"));
    scene.hours(2).await;
    scene.fault("POST", "/v1/payment_intents", "500 forward 26h");
    scene.until("2026-01-08T10:05:00Z", Duration::from_secs(300)).await;
    assert!(matches!(scene.state().await, State::Collecting { .. }));
    for delivery in &late {
        let signature = crate::webhooks::signature(delivery, scene.now(), "whsec_sandbox");
        assert_eq!(web.event(&delivery.body, &signature).await, 200);
    }
    scene.days(6).await;
    assert_eq!(scene.times_collected(), 1, "{:?}", scene.story());
    scene.agree().await;
}

#[tokio::test]
async fn a_page_of_a_canceled_subscription_is_closed() {
    let (scene, _) = Scene::scripted("insufficient_funds, ok").await;
    scene.due().await;
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    let subscription = scene.charge().await.charge.period.unwrap().0;
    manage::cancel(&scene.world.ctx, subscription, "test", "moved away").await.unwrap();
    scene.tick().await;
    assert!(scene.world.sandbox.complete_session(&session, "pm_card_visa").is_err());
    scene.days(5).await;
    assert_eq!((scene.states().await, scene.times_collected()), (vec!["canceled"], 0));
}

#[tokio::test]
async fn a_card_saved_by_paying_leaves_a_consent_on_record() {
    let (scene, web) = declined().await;
    let page = web.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&page, "pm_card_mastercard").unwrap();
    scene.days(1).await;
    assert_eq!(scene.state().await.as_str(), "paid");
    let kept = "SELECT COUNT(*) FROM consent WHERE how = 'checkout' AND session_id LIKE 'cs_test_%' \
        AND text LIKE 'I allow%' AND payment_method IS NOT NULL AND subscription_id IS NOT NULL";
    assert_eq!(scene.number(kept).await, 1);
}

/// The networks count what the customer tries on the page: three on a card in seven days, whoever tries.
#[tokio::test]
async fn what_a_customer_tries_on_a_page_counts_for_the_next_retry() {
    const CARD: &str = "pm_card_chargeCustomerFail";
    for events in [true, false] {
        let (scene, _) = Scene::ann(CARD).await;
        scene.due().await;
        let web = Web::open(&scene).await;
        if !events {
            scene.no_events();
        }
        scene.days(1).await;
        let session = web.click(&scene.token()).await.session();
        for _ in 0..2 {
            let step = scene.world.sandbox.complete_session(&session, CARD).unwrap();
            assert!(matches!(step, PageStep::Refused { .. }), "{step:?}");
        }
        scene.days(5).await;
        assert_eq!(scene.number("SELECT COUNT(*) FROM network_budget").await, 3, "events: {events}");
        assert_eq!(scene.tries().len(), 3, "a machine tried a fourth time in a week: {:?}", scene.story());
        scene.days(4).await;
        assert_eq!(scene.tries().len(), 4, "the ladder went on: {:?}", scene.story());
        scene.agree().await;
    }
}

#[tokio::test]
async fn stripes_pages_speak_the_customers_language_and_offer_the_saved_card() {
    let (scene, ann) = Scene::scripted("insufficient_funds, ok").await;
    scene.execute("UPDATE customer SET locale = 'de-AT'").await;
    scene.due().await;
    let web = Web::open(&scene).await;
    let ctx = &scene.world.ctx;
    let customer = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let saving = crate::scene::session_in(&enrol::open(ctx, &customer, None).await.unwrap());
    let paying = web.click(&scene.token()).await.session();
    let ask = |path: String| scene.world.sandbox.handle(&Request::get(path)).response().unwrap().value();
    for id in [&saving, &paying] {
        let session = ask(format!("/v1/checkout/sessions/{id}"));
        assert_eq!((&session["locale"], &session["payment_method_types"]), (&"de".into(), &json!(["card"])));
        assert!(
            session["custom_text"]["submit"]["message"].as_str().unwrap().starts_with("I allow"),
            "{session}"
        );
    }
    let offered = ask(format!("/v1/checkout/sessions/{paying}"))["saved_payment_method_options"].clone();
    assert_eq!(offered["allow_redisplay_filters"], json!(["always", "limited", "unspecified"]));
    scene.world.sandbox.complete_session(&saving, "pm_card_mastercard").unwrap();
    let cards = ask(format!("/v1/customers/{}/payment_methods?type=card", ann.stripe_customer));
    assert_eq!(cards["data"][0]["allow_redisplay"], "limited", "offered on the merchant's pages: {cards}");
}
