//! A database that is older than Stripe, or one of two: it finds out by itself, charges nothing, and follows Stripe again
//! once a person has agreed.

use std::sync::Arc;
use std::time::Duration;

use recurd::billing::money::Money;
use recurd::billing::plan::CatchUp;
use recurd::config::{Config, Preflight};
use recurd::flows::manage::ChargeCommand;
use recurd::flows::pay_link::{self, Opened};
use recurd::flows::{Ctx, Job, guard, import, manage, recover};
use recurd::sandbox::{Effect, Request, Rule};
use recurd::store::{ChargeFilter, Claimed, Store};

use crate::{Scene, drain};

/// The files of a SQLite database that nobody writes at this moment.
const FILES: [&str; 2] = ["recurd.db", "recurd.db-wal"];

pub(crate) async fn one_off(ctx: &Ctx) {
    let (customer, due) = (ctx.instance.customer("cus_0"), ctx.now());
    let amount = Money::from_minor(500, "eur".parse().unwrap()).unwrap();
    manage::add_one_off(ctx, customer, amount, due, "Repair", &format!("R-{due}")).await.unwrap();
}

impl Scene {
    /// Last night's backup.
    pub(crate) fn back_up(&self) {
        for file in FILES {
            std::fs::copy(self.dir.join(file), self.dir.join(format!("backup-{file}"))).unwrap();
        }
    }

    /// A process on the backup, as the one that follows a restore, or as a copy that somebody started elsewhere.
    pub(crate) async fn on_backup(&self) -> Ctx {
        let file = self.dir.join("backup-recurd.db");
        let store = Store::open(&format!("sqlite://{}", file.display())).await.unwrap();
        self.on(store).await
    }

    /// A process on another database.
    pub(crate) async fn on(&self, store: Store) -> Ctx {
        let ctx = &self.world.ctx;
        let instance = store.instance(ctx.now()).await.unwrap().id;
        Ctx::new(
            store,
            ctx.stripe.clone(),
            ctx.mailer.clone(),
            ctx.templates.clone(),
            ctx.clock.clone(),
            Arc::clone(&ctx.config),
            instance,
            (*ctx.head).clone(),
        )
    }

    /// Days in which everything goes its way.
    pub(crate) async fn days(&self, days: u32) {
        for _ in 0..days * 4 {
            self.tick().await;
            self.world.clock.advance(Duration::from_secs(6 * 3600));
            self.world.sandbox.tick();
        }
    }

    /// The same days on another database.
    async fn days_on(&self, ctx: &Ctx, days: u32) {
        for _ in 0..days * 4 {
            drain(ctx).await;
            self.world.clock.advance(Duration::from_secs(6 * 3600));
            self.world.sandbox.tick();
        }
    }

    fn requests(&self, path: &str) -> usize {
        let log = self.world.sandbox.books().requests;
        log.iter().filter(|one| one.method == "POST" && one.path.starts_with(path)).count()
    }
}

async fn charges(ctx: &Ctx) -> Vec<Claimed> {
    let all = ChargeFilter { limit: 9, ..ChargeFilter::default() };
    ctx.store.list_charges(&all).await.unwrap()
}

async fn states(ctx: &Ctx) -> Vec<&'static str> {
    let mut states: Vec<_> = charges(ctx).await.iter().map(|one| one.charge.state.as_str()).collect();
    states.sort_unstable();
    states
}

async fn confirm(ctx: &Ctx) -> recover::Plan {
    let plan = recover::plan(ctx, |_| {}).await.unwrap().unwrap();
    recover::carry_out(ctx, &plan.hash, "ana", |_| {}).await.unwrap();
    plan
}

#[tokio::test]
async fn a_restored_backup_charges_nothing_until_a_person_agrees_and_then_nothing_twice() {
    let scene =
        Scene::new(&["pm_card_visa", "pm_card_visa_chargeDeclinedInsufficientFunds", "pm_card_visa"]).await;
    drain(&scene.world.ctx).await;
    scene.world.clock.advance(Duration::from_secs(3 * 86_400));
    scene.back_up();
    scene.days(35).await;
    let (collected, posts, mails) =
        (scene.collected(), scene.requests("/v1/payment_intents"), scene.customer_mails());
    assert_eq!(collected, [1, 1, 1, 1], "two months of two customers");

    let restored = scene.on_backup().await;
    scene.days_on(&restored, 2).await;
    assert_eq!(scene.requests("/v1/payment_intents"), posts, "nothing is charged");
    assert_eq!(scene.customer_mails(), mails, "no customer is mailed on old news");
    assert!(
        restored
            .store
            .halted()
            .await
            .unwrap()
            .unwrap()
            .starts_with("this database is older than what Stripe knows")
    );
    assert!(scene.alarms() >= 1, "the operator is told");

    let refused = recover::carry_out(&restored, "123456789abc", "ana", |_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("look at it again"), "{refused}");
    assert!(!guard::resume(&restored.store, "ana", "hurry", scene.world.clock.now()).await.unwrap());
    confirm(&restored).await;
    scene.days_on(&restored, 2).await;
    assert_eq!(scene.collected(), collected, "what was collected is found, not collected again");
    scene.days_on(&restored, 31).await;
    assert_eq!(scene.collected(), [1; 6], "and the next month is collected");
}

