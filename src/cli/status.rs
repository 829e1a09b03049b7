//! `recurd status` and `recurd doctor`.

use std::time::Duration;

use anyhow::Result;
use secrecy::ExposeSecret;
use serde::Serialize;

use super::{Exit, Global, setup, show};
use crate::billing::charge::Work;
use crate::billing::money::Money;
use crate::clock::Clock;
use crate::config::Config;
use crate::mail::Mailer;
use crate::store::{Attention, Run, Store, Totals, UnderWay, without_password};
use crate::template::Templates;

/// Limit: our clock may differ from Stripe's by this much; more, and signatures and key ages cannot be trusted.
const SKEW_MAX_SECS: i64 = 120;
/// How long something may be overdue before a person should look.
const OVERDUE_MAX: Duration = Duration::from_secs(3600);

#[derive(Serialize)]
struct Status {
    totals: Vec<Totals>,
    attention: Attention,
    awake: i64,
    under_way: UnderWay,
    overdue_secs: i64,
    outbox_pending: i64,
    halted_why: Option<String>,
    runs: Vec<Run>,
}

/// Where everything stands. Ends with 1 when a person should look.
pub(super) async fn status(global: &Global) -> Result<Exit> {
    let store = setup::store(&setup::config(global)?).await?;
    let now = Clock::system().now();
    let oldest = store.oldest_awake(now).await?;
    let status = Status {
        totals: store.totals().await?,
        attention: store.attention().await?,
        awake: store.count_awake(Work::Collect, now).await?,
        under_way: store.under_way(now).await?,
        overdue_secs: oldest.map_or(0, |at| now.as_second() - at.as_second()),
        outbox_pending: store.outbox_backlog().await?.0,
        halted_why: store.instance(now).await?.halted_why,
        runs: store.last_runs().await?,
    };
    let late = status.overdue_secs > i64::try_from(OVERDUE_MAX.as_secs()).unwrap_or(i64::MAX);
    let person = status.attention.needs_review > 0 || late || status.halted_why.is_some();
    if global.json {
        show::json(&status);
    } else {
        print(&status);
    }
    Ok(if person { Exit::Person } else { Exit::Done })
}

fn print(status: &Status) {
    let rows = status.totals.iter().map(|one| {
        let sum =
            one.currency.parse().ok().and_then(|currency| Money::from_minor(one.sum_minor, currency).ok());
        [
            one.state.clone(),
            one.count.to_string(),
            sum.map(|sum| sum.to_string()).unwrap_or_default(),
            one.declined.to_string(),
        ]
    });
    say!("{}", show::table(["charges", "count", "sum", "declined at least once"], rows));
    say!(
        "due now {}, overdue by {} s, mails waiting {}",
        status.awake,
        status.overdue_secs,
        status.outbox_pending
    );
    say!(
        "unknown attempts {}, waiting for a person {}",
        status.attention.unknown,
        status.attention.needs_review
    );
    if let Some(until) = status.under_way.held_until {
        say!("held by workers {}, until {} at the latest", status.under_way.held, show::instant(until));
    }
    if let Some(why) = &status.halted_why {
        say!("HALTED: {why}");
    }
    let rows = status.runs.iter().map(|run| {
        let end = run.finished_at.map(show::instant).unwrap_or_else(|| "running, or died".into());
        [run.job.clone(), show::instant(run.started_at), end, run.error.clone().unwrap_or_default()]
    });
    say!("{}", show::table(["job", "last began", "ended", "problem"], rows));
}

#[derive(Serialize)]
struct Check {
    what: &'static str,
    good: bool,
    found: String,
}

/// Reaches for everything the configuration names, and says what it found.
pub(super) async fn doctor(global: &Global) -> Result<Exit> {
    let config = setup::config(global)?;
    let mut checks =
        vec![Check { what: "configuration", good: true, found: global.config.display().to_string() }];
    checks.push(check(
        "templates",
        Templates::load(config.mail.templates.as_deref()).map(|_| "all render".to_owned()),
    ));
    checks.push(database(&config).await);
    checks.extend(stripe(&config).await);
    checks.push(mail(&config).await);
    checks.push(public_url(&config));
    let good = checks.iter().all(|check| check.good);
    if global.json {
        show::json(&checks);
    } else {
        for check in &checks {
            say!("{} {:14} {}", if check.good { "ok  " } else { "FAIL" }, check.what, check.found);
        }
    }
    Ok(if good { Exit::Done } else { Exit::Person })
}

fn check<E: std::fmt::Display>(what: &'static str, found: Result<String, E>) -> Check {
    match found {
        Ok(found) => Check { what, good: true, found },
        Err(error) => Check { what, good: false, found: error.to_string() },
    }
}

async fn database(config: &Config) -> Check {
    let found = async {
        let store = Store::open(config.database_url.expose_secret()).await?;
        if let Some(damage) = store.damage().await? {
            anyhow::bail!("the file is damaged: {damage}");
        }
        let version = store.schema_version().await?;
        let known = Store::known_schema_version();
        anyhow::Ok(match version {
            Some(version) if version == known => format!("{}, schema version {version}", store.kind()),
            Some(version) if version > known => {
                format!("{}, schema version {version} is newer than this recurd", store.kind())
            }
            Some(version) => {
                format!("{}, schema version {version}: `recurd migrate` brings it to {known}", store.kind())
            }
            None => format!("{}, empty: the first run (or `recurd migrate`) makes its tables", store.kind()),
        })
    };
    check("database", found.await)
}

async fn stripe(config: &Config) -> Vec<Check> {
    let client = match setup::stripe(config, &Clock::system()) {
        Ok(client) => client,
        Err(error) => return vec![Check { what: "stripe", good: false, found: format!("{error:#}") }],
    };
    let account = client.retrieve_account().await.map(|answer| answer.value.id);
    let reached = account.is_ok();
    let mode = config.stripe.mode.as_str();
    let mut checks = vec![check(
        "stripe",
        account.map(|id| format!("account {id}, {mode} mode at {}", config.stripe.api_base)),
    )];
    if reached {
        let skew = client.skew_secs().unwrap_or(0);
        let good = skew.abs() <= SKEW_MAX_SECS;
        checks.push(Check { what: "clock", good, found: format!("{skew} s ahead of Stripe's") });
    }
    let secrets = config.stripe.webhook_secrets.len();
    let found = if secrets == 0 {
        "no secret: events are refused, polling settles everything".to_owned()
    } else {
        format!("{secrets} secret(s)")
    };
    checks.push(Check { what: "webhook", good: true, found });
    checks
}

async fn mail(config: &Config) -> Check {
    let clock = Clock::system();
    let url = without_password(&config.mail.url);
    let checked = match Mailer::from_url(&config.mail.url, config.mail.password.clone(), clock) {
        Ok(mailer) => mailer.check().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    check("mail", checked.map(|()| url.clone()).map_err(|error| format!("{url}: {error}")))
}

fn public_url(config: &Config) -> Check {
    let (good, found) = match (&config.public_url, &config.return_url) {
        (Some(url), _) => (true, format!("{url}; Stripe's events go to {url}/webhooks/stripe")),
        (None, Some(url)) => {
            (true, format!("none: mails carry Stripe's own page, customers return to {url}"))
        }
        (None, None) => {
            (false, "neither http.public_url nor http.return_url: no link can be opened".to_owned())
        }
    };
    Check { what: "public url", good, found }
}
