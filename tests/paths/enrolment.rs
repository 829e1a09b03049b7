//! Enrolment: a card is saved on Stripe's page once, whoever brings the news and however often.

use std::time::Duration;

use recurd::flows::notify;
use recurd::flows::{Job, enrol};
use recurd::sandbox::PageStep;
use recurd::store::{Customer, Subscription};

use crate::scene::session_in;
use crate::web::Web;
use crate::{DUE, Scene};

/// Bob has signed up and got a page on which to save his card.
struct Enrolling {
    scene: Scene,
    bob: Customer,
    subscription: Subscription,
    session: String,
}

async fn enrolling() -> Enrolling {
    let scene = Scene::new().await;
    let ctx = &scene.world.ctx;
    let (bob, subscription) = scene.bob_signs_up().await;
    let url = enrol::open(ctx, &bob, Some(subscription.subscription_id())).await.unwrap();
    let session = session_in(&url);
    Enrolling { bob, subscription, session, scene }
}

impl Enrolling {
    fn saves(&self, card: &str) -> PageStep {
        self.scene.world.sandbox.complete_session(&self.session, card).unwrap()
    }

    async fn state(&self) -> String {
        let id = self.subscription.subscription_id();
        self.scene.world.ctx.store.find_subscription(id).await.unwrap().unwrap().state
    }

    async fn customer(&self) -> Customer {
        self.scene.world.ctx.store.find_customer(self.bob.customer_id()).await.unwrap().unwrap()
    }

    async fn comes_back(&self) {
        let web = Web::open(&self.scene).await;
        let page = web.get(&format!("/return/saved?session_id={}", self.session)).await;
        assert_eq!(page.status, 200);
    }
}

#[tokio::test]
async fn whoever_brings_the_news_first_the_card_is_saved_once_and_charged_when_due() {
    // e: the event comes; r: Bob comes back; p: neither, so the page is asked after.
    for order in ["e", "r", "er", "re", "erer", "p"] {
        let enrolling = enrolling().await;
        if !order.contains('e') {
            enrolling.scene.no_events();
        }
        enrolling.saves("pm_card_visa");
        for step in order.chars() {
            match step {
                'e' => {
                    enrolling.scene.tick().await;
                }
                'r' => enrolling.comes_back().await,
                _ => {
                    enrolling.scene.world.clock.advance(Duration::from_secs(300));
                    enrolling.scene.tick().await;
                }
            }
        }
        assert_eq!(enrolling.state().await, "active", "{order}");
        assert_eq!(enrolling.scene.number("SELECT COUNT(*) FROM consent").await, 1, "{order}");
        enrolling.scene.due().await;
        assert_eq!(enrolling.scene.story(), ["day 0: paid"], "{order}");
        enrolling.scene.agree().await;
    }
}

#[tokio::test]
async fn what_the_customer_agreed_to_is_on_record_word_for_word() {
    let enrolling = enrolling().await;
    enrolling.saves("pm_card_visa");
    enrolling.scene.tick().await;
    let complete = enrolling
        .scene
        .number(
            "SELECT COUNT(*) FROM consent WHERE how = 'checkout' AND text LIKE 'I allow%' AND length(text_sha256) = 64 \
             AND session_id LIKE 'cs_%' AND setup_intent LIKE 'seti_%' AND payment_method LIKE 'pm_%' \
             AND subscription_id = (SELECT id FROM subscription)",
        )
        .await;
    assert_eq!(complete, 1);
}

#[tokio::test]
async fn a_page_that_nobody_used_expires_and_nothing_is_ever_charged() {
    let enrolling = enrolling().await;
    enrolling.scene.days(3).await;
    assert_eq!(enrolling.scene.books().sessions[0].status, "expired");
    assert_eq!(enrolling.state().await, "pending");
    assert_eq!(enrolling.scene.number("SELECT COUNT(*) FROM enrolment WHERE state = 'expired'").await, 1);
    assert!(enrolling.scene.charges().await.is_empty() && enrolling.scene.letters().is_empty());
}

