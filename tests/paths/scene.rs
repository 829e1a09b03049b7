//! The scene: daemon, database, mailbox and Stripe, and words for what people do in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use recurd::billing::charge::State;
use recurd::billing::ids::{ChargeId, CustomerId, SubscriptionId};
use recurd::billing::subscription::SubscriptionState;
use recurd::clock::Clock;
use recurd::config::Config;
use recurd::demo::{InProcess, World, WorldOptions, audit};
use recurd::flows::manage::{self, ChargeCommand};
use recurd::flows::{FlowError, Job, Report, enrol, import};
use recurd::mail::{Mail, Mailer, Memory};
use recurd::sandbox::{Books, ChargeRow, Effect, Request, Rule, SeedCard, WebhookRules};
use recurd::store::{ChargeFilter, Claimed, Customer, Subscription};
use recurd::stripe::{Client, ClientOptions, RateLimits, RetryPolicy};

/// When the scenes begin: a Monday, an hour before anything is due.
const START: &str = "2026-01-05T09:00:00Z";
/// When the first period of the scenes' people falls due.
pub const DUE: &str = "2026-01-05T10:00:00Z";
/// Who gets the alarms.
const OPERATOR: &str = "ops@example.com";
/// Limit: a job that still finds work after so many rounds goes in circles.
const ROUNDS_MAX: usize = 50;

/// One plan and the sample's ladder. What a story adds comes after it.
const SCHEDULES: &str = include_str!("../fixtures/shop.toml");

/// The ladder of the sample configuration: mails at once, on day 7 and day 12, the end on day 15.
pub const LADDER: &str = include_str!("../fixtures/ladder.toml");

/// A small world, and the mails that arrived in it.
pub struct Scene {
    pub world: World,
    pub mails: Memory,
    dir: PathBuf,
}

/// Somebody with a card and a subscription.
#[derive(Clone, Debug)]
pub struct Person {
    pub stripe_customer: String,
    pub customer: CustomerId,
    pub card: String,
    pub subscription: SubscriptionId,
}

impl Scene {
    /// A world with the plan "basic" and nobody in it.
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// With more of `schedules.toml`: further plans, or another end of the ladder (`finally = "pause"`).
    pub async fn with(more: &str) -> Self {
        Self::configured(&format!("{SCHEDULES}{LADDER}{more}")).await
    }

    /// With another ladder than the sample's.
    pub async fn laddered(ladder: &str) -> Self {
        Self::configured(&format!("{SCHEDULES}{ladder}")).await
    }

    /// Without HTTP: the mails carry Stripe's own page.
    pub async fn direct() -> Self {
        let own = "return_url = \"https://example.com/thanks\"";
        let text = SCHEDULES.replace("public_url = \"http://127.0.0.1:8080\"", own);
        Self::configured(&format!("{text}{LADDER}")).await
    }

