//! `recurd report`: what came of declines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jiff::{Timestamp, ToSpan};

use super::{Exit, Global, picture, setup, show};
use crate::billing::money::Money;
use crate::billing::share::Share;
use crate::clock::Clock;
use crate::flows::figures::{self, Decided, Recovery, Timing};

/// Subcommands of `recurd report`.
#[derive(Debug, clap::Subcommand)]
pub enum ReportCommand {
    /// How many declined charges were paid in the end: by step, class, brand, by machine or by link, and after how many days.
    Recovery {
        #[command(flatten)]
        since: Since,
        /// Also draw the recoveries by day into this SVG file.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// When tries succeed: by class, brand, hour, weekday and attempt, with 95 % intervals.
    Timing {
        #[command(flatten)]
        since: Since,
    },
}

/// From when on.
#[derive(Debug, clap::Args)]
pub struct Since {
    /// First day (2026-08-01, in UTC); default: 365 days ago.
    #[arg(long, value_name = "DATE")]
    since: Option<jiff::civil::Date>,
}

impl Since {
    pub(super) fn instant(&self, now: Timestamp) -> Result<Timestamp> {
        match self.since {
            Some(date) => Ok(date.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp()),
            None => Ok(now.checked_sub((365 * 24).hours())?),
        }
    }
}

pub(super) async fn report(global: &Global, command: &ReportCommand) -> Result<Exit> {
    let store = setup::store(&setup::config(global)?).await?;
    let now = Clock::system().now();
    let bar = show::spinner(global.json, "rows read");
    match command {
        ReportCommand::Recovery { since, svg } => {
            let since = since.instant(now)?;
            let figures = figures::recovery(&store, since, |seen| bar.set_position(seen)).await?;
            bar.finish_and_clear();
            if let Some(file) = svg {
                std::fs::write(file, picture::recovery(&figures))
                    .with_context(|| file.display().to_string())?;
            }
            if global.json { show::json(&figures) } else { recovery(&figures) }
        }
        ReportCommand::Timing { since } => {
            let since = since.instant(now)?;
            let figures = figures::timing(&store, since, |seen| bar.set_position(seen)).await?;
            bar.finish_and_clear();
            if global.json { show::json(&figures) } else { timing(&figures) }
        }
    }
    Ok(Exit::Done)
}

fn recovery(figures: &Recovery) {
    if figures.cases == 0 {
        return say!("No charge was declined since {}.", show::instant(figures.since));
    }
    let (cases, open) = (figures.cases, figures.open);
    say!("{cases} charges were declined since {}, {open} of them are open.\n", show::instant(figures.since));
    let sums = figures.sums.iter().map(|(currency, sums)| {
        [currency.to_uppercase(), money(sums.declined_minor, currency), money(sums.recovered_minor, currency)]
    });
    say!("{}", show::table(["currency", "declined", "recovered"], sums));
    let line = |key: &str, one: &Decided| {
        let counts = [one.by_machine, one.by_link, one.outside, one.unpaid].map(|count| count.to_string());
        let [machine, link, outside, unpaid] = counts;
        let (share, interval) = percent(&one.recovered);
        [key.to_owned(), machine, link, outside, unpaid, share, interval]
    };
    let groups = [("first decline", &figures.by_class), ("brand", &figures.by_brand)];
    for (what, lines) in groups {
        let rows = lines.iter().map(|(key, one)| line(key, one)).chain([line("all", &figures.all)]);
        let header = [what, "by retry", "by link", "outside", "unpaid", "recovered", "95 % interval"];
        say!("\n{}", show::table(header, rows));
    }
    let steps = figures.by_step.iter().enumerate().map(|(number, share)| {
        let (value, interval) = percent(share);
        [number.to_string(), share.of.to_string(), share.count.to_string(), value, interval]
    });
    say!("\n{}", show::table(["ladder step", "reached", "recovered there", "share", "95 % interval"], steps));
    if let Some(day) = figures.median_day() {
        say!("\nHalf of the recoveries came by day {day} after the first decline.");
    }
}

fn timing(figures: &Timing) {
    if figures.tries == 0 {
        return say!("No try has an answer since {}.", show::instant(figures.since));
    }
    say!("{} tries of charges due since {}.\n", figures.tries, show::instant(figures.since));
    let groups: [(&str, &BTreeMap<String, Share>); 5] = [
        ("attempt", &figures.by_attempt),
        ("retry after", &figures.by_class),
        ("brand", &figures.by_brand),
        ("weekday", &figures.by_weekday),
        ("local hour", &figures.by_hour),
    ];
    for (what, lines) in groups.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let rows = lines.iter().map(|(key, share)| {
            let (value, interval) = percent(share);
            [key.clone(), share.of.to_string(), share.count.to_string(), value, interval]
        });
        say!("{}\n", show::table([what, "tries", "paid", "share", "95 % interval"], rows));
    }
    say!(
        "All but the first table count retries only. A share of few tries says little: look at its interval."
    );
}

fn money(minor: i64, currency: &str) -> String {
    let money = currency.parse().ok().and_then(|currency| Money::from_minor(minor, currency).ok());
    money.map_or_else(|| format!("{minor} {currency}"), |money| money.to_string())
}

/// The share and its interval.
pub(super) fn percent(share: &Share) -> (String, String) {
    let value = share.value().map_or_else(|| "-".to_owned(), |value| format!("{:.0} %", 100.0 * value));
    (value, format!("{:.0} to {:.0} %", 100.0 * share.low, 100.0 * share.high))
}
