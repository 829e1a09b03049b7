//! What each case begins with: Ann, who has paid one subscription, and her charge of another one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;
use recurd::billing::ids::{ChargeId, SubscriptionId};
use recurd::clock::Clock;
use recurd::config::Config;
use recurd::demo::{InProcess, World};
use recurd::failpoint;
use recurd::flows::pay_link::{self, CLICK_LIFE, Opened};
use recurd::flows::{Ctx, Job, Letterhead, import};
use recurd::mail::{Mailer, Memory};
use recurd::sandbox::{CardEntry, Effect, NowSource, Options, PageStep, Rule, Sandbox, SeedCard};
use recurd::simulation::world;
use recurd::stripe::{
    Client, ClientOptions, RateLimits, Request, Response, RetryPolicy, Transport, TransportError,
};

use crate::walk;

const BEGIN: &str = "2026-01-05T09:00:00Z";
/// The subscription that is paid before anything happens.
const EARLIER: &str = "2026-01-05T09:30:00Z";
const DUE: &str = "2026-01-05T10:00:00Z";
/// When the ladder's first retry has fallen due.
const RETRY: &str = "2026-01-08T10:05:00Z";
/// Shortly before that.
const BEFORE_RETRY: &str = "2026-01-08T09:50:00Z";
/// When the ladder's end is near, and when it is there.
const BEFORE_LAST: &str = "2026-01-20T09:00:00Z";
const LAST: &str = "2026-01-20T10:05:00Z";
pub const WEBHOOK_SECRET: &str = "whsec_races";

const SCHEDULES: &str = concat!(
    include_str!("../fixtures/shop.toml"),
    include_str!("../fixtures/ladder.toml"),
    "[stripe.page_methods]\neur = [\"sepa_debit\"]\n"
);

/// How far Ann's charge has come when two people act at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// Nobody has tried.
    Due,
    /// Declined for now; the mail that says so waits.
    Declined,
    /// The mail arrived, and the machine's retry has fallen due.
    RetryDue,
    /// A page is open, and a retry waits for it.
    PageOpen,
    /// A card was given on that page, and 3-D Secure asks its holder.
    Authenticating,
    /// The page was paid, and nobody has heard of it.
    PaidUnheard,
    /// Everything was declined; the ladder's end has come.
    LastStep,
    /// The first try got no answer; Stripe took the money.
    AnswerLost,
}

/// The world of one case.
pub struct Stage {
    /// `ctx` is the process that the second person reaches.
    pub world: World,
    /// The process in which the first one acts.
    pub first: Ctx,
    pub mails: Memory,
    pub card: String,
    pub subscription: SubscriptionId,
    pub charge: ChargeId,
    /// The page that is open.
    pub page: Option<String>,
    /// Stripe's events get lost.
    pub is_deaf: bool,
    /// What a job could not do.
    pub errors: Mutex<Vec<String>>,
    /// Stripe's charge of the subscription that was paid before.
    pub earlier: String,
}

/// Stops before each request leaves and before its answer arrives.
struct Wire {
    stripe: InProcess,
    clock: Clock,
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let is_post = request.method == Method::POST;
        failpoint::reach(if is_post { "before a POST" } else { "before a GET" }).await;
        if request.not_after.is_some_and(|limit| self.clock.now() > limit) {
            return Err(TransportError::NotSent("too late".into()));
        }
        let answer = self.stripe.send(request).await;
        failpoint::reach(if is_post { "before the answer to a POST" } else { "before the answer to a GET" })
            .await;
        answer
    }
}

