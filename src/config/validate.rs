//! From what people wrote to what the program uses. Nothing is guessed and nothing is rounded.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::raw::{BrandConfig, Mode, RawConfig, RawGuard, RawLimits, RawMail, RawNotice, RawPlan, RawStripe};
use super::{Config, ConfigError, Guard, Limits, MailConfig, StripeConfig, dunning, load};
use crate::billing::calendar::{Anchor, Interval, Unit, zone};
use crate::billing::caps::DayCaps;
use crate::billing::money::{Money, MoneyError};
use crate::billing::page_methods::PageMethods;
use crate::billing::plan::{NoticeFor, Terms, Window};

/// What to say of hours that are none.
pub(super) const NOT_A_WINDOW: &str = "write local hours, such as \"09-11\"";

pub(super) struct Place<'a> {
    path: Option<&'a Path>,
    env: &'a BTreeMap<String, String>,
}

impl Place<'_> {
    pub(super) fn wrong(&self, key: &str, message: impl ToString) -> ConfigError {
        let (file, line) = load::place(self.path, self.env, key, "");
        ConfigError::Key { file, line, key: key.to_owned(), message: message.to_string() }
    }

    /// Paths in the file are relative to the file.
    fn resolve(&self, path: &str) -> PathBuf {
        let base = self.path.and_then(Path::parent).filter(|base| !base.as_os_str().is_empty());
        base.map_or_else(|| PathBuf::from(path), |base| base.join(path))
    }
}

pub(super) fn validate(
    raw: RawConfig,
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Config, ConfigError> {
    let place = Place { path, env };
    let dunning = dunning::dunning(&raw, &place)?;
    let stripe = stripe(raw.stripe, &place)?;
    let mut plans = BTreeMap::new();
    for (name, plan) in &raw.plans {
        plans.insert(name.clone(), terms(name, plan, &place)?);
    }
    zone(&raw.schedules.timezone).map_err(|error| place.wrong("schedules.timezone", error))?;
    let listen = raw.http.listen.parse();
    let listen = listen
        .map_err(|_| place.wrong("http.listen", "write an address and a port, such as 127.0.0.1:8080"))?;
    let limits = limits(&raw.limits, stripe.timeout, &place)?;
    Ok(Config {
        path: path.map(Path::to_owned),
        database_url: database_url(&raw.database.url, &place),
        schedules: schedules(&raw.schedules),
        cron_zone: raw.schedules.timezone,
        public_url: public_url(&raw.http.public_url, &place)?,
        return_url: public_url(&raw.http.return_url, &place)?,
        mail: mail(raw.mail, &place)?,
        brand: BrandConfig::from(raw.brand),
        consent_text: raw.consent.text,
        stripe,
        plans,
        dunning,
        listen,
        limits,
        guard: guard(&raw.guard, &place)?,
    })
}

fn guard(raw: &RawGuard, place: &Place<'_>) -> Result<Guard, ConfigError> {
    let cap = |value: u32| (value > 0).then_some(value);
    let sums = raw.sums_per_day.iter().map(|sum| sum.parse()).collect::<Result<Vec<Money>, _>>();
    let day = DayCaps {
        attempts: cap(raw.charges_per_day).map(u64::from),
        sums: sums.map_err(|error| place.wrong("guard.sums_per_day", error))?,
    };
    Ok(Guard {
        charges_per_run: cap(raw.charges_per_run).map(u64::from),
        charges_per_customer: cap(raw.charges_per_customer),
        day,
        first_live_run: cap(raw.first_live_run).map(u64::from),
        surge: raw.surge,
        surge_from: u64::from(raw.surge_from),
        alike_refusals: cap(raw.alike_refusals),
    })
}

fn database_url(url: &SecretString, place: &Place<'_>) -> SecretString {
    let text = url.expose_secret();
    let absolute = match text.strip_prefix("sqlite://") {
        Some(file) if !file.starts_with([':', '/']) => format!("sqlite://{}", place.resolve(file).display()),
        Some(_) | None => text.to_owned(),
    };
    absolute.into()
}

fn schedules(raw: &super::raw::RawSchedules) -> BTreeMap<&'static str, String> {
    [
        ("materialize", &raw.materialize),
        ("collect", &raw.collect),
        ("reconcile", &raw.reconcile),
        ("dun", &raw.dun),
        ("notify", &raw.notify),
        ("receive", &raw.receive),
        ("enrol", &raw.enrol),
    ]
    .into_iter()
    .map(|(job, cron)| (job, cron.clone()))
    .collect()
}

