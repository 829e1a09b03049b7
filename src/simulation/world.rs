//! What a run begins with: Stripe, customers with cards and subscriptions, and some replicas on one database.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::bank;
use super::rng::Rng;
use super::stage;
use super::wire::Wire;
use crate::billing::calendar::{Interval, Unit};
use crate::billing::dunning::MailKind;
use crate::billing::ladder::{Finally, Ladder, LadderStep};
use crate::billing::plan::CatchUp;
use crate::clock::Clock;
use crate::config::{Config, Ladders, Preflight};
use crate::flows::{Ctx, Letterhead, import};
use crate::mail::{Mailer, Memory};
use crate::sandbox::{NowSource, Options as SandboxOptions, Sandbox, SeedCard};
use crate::store::Store;
use crate::stripe::{Client, ClientOptions, RateLimits, RetryPolicy};
use crate::template::Templates;

/// The secret its webhooks are signed with.
pub const WEBHOOK_SECRET: &str = "whsec_simulation";
/// What replicas sign in to Stripe with.
pub const SECRET_KEY: &str = "sk_test_simulation";
/// How customers reach the daemon.
pub const PUBLIC_URL: &str = "http://127.0.0.1:8080";
/// How long before it is tried a customer of the plan `told` hears of a charge.
pub const NOTICE_SECS: u32 = 3 * 86_400;
const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "UTC",
    "Pacific/Apia",
    "Asia/Kolkata",
];
const EVENTS: &[&str] =
    &["payment_intent.*", "checkout.session.*", "charge.dispute.created", "payment_method.*"];

/// A process that runs recurd.
pub struct Replica {
    /// Its own view of everything.
    pub ctx: Ctx,
    /// Its mails, as the mail server sees them.
    pub mails: Memory,
    /// Its clock, Unix milliseconds.
    pub hand: Arc<AtomicI64>,
    /// How far its clock is ahead of the truth.
    pub skew_ms: i64,
    /// It does nothing before this instant.
    pub paused_until_ms: i64,
    /// Not running before this instant.
    pub down_until_ms: i64,
    /// It runs on a copy of the database.
    pub is_copy: bool,
}

impl Replica {
    /// Sets its clock by the truth.
    pub fn set_clock(&self, now_ms: i64) {
        self.hand.store(now_ms + self.skew_ms, Ordering::SeqCst);
    }

    /// Whether it takes new work.
    #[must_use]
    pub fn is_up(&self, now_ms: i64) -> bool {
        self.up_from_ms() <= now_ms
    }

    /// From when on it takes new work.
    #[must_use]
    pub fn up_from_ms(&self) -> i64 {
        self.paused_until_ms.max(self.down_until_ms)
    }
}

/// The directory of a run; it goes away with it.
pub struct Dir(pub PathBuf);

impl Dir {
    /// A fresh directory in memory, where the system has one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = base.join(format!("recurd-simulation-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The database of a run, in memory: a process that dies loses its tasks, never what was committed.
///
/// # Errors
/// When it cannot be made.
pub async fn database() -> Result<Store> {
    // Written so that the driver leaves out a flag with which SQLite would keep copies in memory too.
    let store = Store::open("sqlite:%3Amemory%3A").await?;
    store.migrate().await?;
    store.keep_journal().await?;
    Ok(store)
}

/// The built-in texts, tried once.
///
/// # Errors
/// When one does not compile.
pub fn templates() -> Result<Templates> {
    static TEMPLATES: OnceLock<Templates> = OnceLock::new();
    if let Some(templates) = TEMPLATES.get() {
        return Ok(templates.clone());
    }
    let templates = Templates::load(None)?;
    Ok(TEMPLATES.get_or_init(|| templates).clone())
}

/// Stripe, by the true clock.
#[must_use]
pub fn stripe(seed: u64, hand: Arc<AtomicI64>) -> (Sandbox, bank::Shared) {
    let (bank, issuer) = bank::Bank::new(seed);
    let sandbox = Sandbox::new(SandboxOptions {
        issuer: Some(issuer),
        requests_kept_max: 0,
        events_kept_max: 2000,
        ..SandboxOptions::new(seed, NowSource::Shared(hand))
    });
    sandbox.add_webhook(&format!("{PUBLIC_URL}/webhooks/stripe"), EVENTS, Some(WEBHOOK_SECRET));
    (sandbox, bank)
}

/// The configuration of a seed.
///
/// # Errors
/// When the sample configuration does not hold together.
pub fn config(rng: &mut Rng) -> Result<Config> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules.toml");
    let mut config = Config::load_with(Some(&file), &std::collections::BTreeMap::new())?;
    config.public_url = Some(PUBLIC_URL.to_owned());
    config.stripe.webhook_secrets = vec![WEBHOOK_SECRET.into()];
    config.stripe.preflight = if rng.chance(7000) { Preflight::Always } else { Preflight::Stale };
    config.mail.operator = Some("operator@example.com".to_owned());
    config.limits.batch = *rng.pick(&[1, 3, 20, 500]);
    config.limits.workers = 1;
    // These worlds are small and wild: what is unusual anywhere else is usual here.
    (config.guard.surge, config.guard.day) = (0, crate::billing::caps::DayCaps::default());
    (config.guard.charges_per_run, config.guard.charges_per_customer) = (None, None);
    config.limits.concurrency = *rng.pick(&[1, 4, 32]);
    let basic = config.plans.get("basic").cloned().context("the plan basic")?;
    let week = Interval { count: 1, unit: Unit::Week };
    let mut weekly = crate::billing::plan::Terms { every: week, ..basic.clone() };
    weekly.name = "Weekly".to_owned();
    weekly.price_minor = 700;
    config.plans.insert("weekly".to_owned(), weekly);
    let pausing = Ladders { ladder: quick(Finally::Pause), classes: BTreeMap::new() };
    config.dunning.plans.insert("weekly".to_owned(), pausing);
    let two_weeks = Interval { count: 2, unit: Unit::Week };
    let told = crate::billing::plan::Terms {
        every: two_weeks,
        price_minor: 900,
        notice_secs: NOTICE_SECS,
        ..basic.clone()
    };
    config.plans.insert("told".to_owned(), told);
    let ten = Interval { count: 10, unit: Unit::Day };
    let ask = crate::billing::plan::Terms {
        every: ten,
        catch_up: CatchUp::Ask,
        price_minor: 1100,
        ..basic.clone()
    };
    config.plans.insert("ask".to_owned(), ask);
    let patient = crate::billing::plan::Terms { catch_up: CatchUp::None, price_minor: 1300, ..basic };
    config.plans.insert("patient".to_owned(), patient);
    let mut given_up = config.dunning.all.clone();
    given_up.ladder.finally = Finally::Uncollectible;
    config.dunning.plans.insert("patient".to_owned(), given_up);
    Ok(config)
}