#[tokio::test]
async fn what_a_restored_backup_had_planned_for_the_ladder_is_left_alone_until_a_person_agrees() {
    let scene = Scene::new(&["pm_card_authenticationRequired"]).await;
    let ctx = &scene.world.ctx;
    drain(ctx).await;
    scene.back_up();
    one_off(ctx).await;
    scene.days(10).await;
    let restored = scene.on_backup().await;
    let found = restored.run_once(Job::Dun, 100).await.unwrap();
    assert_eq!((found.taken, restored.store.halted().await.unwrap().is_some()), (1, true));
    scene.world.clock.advance(Duration::from_secs(3600));
    let left_alone = restored.run_once(Job::Dun, 100).await.unwrap();
    assert_eq!(left_alone.taken, 0, "nothing is claimed only to be given back");
}

#[tokio::test]
async fn what_a_backup_had_only_written_down_is_booked_as_paid_also_for_a_customer_on_hold() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    // The client tries three times.
    for _ in 0..3 {
        let rule = Rule::once("POST", "/v1/payment_intents", Effect::parse("not-sent").unwrap());
        scene.world.sandbox.add_fault(rule);
    }
    drain(ctx).await;
    assert_eq!(states(ctx).await, ["collecting"]);
    scene.back_up();
    scene.days(1).await;
    assert_eq!((states(ctx).await, scene.collected()), (vec!["paid"], vec![1]));
    let restored = scene.on_backup().await;
    drain(&restored).await;
    restored.store.hold_customer("cus_0", Some("the cardholder disputes a charge")).await.unwrap();
    confirm(&restored).await;
    assert_eq!(states(&restored).await, ["paid"]);
    scene.days_on(&restored, 40).await;
    assert_eq!(scene.collected(), [1]);
}

#[tokio::test]
async fn a_backup_from_before_the_first_charge_finds_it_whenever_it_comes_back() {
    for days_later in [0, 1, 9] {
        let scene = Scene::new(&["pm_card_visa", "pm_card_sandbox_fundsOnceThenGood"]).await;
        scene.world.ctx.run_once(Job::Materialize, 100).await.unwrap();
        scene.back_up();
        scene.tick().await;
        assert_eq!(scene.collected(), [1]);
        scene.world.clock.advance(Duration::from_secs(days_later * 86_400));
        let restored = scene.on_backup().await;
        drain(&restored).await;
        assert!(restored.store.halted().await.unwrap().is_some(), "{days_later} days later");
        scene.world.clock.advance(Duration::from_secs(600));
        let plan = confirm(&restored).await;
        assert_eq!((plan.charges.len(), plan.due), (2, 2));
        scene.days_on(&restored, 12).await;
        assert_eq!(scene.collected(), [1, 1], "{days_later} days later");
    }
}

#[tokio::test]
async fn a_subscription_that_was_canceled_after_the_backup_stays_canceled() {
    let scene = Scene::new(&["pm_card_visa", "pm_card_visa"]).await;
    scene.days(2).await;
    scene.back_up();
    let subscriptions = scene.world.ctx.store.list_subscriptions(None, 0, 10).await.unwrap();
    let gone = subscriptions[0].subscription_id();
    manage::cancel(&scene.world.ctx, gone, "ana", "moved away").await.unwrap();
    scene.days(1).await;
    let restored = scene.on_backup().await;
    scene.days_on(&restored, 35).await;
    assert_eq!(scene.collected(), [1, 1], "the next month waits for a person");
    let plan = confirm(&restored).await;
    assert_eq!(plan.canceled, [gone]);
    scene.days_on(&restored, 2).await;
    assert_eq!(scene.collected(), [1, 1], "what the lost database may have asked for may still come");
    scene.days_on(&restored, 2).await;
    assert_eq!(scene.collected(), [1, 1, 1], "only the other one is collected a second time");
}

