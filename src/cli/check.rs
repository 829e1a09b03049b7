//! `recurd check` and `recurd migrate`.

use anyhow::Result;
use clap::Args;
use secrecy::ExposeSecret;

use super::{Exit, Global, setup, show};
use crate::billing::calendar::Anchor;
use crate::billing::money::Money;
use crate::billing::plan::{NoticeFor, Terms};
use crate::clock::Clock;
use crate::config::Config;
use crate::store::{Store, without_password};
use crate::template::Templates;

/// Arguments of `recurd check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print a JSON Schema of the configuration, for editors.
    #[arg(long)]
    schema: bool,
}

pub(super) fn check(global: &Global, args: &CheckArgs) -> Result<Exit> {
    if args.schema {
        say!("{}", Config::schema());
        return Ok(Exit::Done);
    }
    let config = setup::config(global)?;
    let templates = Templates::load(config.mail.templates.as_deref())?;
    crate::daemon::check_schedules(&config)?;
    setup::letterhead(&config)?;
    setup::mailer(&config, &Clock::system())?;
    if global.json {
        show::json(&serde_json::json!({ "valid": true, "plans": config.plans, "dunning": config.dunning }));
        return Ok(Exit::Done);
    }
    say!("{} is valid.\n", global.config.display());
    say!("database   {}", without_password(config.database_url.expose_secret()));
    let key = if config.stripe.secret_key.is_some() { "key given" } else { "no key given" };
    say!("stripe     {} mode at {}, {key}", config.stripe.mode.as_str(), config.stripe.api_base);
    say!("mail       {}", without_password(&config.mail.url));
    let links = config
        .public_url
        .as_ref()
        .map_or("Stripe's own page in each mail".to_owned(), |url| format!("{url}/pay/..."));
    say!("pay links  {links}");
    for (currency, methods) in config.stripe.page_methods.iter() {
        say!("page {}   card, {}", currency.code(), methods.join(", "));
    }
    let overridden: Vec<&str> = templates.overridden().collect();
    if !overridden.is_empty() {
        say!("templates  yours: {}", overridden.join(", "));
    }
    say!("\n{}", plans(&config));
    for (heading, table) in super::dunning::ladders(&config.dunning) {
        say!("\n{heading}\n{table}");
    }
    Ok(Exit::Done)
}

fn plans(config: &Config) -> comfy_table::Table {
    let rows = config.plans.iter().map(|(name, terms)| {
        let price = terms
            .currency
            .parse()
            .ok()
            .and_then(|currency| Money::from_minor(terms.price_minor, currency).ok());
        let anchor = match terms.anchor {
            Anchor::Start => "the day it started".to_owned(),
            Anchor::DayOfMonth(day) => format!("day {day}"),
            Anchor::Weekday(day) => format!("weekday {day}"),
        };
        [
            name.clone(),
            terms.name.clone(),
            price.map(|price| price.to_string()).unwrap_or_default(),
            format!("every {}", terms.every),
            anchor,
            terms.trial.map(|trial| trial.to_string()).unwrap_or_else(|| "-".into()),
            terms.installments.map(|count| count.to_string()).unwrap_or_else(|| "until canceled".into()),
            told_before(terms),
        ]
    });
    show::table(["plan", "name", "price", "interval", "on", "trial", "charges", "told before"], rows)
}

/// How long before which charges the customer hears of them.
fn told_before(terms: &Terms) -> String {
    let time = match terms.notice_secs {
        0 => return "-".into(),
        secs if secs % 86_400 == 0 => format!("{} days", secs / 86_400),
        secs => format!("{} hours", secs / 3600),
    };
    match terms.notice_for {
        NoticeFor::Every => time,
        NoticeFor::TrialEnd => format!("{time}, trial end"),
        NoticeFor::Renewal => format!("{time}, renewals"),
    }
}

pub(super) async fn migrate(global: &Global) -> Result<Exit> {
    let config = setup::config(global)?;
    let store = Store::open(config.database_url.expose_secret()).await?;
    let before = store.schema_version().await?;
    store.migrate().await?;
    let now = Store::known_schema_version();
    let from = before.map_or("empty".to_owned(), |version| format!("version {version}"));
    if global.json {
        show::json(&serde_json::json!({ "before": before, "now": now }));
    } else if before == Some(now) {
        say!("The schema is up to date (version {now}).");
    } else {
        say!("The schema went from {from} to version {now}.");
    }
    store.close().await;
    Ok(Exit::Done)
}
