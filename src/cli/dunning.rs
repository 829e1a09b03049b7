//! `recurd dunning`: the ladders, open cases that go older ones, and others tried on the past.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::report::{Since, percent};
use super::{Exit, Global, setup, show};
use crate::billing::ladder::{Finally, Ladder, LadderStep, Slot};
use crate::billing::share::Share;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::Dunning;
use crate::flows::ladders::{self, Move};
use crate::flows::manage::{self, ChargeCommand};
use crate::flows::what_if::{self, WhatIf};

/// Subcommands of `recurd dunning`.
#[derive(Debug, clap::Subcommand)]
pub enum DunningCommand {
    /// The ladders as the configuration has them now.
    Show,
    /// Move open cases onto the ladders of now. Without it they keep the one they began on.
    Move(MoveArgs),
    /// Go the declines of the past again on the ladders of another configuration file, and count what would have differed.
    Simulate {
        /// A file like schedules.toml; its [dunning] and plans count.
        #[arg(long, value_name = "FILE")]
        with: PathBuf,
        #[command(flatten)]
        since: Since,
    },
}

/// Arguments of `recurd dunning move`.
#[derive(Debug, clap::Args)]
pub struct MoveArgs {
    /// Only charges of this plan.
    #[arg(long)]
    plan: Option<String>,
    /// For the audit trail.
    #[arg(long, default_value = "the ladder was changed")]
    why: String,
    /// Say what would be moved, and move nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn dunning(global: &Global, command: DunningCommand) -> Result<Exit> {
    match command {
        DunningCommand::Show => {
            let config = setup::config(global)?;
            if global.json {
                show::json(&config.dunning);
                return Ok(Exit::Done);
            }
            for (heading, table) in ladders(&config.dunning) {
                say!("{heading}\n{table}\n");
            }
            Ok(Exit::Done)
        }
        DunningCommand::Move(args) => move_cases(global, &args).await,
        DunningCommand::Simulate { with, since } => {
            let other = Config::load(Some(&with))?;
            let store = setup::store(&setup::config(global)?).await?;
            let now = Clock::system().now();
            let bar = show::spinner(global.json, "cases read");
            let told = |seen| bar.set_position(seen);
            let found = what_if::simulate(&store, &other.dunning, since.instant(now)?, now, told).await?;
            bar.finish_and_clear();
            if global.json {
                show::json(&found)
            } else {
                print(&found)
            }
            Ok(Exit::Done)
        }
    }
}

#[derive(Serialize)]
struct Moved {
    #[serde(flatten)]
    case: Move,
    moved: bool,
    problem: Option<String>,
}

async fn move_cases(global: &Global, args: &MoveArgs) -> Result<Exit> {
    let ctx = setup::ctx(global).await?;
    let mut moved = Vec::new();
    for case in ladders::moves(&ctx, args.plan.as_deref()).await? {
        let id = case.charge;
        let (done, problem) = match case.possible {
            false => (false, Some("it has gone further than the new ladder is long".to_owned())),
            true if args.dry_run => (false, None),
            true => {
                match manage::command(&ctx, id, ChargeCommand::TakeLadder, &show::who(), &args.why).await {
                    Ok(_) => (true, None),
                    Err(error) => (false, Some(error.to_string())),
                }
            }
        };
        moved.push(Moved { case, moved: done, problem });
    }
    let exit = if moved.iter().any(|one| one.problem.is_some()) { Exit::Person } else { Exit::Done };
    if global.json {
        show::json(&moved);
    } else if moved.is_empty() {
        say!("Every open case goes the ladder of now.");
    } else {
        let rows = moved.iter().map(|one| {
            let what = match (&one.problem, args.dry_run) {
                (Some(problem), _) => problem.clone(),
                (None, true) => "would be moved".to_owned(),
                (None, false) => "moved".to_owned(),
            };
            let case = &one.case;
            let ladder = format!("{} -> {}", case.from, case.to);
            [show::short(&case.charge.to_string()), case.plan.clone(), case.step.to_string(), ladder, what]
        });
        say!("{}", show::table(["charge", "plan", "next step", "ladder", ""], rows));
    }
    Ok(exit)
}