/// A backup from before a request that Stripe answered with a 500 and carries out 60 hours later, restored and recovered.
async fn restored_before_a_500() -> (Scene, Ctx) {
    let scene = Scene::new(&["pm_card_visa"]).await;
    scene.world.ctx.run_once(Job::Materialize, 100).await.unwrap();
    scene.back_up();
    let forward = Effect::parse("500 forward 60h").unwrap();
    scene.world.sandbox.add_fault(Rule::once("POST", "/v1/payment_intents", forward));
    scene.days(1).await;
    assert!(scene.collected().is_empty(), "Stripe answered 500");
    let restored = scene.on_backup().await;
    scene.days_on(&restored, 1).await;
    confirm(&restored).await;
    (scene, restored)
}

#[tokio::test]
async fn what_stripe_makes_days_later_of_a_lost_databases_request_is_collected_once() {
    let (scene, restored) = restored_before_a_500().await;
    scene.days_on(&restored, 6).await;
    assert_eq!((scene.collected(), states(&restored).await), (vec![1], vec!["paid"]));
}

#[tokio::test]
async fn no_page_opens_beside_what_stripe_makes_days_later_of_a_lost_databases_request() {
    let (scene, restored) = restored_before_a_500().await;
    let confirmed_at = restored.clock.now();
    let id = charges(&restored).await.remove(0).charge.id;
    let click = async || {
        let opened = pay_link::open(&restored, id, pay_link::CLICK_LIFE).await.unwrap();
        if let Opened::Url(url) = &opened {
            let page = url.rsplit('/').next().unwrap();
            scene.world.sandbox.complete_session(page, "pm_card_visa").unwrap();
        }
        opened
    };
    let from = confirmed_at.checked_add(Duration::from_secs(72 * 3600)).unwrap();
    assert_eq!(click().await, Opened::Later(from));
    scene.world.clock.advance(Duration::from_secs(72 * 3600));
    scene.world.sandbox.tick();
    assert_eq!(click().await, Opened::Busy, "what the lost database asked for has come");
    assert_eq!(click().await, Opened::Paid);
    assert_eq!((scene.collected(), states(&restored).await), (vec![1], vec!["paid"]));
}

#[tokio::test]
async fn nobody_is_asked_for_money_after_a_recovery_before_it_can_be_paid() {
    let scene = Scene::new(&["pm_card_authenticationRequired"]).await;
    let ctx = &scene.world.ctx;
    drain(ctx).await;
    let id = charges(ctx).await.remove(0).charge.id;
    let Opened::Url(_) = pay_link::open(ctx, id, pay_link::CLICK_LIFE).await.unwrap() else { panic!() };
    scene.days(5).await;
    let past_due = charges(ctx).await.remove(0).charge;
    assert_eq!((past_due.state.as_str(), past_due.collector), ("past_due", None), "its page has expired");
    scene.back_up();
    one_off(ctx).await;
    scene.days(1).await;
    let restored = scene.on_backup().await;
    one_off(&restored).await;
    drain(&restored).await;
    confirm(&restored).await;
    let click = async || pay_link::open(&restored, id, pay_link::CLICK_LIFE).await.unwrap();
    let mails = async || {
        let promises = restored.store.story(id).await.unwrap().promises;
        promises.iter().filter(|one| one.template.is_some() && one.state == "done").count()
    };
    let mailed = mails().await;
    scene.days_on(&restored, 2).await;
    assert!(matches!(click().await, Opened::Later(_)));
    assert_eq!(mails().await, mailed);
    scene.days_on(&restored, 3).await;
    assert!(mails().await > mailed, "the ladder goes on");
    assert!(matches!(click().await, Opened::Url(_)));
}

#[tokio::test]
async fn what_was_paid_before_the_cancellation_is_booked_as_paid() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    ctx.run_once(Job::Materialize, 100).await.unwrap();
    scene.back_up();
    scene.tick().await;
    let subscription = ctx.store.list_subscriptions(None, 0, 10).await.unwrap().remove(0);
    manage::cancel(ctx, subscription.subscription_id(), "ana", "moved away").await.unwrap();
    let restored = scene.on_backup().await;
    drain(&restored).await;
    confirm(&restored).await;
    let charge = restored
        .store
        .list_charges(&ChargeFilter { limit: 9, ..ChargeFilter::default() })
        .await
        .unwrap()
        .remove(0);
    assert_eq!(charge.charge.state.as_str(), "paid");
    scene.days_on(&restored, 40).await;
    assert_eq!(scene.collected(), [1]);
}