#[tokio::test]
async fn a_card_that_is_refused_leaves_the_page_open_for_another() {
    let enrolling = enrolling().await;
    assert!(matches!(enrolling.saves("pm_card_visa_chargeDeclined"), PageStep::Refused { .. }));
    enrolling.scene.tick().await;
    enrolling.comes_back().await;
    assert_eq!(
        (enrolling.state().await, enrolling.customer().await.payment_method),
        ("pending".into(), None)
    );
    assert!(matches!(enrolling.saves("pm_card_visa"), PageStep::Done { .. }));
    enrolling.scene.due().await;
    assert_eq!(enrolling.scene.story(), ["day 0: paid"]);
}

#[tokio::test]
async fn a_card_that_needs_a_confirmation_is_set_up_with_it_and_then_charged_without() {
    let enrolling = enrolling().await;
    enrolling.saves("pm_card_authenticationRequiredOnSetup");
    enrolling.scene.due().await;
    assert_eq!(enrolling.scene.story(), ["day 0: paid"]);
}

#[tokio::test]
async fn a_page_whose_answer_was_lost_is_given_up_and_another_can_be_opened() {
    let scene = Scene::new().await;
    let ctx = &scene.world.ctx;
    let ann = scene.person("ann", "pm_card_visa", "basic", DUE).await;
    let customer = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    scene.fault("POST", "/v1/checkout/sessions", "500");
    assert!(enrol::open(ctx, &customer, None).await.is_err());
    let url = enrol::open(ctx, &customer, None).await.unwrap();
    scene.world.sandbox.complete_session(&session_in(&url), "pm_card_mastercard").unwrap();
    scene.due().await;
    let fingerprints: Vec<String> =
        scene.books().charges.into_iter().map(|charge| charge.fingerprint).collect();
    let saved = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    assert_eq!(fingerprints, [saved.card_fingerprint.unwrap()], "the new card is charged");
    assert_eq!(scene.number("SELECT COUNT(*) FROM enrolment WHERE state IN ('opening', 'open')").await, 0);
}

#[tokio::test]
async fn of_two_cards_the_one_that_was_entered_later_is_charged_whichever_is_heard_of_first() {
    // p: the first page saves the card; m: a payment does.
    for first in ['p', 'm'] {
        let (scene, ann) = Scene::ann("pm_card_chargeCustomerFail").await;
        let ctx = &scene.world.ctx;
        let customer = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
        scene.due().await;
        scene.no_events();
        let earlier = match first {
            'p' => session_in(&enrol::open(ctx, &customer, None).await.unwrap()),
            _ => Web::open(&scene).await.click(&scene.token()).await.session(),
        };
        scene.world.sandbox.complete_session(&earlier, "pm_card_mastercard").unwrap();
        scene.world.clock.advance(Duration::from_secs(60));
        let later = session_in(&enrol::open(ctx, &customer, None).await.unwrap());
        scene.world.sandbox.complete_session(&later, "pm_card_visa").unwrap();
        for session in [&later, &earlier] {
            recurd::flows::receive::returned(ctx, session).await.unwrap();
            ctx.run_once(Job::Notify, 10).await.unwrap();
        }
        let saved = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
        assert_eq!(saved.card_brand.as_deref(), Some("visa"), "{first}");
        scene.days(32).await;
        assert_eq!(scene.times_collected(), 2, "{first}: {:?}", scene.story());
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_card_that_was_removed_before_anybody_heard_that_it_was_saved_is_not_asked_for_for_ever() {
    let enrolling = enrolling().await;
    let scene = &enrolling.scene;
    scene.no_events();
    enrolling.saves("pm_card_visa");
    let saved = scene.books().payment_methods.into_iter().find(|one| one.customer.is_some()).unwrap();
    scene.at_stripe(&format!("/v1/payment_methods/{}/detach", saved.id), &[]);
    scene.hours(1).await;
    assert_eq!(
        (enrolling.state().await, enrolling.customer().await.payment_method),
        ("pending".into(), None)
    );
    assert_eq!(scene.number("SELECT COUNT(*) FROM enrolment WHERE state = 'expired'").await, 1);
    let asked = scene.requests("GET", "/v1/checkout/sessions/");
    scene.hours(1).await;
    assert_eq!(scene.requests("GET", "/v1/checkout/sessions/"), asked, "nobody asks again");
}

#[tokio::test]
async fn a_card_that_was_removed_at_stripe_is_not_charged_and_the_customer_is_asked_for_another() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.at_stripe(&format!("/v1/payment_methods/{}/detach", ann.card), &[]);
    scene.due().await;
    scene.hours(2).await;
    assert_eq!(
        (scene.story(), scene.requests("POST", "/v1/payment_intents")),
        (vec!["day 0: mail: failed".into()], 0)
    );
    let web = Web::open(&scene).await;
    let session = web.click(&scene.token()).await.session();
    scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
    scene.days(32).await;
    assert_eq!(
        scene.times_collected(),
        2,
        "the page, and the next period with its card: {:?}",
        scene.story()
    );
    scene.agree().await;
}

#[tokio::test]
async fn a_removed_card_of_which_no_event_told_waits_for_a_person() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.no_events();
    scene.at_stripe(&format!("/v1/payment_methods/{}/detach", ann.card), &[]);
    scene.due().await;
    scene.hours(2).await;
    assert_eq!(
        (scene.states().await, scene.letters().len(), scene.alarms().len()),
        (vec!["needs_review"], 0, 1)
    );
}

