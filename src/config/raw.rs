//! The configuration as people write it. Doc comments here become the JSON Schema that editors show.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::billing::decline::Class;
use crate::billing::dunning::MailKind;
use crate::billing::ladder::Finally;
use crate::billing::plan::CatchUp;

/// The whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Where recurd keeps its books.
    pub database: RawDatabase,
    /// Which Stripe account.
    pub stripe: RawStripe,
    /// When the daemon wakes up. What is due lives in the database, so a missed tick is harmless.
    pub schedules: RawSchedules,
    /// What is sold, by a name of your choice.
    pub plans: BTreeMap<String, RawPlan>,
    /// What happens after a decline.
    pub dunning: RawDunning,
    /// How mail leaves.
    pub mail: RawMail,
    /// Where customers and Stripe reach the daemon.
    pub http: RawHttp,
    /// How you look to your customers.
    pub brand: RawBrand,
    /// What customers agree to when they save a card.
    pub consent: RawConsent,
    /// How fast, and how much at once.
    pub limits: RawLimits,
    /// What stops charging before a mistake becomes expensive.
    pub guard: RawGuard,
}

/// `[database]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDatabase {
    /// `sqlite://FILE` (relative to the configuration file) or `postgres://USER:PASSWORD@HOST/DATABASE`.
    #[schemars(with = "String")]
    pub url: SecretString,
}

/// Test or live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Test keys only.
    Test,
    /// Live keys only: real money.
    Live,
}

impl Mode {
    /// `test` or `live`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

/// When Stripe's lists are read before a charge is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preflight {
    /// Always: a restored backup is harmless at any age.
    Always,
    /// Only where the idempotency key alone may no longer protect: the charge has been due for more than 12 hours.
    Stale,
}

/// `[stripe]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStripe {
    /// A live key is refused unless this says `live`.
    pub mode: Mode,
    /// Better given as `RECURD__STRIPE__SECRET_KEY` or by `secret_key_file` than here.
    #[schemars(with = "String")]
    pub secret_key: SecretString,
    /// Signing secrets of the webhook endpoint, separated by commas; during a rotation both.
    #[schemars(with = "String")]
    pub webhook_secrets: SecretString,
    /// Stripe, or the sandbox (`http://127.0.0.1:12111`).
    pub api_base: String,
    /// Read Stripe's lists before a charge is created: `always` or `stale`.
    pub preflight: Preflight,
    /// Requests a second to one endpoint; Stripe allows 25. 0: no limit of our own.
    pub endpoint_per_sec: u32,
    /// Requests a second in all; Stripe allows 100 in live mode, 25 in test mode. 0: no limit of our own.
    pub account_per_sec: u32,
    /// Seconds until an answer is given up and the outcome counts as unknown.
    pub timeout_secs: u32,
    /// What our payment page offers besides the card, by currency: `eur = ["sepa_debit"]`. Saved, and charged without the
    /// customer, are cards alone.
    pub page_methods: BTreeMap<String, Vec<String>>,
}

/// `[schedules]`: second minute hour day month weekday.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSchedules {
    /// IANA zone in which the ticks below are read.
    pub timezone: String,
    /// Turn reached periods into charges.
    pub materialize: String,
    /// Collect what is due.
    pub collect: String,
    /// Ask Stripe about what is unknown.
    pub reconcile: String,
    /// Go the ladder's steps.
    pub dun: String,
    /// Send mails.
    pub notify: String,
    /// Apply Stripe's events.
    pub receive: String,
    /// Ask after unfinished card pages.
    pub enrol: String,
}

/// `[plans.NAME]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPlan {
    /// What customers read.
    pub name: String,
    /// Price of one unit for one period: decimal text and currency, `"29.00 USD"`.
    pub price: String,
    /// `"1 month"`, `"2 weeks"`, `"30 days"`, `"1 year"`.
    pub every: String,
    /// `"start"` (the day it began), a day of the month (`"15"`), or a weekday (`"monday"`).
    #[serde(default)]
    pub anchor: Option<String>,
    /// Free time before the first charge, `"14 days"`.
    #[serde(default)]
    pub trial: Option<String>,
    /// Ends after this many charges.
    #[serde(default)]
    pub installments: Option<u32>,
    /// What to collect after an outage of more than a period.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Local hours in which charges fall due, `"09-11"`.
    #[serde(default)]
    pub window: Option<String>,
    /// The customer is told of each charge at least this long before it, `"7 days"`, and it waits for that; `"0 days"`: no
    /// notice. Default: 7 days for plans of more than six months, none for others.
    #[serde(default)]
    pub notice_before: Option<String>,
    /// Which charges: `["trial end"]`, `["renewal"]` (all but the first), or both, which is the default.
    #[serde(default)]
    pub notice_for: Option<Vec<RawNotice>>,
    /// After the account's own text on the card statement: at most 10 Latin letters and digits.
    #[serde(default)]
    pub statement_suffix: Option<String>,
    /// What happens after a decline, where it differs from `[dunning]`.
    #[serde(default)]
    pub dunning: RawDunning,
}

/// What a notice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RawNotice {
    /// The first charge after a trial.
    #[serde(rename = "trial end")]
    TrialEnd,
    /// Every charge after the first.
    #[serde(rename = "renewal")]
    Renewal,
}