    async fn configured(schedules: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("recurd-test-paths-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("schedules.toml");
        std::fs::write(&file, schedules).unwrap();
        let config = Config::load_with(Some(&file), &BTreeMap::new()).unwrap();
        let start: Timestamp = START.parse().unwrap();
        let (mailer, mails) = Mailer::memory(Clock::manual(start));
        let mailer = Some(Arc::new(mailer));
        let options = WorldOptions { seed: 1, start, dir: dir.clone(), config, database_url: None, mailer };
        Self { world: World::new(options).await.unwrap(), mails, dir }
    }

    /// A world in which Ann's card is due at ten; the card behaves like `card`.
    pub async fn ann(card: &str) -> (Self, Person) {
        let scene = Self::new().await;
        let ann = scene.person("ann", card, "basic", DUE).await;
        (scene, ann)
    }

    /// A world in which Ann's next charges get `script`, one after the other.
    pub async fn scripted(script: &str) -> (Self, Person) {
        let (scene, ann) = Self::ann("pm_card_visa").await;
        scene.world.sandbox.script_card(&ann.card, script).unwrap();
        (scene, ann)
    }

    /// Somebody imported with a saved card. The same name again is the same customer with another subscription.
    pub async fn person(&self, name: &str, card: &str, plan: &str, start: &str) -> Person {
        let (stripe_customer, id) = (format!("cus_{name}"), format!("{card}_{name}"));
        let _ = self.world.sandbox.seed_customer(&stripe_customer, None, None);
        let seed = SeedCard { id: id.clone(), customer: stripe_customer.clone(), ..SeedCard::default() };
        let _ = self.world.sandbox.seed_card(&seed);
        let csv = format!(
            "{}\n{stripe_customer},{id},{name}@example.com,{name},en,UTC,{plan},1,{start},2026-01-01,yes\n",
            import::HEADER
        );
        let imported = import::import(&self.world.ctx, csv.as_bytes(), |_| {}).await.unwrap();
        assert!(imported.bad.is_empty(), "{:?}", imported.bad);
        let customer = self.world.ctx.instance.customer(&stripe_customer);
        Person { customer, card: id, subscription: customer.subscription(plan, start), stripe_customer }
    }

    /// Bob signs up for the plan `basic` and has saved no card yet.
    pub async fn bob_signs_up(&self) -> (Customer, Subscription) {
        let ctx = &self.world.ctx;
        let person = enrol::Person {
            stripe_customer: None,
            email: "bob@example.com".into(),
            name: "Bob".into(),
            locale: "en".into(),
            time_zone: "UTC".into(),
        };
        let bob = enrol::add_customer(ctx, &person).await.unwrap();
        let state = SubscriptionState::Pending;
        let subscription = enrol::add_subscription(ctx, &bob, "basic", 1, DUE, state).await.unwrap();
        (bob, subscription)
    }

    // ---- time ----

    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Everything that is due, until nothing is: as `recurd run` does it, after Stripe's events were delivered.
    pub async fn tick(&self) -> Report {
        self.world.sandbox.tick();
        self.world.deliver_webhooks().await;
        self.run(&Job::ALL).await
    }

    /// These jobs, until nothing is left for them.
    pub async fn run(&self, jobs: &[Job]) -> Report {
        let mut all = Report::default();
        for job in jobs {
            for round in 0.. {
                let report = self.world.ctx.run_once(*job, 500).await.unwrap();
                let done = report.taken == 0;
                all.merge(report);
                if done {
                    break;
                }
                assert!(round < ROUNDS_MAX, "{} goes in circles: {all:?}", job.as_str());
            }
        }
        all
    }

    /// Ticks until an instant, in steps.
    pub async fn until(&self, end: &str, step: Duration) -> Report {
        let end: Timestamp = end.parse().unwrap();
        let mut report = self.tick().await;
        while self.now() < end {
            self.world.clock.set(self.now().checked_add(step).unwrap().min(end));
            report.merge(self.tick().await);
        }
        report
    }

    /// Ticks every hour.
    pub async fn days(&self, days: i64) -> Report {
        let end = self.now().checked_add(jiff::SignedDuration::from_hours(24 * days)).unwrap();
        self.until(&end.to_string(), Duration::from_secs(3600)).await
    }

    /// Ticks every six hours.
    pub async fn weeks(&self, weeks: i64) -> Report {
        let end = self.now().checked_add(jiff::SignedDuration::from_hours(7 * 24 * weeks)).unwrap();
        self.until(&end.to_string(), Duration::from_secs(6 * 3600)).await
    }

    /// Ticks every five minutes.
    pub async fn hours(&self, hours: i64) -> Report {
        let end = self.now().checked_add(jiff::SignedDuration::from_hours(hours)).unwrap();
        self.until(&end.to_string(), Duration::from_secs(300)).await
    }

    /// Ticks at the moment when Ann's first period is due.
    pub async fn due(&self) -> Report {
        self.until(DUE, Duration::from_secs(3600)).await
    }

    /// Ann's first retry meets these effects, just before another charge on her card is declined. So it is not sent again when its
    /// answer is lost, but read, and given up.
    pub async fn lose_a_retry(&self, ann: &Person, card: &str, script: &str, effects: &[&str]) {
        self.person("ann", card, "basic", "2026-01-08T10:00:30Z").await;
        self.world.sandbox.script_card(&ann.card, script).unwrap();
        for effect in effects {
            self.fault("POST", "/v1/payment_intents/*/confirm", effect);
        }
        self.until("2026-01-08T10:00:00Z", Duration::from_secs(1800)).await;
        self.until("2026-01-08T10:00:40Z", Duration::from_secs(40)).await;
    }

    // ---- what the outside saw ----

    pub fn books(&self) -> Books {
        self.world.sandbox.books()
    }

    /// The tries that Stripe saw, in order: `paid`, `paid on the page`, or `declined` and the code.
    pub fn tries(&self) -> Vec<String> {
        self.books().charges.iter().map(told).collect()
    }

    /// What Stripe collected, in order: minor units and currency.
    pub fn collected(&self) -> Vec<(i64, String)> {
        let charges = self.books().charges.into_iter().filter(|charge| charge.status == "succeeded");
        charges.map(|charge| (charge.amount, charge.currency)).collect()
    }

    /// How often Stripe collected.
    pub fn times_collected(&self) -> usize {
        self.collected().len()
    }

    /// The mails to customers, in short.
    pub fn letters(&self) -> Vec<String> {
        self.customer_mails().iter().map(in_short).collect()
    }

    pub fn customer_mails(&self) -> Vec<Mail> {
        self.mails.mails().into_iter().filter(|mail| mail.to.email() != OPERATOR).collect()
    }

    /// The operator was told of money that came for a charge that had ended.
    pub fn told_of_late_money(&self) -> bool {
        self.alarms().iter().any(|alarm| alarm.contains("was collected although"))
    }

    /// The alarms that the operator got.
    pub fn alarms(&self) -> Vec<String> {
        let alarms = self.mails.mails().into_iter().filter(|mail| mail.to.email() == OPERATOR);
        alarms.map(|mail| mail.text).collect()
    }

    /// What Stripe and the mailbox saw, with the days since the first period fell due.
    pub fn story(&self) -> Vec<String> {
        let due = DUE.parse::<Timestamp>().unwrap().as_second();
        let mut lines: Vec<(i64, String)> =
            self.books().charges.iter().map(|charge| (charge.created, told(charge))).collect();
        lines.extend(
            self.customer_mails()
                .iter()
                .map(|mail| (mail.date.as_second(), format!("mail: {}", in_short(mail)))),
        );
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(at, line)| format!("day {}: {line}", (at - due).div_euclid(86_400))).collect()
    }