fn print(found: &WhatIf) {
    if found.cases == 0 {
        return say!("No charge was declined since {}.", show::instant(found.since));
    }
    say!(
        "{} charges were declined since {}. On the other ladder:\n",
        found.cases,
        show::instant(found.since)
    );
    let row = |what: &str, share: &Share| {
        let (value, interval) = percent(share);
        [what.to_owned(), share.of.to_string(), share.count.to_string(), value, interval]
    };
    let later = match found.median_delay_days {
        Some(days) => format!("paid by a retry: tried later (half of them by {days} days)"),
        None => "paid by a retry: tried later".to_owned(),
    };
    let rows = [
        row("paid by a retry: tried within a day after that moment", &found.tries_within_a_day),
        row(&later, &found.tries_later),
        row("paid by a retry: given up before", &found.gives_up_before),
        row("paid on a page: given up before", &found.ends_before_the_link),
    ];
    say!("{}", show::table(["in reality: there", "of", "cases", "share", "95 % interval"], rows));
    say!(
        "\nDeclined retries: {} in reality, {} there. Given up in reality: {}.",
        found.retries_real,
        found.retries_other,
        found.given_up
    );
    if found.not_replayed > 0 {
        say!("{} cases have no decline on record and are in no figure.", found.not_replayed);
    }
    say!(
        "Whether a try at another moment would have been paid, nobody knows: these are moments, not a forecast."
    );
}

/// All ladders with their headings.
pub(super) fn ladders(dunning: &Dunning) -> Vec<(String, comfy_table::Table)> {
    let all = std::iter::once((String::new(), &dunning.all));
    let plans = dunning.plans.iter().map(|(plan, ladders)| (format!(", plan {plan}"), ladders));
    let mut found = Vec::new();
    for (whose, ladders) in all.chain(plans) {
        found.push((format!("after a decline{whose}"), table(&ladders.ladder)));
        for (class, ladder) in &ladders.classes {
            found.push((format!("after a decline of the class {}{whose}", class.as_str()), table(ladder)));
        }
    }
    found
}

fn table(ladder: &Ladder) -> comfy_table::Table {
    let mut secs = 0;
    let mut rows: Vec<[String; 2]> = Vec::new();
    for step in &ladder.steps {
        secs += step.after_secs;
        rows.push([at(secs, !step.on.is_empty()), what(step)]);
    }
    let late = ladder.steps.iter().any(|step| !step.on.is_empty());
    let finally = match ladder.finally {
        Finally::Cancel => "the end: the subscription is canceled",
        Finally::Pause => "the end: the subscription pauses",
        Finally::Uncollectible => "the end: this charge is given up, the subscription goes on",
    };
    rows.push([at(secs + ladder.finally_after_secs, late), finally.to_owned()]);
    let when = [
        ladder.window.map(|window| format!("{:02} to {:02} h", window.from_hour, window.to_hour)),
        (!ladder.weekdays.is_empty())
            .then(|| ladder.weekdays.iter().map(|day| weekday(*day)).collect::<Vec<_>>().join(", ")),
    ];
    let when: Vec<String> = when.into_iter().flatten().collect();
    if !when.is_empty() {
        rows.push(["steps only".to_owned(), format!("{}, local time of the customer", when.join(", "))]);
    }
    if let Some(grace) = ladder.grace_secs {
        rows.push([at(grace, false), "the service ends, the ladder goes on".to_owned()]);
    }
    show::table(["when", "what happens"], rows)
}

fn at(secs: u64, or_later: bool) -> String {
    #[expect(clippy::cast_precision_loss, reason = "days for a table, not money")]
    let days = secs as f64 / 86_400.0;
    format!("day {days}{}", if or_later { " or later" } else { "" })
}

fn what(step: &LadderStep) -> String {
    let what = match (step.retry, step.mail) {
        (true, Some(mail)) => format!("try the card; if declined, mail {}", mail.as_str()),
        (true, None) => "try the card".to_owned(),
        (false, Some(mail)) => format!("mail {}", mail.as_str()),
        (false, None) => "nothing".to_owned(),
    };
    if step.on.is_empty() {
        return what;
    }
    let days: Vec<String> = step.on.iter().map(|slot| day(*slot)).collect();
    format!("{what}, on {}", days.join(", "))
}

fn day(slot: Slot) -> String {
    match slot {
        Slot::DayOfMonth(day) => format!("day {day}"),
        Slot::LastBusinessDay => "the last business day".to_owned(),
        Slot::Weekday(day) => weekday(day).to_owned(),
    }
}

fn weekday(day: i8) -> &'static str {
    match day {
        1 => "Monday",
        2 => "Tuesday",
        3 => "Wednesday",
        4 => "Thursday",
        5 => "Friday",
        6 => "Saturday",
        _ => "Sunday",
    }
}