#[tokio::test]
async fn what_was_paid_on_a_page_after_the_backup_is_found_although_no_retry_is_planned() {
    let scene = Scene::new(&["pm_card_authenticationRequired"]).await;
    let ctx = &scene.world.ctx;
    drain(ctx).await;
    assert_eq!(states(ctx).await, ["past_due"]);
    scene.back_up();
    scene.world.clock.advance(Duration::from_secs(2 * 3600));
    let id = charges(ctx).await.remove(0).charge.id;
    let Opened::Url(url) = pay_link::open(ctx, id, pay_link::CLICK_LIFE).await.unwrap() else { panic!() };
    let page = url.rsplit('/').next().unwrap();
    scene.world.sandbox.complete_session(page, "pm_card_visa").unwrap();
    one_off(ctx).await;
    scene.days(1).await;
    assert_eq!(states(ctx).await, ["paid", "paid"], "the page is paid, and its card paid the repair");
    let restored = scene.on_backup().await;
    one_off(&restored).await;
    drain(&restored).await;
    confirm(&restored).await;
    assert_eq!(states(&restored).await, ["due", "paid"], "nobody is asked for the same money again");
}

#[tokio::test]
async fn what_waited_for_a_person_and_was_collected_after_the_backup_is_booked_as_paid() {
    let ask = |config: &mut Config| config.plans.get_mut("basic").unwrap().catch_up = CatchUp::Ask;
    let scene = Scene::with(&["pm_card_visa"], ask).await;
    let ctx = &scene.world.ctx;
    scene.world.clock.advance(Duration::from_secs(40 * 86_400));
    ctx.run_once(Job::Materialize, 100).await.unwrap();
    scene.back_up();
    assert!(states(ctx).await.contains(&"needs_review"), "{:?}", states(ctx).await);
    for one in charges(ctx).await {
        manage::command(ctx, one.charge.id, ChargeCommand::CollectNow, "ana", "as agreed").await.unwrap();
    }
    scene.days(1).await;
    let paid = states(ctx).await;
    assert_eq!(paid.iter().filter(|one| **one == "paid").count(), paid.len());
    let restored = scene.on_backup().await;
    one_off(&restored).await;
    drain(&restored).await;
    confirm(&restored).await;
    assert_eq!(states(&restored).await, [&["due"], paid.as_slice()].concat());
}

#[tokio::test]
async fn what_was_collected_before_its_day_is_found_by_a_database_that_makes_it_again() {
    // Made ten days before it is due, and collected at once, at a person's word.
    let told = |config: &mut Config| config.plans.get_mut("basic").unwrap().notice_secs = 10 * 86_400;
    let scene = Scene::with(&["pm_card_visa"], told).await;
    scene.days(1).await;
    scene.back_up();
    scene.days(26).await;
    let ctx = &scene.world.ctx;
    for one in charges(ctx).await.iter().filter(|one| one.charge.state.as_str() == "due") {
        manage::command(ctx, one.charge.id, ChargeCommand::CollectNow, "ana", "as agreed").await.unwrap();
    }
    scene.days(9).await;
    let collected = scene.collected();
    assert_eq!(collected, [1, 1]);
    let restored = scene.on_backup().await;
    one_off(&restored).await;
    drain(&restored).await;
    confirm(&restored).await;
    scene.days_on(&restored, 3).await;
    assert_eq!(states(&restored).await, ["paid"; 3], "two months and the one-off charge");
    assert_eq!(scene.collected(), [1; 3]);
}

#[tokio::test]
async fn a_one_off_that_was_lost_with_its_database_and_is_added_again_is_found() {
    for preflight in [Preflight::Always, Preflight::Stale] {
        let scene = Scene::with(&["pm_card_visa"], |config| config.stripe.preflight = preflight).await;
        scene.days(1).await;
        scene.back_up();
        let add = async |ctx: &Ctx| {
            let amount = Money::from_minor(500, "eur".parse().unwrap()).unwrap();
            manage::add_one_off(ctx, ctx.instance.customer("cus_0"), amount, ctx.now(), "Repair", "R-1").await
        };
        add(&scene.world.ctx).await.unwrap();
        scene.days(9).await;
        assert_eq!(scene.collected(), [1, 1]);
        let restored = scene.on_backup().await;
        one_off(&restored).await;
        drain(&restored).await;
        confirm(&restored).await;
        // Nobody is sure that it was entered, so it is entered again.
        add(&restored).await.unwrap();
        scene.days_on(&restored, 3).await;
        assert_eq!(states(&restored).await, ["paid"; 3]);
        assert_eq!(scene.collected(), [1; 3], "{preflight:?}");
    }
}