    /// The pay link in the newest mail to customers.
    pub fn token(&self) -> String {
        let mails = self.customer_mails();
        let with_link = mails.iter().rev().find_map(|mail| mail.text.split_once("/pay/"));
        let (_, rest) = with_link.unwrap_or_else(|| panic!("no mail has a link: {mails:?}"));
        rest.chars().take_while(char::is_ascii_hexdigit).collect()
    }

    /// Requests of a method whose path contains this.
    pub fn requests(&self, method: &str, path: &str) -> usize {
        let requests = self.books().requests;
        requests.iter().filter(|one| one.method == method && one.path.contains(path)).count()
    }

    /// Our books and Stripe's say the same, and nothing was collected twice or forgotten.
    pub async fn agree(&self) {
        let audit = audit(&self.world).await.unwrap();
        assert!(audit.findings.is_empty(), "{:#?}\n{:#?}", audit.findings, self.story());
    }

    // ---- our own rows ----

    /// All charges, the one due first first.
    pub async fn charges(&self) -> Vec<Claimed> {
        let filter = ChargeFilter { limit: 1000, ..ChargeFilter::default() };
        let mut charges = self.world.ctx.store.list_charges(&filter).await.unwrap();
        charges.reverse();
        charges
    }

    pub async fn states(&self) -> Vec<&'static str> {
        self.charges().await.iter().map(|one| one.charge.state.as_str()).collect()
    }

    /// The only charge.
    pub async fn charge(&self) -> Claimed {
        let mut charges = self.charges().await;
        assert_eq!(charges.len(), 1, "{charges:#?}");
        charges.remove(0)
    }

    pub async fn state(&self) -> State {
        self.charge().await.charge.state
    }

    pub async fn subscription_state(&self, person: &Person) -> String {
        self.world.ctx.store.find_subscription(person.subscription).await.unwrap().unwrap().state
    }

    /// What a query for one number answers.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.rows().await).await.unwrap()
    }

    /// What somebody does to the rows behind our back.
    pub async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.rows().await).await.unwrap();
    }

    async fn rows(&self) -> sqlx::SqlitePool {
        let url = format!("sqlite://{}", self.dir.join("recurd.db").display());
        sqlx::SqlitePool::connect(&url).await.unwrap()
    }

    // ---- what people do ----

    /// The next request of this kind goes wrong.
    pub fn fault(&self, method: &str, path: &str, effect: &str) {
        self.world.sandbox.add_fault(Rule::once(method, path, Effect::parse(effect).unwrap()));
    }

    /// Every request goes wrong, until `clear_faults`.
    pub fn outage(&self, effect: &str) {
        self.world.sandbox.add_fault(Rule::always(Effect::parse(effect).unwrap()));
    }

    /// From now on Stripe's events get lost.
    pub fn no_events(&self) {
        let rules = WebhookRules { drop_percent: 100, ..WebhookRules::default() };
        self.world.sandbox.set_webhook_rules(rules);
    }

    /// An operator's command on one charge.
    pub async fn command(&self, id: ChargeId, what: ChargeCommand) -> Result<Report, FlowError> {
        manage::command(&self.world.ctx, id, what, "test", "because").await
    }

    /// The same daemon with another key.
    pub fn with_key(&self, key: &str) -> Client {
        let timeout = self.world.ctx.config.stripe.timeout;
        let transport = Arc::new(InProcess::new(self.world.sandbox.clone(), timeout));
        let mut options = ClientOptions::new(key.into(), self.world.clock.clone());
        options.limits = RateLimits::unlimited();
        options.retry = RetryPolicy::without_jitter();
        Client::new(transport, options).unwrap()
    }

    /// A copy of this installation collects the charge too, with a PaymentIntent of its own.
    pub fn collected_elsewhere(&self, person: &Person, charge: ChargeId) {
        let confirmed = [
            ("payment_method", person.card.as_str()),
            ("off_session", "true"),
            ("confirm", "true"),
            ("metadata[recurd_generation]", "1"),
            ("metadata[recurd_attempt]", "1"),
        ];
        self.made_elsewhere(person, charge, &confirmed);
    }

    /// A copy of this installation makes a PaymentIntent for the charge, with these fields besides.
    pub fn made_elsewhere(&self, person: &Person, charge: ChargeId, more: &[(&str, &str)]) {
        let (instance, charge) = (self.world.ctx.instance.to_string(), charge.to_string());
        let common = [
            ("amount", "900"),
            ("currency", "eur"),
            ("customer", person.stripe_customer.as_str()),
            ("payment_method_types[]", "card"),
            ("metadata[recurd_instance]", instance.as_str()),
            ("metadata[recurd_charge]", charge.as_str()),
        ];
        self.at_stripe("/v1/payment_intents", &[&common, more].concat());
    }

    /// Somebody calls Stripe's API around the daemon: the dashboard, another program.
    pub fn at_stripe(&self, path: &str, fields: &[(&str, &str)]) -> serde_json::Value {
        let outcome = self.world.sandbox.handle(&Request::post(path, fields));
        let response = outcome.response().expect("an answer");
        assert_eq!(response.status, 200, "POST {path}: {}", response.value());
        response.value()
    }

    /// Another tool, or a copy of the database, cancels or changes the PaymentIntent that was made first. Its error goes away by that.
    pub fn touched_at_stripe(&self, how: &str) {
        let path = format!("/v1/payment_intents/{}", self.books().payment_intents[0].id);
        match how {
            "canceled" => self.at_stripe(&format!("{path}/cancel"), &[]),
            _ => self.at_stripe(&path, &[("metadata[seen_by]", "support")]),
        };
        assert!(self.shown_at_stripe(&path)["last_payment_error"].is_null());
    }

    /// What Stripe shows there.
    pub fn shown_at_stripe(&self, path: &str) -> serde_json::Value {
        self.world.sandbox.handle(&Request::get(path)).response().unwrap().value()
    }

    /// The card that somebody is charged on.
    pub async fn default_card(&self, person: &Person) -> Option<String> {
        self.world.ctx.store.find_customer(person.customer).await.unwrap().unwrap().payment_method
    }

    /// After a payment on a page by something else than a card: nothing was saved, and the next period is paid by the card.
    pub async fn goes_on_with_the_card(&self, person: &Person) {
        let card = self.default_card(person).await;
        assert_eq!(card, Some(person.card.clone()), "the next period begins with the card");
        assert_eq!(self.number("SELECT COUNT(*) FROM consent WHERE how = 'checkout'").await, 0);
        self.weeks(5).await;
        assert_eq!((self.states().await, self.times_collected()), (vec!["paid", "paid"], 2));
        assert!(self.alarms().is_empty(), "{:?}", self.alarms());
        self.agree().await;
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn told(charge: &ChargeRow) -> String {
    let place = if charge.on_session { " on the page" } else { "" };
    match (charge.status, &charge.decline_code) {
        ("succeeded", _) => format!("paid{place}"),
        ("pending", _) => "pending".to_owned(),
        (_, code) => format!("declined{place}, {}", code.as_deref().unwrap_or("no code")),
    }
}

fn in_short(mail: &Mail) -> String {
    let subject = mail.subject.as_str();
    let kinds = [
        ("didn't go through", "failed"),
        ("is still open", "reminder"),
        ("Last reminder", "last notice"),
        ("Please confirm", "please confirm"),
        ("has arrived", "thank you"),
        ("has ended", "subscription ended"),
        ("is paused", "subscription paused"),
        ("was not made", "given up"),
        ("Your next payment", "notice"),
        ("expires soon", "card expires soon"),
        ("about to expire", "card about to expire"),
        ("Your receipt", "receipt"),
    ];
    let kind = kinds.into_iter().find(|(words, _)| subject.contains(words));
    kind.map_or(subject, |(_, kind)| kind).to_owned()
}

/// The Session in an address of Stripe's page.
pub fn session_in(url: &str) -> String {
    let part = url.split(['/', '?', '#', '=']).find(|part| part.starts_with("cs_"));
    part.unwrap_or_else(|| panic!("no session in {url}")).to_owned()
}