/// `[dunning]`, `[dunning.classes.CLASS]`, `[plans.NAME.dunning]` and `[plans.NAME.dunning.classes.CLASS]`: of each key
/// the most particular place that has it counts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawDunning {
    /// The ladder.
    pub steps: Option<Vec<RawStep>>,
    /// The customer's local hours in which steps happen, `"08-20"`; empty: any.
    pub window: Option<String>,
    /// The weekdays on which steps happen, `["monday", "tuesday"]`; empty: all.
    pub weekdays: Option<Vec<String>>,
    /// How long the service stays on after the first decline, `"7 days"`; empty: until the ladder ends.
    pub grace: Option<String>,
    /// Time between the last step and the end.
    pub finally_after: Option<String>,
    /// The end: `cancel`, `pause` or `uncollectible`.
    pub finally: Option<Finally>,
    /// Other ladders for what the first decline was: `technical`, `funds`, `generic`, `fix_data`, `authenticate`, `never`.
    pub classes: BTreeMap<Class, RawDunning>,
    /// Who chooses the instants of retries: `ladder`, or `stripe_advice` (only where Stripe advises a retry).
    pub retry: Option<String>,
    /// Another such policy, which decides nothing; the log says what it would have done. Empty: none.
    pub shadow: Option<String>,
    /// Try another saved card of the customer once, when there is no retry left for the declined one. Only cards that the
    /// customer agreed to be charged.
    pub backup_card: Option<bool>,
}

/// One rung.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStep {
    /// Time after the previous step (the first: after the decline), `"0 days"`, `"12 hours"`.
    pub after: String,
    /// Try the saved card again. The card networks' ceilings may move it later or forbid it.
    #[serde(default)]
    pub retry: bool,
    /// The mail that leaves when the step has not collected.
    #[serde(default)]
    pub mail: Option<MailKind>,
    /// The days it waits for: a day of the month (`"15"`), a weekday (`"friday"`), `"last business day"`.
    #[serde(default)]
    pub on: Vec<String>,
}

/// `[mail]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMail {
    /// `smtp://USER@HOST:587`, `smtps://USER@HOST:465`, or `file:DIR` for `.eml` files.
    pub url: String,
    /// Password for the mail server.
    #[schemars(with = "String")]
    pub password: SecretString,
    /// Sender, `Name <address>`.
    pub from: String,
    /// Where answers go; empty: the sender.
    pub reply_to: String,
    /// Who is told when a person must look; empty: nobody, only the log.
    pub operator: String,
    /// A receipt after each payment; without it only those who were asked to pay are thanked.
    pub receipts: bool,
    /// A directory of templates that replace the built-in ones; empty: none.
    pub templates: String,
}

/// `[http]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHttp {
    /// Address and port the daemon listens on.
    pub listen: String,
    /// How customers reach it, `https://pay.example.com`. Empty: mails carry Stripe's own page instead of a pay link.
    pub public_url: String,
    /// Without a public URL: the page of yours on which customers land after they paid or saved a card.
    pub return_url: String,
}

/// `[brand]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBrand {
    /// Who charges.
    pub name: String,
    /// Language of mails and pages for customers whose own is unknown or not there: `en`, `de`, `fr`, `es`, `zh` (simplified
    /// script, for `zh-TW` and `zh-HK` too, unless `mail.templates` has words for them: `mail/zh-TW`, `pages/zh-TW`).
    pub locale: String,
    /// Colour of buttons, `#1a56db`.
    pub color: String,
    /// Address of a logo; empty: none.
    pub logo_url: String,
    /// Last lines of each mail: legal name and address.
    pub footer: String,
    /// Where customers find help; empty: none.
    pub support_url: String,
    /// Where customers cancel; empty: by answering the mail.
    pub cancel_url: String,
}

/// `[consent]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConsent {
    /// Stands above the button of the page that saves a card, and is kept on record word for word.
    pub text: String,
}

/// `[limits]`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    /// Requests under way at once, all workers together.
    pub concurrency: u32,
    /// Workers of one process that collect side by side.
    pub workers: u32,
    /// Charges claimed in one transaction.
    pub batch: u32,
    /// Seconds a claim lasts if its worker dies; more than twice `stripe.timeout_secs`.
    pub lease_secs: u32,
}

/// `[guard]`. Whatever is exceeded halts charging until `recurd resume`. 0 or an empty list: no such limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGuard {
    /// Attempts of one run (one tick of the daemon).
    pub charges_per_run: u32,
    /// Attempts of one UTC day, all processes together.
    pub charges_per_day: u32,
    /// Sums attempted in one UTC day, such as `["50000.00 USD", "40000.00 EUR"]`.
    pub sums_per_day: Vec<String>,
    /// Attempts for one customer in one run.
    pub charges_per_customer: u32,
    /// In live mode, the first attempts ever: then a person looks, and resumes.
    pub first_live_run: u32,
    /// A day may hold this many times the busiest day of the last 400, in charges and in each currency's sum.
    pub surge: u32,
    /// Fewer charges than this are never a surge.
    pub surge_from: u32,
    /// This many refusals for the same reason that is no card's.
    pub alike_refusals: u32,
}

/// `[brand]` with empty texts read as "none".
#[derive(Clone, Debug)]
pub struct BrandConfig {
    /// Who charges.
    pub name: String,
    /// Language where the customer's is unknown or not there.
    pub locale: String,
    /// Colour of buttons.
    pub color: String,
    /// Logo.
    pub logo_url: Option<String>,
    /// Last lines.
    pub footer: Option<String>,
    /// Help.
    pub support_url: Option<String>,
    /// Cancel.
    pub cancel_url: Option<String>,
}

impl From<RawBrand> for BrandConfig {
    fn from(raw: RawBrand) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            name: raw.name,
            locale: raw.locale,
            color: raw.color,
            logo_url: some(raw.logo_url),
            footer: some(raw.footer),
            support_url: some(raw.support_url),
            cancel_url: some(raw.cancel_url),
        }
    }
}