fn quick(finally: Finally) -> Ladder {
    const DAY: u64 = 86_400;
    let step = |days: u64, retry, mail| LadderStep { after_secs: days * DAY, retry, mail, on: Vec::new() };
    Ladder {
        steps: vec![
            step(0, false, Some(MailKind::PaymentFailed)),
            step(1, true, None),
            step(2, true, Some(MailKind::LastNotice)),
        ],
        finally_after_secs: DAY,
        finally,
        ..Ladder::default()
    }
}

/// Starts a process on a database.
///
/// # Errors
/// When its parts do not fit together.
pub async fn boot(
    store: Store,
    hand: Arc<AtomicI64>,
    config: &Config,
    templates: &Templates,
    is_copy: bool,
) -> Result<(Ctx, Memory)> {
    let clock = Clock::shared(hand.clone());
    let wire = Arc::new(Wire { hand, store: store.clone(), is_copy, booted_ms: stage::now_ms() });
    let mut options = ClientOptions::new(SECRET_KEY.into(), clock.clone());
    options.limits = RateLimits::unlimited();
    options.retry = RetryPolicy::without_jitter();
    let stripe = Client::new(wire, options)?;
    let (mailer, mails) = Mailer::memory(clock.clone());
    let head = Letterhead::new(config).map_err(anyhow::Error::msg)?;
    let instance = store.instance(clock.now()).await?.id;
    let config = Arc::new(config.clone());
    let ctx = Ctx::new(store, stripe, Arc::new(mailer), templates.clone(), clock, config, instance, head);
    Ok((ctx, mails))
}

/// Makes customers, cards and subscriptions exist, at Stripe and in the database.
///
/// # Errors
/// When the import refuses them: a mistake in the simulator.
pub async fn populate(ctx: &Ctx, rng: &mut Rng, start: Timestamp) -> Result<()> {
    let customers = rng.between(12, 16);
    let plans: Vec<String> = ctx.config.plans.keys().cloned().collect();
    let mut csv = format!("{}\n", import::HEADER);
    let mut subscriptions = 0;
    for number in 0..customers {
        let customer = format!("cus_{number}");
        // Some people share a card.
        let card = if number > 0 && rng.chance(800) { number - 1 } else { number };
        let card = format!("pm_{number}_f{card}");
        let token = *rng.pick(&["pm_card_visa", "pm_card_mastercard", "pm_card_amex"]);
        let seed = SeedCard {
            id: card.clone(),
            customer: customer.clone(),
            token: Some(token.into()),
            expires: rng.chance(2500).then(|| soon(start, rng)),
            ..SeedCard::default()
        };
        stage::with(|stage| {
            stage
                .sandbox
                .seed_customer(&customer, Some("a@example.com"), None)
                .map_err(anyhow::Error::msg)?;
            stage.sandbox.seed_card(&seed).map_err(anyhow::Error::msg)
        })?;
        let zone = *rng.pick(&ZONES);
        let many = if number + 9 > customers { 2 } else { rng.between(1, 2) };
        for _ in 0..many {
            let plan = rng.pick(&plans);
            let begins = start + jiff::SignedDuration::from_hours(24 * rng.between(-20, 25));
            let date = begins.strftime("%Y-%m-%d");
            let quantity = rng.between(1, 3);
            let at = if rng.chance(2000) { format!("{begins:.0}") } else { date.to_string() };
            let _ = writeln!(
                csv,
                "{customer},{card},c{number}@example.com,C,en,{zone},{plan},{quantity},{at},2026-01-01,yes"
            );
            subscriptions += 1;
        }
    }
    anyhow::ensure!(subscriptions >= 20, "only {subscriptions} subscriptions");
    let imported = import::import(ctx, csv.as_bytes(), |_| {}).await?;
    anyhow::ensure!(imported.bad.is_empty(), "{:?}", imported.bad);
    Ok(())
}

/// A month and year within the next ones.
fn soon(start: Timestamp, rng: &mut Rng) -> (i64, i64) {
    let later = start + jiff::SignedDuration::from_hours(24 * rng.between(10, 110));
    let date = later.to_zoned(jiff::tz::TimeZone::UTC);
    (date.month().into(), date.year().into())
}

/// When the world of a seed begins: some time in 2026, so that clock changes and short months come by.
#[must_use]
pub fn beginning(rng: &mut Rng) -> Timestamp {
    let day = Duration::from_secs(86_400 * u64::try_from(rng.between(0, 330)).unwrap_or(0));
    let first = Timestamp::from_second(1_767_571_200).unwrap_or_default();
    first.checked_add(day).unwrap_or(first)
}
