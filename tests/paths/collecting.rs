//! What is due is collected, once and in order; what is not due is left alone.

use std::time::Duration;

use recurd::billing::subscription::SubscriptionState;
use recurd::flows::manage::{self, ChargeCommand};
use recurd::flows::{enrol, pay_link};

use crate::scene::session_in;
use crate::web::Web;
use crate::{DUE, Scene};

const QUARTER_DAY: Duration = Duration::from_secs(6 * 3600);

#[tokio::test]
async fn a_due_charge_is_collected_and_nobody_is_mailed() {
    let (scene, _) = Scene::ann("pm_card_visa").await;
    let report = scene.due().await;
    assert_eq!(scene.story(), ["day 0: paid"]);
    assert_eq!(scene.collected(), [(900, "eur".to_owned())]);
    assert_eq!((report.outcome("paid"), report.collected_minor["eur"]), (1, 900));
    scene.hours(2).await;
    assert_eq!(scene.times_collected(), 1);
    scene.agree().await;
}

#[tokio::test]
async fn while_nothing_is_due_stripe_is_not_asked() {
    let (scene, _) = Scene::ann("pm_card_visa").await;
    let before = scene.books().requests.len();
    scene.until("2026-01-05T09:59:59Z", Duration::from_secs(300)).await;
    assert_eq!((scene.charges().await.len(), scene.books().requests.len()), (0, before));
}

#[tokio::test]
async fn each_period_is_collected_once() {
    let (scene, _) = Scene::ann("pm_card_visa").await;
    scene.until("2026-04-05T12:00:00Z", QUARTER_DAY).await;
    let story = ["day 0: paid", "day 31: paid", "day 59: paid", "day 90: paid"];
    assert_eq!(scene.story(), story, "on the 5th of each month");
    scene.agree().await;
}

#[tokio::test]
async fn two_charges_of_one_customer_are_collected_in_the_order_they_fell_due() {
    let scene = Scene::new().await;
    let late = scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:02:00Z").await;
    let early = scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:01:00Z").await;
    scene.until("2026-01-05T10:30:00Z", Duration::from_secs(5400)).await;
    let books = scene.books();
    let subscriptions: Vec<&str> =
        books.charges.iter().map(|charge| charge.metadata["recurd_subscription"].as_str()).collect();
    assert_eq!(subscriptions, [early.subscription.to_string(), late.subscription.to_string()]);
    scene.agree().await;
}

#[tokio::test]
async fn a_declined_charge_does_not_hold_up_the_customers_other_one() {
    let scene = Scene::new().await;
    let ann = scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:01:00Z").await;
    scene.person("ann", "pm_card_visa", "basic", "2026-01-05T10:02:00Z").await;
    scene.world.sandbox.script_card(&ann.card, "do_not_honor, ok").unwrap();
    scene.until("2026-01-05T10:30:00Z", Duration::from_secs(60)).await;
    assert_eq!(scene.tries(), ["declined, do_not_honor", "paid"]);
    scene.agree().await;
}

#[tokio::test]
async fn periods_that_nobody_collected_follow_the_plans_catch_up() {
    // Four weeks are due on days 0, 7, 14 and 21. Nothing runs until some day.
    for (policy, back_on_day, states) in [
        ("latest", 25, ["missed", "missed", "missed", "paid"]),
        ("all", 25, ["paid", "paid", "paid", "paid"]),
        ("none", 22, ["missed", "missed", "missed", "paid"]),
        ("none", 25, ["missed", "missed", "missed", "missed"]),
        ("ask", 25, ["needs_review", "needs_review", "needs_review", "needs_review"]),
    ] {
        let plan = format!(
            "[plans.weekly]\nname = \"Weekly\"\nprice = \"5.00 EUR\"\nevery = \"1 week\"\ninstallments = 4\n\
             catch_up = \"{policy}\"\n"
        );
        let scene = Scene::with(&plan).await;
        scene.person("ann", "pm_card_visa", "weekly", DUE).await;
        scene.world.clock.advance(Duration::from_secs(back_on_day * 86_400 + 7200));
        scene.days(11).await;
        assert_eq!(scene.states().await, states, "{policy}, back on day {back_on_day}");
        let paid = states.iter().filter(|state| **state == "paid").count();
        assert_eq!(scene.times_collected(), paid, "{policy}, back on day {back_on_day}");
        let days: Vec<i64> = scene.books().charges.iter().map(|charge| charge.created / 86_400).collect();
        assert!(days.is_sorted_by(|one, next| one + 3 <= *next), "{policy}: charges crowd on days {days:?}");
        assert!(scene.letters().is_empty());
    }
}