#[tokio::test]
async fn a_card_that_the_network_renewed_goes_on() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.world.sandbox.update_card(&ann.card);
    scene.days(32).await;
    assert_eq!(scene.story(), ["day 0: paid", "day 31: paid"]);
    let known = scene.world.ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let card = scene.books().payment_methods.into_iter().find(|one| one.id == ann.card).unwrap();
    assert_eq!((known.card_last4, known.card_fingerprint), (Some(card.last4), Some(card.fingerprint)));
}

#[tokio::test]
async fn what_waited_for_new_card_data_is_collected_when_the_network_sends_them() {
    let (scene, _) = Scene::ann("pm_card_sandbox_expiredThenUpdated").await;
    scene.due().await;
    scene.hours(1).await;
    let story =
        ["day 0: declined, expired_card", "day 0: mail: failed", "day 0: paid", "day 0: mail: thank you"];
    assert_eq!(scene.story(), story);
    scene.agree().await;
}

#[tokio::test]
async fn the_page_can_be_sent_by_mail() {
    let enrolling = enrolling().await;
    let ctx = &enrolling.scene.world.ctx;
    let url = enrolling.scene.books().sessions[0].id.clone();
    let link = format!("https://checkout.stripe.com/c/pay/{url}");
    notify::mail_enrolment(ctx, &enrolling.bob, &link, uuid::Uuid::new_v4()).await.unwrap();
    let mail = enrolling.scene.customer_mails().remove(0);
    assert!(mail.text.contains(&link) && mail.to.email() == "bob@example.com", "{}", mail.text);
}

#[tokio::test]
async fn a_card_is_known_from_the_setup_intents_event_too_and_from_no_other_installations() {
    let enrolling = enrolling().await;
    enrolling.scene.tick().await;
    enrolling.saves("pm_card_visa");
    let web = Web::open(&enrolling.scene).await;
    let now = enrolling.scene.now();
    let events = enrolling.scene.world.sandbox.take_deliveries();
    assert!(events.iter().any(|one| one.event_type == "checkout.session.completed"), "this one gets lost");
    for one in events.iter().filter(|one| one.event_type.starts_with("setup_intent.")) {
        let signature = crate::webhooks::signature(one, now, "whsec_sandbox");
        assert_eq!(web.event(&one.body, &signature).await, 200);
    }
    enrolling.scene.run(&[Job::Receive]).await;
    assert_eq!(
        (enrolling.state().await, enrolling.customer().await.card_last4.unwrap()),
        ("active".into(), "4242".into())
    );
    // Somebody else's page on the same account, with our customer on it.
    let customer = enrolling.bob.stripe_customer.clone();
    let fields = [
        ("customer", customer.as_str()),
        ("payment_method", "pm_card_mastercard"),
        ("confirm", "true"),
        ("usage", "off_session"),
        ("payment_method_types[]", "card"),
    ];
    enrolling.scene.at_stripe("/v1/setup_intents", &fields);
    enrolling.scene.tick().await;
    assert_eq!(enrolling.customer().await.card_last4.unwrap(), "4242");
}
