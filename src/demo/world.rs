//! A world: daemon, database, mail and Stripe in one process, under one clock that is moved by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::config::Config;
use crate::flows::{Ctx, Letterhead};
use crate::mail::Mailer;
use crate::sandbox::{self, Answer, NowSource, Options, Sandbox};
use crate::store::Store;
use crate::stripe::{
    Client, ClientOptions, RateLimits, Request, Response, RetryPolicy, Transport, TransportError,
};
use crate::template::Templates;

/// The transport under the Stripe client, answered by a sandbox in the same process: the same bytes, no sockets.
pub struct InProcess {
    sandbox: Sandbox,
    timeout: Duration,
}

impl InProcess {
    /// A transport that gives up after `timeout` of virtual time.
    #[must_use]
    pub fn new(sandbox: Sandbox, timeout: Duration) -> Self {
        Self { sandbox, timeout }
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let request = sandbox::Request {
            method: request.method,
            path_and_query: request.path,
            headers: request.headers,
            body: request.body.unwrap_or_default(),
        };
        let outcome = self.sandbox.handle(&request);
        if outcome.latency > self.timeout {
            return Err(TransportError::NoAnswer("timeout".into()));
        }
        match outcome.answer {
            Answer::Response(response) => {
                Ok(Response { status: response.status, headers: response.headers, body: response.body })
            }
            Answer::NotSent => Err(TransportError::NotSent("connection refused".into())),
            Answer::NoAnswer => Err(TransportError::NoAnswer("the connection was closed".into())),
            Answer::CutAfter { .. } => Err(TransportError::NoAnswer("the answer was cut off".into())),
        }
    }
}

/// What a world is made of.
pub struct WorldOptions {
    /// Every chance in it follows from this.
    pub seed: u64,
    /// When it begins.
    pub start: Timestamp,
    /// Where its database and mails lie.
    pub dir: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Another database than a fresh SQLite file in `dir`.
    pub database_url: Option<String>,
    /// Another mailer than `.eml` files in `dir`.
    pub mailer: Option<Arc<Mailer>>,
}

/// A world.
pub struct World {
    /// The daemon's side.
    pub ctx: Ctx,
    /// Stripe's side.
    pub sandbox: Sandbox,
    /// The hand of the only clock.
    pub clock: Clock,
    /// Where database and mails lie.
    pub dir: PathBuf,
}

/// The key every sandbox takes.
pub const SANDBOX_KEY: &str = "sk_test_sandbox";
/// The secret its webhooks are signed with.
pub const SANDBOX_WEBHOOK_SECRET: &str = "whsec_sandbox";

impl World {
    /// Makes a world.
    ///
    /// # Errors
    /// When the directory cannot be written or the configuration does not hold together.
    pub async fn new(options: WorldOptions) -> Result<Self> {
        let hand = Arc::new(AtomicI64::new(options.start.as_millisecond()));
        let clock = Clock::shared(hand.clone());
        let mut config = options.config;
        config.stripe.webhook_secrets = vec![SANDBOX_WEBHOOK_SECRET.into()];
        config.stripe.api_base = sandbox_url();
        let sandbox = Sandbox::new(Options {
            public_url: sandbox_url(),
            ..Options::new(options.seed, NowSource::Shared(hand))
        });
        let webhook = format!("{}/webhooks/stripe", config.public_url.clone().unwrap_or_default());
        sandbox.add_webhook(&webhook, &["*"], Some(SANDBOX_WEBHOOK_SECRET));
        let stripe = client(&sandbox, &clock, config.stripe.timeout)?;
        let url = match options.database_url {
            Some(url) => url,
            None => format!("sqlite://{}", options.dir.join("recurd.db").display()),
        };
        let store = Store::open(&url).await?;
        store.migrate().await?;
        let mailer = match options.mailer {
            Some(mailer) => mailer,
            None => Arc::new(Mailer::from_url(
                &format!("file:{}", options.dir.join("mail").display()),
                None,
                clock.clone(),
            )?),
        };
        let head = Letterhead::new(&config).map_err(anyhow::Error::msg)?;
        let templates =
            Templates::load(config.mail.templates.as_deref())?.with_default_locale(&config.brand.locale);
        let instance = store.instance(clock.now()).await?.id;
        let ctx = Ctx::new(store, stripe, mailer, templates, clock.clone(), Arc::new(config), instance, head);
        Ok(Self { ctx, sandbox, clock, dir: options.dir })
    }

    /// Delivers the webhooks that are due, as the HTTP server would take them.
    pub async fn deliver_webhooks(&self) {
        for delivery in self.sandbox.take_deliveries() {
            let signature = delivery
                .headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("stripe-signature"))
                .map(|(_, value)| value.clone())
                .unwrap_or_default();
            match crate::flows::receive::accept(&self.ctx, &delivery.body, &signature).await {
                Ok(_) => self.sandbox.delivery_succeeded(&delivery),
                Err(_) => self.sandbox.delivery_failed(&delivery),
            }
        }
    }
}

/// Where the sandbox's pages are when the world is served.
pub const SANDBOX_ADDRESS: &str = "127.0.0.1:12111";

fn sandbox_url() -> String {
    format!("http://{SANDBOX_ADDRESS}")
}

/// A client whose requests a sandbox answers in the same process.
///
/// # Errors
/// None in practice: the key is a test key.
pub fn client(sandbox: &Sandbox, clock: &Clock, timeout: Duration) -> Result<Client> {
    let transport = Arc::new(InProcess::new(sandbox.clone(), timeout));
    let mut options = ClientOptions::new(SANDBOX_KEY.into(), clock.clone());
    options.limits = RateLimits::unlimited();
    options.retry = RetryPolicy::without_jitter();
    Ok(Client::new(transport, options)?)
}

/// Makes the customers and cards of a CSV file exist in a sandbox.
///
/// # Errors
/// When the file cannot be read.
pub fn seed_csv(sandbox: &Sandbox, path: &Path) -> Result<u64> {
    let mut csv = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let headers = csv.headers()?.clone();
    let mut count = 0;
    for row in csv.records() {
        let row = row?;
        let field =
            |name: &str| headers.iter().position(|one| one == name).and_then(|at| row.get(at)).unwrap_or("");
        let _ = sandbox.seed_customer(field("customer"), Some(field("email")), Some(field("name")));
        let card = sandbox::SeedCard {
            id: field("payment_method").to_owned(),
            customer: field("customer").to_owned(),
            ..sandbox::SeedCard::default()
        };
        if !card.id.is_empty() {
            let _ = sandbox.seed_card(&card);
        }
        count += 1;
    }
    Ok(count)
}