fn stripe(raw: RawStripe, place: &Place<'_>) -> Result<StripeConfig, ConfigError> {
    let key = raw.secret_key.expose_secret().trim().to_owned();
    let live_key = key.starts_with("sk_live_") || key.starts_with("rk_live_");
    let test_key = key.starts_with("sk_test_") || key.starts_with("rk_test_");
    let problem = match raw.mode {
        _ if key.is_empty() => None,
        Mode::Test if live_key => {
            Some("this is a live key, but stripe.mode is \"test\"; set mode = \"live\" to charge real money")
        }
        Mode::Live if test_key => Some("this is a test key, but stripe.mode is \"live\""),
        Mode::Test | Mode::Live if !live_key && !test_key => {
            Some("a secret key begins with sk_test_, rk_test_, sk_live_ or rk_live_")
        }
        Mode::Test | Mode::Live => None,
    };
    if let Some(problem) = problem {
        return Err(place.wrong("stripe.secret_key", problem));
    }
    let secrets = raw.webhook_secrets.expose_secret();
    let webhook_secrets: Vec<SecretString> = secrets
        .split([',', '\n'])
        .map(str::trim)
        .filter(|secret| !secret.is_empty())
        .map(Into::into)
        .collect();
    if raw.timeout_secs < 10 || raw.timeout_secs > 300 {
        return Err(place.wrong("stripe.timeout_secs", "must be between 10 and 300"));
    }
    let mut page_methods = PageMethods::default();
    for (code, names) in &raw.page_methods {
        let offered = code.parse().map_err(|error: MoneyError| error.to_string());
        let offered = offered.and_then(|currency| page_methods.offer(currency, names));
        offered.map_err(|why| place.wrong(&format!("stripe.page_methods.{code}"), why))?;
    }
    Ok(StripeConfig {
        mode: raw.mode,
        secret_key: (!key.is_empty()).then(|| key.into()),
        webhook_secrets,
        api_base: raw.api_base.trim_end_matches('/').to_owned(),
        preflight: raw.preflight,
        endpoint_per_sec: NonZeroU32::new(raw.endpoint_per_sec),
        account_per_sec: NonZeroU32::new(raw.account_per_sec),
        timeout: Duration::from_secs(u64::from(raw.timeout_secs)),
        page_methods,
    })
}

fn limits(raw: &RawLimits, timeout: Duration, place: &Place<'_>) -> Result<Limits, ConfigError> {
    let lease = Duration::from_secs(u64::from(raw.lease_secs));
    if lease < timeout * 2 {
        let message = format!(
            "must be at least twice stripe.timeout_secs ({}), or two workers could send one charge",
            timeout.as_secs()
        );
        return Err(place.wrong("limits.lease_secs", message));
    }
    let between = |key: &str, value: u32, max: u32| {
        if (1..=max).contains(&value) {
            Ok(value as usize)
        } else {
            Err(place.wrong(key, format!("must be between 1 and {max}")))
        }
    };
    Ok(Limits {
        concurrency: between("limits.concurrency", raw.concurrency, 512)?,
        workers: between("limits.workers", raw.workers, 16)?,
        batch: between("limits.batch", raw.batch, 5000)?,
        lease,
    })
}