#[tokio::test]
async fn what_was_still_processing_when_the_database_was_restored_does_not_stop_the_recovery() {
    let scene = Scene::new(&["pm_card_sandbox_processingThenPaid", "pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    ctx.run_once(Job::Materialize, 100).await.unwrap();
    scene.back_up();
    scene.tick().await;
    assert!(states(ctx).await.contains(&"processing"), "{:?}", states(ctx).await);
    let restored = scene.on_backup().await;
    drain(&restored).await;
    confirm(&restored).await;
    assert!(states(&restored).await.contains(&"processing"), "{:?}", states(&restored).await);
    scene.days_on(&restored, 5).await;
    assert_eq!(scene.collected().iter().sum::<u64>(), 2);
}

#[tokio::test]
async fn what_a_person_ended_before_the_recovery_ends_only_once_stripe_can_take_no_more() {
    let scene = Scene::new(&["pm_card_sandbox_processingThenPaid", "pm_card_sandbox_fundsThenGood"]).await;
    scene.world.ctx.run_once(Job::Materialize, 100).await.unwrap();
    scene.back_up();
    scene.tick().await;
    let restored = scene.on_backup().await;
    drain(&restored).await;
    for one in charges(&restored).await {
        manage::command(&restored, one.charge.id, ChargeCommand::MarkPaid, "ana", "by transfer")
            .await
            .unwrap();
    }
    assert_eq!(states(&restored).await, ["settled"; 2], "neither had an object of Stripe's here");
    confirm(&restored).await;
    scene.days_on(&restored, 1).await;
    let mut statuses: Vec<&str> =
        scene.world.sandbox.books().payment_intents.into_iter().map(|one| one.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["canceled", "processing"]);
    assert_eq!(states(&restored).await, ["closing", "settled"]);
    scene.days_on(&restored, 4).await;
    assert_eq!(states(&restored).await, ["paid", "settled"], "the customer has paid twice");
    let told = scene
        .mails
        .mails()
        .iter()
        .any(|mail| mail.text.contains("although the charge was to become settled"));
    assert!(told, "the operator gives one payment back");
}

/// A bank account that turns out, five days later, not to be debited.
const DEBIT_FAILS: &str = "DE73 0000 0000 0000 0000 13";

#[tokio::test]
async fn a_page_that_waits_for_its_bank_is_a_page_after_a_restore_too() {
    let debits = |config: &mut Config| {
        config.stripe.page_methods.offer("eur".parse().unwrap(), &["sepa_debit".to_owned()]).unwrap();
    };
    let scene = Scene::with(&["pm_card_authenticationRequired"], debits).await;
    let ctx = &scene.world.ctx;
    drain(ctx).await;
    scene.back_up();
    scene.world.clock.advance(Duration::from_secs(2 * 3600));
    let id = charges(ctx).await.remove(0).charge.id;
    let Opened::Url(url) = pay_link::open(ctx, id, pay_link::CLICK_LIFE).await.unwrap() else { panic!() };
    let page = url.rsplit('/').next().unwrap();
    scene.world.sandbox.complete_session(page, DEBIT_FAILS).unwrap();
    scene.days(1).await;
    assert_eq!(states(ctx).await, ["processing"]);
    let restored = scene.on_backup().await;
    one_off(&restored).await;
    drain(&restored).await;
    confirm(&restored).await;
    let found = restored.store.find_charge(id).await.unwrap().unwrap().charge;
    let collector = found.collector.unwrap();
    assert_eq!((found.state.as_str(), collector.stripe_id.as_deref()), ("processing", Some(page)));
    scene.days_on(&restored, 6).await;
    let state = async || restored.store.find_charge(id).await.unwrap().unwrap().charge.state;
    assert_eq!(state().await.as_str(), "past_due", "the bank refused, and the customer is asked again");
    manage::command(&restored, id, ChargeCommand::MarkPaid, "ana", "by transfer").await.unwrap();
    scene.days_on(&restored, 1).await;
    assert_eq!(state().await.as_str(), "settled", "nothing lives that could still take it");
}

#[tokio::test]
async fn what_a_retry_collected_after_the_backup_is_found_although_its_payment_intent_is_older() {
    let scene = Scene::new(&["pm_card_sandbox_fundsOnceThenGood"]).await;
    let ctx = &scene.world.ctx;
    scene.days(2).await;
    one_off(ctx).await;
    scene.tick().await;
    scene.back_up();
    scene.days(4).await;
    assert_eq!(states(ctx).await, ["paid", "paid"], "the retry of day 3");
    let restored = scene.on_backup().await;
    one_off(&restored).await;
    drain(&restored).await;
    restored.store.hold_customer("cus_0", Some("the cardholder disputes a charge")).await.unwrap();
    confirm(&restored).await;
    assert_eq!(states(&restored).await, ["due", "paid", "paid"], "nobody is asked for the same money again");
}

#[tokio::test]
async fn what_was_collected_of_a_subscription_that_the_backup_shows_paused_is_found() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    scene.days(2).await;
    let subscription = ctx.store.list_subscriptions(None, 0, 10).await.unwrap()[0].subscription_id();
    manage::pause(ctx, subscription, "ana", "on holiday").await.unwrap();
    scene.back_up();
    manage::resume(ctx, subscription, "ana").await.unwrap();
    scene.days(65).await;
    assert_eq!(scene.collected(), [1; 3]);
    let restored = scene.on_backup().await;
    one_off(&restored).await;
    drain(&restored).await;
    let plan = confirm(&restored).await;
    assert_eq!(plan.unknown_charges, 0, "{plan:?}");
    assert_eq!(states(&restored).await, ["due", "paid", "paid", "paid"]);
    manage::resume(&restored, subscription, "ana").await.unwrap();
    scene.days_on(&restored, 2).await;
    assert_eq!(states(&restored).await, ["paid"; 4], "only the one-off was still to be collected");
    assert_eq!(scene.collected(), [1; 4]);
}

#[tokio::test]
async fn a_decline_that_a_restored_database_never_heard_of_holds_its_retry_back() {
    let scene = Scene::new(&["pm_card_visa_chargeDeclinedInsufficientFunds"]).await;
    let ctx = &scene.world.ctx;
    ctx.run_once(Job::Materialize, 100).await.unwrap();
    scene.back_up();
    scene.tick().await;
    assert_eq!(states(ctx).await, ["past_due"]);
    scene.world.clock.advance(Duration::from_secs(3600));
    let restored = scene.on_backup().await;
    drain(&restored).await;
    confirm(&restored).await;
    let (posts, mails) = (scene.requests("/v1/payment_intents"), scene.customer_mails());
    for _ in 0..22 {
        drain(&restored).await;
        scene.world.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(scene.requests("/v1/payment_intents"), posts, "one try a day, whoever made it");
    assert_eq!(states(&restored).await, ["past_due"]);
    assert_eq!(scene.customer_mails(), mails + 1, "and the customer hears of it");
}

impl Scene {
    /// Hours until one more retry has left.
    async fn until_it_retries(&self) {
        let retries = || self.requests("/v1/payment_intents/");
        let before = retries();
        for _ in 0..5 * 24 {
            drain(&self.world.ctx).await;
            if retries() > before {
                return;
            }
            self.world.clock.advance(Duration::from_secs(3600));
        }
        panic!("no retry in five days");
    }
}

#[tokio::test]
async fn what_the_bank_says_to_a_lost_databases_retry_after_the_recovery_counts_too() {
    let scene = Scene::new(&["pm_card_visa_chargeDeclinedInsufficientFunds"]).await;
    scene.tick().await;
    scene.back_up();
    let forward = Effect::parse("500 forward 40h").unwrap();
    scene.world.sandbox.add_fault(Rule::once("POST", "/v1/payment_intents", forward));
    scene.until_it_retries().await;
    let restored = scene.on_backup().await;
    restored.store.hold_customer("cus_0", Some("the cardholder asks for time")).await.unwrap();
    drain(&restored).await;
    confirm(&restored).await;
    scene.days_on(&restored, 2).await;
    let tried = || scene.world.sandbox.books().charges.len();
    assert_eq!(tried(), 2, "Stripe has carried it out");
    restored.store.hold_customer("cus_0", None).await.unwrap();
    for _ in 0..12 {
        drain(&restored).await;
        scene.world.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(tried(), 2, "one try a day, whoever made it");
    scene.days_on(&restored, 2).await;
    assert_eq!(tried(), 3, "and then the next one");
}

#[tokio::test]
async fn a_retry_that_only_the_lost_database_made_counts_for_the_next_one() {
    let scene = Scene::new(&["pm_card_visa_chargeDeclinedInsufficientFunds"]).await;
    let ctx = &scene.world.ctx;
    scene.tick().await;
    assert_eq!(states(ctx).await, ["past_due"]);
    scene.back_up();
    let retries = || scene.requests("/v1/payment_intents/");
    let before = retries();
    scene.until_it_retries().await;
    let restored = scene.on_backup().await;
    drain(&restored).await;
    confirm(&restored).await;
    for _ in 0..20 {
        drain(&restored).await;
        scene.world.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(retries(), before + 1, "one try a day, whoever made it");
    scene.days_on(&restored, 2).await;
    assert_eq!(retries(), before + 2, "and then the next one");
}

#[tokio::test]
async fn what_was_declined_on_a_page_of_the_lost_database_counts_for_the_next_try() {
    const FUNDS: &str = "pm_card_visa_chargeDeclinedInsufficientFunds";
    let scene = Scene::new(&[FUNDS]).await;
    let ctx = &scene.world.ctx;
    scene.tick().await;
    scene.back_up();
    scene.world.clock.advance(Duration::from_secs(3600));
    let id = charges(ctx).await.remove(0).charge.id;
    let Opened::Url(url) = pay_link::open(ctx, id, pay_link::CLICK_LIFE).await.unwrap() else { panic!() };
    let page = url.rsplit('/').next().unwrap();
    for _ in 0..2 {
        scene.world.sandbox.complete_session(page, FUNDS).unwrap();
    }
    one_off(ctx).await;
    scene.tick().await;
    let tried = || scene.world.sandbox.books().charges.iter().filter(|one| one.amount != 500).count();
    assert_eq!(tried(), 3);
    let restored = scene.on_backup().await;
    one_off(&restored).await;
    drain(&restored).await;
    confirm(&restored).await;
    scene.days_on(&restored, 6).await;
    assert_eq!(tried(), 3, "three tries in seven days, whoever made them");
    scene.days_on(&restored, 3).await;
    assert_eq!(tried(), 4, "and then the next one");
}

#[tokio::test]
async fn of_two_copies_one_stops_and_no_charge_is_collected_by_both() {
    let scene = Scene::new(&["pm_card_visa", "pm_card_visa"]).await;
    drain(&scene.world.ctx).await;
    scene.back_up();
    let copy = scene.on_backup().await;
    for _ in 0..40 * 24 {
        drain(&scene.world.ctx).await;
        drain(&copy).await;
        scene.world.clock.advance(Duration::from_secs(3600));
        scene.world.sandbox.tick();
    }
    let stopped = [scene.world.ctx.store.halted().await.unwrap(), copy.store.halted().await.unwrap()];
    assert_eq!(stopped.iter().filter(|why| why.is_some()).count(), 1, "{stopped:?}");
    assert_eq!(scene.collected(), [1; 4]);
}

#[tokio::test]
async fn of_two_copies_the_one_that_is_behind_does_not_repeat_what_nobody_answered() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    let rule = Rule::once("POST", "/v1/payment_intents", Effect::parse("no-answer not-executed").unwrap());
    scene.world.sandbox.add_fault(Rule { times: None, ..rule });
    drain(ctx).await;
    assert_eq!(states(ctx).await, ["collecting"]);
    scene.world.sandbox.clear_faults();
    scene.back_up();
    let copy = scene.on_backup().await;
    scene.world.clock.advance(Duration::from_secs(2 * 3600));
    one_off(&copy).await;
    copy.run_once(Job::Collect, 100).await.unwrap();
    let posts = scene.requests("/v1/payment_intents");
    let report = ctx.run_once(Job::Reconcile, 100).await.unwrap();
    assert_eq!(report.outcome("not_looked_up"), 1, "{report:?}");
    assert_eq!(scene.requests("/v1/payment_intents"), posts);
    assert!(ctx.store.halted().await.unwrap().is_some());
}

/// Another database for the same shop, with the same customer and what is due of theirs.
async fn set_up_anew(lost: &Scene) -> Ctx {
    let store = Store::open(&format!("sqlite://{}", lost.dir.join("new.db").display())).await.unwrap();
    store.migrate().await.unwrap();
    let new = lost.on(store).await;
    let lines = format!(
        "{}\ncus_0,pm_card_visa_0,c@example.com,C,en,UTC,basic,1,2026-01-05,2026-01-01,yes\n",
        import::HEADER
    );
    assert!(import::import(&new, lines.as_bytes(), |_| {}).await.unwrap().bad.is_empty());
    new.run_once(Job::Materialize, 10).await.unwrap();
    new
}

#[tokio::test]
async fn an_empty_database_does_not_charge_what_a_lost_one_may_have_charged() {
    let lost = Scene::new(&["pm_card_visa"]).await;
    lost.days(1).await;
    let posts = lost.requests("/v1/payment_intents");
    let new = set_up_anew(&lost).await;
    assert!(new.run_once(Job::Collect, 10).await.unwrap().stopped.is_some());
    let why = new.store.halted().await.unwrap().unwrap();
    assert!(why.starts_with("Stripe knows charges of another recurd database"), "{why}");
    assert_eq!(lost.requests("/v1/payment_intents"), posts);
    // Two databases on one account on purpose.
    guard::resume(&new.store, "ana", "a second shop", lost.world.clock.now()).await.unwrap();
    lost.days_on(&new, 1).await;
    assert_eq!(lost.requests("/v1/payment_intents"), posts + 1);
}

#[tokio::test]
async fn an_empty_database_is_noticed_behind_whatever_other_tools_have_made_since() {
    let lost = Scene::new(&["pm_card_visa"]).await;
    lost.days(1).await;
    for _ in 0..250 {
        let foreign = [("amount", "500"), ("currency", "eur")];
        let made = lost.world.sandbox.handle(&Request::post("/v1/payment_intents", &foreign));
        assert!(made.response().is_some_and(|answer| answer.status == 200));
    }
    let new = set_up_anew(&lost).await;
    new.run_once(Job::Collect, 10).await.unwrap();
    let why = new.store.halted().await.unwrap().expect("the 251st PaymentIntent is the lost database's");
    assert!(why.starts_with("Stripe knows charges of another recurd database"), "{why}");
}

#[tokio::test]
async fn a_witness_that_somebody_deleted_stops_charging_until_a_person_has_looked() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    scene.days(1).await;
    let (ctx, store) = (&scene.world.ctx, &scene.world.ctx.store);
    let witness = store.instance(scene.world.clock.now()).await.unwrap().witness.unwrap();
    let path = format!("/v1/customers/{witness}");
    let delete =
        Request::new("DELETE".parse().unwrap(), path).header("authorization", "Bearer sk_test_sandbox");
    assert!(scene.world.sandbox.handle(&delete).response().is_some_and(|answer| answer.status == 200));
    scene.days(40).await;
    assert_eq!(scene.collected(), [1]);
    assert!(store.halted().await.unwrap().is_some());
    confirm(ctx).await;
    scene.days(32).await;
    assert_eq!(scene.collected(), [1; 3]);
}

#[tokio::test]
async fn a_mark_that_stripe_writes_late_hides_no_newer_one_of_a_lost_database() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    scene.days(65).await;
    scene.back_up();
    let known = scene.world.ctx.store.instance(scene.world.clock.now()).await.unwrap();
    let older = known.nonces_before.split_whitespace().next().unwrap();
    scene.days(31).await;
    let collected = scene.collected();
    let (path, place) =
        (format!("/v1/customers/{}", known.witness.unwrap()), format!("recurd_nonce_{}", &older[..1]));
    let shown_after = |request: Request| {
        let answer = scene.world.sandbox.handle(&request.header("authorization", "Bearer sk_test_sandbox"));
        let customer: serde_json::Value = serde_json::from_slice(&answer.response().unwrap().body).unwrap();
        customer["metadata"][&place].as_str().map(str::to_owned)
    };
    assert!(shown_after(Request::get(&path)).is_some(), "the mark has that place");
    let late = Request::post(&path, &[(&format!("metadata[{place}]"), older)]);
    assert_eq!(shown_after(late).as_deref(), Some(older));
    let restored = scene.on_backup().await;
    scene.days_on(&restored, 2).await;
    let why = restored.store.halted().await.unwrap().unwrap_or_default();
    assert!(why.starts_with("this database is older than what Stripe knows"), "{why:?}");
    confirm(&restored).await;
    scene.days_on(&restored, 2).await;
    assert_eq!((scene.collected(), restored.store.halted().await.unwrap()), (collected, None));
}

#[tokio::test]
async fn who_dies_between_the_two_writes_of_a_mark_is_no_stranger() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    drain(&scene.world.ctx).await;
    let store = &scene.world.ctx.store;
    let known = store.instance(scene.world.clock.now()).await.unwrap();
    // Committed, and died before Stripe was shown it.
    assert!(store.next_nonce(known.nonce.as_deref(), "unseen", scene.world.clock.now()).await.unwrap());
    scene.days(3).await;
    assert_eq!(store.halted().await.unwrap(), None);
    let shown = store.instance(scene.world.clock.now()).await.unwrap();
    assert_ne!(shown.nonce, known.nonce);
}