fn config() -> Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    let load = || {
        let file = std::env::temp_dir().join(format!("recurd-races-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&file, SCHEDULES).unwrap();
        let mut config = Config::load_with(Some(&file), &BTreeMap::new()).unwrap();
        std::fs::remove_file(&file).unwrap();
        config.stripe.webhook_secrets = vec![WEBHOOK_SECRET.into()];
        config
    };
    CONFIG.get_or_init(load).clone()
}

impl Stage {
    pub async fn set(situation: Situation) -> Self {
        failpoint::disarm();
        let mut stage = Self::begin(situation).await;
        failpoint::arm(Box::new(|_| false));
        stage.play(situation).await;
        stage
    }

    async fn begin(situation: Situation) -> Self {
        let begin: Timestamp = BEGIN.parse().unwrap();
        let hand = Arc::new(AtomicI64::new(begin.as_millisecond()));
        let clock = Clock::shared(hand.clone());
        let sandbox =
            Sandbox::new(Options { requests_kept_max: 0, ..Options::new(1, NowSource::Shared(hand)) });
        sandbox.add_webhook("http://127.0.0.1:8080/webhooks/stripe", &["*"], Some(WEBHOOK_SECRET));
        let store = world::database().await.unwrap();
        let (mailer, mails) = Mailer::memory(clock.clone());
        let mailer = Arc::new(mailer);
        let instance = store.instance(clock.now()).await.unwrap().id;
        let config = Arc::new(config());
        let process = || {
            let stripe = InProcess::new(sandbox.clone(), config.stripe.timeout);
            let wire = Arc::new(Wire { stripe, clock: clock.clone() });
            let mut options = ClientOptions::new("sk_test_races".into(), clock.clone());
            options.limits = RateLimits::unlimited();
            options.retry = RetryPolicy::without_jitter();
            let stripe = Client::new(wire, options).unwrap();
            let head = Letterhead::new(&config).unwrap();
            let (templates, clock, config) = (world::templates().unwrap(), clock.clone(), config.clone());
            Ctx::new(store.clone(), stripe, mailer.clone(), templates, clock, config, instance, head)
        };
        let (first, second) = (process(), process());
        let card = "pm_card_visa_ann".to_owned();
        sandbox.seed_customer("cus_ann", None, None).unwrap();
        let seed = SeedCard { id: card.clone(), customer: "cus_ann".into(), ..SeedCard::default() };
        sandbox.seed_card(&seed).unwrap();
        let mut csv = import::HEADER.to_owned();
        for start in [EARLIER, DUE] {
            csv.push_str(&format!(
                "\ncus_ann,{card},ann@example.com,Ann,en,UTC,basic,1,{start},2026-01-01,yes"
            ));
        }
        let imported = import::import(&second, csv.as_bytes(), |_| {}).await.unwrap();
        assert!(imported.bad.is_empty(), "{:?}", imported.bad);
        let script = match situation {
            Situation::Due | Situation::AnswerLost => "ok",
            Situation::LastStep => "ok, insufficient_funds",
            _ => "ok, insufficient_funds, ok",
        };
        sandbox.script_card(&card, script).unwrap();
        let subscription = first.instance.customer("cus_ann").subscription("basic", DUE);
        let world = World { ctx: second, sandbox, clock, dir: PathBuf::new() };
        let (charge, earlier, page) = (subscription.charge(0), String::new(), None);
        let (is_deaf, errors) = (false, Mutex::default());
        Self { world, first, mails, card, subscription, charge, page, is_deaf, errors, earlier }
    }

    async fn play(&mut self, situation: Situation) {
        self.to(EARLIER);
        walk::rest_now(self).await;
        self.earlier = self.world.sandbox.books().charges[0].id.clone();
        self.to(DUE);
        self.jobs(&[Job::Materialize]).await;
        match situation {
            Situation::Due => {}
            Situation::AnswerLost => {
                let effect = Effect::parse("no-answer").unwrap();
                let rule = Rule { times: Some(3), ..Rule::once("POST", "/v1/payment_intents", effect) };
                self.world.sandbox.add_fault(rule);
                self.jobs(&[Job::Collect]).await;
                self.world.clock.advance(Duration::from_secs(300));
            }
            Situation::Declined => self.jobs(&[Job::Collect]).await,
            Situation::RetryDue => {
                self.until(BEFORE_RETRY).await;
                self.to(RETRY);
            }
            Situation::PageOpen | Situation::Authenticating | Situation::PaidUnheard => {
                self.until(BEFORE_RETRY).await;
                let page = self.open().await.expect("a page");
                let entry = |card: &str| CardEntry { card: card.into(), ..CardEntry::default() };
                match situation {
                    Situation::Authenticating => {
                        let step =
                            self.world.sandbox.submit_card(&page, &entry("pm_card_authenticationRequired"));
                        assert_eq!(step.unwrap(), PageStep::Authenticate);
                    }
                    Situation::PaidUnheard => {
                        let step = self.world.sandbox.submit_card(&page, &entry("pm_card_mastercard"));
                        assert!(matches!(step.unwrap(), PageStep::Done { .. }));
                    }
                    _ => {}
                }
                self.page = Some(page);
                self.to(RETRY);
            }
            Situation::LastStep => {
                self.until(BEFORE_LAST).await;
                self.to(LAST);
            }
        }
    }

    fn to(&self, at: &str) {
        self.world.clock.set(at.parse().unwrap());
    }

    async fn until(&self, at: &str) {
        self.jobs(&[Job::Collect]).await;
        walk::rest_until(self, at.parse().unwrap()).await;
    }

    async fn jobs(&self, jobs: &[Job]) {
        let ctx = self.world.ctx.clone();
        let jobs = jobs.to_vec();
        walk::all(Box::pin(async move {
            for job in jobs {
                ctx.run_once(job, 100).await.unwrap();
            }
        }))
        .await;
    }

    /// A click on the pay link: the page it leads to.
    pub async fn open(&self) -> Option<String> {
        let (ctx, id) = (self.world.ctx.clone(), self.charge);
        let opened = walk::all(Box::pin(async move { pay_link::open(&ctx, id, CLICK_LIFE).await })).await;
        match opened {
            Ok(Opened::Url(url)) => Some(session_in(&url)),
            Ok(Opened::Paid | Opened::Busy | Opened::Later(_) | Opened::Closed) | Err(_) => None,
        }
    }
}

/// The Session in an address of Stripe's page.
fn session_in(url: &str) -> String {
    let part = url.split(['/', '?', '#', '=']).find(|part| part.starts_with("cs_"));
    part.unwrap_or_else(|| panic!("no session in {url}")).to_owned()
}