#[tokio::test]
async fn a_missed_or_doubtful_period_is_collected_when_a_person_says_so() {
    let weekly =
        "[plans.weekly]\nname = \"Weekly\"\nprice = \"5.00 EUR\"\nevery = \"1 week\"\ninstallments = 2\n";
    for policy in ["latest", "ask"] {
        let scene = Scene::with(&format!("{weekly}catch_up = \"{policy}\"\n")).await;
        scene.person("ann", "pm_card_visa", "weekly", DUE).await;
        scene.world.clock.advance(Duration::from_secs(8 * 86_400));
        scene.hours(1).await;
        let oldest = scene.charges().await.remove(0).charge;
        let before = scene.times_collected();
        scene.command(oldest.id, ChargeCommand::CollectNow).await.unwrap();
        scene.hours(1).await;
        assert_eq!(scene.times_collected(), before + 1, "{policy}");
        assert_eq!(scene.states().await[0], "paid", "{policy}");
    }
}

#[tokio::test]
async fn a_trial_is_free() {
    let plan =
        "[plans.pro]\nname = \"Pro\"\nprice = \"29.00 USD\"\nevery = \"1 month\"\ntrial = \"14 days\"\n";
    let scene = Scene::with(plan).await;
    scene.person("ann", "pm_card_visa", "pro", DUE).await;
    scene.until("2026-01-19T09:55:00Z", QUARTER_DAY).await;
    assert!(scene.tries().is_empty());
    scene.hours(1).await;
    assert_eq!(scene.story(), ["day 14: paid"]);
    scene.agree().await;
}

#[tokio::test]
async fn installments_end() {
    let plan =
        "[plans.sofa]\nname = \"Sofa\"\nprice = \"250.00 EUR\"\nevery = \"1 month\"\ninstallments = 3\n";
    let scene = Scene::with(plan).await;
    let ann = scene.person("ann", "pm_card_visa", "sofa", DUE).await;
    scene.until("2026-06-10T00:00:00Z", 2 * QUARTER_DAY).await;
    assert_eq!(scene.collected(), vec![(25_000, "eur".to_owned()); 3]);
    assert_eq!(scene.subscription_state(&ann).await, "completed");
    scene.agree().await;
}

#[tokio::test]
async fn the_last_installment_is_dunned_although_the_plan_is_over() {
    let plan =
        "[plans.once]\nname = \"Once\"\nprice = \"80.00 EUR\"\nevery = \"1 month\"\ninstallments = 1\n";
    let scene = Scene::with(plan).await;
    let ann = scene.person("ann", "pm_card_sandbox_fundsOnceThenGood", "once", DUE).await;
    scene.days(4).await;
    assert_eq!(
        scene.story(),
        [
            "day 0: declined, insufficient_funds",
            "day 0: mail: failed",
            "day 3: paid",
            "day 3: mail: thank you"
        ]
    );
    assert_eq!(scene.subscription_state(&ann).await, "completed");
    scene.agree().await;
}

#[tokio::test]
async fn amounts_reach_stripe_in_its_own_minor_units() {
    for (price, collected) in [
        ("1200 JPY", (1200, "jpy")),
        ("12.500 KWD", (12_500, "kwd")),
        ("9.00 EUR", (900, "eur")),
        ("0.50 USD", (50, "usd")),
    ] {
        let plan = format!("[plans.other]\nname = \"Other\"\nprice = \"{price}\"\nevery = \"1 month\"\n");
        let scene = Scene::with(&plan).await;
        scene.person("ann", "pm_card_visa", "other", DUE).await;
        scene.due().await;
        assert_eq!(scene.collected(), [(collected.0, collected.1.to_owned())], "{price}");
        scene.agree().await;
    }
}

#[tokio::test]
async fn a_one_off_is_collected_on_its_day_and_entered_once() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    let ctx = &scene.world.ctx;
    let amount = "120.00 EUR".parse().unwrap();
    let due = "2026-01-06T10:00:00Z".parse().unwrap();
    let add = || manage::add_one_off(ctx, ann.customer, amount, due, "Balance", "order 7");
    let (first, second) = (add().await.unwrap(), add().await.unwrap());
    assert_eq!((first.0, first.1, second.1), (second.0, true, false));
    scene.days(2).await;
    assert_eq!(scene.collected(), [(900, "eur".to_owned()), (12_000, "eur".to_owned())]);
    scene.agree().await;
}