fn mail(raw: RawMail, place: &Place<'_>) -> Result<MailConfig, ConfigError> {
    let url = match raw.url.strip_prefix("file:") {
        Some(dir) => format!("file:{}", place.resolve(dir).display()),
        None if raw.url.starts_with("smtp://") || raw.url.starts_with("smtps://") => raw.url,
        None => {
            return Err(place.wrong("mail.url", "use smtp://HOST:PORT, smtps://HOST:PORT or file:DIRECTORY"));
        }
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let password = raw.password.expose_secret();
    Ok(MailConfig {
        url,
        password: (!password.is_empty()).then(|| raw.password.clone()),
        from: raw.from,
        reply_to: some(raw.reply_to),
        operator: some(raw.operator),
        receipts: raw.receipts,
        templates: some(raw.templates).map(|dir| place.resolve(&dir)),
    })
}

fn public_url(text: &str, place: &Place<'_>) -> Result<Option<String>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = reqwest::Url::parse(text).map_err(|error| place.wrong("http.public_url", error))?;
    let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return Err(place.wrong("http.public_url", "must be https:// (http:// only for this machine)"));
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

/// Mastercard asks for a reminder where a plan is charged less often than every six months: see docs/notices.md.
const HALF_A_YEAR_SECS: i64 = 180 * 86_400;
/// That reminder, at least.
const SELDOM_NOTICE_SECS: u32 = 7 * 86_400;

fn notice(text: Option<&str>, every: Interval) -> Result<u32, String> {
    let Some(text) = text else {
        return Ok(if every.min_secs() > HALF_A_YEAR_SECS { SELDOM_NOTICE_SECS } else { 0 });
    };
    let secs = dunning::delay(text)
        .and_then(|secs| u32::try_from(secs).ok())
        .ok_or_else(|| dunning::not_a_delay(text))?;
    if i64::from(secs) >= every.min_secs() {
        return Err("must be shorter than the plan's interval".to_owned());
    }
    Ok(secs)
}

/// Which charges of a plan with (or without) a trial and with a notice of so many seconds are told of.
fn notice_for(wanted: Option<&[RawNotice]>, trial: bool, secs: u32) -> Result<NoticeFor, &'static str> {
    let Some(wanted) = wanted else { return Ok(NoticeFor::Every) };
    match (wanted.contains(&RawNotice::TrialEnd), wanted.contains(&RawNotice::Renewal)) {
        _ if secs == 0 => Err("say how long before: notice_before"),
        (true, _) if !trial => Err("the plan has no trial"),
        (true, true) => Ok(NoticeFor::Every),
        (true, false) => Ok(NoticeFor::TrialEnd),
        (false, true) => Ok(NoticeFor::Renewal),
        (false, false) => {
            Err("name \"trial end\", \"renewal\" or both; notice_before = \"0 days\" is for none")
        }
    }
}

fn terms(name: &str, plan: &RawPlan, place: &Place<'_>) -> Result<Terms, ConfigError> {
    let key = |field: &str| format!("plans.{name}.{field}");
    let price: Money = plan.price.parse().map_err(|error| place.wrong(&key("price"), error))?;
    if !price.is_zero() {
        price.chargeable().map_err(|error| place.wrong(&key("price"), error))?;
    }
    let every: Interval = plan.every.parse().map_err(|error| place.wrong(&key("every"), error))?;
    let anchor = anchor(plan.anchor.as_deref(), every).map_err(|error| place.wrong(&key("anchor"), error))?;
    let trial = plan.trial.as_deref().map(str::parse).transpose();
    if plan.installments == Some(0) {
        return Err(place.wrong(&key("installments"), "must be at least 1"));
    }
    let notice_secs = notice(plan.notice_before.as_deref(), every)
        .map_err(|error| place.wrong(&key("notice_before"), error))?;
    Ok(Terms {
        name: plan.name.clone(),
        price_minor: price.minor(),
        currency: price.currency().code().to_owned(),
        every,
        anchor,
        trial: trial.map_err(|error| place.wrong(&key("trial"), error))?,
        installments: plan.installments,
        catch_up: plan.catch_up,
        window: match plan.window.as_deref() {
            None => Window::default(),
            Some(text) => window(text).ok_or_else(|| place.wrong(&key("window"), NOT_A_WINDOW))?,
        },
        statement_suffix: suffix(plan.statement_suffix.as_deref())
            .map_err(|error| place.wrong(&key("statement_suffix"), error))?,
        notice_secs,
        notice_for: notice_for(plan.notice_for.as_deref(), plan.trial.is_some(), notice_secs)
            .map_err(|error| place.wrong(&key("notice_for"), error))?,
    })
}

fn anchor(text: Option<&str>, every: Interval) -> Result<Anchor, String> {
    let text = text.unwrap_or("start").to_lowercase();
    if text == "start" {
        return Ok(Anchor::Start);
    }
    if let Some(day) = weekday(&text) {
        return if every.unit == Unit::Week {
            Ok(Anchor::Weekday(day))
        } else {
            Err("a weekday needs a plan by the week".to_owned())
        };
    }
    match text.parse::<u8>() {
        Ok(day) if (1..=31).contains(&day) => match every.unit {
            Unit::Month | Unit::Year => Ok(Anchor::DayOfMonth(day)),
            Unit::Day | Unit::Week => Err("a day of the month needs a plan by the month or year".to_owned()),
        },
        _ => Err("write \"start\", a day of the month (\"15\") or a weekday (\"monday\")".to_owned()),
    }
}

/// 1 (Monday) to 7 (Sunday).
pub(super) fn weekday(text: &str) -> Option<u8> {
    const WEEKDAYS: [&str; 7] =
        ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let index = WEEKDAYS.iter().position(|day| day.eq_ignore_ascii_case(text))?;
    u8::try_from(index + 1).ok()
}

/// Local hours, such as `09-11`.
pub(super) fn window(text: &str) -> Option<Window> {
    let (from, to) = text.split_once('-')?;
    let window = Window { from_hour: from.trim().parse().ok()?, to_hour: to.trim().parse().ok()? };
    (window.from_hour < window.to_hour && window.to_hour <= 24).then_some(window)
}

/// Stripe joins it to the account's prefix, 22 characters in all.
/// <https://docs.stripe.com/get-started/account/statement-descriptors>
fn suffix(text: Option<&str>) -> Result<Option<String>, String> {
    let Some(text) = text else { return Ok(None) };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" .-".contains(&byte);
    if text.is_empty() || text.len() > 10 || !text.bytes().all(plain) {
        return Err("at most 10 Latin letters, digits, spaces, points and hyphens".to_owned());
    }
    Ok(Some(text.to_owned()))
}
