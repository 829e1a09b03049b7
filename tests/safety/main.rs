//! Never twice, never lost: whatever happens to an answer, a process or a database, Stripe's books show each charge
//! collected once, and no customer hears of a fault that was not theirs.

mod asleep;
mod ceilings;
mod recovery;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use recurd::clock::Clock;
use recurd::config::{Config, Mode};
use recurd::demo::{InProcess, World, WorldOptions};
use recurd::flows::{Ctx, Job, guard, import, manage, pay_link};
use recurd::mail::{Mail, Mailer, Memory};
use recurd::sandbox::{Effect, Rule, SeedCard};
use recurd::store::{Card, ChargeFilter, Customer};
use recurd::stripe::{Client, ClientOptions};

const OPERATOR: &str = "ops@example.com";

struct Scene {
    world: World,
    mails: Memory,
    dir: PathBuf,
}

impl Scene {
    /// A world in which `cards` are due on 5 January 2026 on the plan "basic".
    async fn new(cards: &[&str]) -> Self {
        Self::with(cards, |_| {}).await
    }

    /// The same with a changed configuration.
    async fn with(cards: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let dir = std::env::temp_dir().join(format!("recurd-test-safety-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        let env = std::collections::BTreeMap::new();
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut config = Config::load_with(Some(&root.join("schedules.toml")), &env).unwrap();
        config.public_url = Some("http://127.0.0.1:8080".into());
        config.mail.operator = Some(OPERATOR.into());
        change(&mut config);
        let start: jiff::Timestamp = "2026-01-05T12:00:00Z".parse().unwrap();
        let (mailer, mails) = Mailer::memory(Clock::manual(start));
        let mailer = Some(Arc::new(mailer));
        let options = WorldOptions { seed: 1, start, dir: dir.clone(), config, database_url: None, mailer };
        let world = World::new(options).await.unwrap();
        let mut csv = format!("{}\n", import::HEADER);
        for (index, card) in cards.iter().enumerate() {
            let (customer, id) = (format!("cus_{index}"), format!("{card}_{index}"));
            world.sandbox.seed_customer(&customer, Some("a@example.com"), None).unwrap();
            let card = SeedCard { id: id.clone(), customer: customer.clone(), ..SeedCard::default() };
            world.sandbox.seed_card(&card).unwrap();
            csv.push_str(&format!(
                "{customer},{id},c{index}@example.com,C,en,UTC,basic,1,2026-01-05,2026-01-01,yes\n"
            ));
        }
        let imported = import::import(&world.ctx, csv.as_bytes(), |_| {}).await.unwrap();
        assert!(imported.bad.is_empty(), "{:?}", imported.bad);
        Self { world, mails, dir }
    }

    /// Everything that is due, until nothing is.
    async fn tick(&self) {
        drain(&self.world.ctx).await;
    }

    /// Ticks every ten minutes for some hours.
    async fn hours(&self, hours: u32) {
        for _ in 0..hours * 6 {
            self.tick().await;
            self.world.clock.advance(Duration::from_secs(600));
            self.world.sandbox.tick();
        }
        self.tick().await;
    }

    /// How often Stripe collected each charge.
    fn collected(&self) -> Vec<u64> {
        let mut times = std::collections::BTreeMap::<String, u64>::new();
        for intent in self.world.sandbox.books().payment_intents {
            if intent.status == "succeeded" {
                *times.entry(intent.metadata["recurd_charge"].clone()).or_default() += 1;
            }
        }
        times.into_values().collect()
    }

    /// Mails to anybody but the operator.
    fn customer_mails(&self) -> usize {
        self.mails.mails().iter().filter(|mail| mail.to.email() != OPERATOR).count()
    }

    /// How often the operator was told of a halt.
    fn alarms(&self) -> usize {
        let of_halt = |mail: &Mail| mail.to.email() == OPERATOR && mail.text.contains("nothing is charged");
        self.mails.mails().iter().filter(|mail| of_halt(mail)).count()
    }

    async fn states(&self) -> Vec<&'static str> {
        let filter = ChargeFilter { limit: 1000, ..ChargeFilter::default() };
        let charges = self.world.ctx.store.list_charges(&filter).await.unwrap();
        charges.iter().map(|one| one.charge.state.as_str()).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn drain(ctx: &Ctx) {
    for job in Job::ALL {
        for _ in 0..100 {
            if ctx.run_once(job, 500).await.unwrap().taken == 0 {
                break;
            }
        }
    }
}

/// A fault on the first create, then everything works again.
async fn after_fault(effect: &str) -> Scene {
    let scene = Scene::new(&["pm_card_visa"]).await;
    scene.world.sandbox.add_fault(Rule::once("POST", "/v1/payment_intents", Effect::parse(effect).unwrap()));
    scene.hours(30).await;
    scene
}

#[tokio::test]
async fn whatever_happens_to_an_answer_the_charge_is_collected_once_and_nobody_is_mailed() {
    for effect in [
        "no-answer",
        "no-answer not-executed",
        "cut 40",
        "500",
        "502",
        "503 not-executed",
        "409",
        "429",
        "not-sent",
    ] {
        let scene = after_fault(effect).await;
        assert_eq!(scene.collected(), [1], "{effect}");
        assert_eq!(scene.states().await, ["paid"], "{effect}");
        assert_eq!(scene.customer_mails(), 0, "{effect}: a customer was mailed");
    }
}

#[tokio::test]
async fn a_500_that_never_ran_ends_with_a_person_and_not_with_a_second_try() {
    let scene = after_fault("500 not-executed").await;
    assert_eq!(scene.states().await, ["collecting"]);
    scene.hours(60).await;
    assert_eq!(scene.states().await, ["needs_review"]);
    assert!(scene.collected().is_empty());
    assert_eq!(scene.customer_mails(), 0);
}

#[tokio::test]
async fn a_500_that_stripe_finishes_hours_later_is_found_and_booked_once() {
    let scene = after_fault("500 forward 26h").await;
    assert_eq!((scene.collected(), scene.states().await), (vec![1], vec!["paid"]));
}

#[tokio::test]
async fn two_workers_at_the_same_moment_collect_each_charge_once() {
    let scene = Scene::new(&["pm_card_visa"; 40]).await;
    let world = &scene.world;
    let other = Ctx::new(
        world.ctx.store.clone(),
        world.ctx.stripe.clone(),
        world.ctx.mailer.clone(),
        world.ctx.templates.clone(),
        world.clock.clone(),
        world.ctx.config.clone(),
        world.ctx.instance,
        world.ctx.head.as_ref().clone(),
    );
    tokio::join!(drain(&world.ctx), drain(&other));
    assert_eq!(scene.collected(), [1; 40]);
    assert_eq!(scene.states().await, ["paid"; 40]);
}

#[tokio::test]
async fn after_a_halt_not_one_call_takes_money_until_it_is_lifted() {
    let scene =
        Scene::new(&["pm_card_visa", "pm_card_visa", "pm_card_chargeDeclinedInsufficientFunds"]).await;
    let (store, clock) = (&scene.world.ctx.store, &scene.world.clock);
    assert!(guard::halt(store, "ana", "wrong prices", clock.now()).await.unwrap());
    assert!(!guard::halt(store, "ben", "me too", clock.now()).await.unwrap(), "the first reason stays");
    scene.hours(2).await;
    assert!(scene.world.sandbox.books().payment_intents.is_empty());
    let report = scene.world.ctx.run_once(Job::Collect, 500).await.unwrap();
    assert_eq!(report.stopped.as_deref(), Some("charging is halted: wrong prices"));
    assert!(guard::resume(store, "ana", "prices are right", clock.now()).await.unwrap());
    scene.hours(2).await;
    assert_eq!(scene.collected(), [1, 1]);

    // The declined one's link obeys too.
    let filter = ChargeFilter { state: Some("past_due".into()), limit: 10, ..ChargeFilter::default() };
    let declined = store.list_charges(&filter).await.unwrap().remove(0).charge.id;
    guard::halt(store, "ana", "again", clock.now()).await.unwrap();
    let refused = pay_link::open(&scene.world.ctx, declined, pay_link::CLICK_LIFE).await.unwrap_err();
    assert!(refused.to_string().contains("again"), "{refused}");
    assert!(scene.world.sandbox.books().sessions.is_empty());
}

#[tokio::test]
async fn a_halt_in_the_middle_of_a_group_lets_only_those_calls_through_that_had_left() {
    let cards = vec!["pm_card_visa"; 60];
    let scene = Scene::new(&cards).await;
    let ctx = &scene.world.ctx;
    scene.world.ctx.run_once(Job::Materialize, 500).await.unwrap();
    let mut run = std::pin::pin!(ctx.run_once(Job::Collect, 500));
    let left = || scene.world.sandbox.books().payment_intents.len();
    // Polled by hand until the first calls have arrived, then halted, then let go to its end.
    while left() == 0 {
        assert!(futures::poll!(run.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    ctx.store.halt("stop", scene.world.clock.now()).await.unwrap();
    let before = left();
    let report = run.await.unwrap();
    let concurrency = ctx.config.limits.concurrency / ctx.config.limits.workers;
    assert!(left() - before <= concurrency, "{} calls left after the halt", left() - before);
    assert!(left() < 60 && report.outcome("not_run") > 0, "{report:?}");

    ctx.store.resume(scene.world.clock.now()).await.unwrap();
    scene.hours(2).await;
    assert_eq!(scene.collected(), vec![1; 60]);
}

#[tokio::test]
async fn a_cap_of_the_day_admits_what_fits_then_halts_and_says_so_once() {
    let scene = Scene::with(&["pm_card_visa"; 7], |config| config.guard.day.attempts = Some(3)).await;
    scene.hours(3).await;
    assert_eq!(scene.collected().len(), 3);
    let why = "more than 3 attempts today (guard.charges_per_day)";
    assert_eq!(scene.world.ctx.store.halted().await.unwrap().as_deref(), Some(why));
    assert_eq!(scene.alarms(), 1);
    // The next day, after a person has looked, three more.
    scene.world.clock.advance(Duration::from_secs(86_400));
    guard::resume(&scene.world.ctx.store, "ana", "fine", scene.world.clock.now()).await.unwrap();
    scene.hours(1).await;
    assert_eq!(scene.collected(), [1; 6]);
}

#[tokio::test]
async fn the_first_live_charges_wait_for_a_person_after_the_fifth() {
    let scene = Scene::with(&["pm_card_visa"; 8], |config| config.stripe.mode = Mode::Live).await;
    scene.hours(2).await;
    assert_eq!(scene.collected().len(), 5);
    guard::resume(&scene.world.ctx.store, "ana", "looked at all five", scene.world.clock.now())
        .await
        .unwrap();
    scene.hours(1).await;
    assert_eq!(scene.collected(), [1; 8]);
}

#[tokio::test]
async fn a_day_like_none_before_halts_before_its_first_charge() {
    let scene = Scene::with(&["pm_card_visa"], |config| config.guard.surge_from = 5).await;
    let (ctx, store) = (&scene.world.ctx, &scene.world.ctx.store);
    let customer = store.list_customers(0, 1).await.unwrap().remove(0).customer_id();
    let top_up = async |number: u32| {
        let (amount, id) = ("29.00 USD".parse().unwrap(), format!("top-up {number}"));
        manage::add_one_off(ctx, customer, amount, ctx.now(), "Top-up", &id).await.unwrap();
    };
    // A subscription and three weeks of a few charges a day.
    for number in 0..60 {
        top_up(number).await;
        scene.tick().await;
        scene.world.clock.advance(Duration::from_secs(8 * 3600));
    }
    assert_eq!(scene.collected(), [1; 61]);
    for number in 60..70 {
        top_up(number).await;
    }
    scene.hours(2).await;
    assert_eq!(scene.collected(), [1; 61]);
    let why = store.halted().await.unwrap().unwrap();
    assert_eq!(why, "11 charges are due today; the busiest day so far had 3");
    guard::resume(store, "ana", "a sale", scene.world.clock.now()).await.unwrap();
    scene.hours(1).await;
    assert_eq!(scene.collected(), [1; 71]);
}

fn gone(customer: &Customer) -> Card {
    let payment_method = format!("pm_gone_{}", customer.id);
    let (brand, last4) = ("visa".to_owned(), "4242".to_owned());
    Card {
        payment_method,
        brand,
        last4,
        exp_month: 1,
        exp_year: 2030,
        fingerprint: Some(customer.id.clone()),
        entered_at: 0,
    }
}

#[tokio::test]
async fn many_refusals_alike_halt_and_no_customer_hears_of_them() {
    let scene = Scene::new(&["pm_card_visa"; 12]).await;
    let ctx = &scene.world.ctx;
    // As if the key were of another account: no saved card exists there.
    for customer in ctx.store.list_customers(0, 100).await.unwrap() {
        ctx.store.set_default_card(customer.customer_id(), &gone(&customer), None).await.unwrap();
    }
    ctx.run_once(Job::Materialize, 500).await.unwrap();
    let mut refused = 0;
    for _ in 0..12 {
        refused += ctx.run_once(Job::Collect, 1).await.unwrap().outcome("rejected");
    }
    assert_eq!(refused, 12, "one in each run are not alike in a run");
    assert_eq!(ctx.store.halted().await.unwrap(), None);

    let scene = Scene::new(&["pm_card_visa"; 12]).await;
    let ctx = &scene.world.ctx;
    for customer in ctx.store.list_customers(0, 100).await.unwrap() {
        ctx.store.set_default_card(customer.customer_id(), &gone(&customer), None).await.unwrap();
    }
    scene.hours(3).await;
    let why = ctx.store.halted().await.unwrap().unwrap();
    assert!(why.contains("for the same reason: resource_missing"), "{why}");
    assert_eq!(scene.customer_mails(), 0, "a customer was mailed");
}

#[tokio::test]
async fn one_customer_is_not_charged_without_end_in_one_run() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    let customer = ctx.store.list_customers(0, 10).await.unwrap().remove(0).customer_id();
    for number in 0..9 {
        let amount = format!("{}.00 USD", 10 + number).parse().unwrap();
        manage::add_one_off(ctx, customer, amount, ctx.now(), "a runaway", &format!("{number}"))
            .await
            .unwrap();
    }
    let (report, failed) = ctx.drain(Job::Collect, |_| true).await;
    assert!(failed.is_none());
    assert_eq!(scene.collected().len(), 5);
    assert!(report.stopped.unwrap().contains("has more than 5 charges in one run"));
}

#[tokio::test]
async fn a_clock_that_went_back_charges_nothing_until_it_is_right() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let later = scene.world.clock.now() + jiff::SignedDuration::from_mins(10);
    scene.world.ctx.store.heartbeat(later).await.unwrap();
    scene.tick().await;
    assert!(scene.world.sandbox.books().payment_intents.is_empty());
    scene.hours(1).await;
    assert_eq!(scene.collected(), [1]);
}

/// The same installation on another machine, which has a clock of its own.
fn by_clock(scene: &Scene, clock: Clock) -> Ctx {
    let ctx = &scene.world.ctx;
    let transport = InProcess::new(scene.world.sandbox.clone(), ctx.config.stripe.timeout);
    let options = ClientOptions::new("sk_test_elsewhere".into(), clock.clone());
    Ctx::new(
        ctx.store.clone(),
        Client::new(Arc::new(transport), options).unwrap(),
        ctx.mailer.clone(),
        ctx.templates.clone(),
        clock,
        ctx.config.clone(),
        ctx.instance,
        ctx.head.as_ref().clone(),
    )
}

#[tokio::test]
async fn a_clock_that_is_off_stripes_is_not_followed_until_it_is_right() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    drain(ctx).await;
    // The same installation on a machine whose clock is a year ahead: the next twelve periods have come, it thinks.
    let clock = Clock::manual(ctx.now() + jiff::SignedDuration::from_hours(365 * 24));
    let ahead = by_clock(&scene, clock);
    ahead.stripe.retrieve_account().await.unwrap();
    ahead.heartbeat().await.unwrap();
    for job in [Job::Materialize, Job::Collect, Job::Reconcile, Job::Dun] {
        let report = ahead.run_once(job, 100).await.unwrap();
        assert!(report.stopped.is_some_and(|why| why.contains("off Stripe's")), "{job:?}");
        assert_eq!(report.taken, 0, "{job:?}");
    }
    assert_eq!(scene.states().await, ["paid"], "no period of next year");
    assert_eq!(scene.alarms(), 0, "not a halt: other machines go on");
    scene.hours(24).await;
    scene.world.clock.advance(Duration::from_secs(30 * 86_400));
    scene.hours(1).await;
    assert_eq!(scene.collected(), [1, 1], "what is right goes on, whatever the other clock showed");
}

#[tokio::test]
async fn by_a_slow_clock_no_old_key_is_sent_again() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let fault = Effect::parse("no-answer not-executed").unwrap();
    let ctx = &scene.world.ctx;
    for _ in 0..8 {
        scene.world.sandbox.add_fault(Rule::once("POST", "/v1/payment_intents", fault.clone()));
    }
    drain(ctx).await;
    assert_eq!(scene.states().await, ["collecting"]);
    let sent = scene.world.sandbox.books().requests.len();
    // A day and a half later, by a clock that was set back to an hour after the request.
    let clock = Clock::manual(ctx.now() + jiff::SignedDuration::from_hours(1));
    scene.world.clock.advance(Duration::from_secs(36 * 3600));
    let slow = by_clock(&scene, clock);
    // Not by the check before the round: this process has heard nothing of Stripe yet.
    let report = slow.run_once(Job::Reconcile, 100).await.unwrap();
    assert!(report.stopped.is_some_and(|why| why.contains("off Stripe's")), "{:?}", report.outcomes);
    let log = scene.world.sandbox.books().requests;
    let sent_again = log[sent..].iter().any(|one| one.method == "POST" && one.path == "/v1/payment_intents");
    assert!(!sent_again, "by its clock the key is an hour old");
}