#[tokio::test]
async fn a_one_off_collected_before_its_day_is_still_found_when_the_answer_is_lost() {
    let (scene, ann) = Scene::ann("pm_card_visa").await;
    scene.due().await;
    let (amount, due) = ("120.00 EUR".parse().unwrap(), "2026-02-01T10:00:00Z".parse().unwrap());
    let (id, _) =
        manage::add_one_off(&scene.world.ctx, ann.customer, amount, due, "Balance", "order 7").await.unwrap();
    scene.no_events();
    scene.fault("POST", "/v1/payment_intents", "500");
    scene.command(id, ChargeCommand::CollectNow).await.unwrap();
    scene.days(1).await;
    assert_eq!(scene.states().await, ["paid", "paid"]);
    scene.agree().await;
}

#[tokio::test]
async fn paying_now_pays_the_first_period_saves_the_card_and_starts_the_subscription() {
    let scene = Scene::new().await;
    let ctx = &scene.world.ctx;
    let (_, subscription) = scene.bob_signs_up().await;
    let session = session_in(&enrol::open_pay_now(ctx, &subscription).await.unwrap());
    scene.hours(2).await;
    assert!(scene.tries().is_empty(), "a page that nobody paid charges nothing");
    scene.world.sandbox.complete_session(&session, "pm_card_visa").unwrap();
    scene.days(32).await;
    assert_eq!(scene.story(), ["day 0: paid on the page", "day 31: paid"]);
    let found = ctx.store.find_subscription(subscription.subscription_id()).await.unwrap().unwrap();
    assert_eq!(found.state, "active");
    scene.agree().await;
}

#[tokio::test]
async fn a_first_payment_that_is_abandoned_is_never_collected_by_the_machine() {
    let scene = Scene::new().await;
    let ctx = &scene.world.ctx;
    let ann = scene.person("ann", "pm_card_visa", "basic", "2026-06-01T10:00:00Z").await;
    let customer = ctx.store.find_customer(ann.customer).await.unwrap().unwrap();
    let subscription =
        enrol::add_subscription(ctx, &customer, "basic", 1, DUE, SubscriptionState::Pending).await.unwrap();
    enrol::open_pay_now(ctx, &subscription).await.unwrap();
    scene.days(3).await;
    assert!(scene.tries().is_empty() && scene.letters().is_empty(), "{:?}", scene.story());
    // The link is asked for again, and works.
    let charge = scene.charge().await.charge;
    let opened = pay_link::open(ctx, charge.id, pay_link::CLICK_LIFE).await.unwrap();
    assert!(matches!(opened, pay_link::Opened::Url(_)), "{opened:?}");
}

#[tokio::test]
async fn nothing_of_a_person_stands_in_the_metadata_at_stripe() {
    let (scene, ann) = Scene::scripted("insufficient_funds, ok").await;
    scene.due().await;
    scene.hours(1).await;
    Web::open(&scene).await.click(&scene.token()).await;
    let (bob, subscription) = scene.bob_signs_up().await;
    enrol::open(&scene.world.ctx, &bob, Some(subscription.subscription_id())).await.unwrap();
    manage::cancel(&scene.world.ctx, ann.subscription, "test", "because").await.unwrap();
    let books = scene.books();
    let mut found = Vec::new();
    found.extend(books.payment_intents.iter().map(|one| one.metadata.clone()));
    found.extend(books.sessions.iter().map(|one| one.metadata.clone()));
    found.extend(books.setup_intents.iter().map(|one| one.metadata.clone()));
    let mut pairs: Vec<(String, String)> = found.into_iter().flatten().collect();
    for customer in &books.customers {
        let shown = scene.shown_at_stripe(&format!("/v1/customers/{}", customer.id));
        let metadata = shown["metadata"].as_object().unwrap();
        pairs.extend(metadata.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())));
    }
    assert!(pairs.len() > 12, "{pairs:?}");
    for (key, value) in pairs {
        let ours = key.starts_with("recurd_");
        let word = ["link", "canceled"].contains(&value.as_str());
        let count = value.len() <= 3 && value.chars().all(|one| one.is_ascii_digit());
        let id = value.split(' ').all(|id| id.parse::<uuid::Uuid>().is_ok());
        assert!(ours && (word || count || id), "{key}: {value}");
    }
}
