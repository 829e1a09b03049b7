//! `recurd recover`: after a backup was restored.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::{Exit, Global, setup, show};
use crate::demo::shown;
use crate::flows::recover::{self, Plan};
use crate::flows::{Ctx, Report, in_doubt};

/// Arguments of `recurd recover`.
#[derive(Debug, clap::Args)]
pub struct RecoverArgs {
    /// Do what the plan with this hash says. Without it the plan is shown, and nothing is changed.
    #[arg(long, value_name = "HASH")]
    confirm: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    behind: bool,
    plan: Option<Plan>,
    done: Option<Report>,
    /// Unix seconds: until then no payment is asked for anew, and no page opened, where the lost database may have done so.
    in_doubt_until: Option<i64>,
}

pub(super) async fn recover(global: &Global, args: &RecoverArgs) -> Result<Exit> {
    let ctx = setup::ctx(global).await?;
    match &args.confirm {
        Some(hash) => carry_out(global, &ctx, hash).await,
        None => show_plan(global, &ctx).await,
    }
}

async fn carry_out(global: &Global, ctx: &Ctx, hash: &str) -> Result<Exit> {
    let bar = bar(global);
    let report = recover::carry_out(ctx, hash, &show::who(), |seen| bar.set_position(seen)).await?;
    bar.finish_and_clear();
    let recovered_at = ctx.store.instance(ctx.now()).await?.recovered_at;
    let in_doubt_until = in_doubt::over(recovered_at, ctx.now()).map(Timestamp::as_second);
    if global.json {
        show::json(&Answer { behind: false, plan: None, done: Some(report), in_doubt_until });
    } else {
        let of = |word: &str| report.outcome(word);
        say!(
            "Recovered: {} charges follow Stripe again, {} subscriptions are canceled again, {} mails were dropped. \
             Charging goes on.",
            of("adopted"),
            of("canceled"),
            of("mails_dropped")
        );
        say!(
            "Until {}, Stripe may still make payments that the lost database asked for. Till then a charge from before waits, \
             with its page and its mails, unless it has a PaymentIntent here or fell due less than 20 hours ago and was never \
             tried: `recurd explain` says so of each.",
            in_doubt_until.map_or_else(String::new, show::instant)
        );
    }
    Ok(Exit::Done)
}

async fn show_plan(global: &Global, ctx: &Ctx) -> Result<Exit> {
    let bar = bar(global);
    let plan = recover::plan(ctx, |seen| bar.set_position(seen)).await?;
    bar.finish_and_clear();
    let behind = plan.is_some();
    if global.json {
        show::json(&Answer { behind, plan, done: None, in_doubt_until: None });
    } else {
        match &plan {
            Some(plan) => print(plan),
            None => say!("The database is not behind Stripe: nothing is to be recovered."),
        }
    }
    Ok(if behind { Exit::Person } else { Exit::Done })
}

fn bar(global: &Global) -> indicatif::ProgressBar {
    if global.json {
        return indicatif::ProgressBar::hidden();
    }
    indicatif::ProgressBar::new_spinner().with_message("objects read from Stripe")
}

fn print(plan: &Plan) {
    say!("Stripe knows more than this database since {}.\n", show::instant(plan.since));
    let mut states = BTreeMap::<&str, u64>::new();
    for state in plan.charges.values() {
        *states.entry(state).or_default() += 1;
    }
    let rows = states.iter().map(|(state, count)| [(*state).to_owned(), count.to_string()]);
    say!("{}", show::table(["here", "charges that Stripe is asked about (--json lists them)"], rows));
    let row = |what: &str, count: String| [what.to_owned(), count];
    let due = match plan.due {
        0 => "0".to_owned(),
        due => format!("{due}: {}", shown(&plan.due_minor)),
    };
    let rows = [
        row(
            "charges at Stripe of subscriptions and one-offs that are not here",
            plan.unknown_charges.to_string(),
        ),
        row("subscriptions to cancel again", plan.canceled.len().to_string()),
        row("mails to customers to drop: perhaps sent before", plan.mails.to_string()),
        row("charges due within an hour, before anything of this is done", due),
    ];
    say!("{}", show::table(["besides", "count"], rows));
    say!(
        "Nobody can know: pauses, prices, addresses, consents and charges marked as paid since then, charges made by hand in \
         the Dashboard, and cancellations that Stripe could not be told. Enter them again first.\n\n\
         To do this, and let charging go on: recurd recover --confirm {}",
        plan.hash
    );
}
