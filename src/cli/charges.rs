//! `recurd charges`: what is owed, in which state, and what an operator may do.

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::{Exit, Global, find, notice, setup, show};
use crate::billing::calendar::{Start, zone};
use crate::billing::charge::{Phase, State};
use crate::billing::dunning::Action;
use crate::billing::money::Money;
use crate::billing::unknown::{Inquiry, inquiry};
use crate::flows::FlowError;
use crate::flows::manage::{self, ChargeCommand};
use crate::flows::reversals::refund_duplicates;
use crate::store::{ChargeFilter, Claimed, Store};

/// The words of [`State::as_str`].
const STATES: [&str; 12] = [
    "due",
    "collecting",
    "past_due",
    "link_open",
    "processing",
    "closing",
    "needs_review",
    "missed",
    "paid",
    "uncollectible",
    "canceled",
    "settled",
];

/// `recurd charges ...`
#[derive(Debug, Subcommand)]
pub enum ChargesCommand {
    /// List charges, newest due date first.
    List(ListArgs),
    /// Show one charge.
    Show {
        /// Our id or its beginning, or a pi_ or cs_ id.
        id: String,
    },
    /// Add a one-off charge: a deposit's balance, a top-up.
    Add(AddArgs),
    /// Collect a charge now (also one that was missed, or waits for a person).
    Collect(CommandArgs),
    /// A charge will never be collected.
    Cancel(CommandArgs),
    /// A charge was paid by other means.
    MarkPaid(CommandArgs),
    /// Give back what Stripe took besides the payment that counts. Anything else is refunded in Stripe's Dashboard.
    RefundDuplicate(RefundArgs),
}

/// Which charges.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only in this state.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// Only of this customer.
    #[arg(long)]
    customer: Option<String>,
    /// Skip this many.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    /// Show at most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
}

/// A one-off charge.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Who: our id, Stripe's id, or mail address.
    #[arg(long)]
    customer: String,
    /// Decimal and currency, "120.00 EUR".
    #[arg(long)]
    amount: String,
    /// Day (in the customer's zone, at nine) or instant.
    #[arg(long)]
    due: String,
    /// What the customer reads it is for.
    #[arg(long)]
    description: String,
    /// Your own reference: the same one again adds nothing. Default: due day and description.
    #[arg(long)]
    reference: Option<String>,
}

/// A command on one charge.
#[derive(Debug, Args)]
pub struct CommandArgs {
    /// Our id or its beginning, or a pi_ or cs_ id.
    id: String,
    /// Why, for the audit trail.
    #[arg(long, default_value = "")]
    why: String,
}

/// Which duplicates.
#[derive(Debug, Args)]
pub struct RefundArgs {
    #[command(flatten)]
    command: CommandArgs,
    /// Only say what would go back.
    #[arg(long)]
    dry_run: bool,
}

/// A charge as JSON.
#[derive(Serialize)]
pub(super) struct Row {
    id: String,
    customer: String,
    subscription: Option<String>,
    period_index: Option<u32>,
    amount_minor: i64,
    currency: &'static str,
    state: &'static str,
    due_at: i64,
    description: String,
    attempts: u32,
    declines: u32,
    refunded_minor: i64,
    pub(super) next: String,
}

impl Row {
    /// `waits_for`: what stands before what its state says.
    pub(super) fn new(one: &Claimed, waits_for: Option<String>) -> Self {
        let charge = &one.charge;
        Self {
            id: charge.id.to_string(),
            customer: charge.customer.to_string(),
            subscription: charge.period.map(|(id, _)| id.to_string()),
            period_index: charge.period.map(|(_, index)| index),
            amount_minor: charge.amount.minor(),
            currency: charge.amount.currency().code(),
            state: charge.state.as_str(),
            due_at: charge.due_at.as_second(),
            description: charge.description.clone(),
            attempts: charge.attempts,
            declines: charge.dunning.map_or(0, |dunning| dunning.declines),
            refunded_minor: one.refunded_minor,
            next: waits_for.unwrap_or_else(|| what_next(&charge.state)),
        }
    }
}

pub(super) async fn charges(global: &Global, command: ChargesCommand) -> Result<Exit> {
    match command {
        ChargesCommand::List(args) => list(global, args).await?,
        ChargesCommand::Show { id } => {
            let store = setup::store(&setup::config(global)?).await?;
            print(global, &store, &[find::charge(&store, &id).await?]).await?;
        }
        ChargesCommand::Add(args) => add(global, args).await?,
        ChargesCommand::Collect(args) => on_one(global, args, ChargeCommand::CollectNow).await?,
        ChargesCommand::Cancel(args) => on_one(global, args, ChargeCommand::Cancel).await?,
        ChargesCommand::MarkPaid(args) => on_one(global, args, ChargeCommand::MarkPaid).await?,
        ChargesCommand::RefundDuplicate(args) => refund_duplicate(global, args).await?,
    }
    Ok(Exit::Done)
}

async fn list(global: &Global, args: ListArgs) -> Result<()> {
    let store = setup::store(&setup::config(global)?).await?;
    let customer = match &args.customer {
        Some(typed) => Some(find::customer(&store, typed).await?.customer_id()),
        None => None,
    };
    let filter = ChargeFilter {
        state: args.state,
        customer,
        subscription: None,
        offset: args.offset,
        limit: args.limit,
    };
    print(global, &store, &store.list_charges(&filter).await?).await
}

async fn print(global: &Global, store: &Store, charges: &[Claimed]) -> Result<()> {
    let mut rows = Vec::with_capacity(charges.len());
    for one in charges {
        rows.push(Row::new(one, notice::next(store, one).await?));
    }
    if global.json {
        show::json(&rows);
        return Ok(());
    }
    let rows = charges.iter().zip(rows).map(|(one, row)| {
        [
            show::short(&row.id),
            show::short(&row.customer),
            one.charge.amount.to_string(),
            row.state.to_owned(),
            show::instant(row.due_at),
            row.description,
            row.next,
        ]
    });
    say!("{}", show::table(["id", "customer", "amount", "state", "due", "what for", "next"], rows));
    Ok(())
}

async fn add(global: &Global, args: AddArgs) -> Result<()> {
    let ctx = setup::ctx(global).await?;
    let customer = find::customer(&ctx.store, &args.customer).await?;
    let refuse = |error: String| FlowError::Refused(error);
    let amount: Money =
        args.amount.parse().map_err(|error: crate::billing::money::MoneyError| refuse(error.to_string()))?;
    let start: Start = args
        .due
        .parse()
        .map_err(|error: crate::billing::calendar::CalendarError| refuse(error.to_string()))?;
    let due = match start {
        Start::Instant(at) => at,
        Start::Date(date) => {
            let zone = zone(&customer.time_zone).map_err(|error| refuse(error.to_string()))?;
            date.at(9, 0, 0, 0).to_zoned(zone)?.timestamp()
        }
    };
    let reference =
        args.reference.unwrap_or_else(|| format!("{} {} {}", args.due, args.amount, args.description));
    let (id, new) =
        manage::add_one_off(&ctx, customer.customer_id(), amount, due, &args.description, &reference).await?;
    if global.json {
        show::json(&serde_json::json!({ "id": id, "new": new }));
    } else if new {
        say!("Charge {id}: {amount} due {due}.");
    } else {
        say!("Charge {id} exists already; nothing was added.");
    }
    Ok(())
}

async fn on_one(global: &Global, args: CommandArgs, command: ChargeCommand) -> Result<()> {
    let ctx = setup::ctx(global).await?;
    let found = find::charge(&ctx.store, &args.id).await?;
    manage::command(&ctx, found.charge.id, command, &show::who(), &args.why).await?;
    let after = find::charge(&ctx.store, &found.charge.id.to_string()).await?;
    print(global, &ctx.store, &[after]).await
}

async fn refund_duplicate(global: &Global, args: RefundArgs) -> Result<()> {
    let ctx = setup::ctx(global).await?;
    let found = find::charge(&ctx.store, &args.command.id).await?;
    let (id, why) = (found.charge.id, &args.command.why);
    let again = refund_duplicates(&ctx, id, &show::who(), why, args.dry_run).await?;
    if global.json {
        show::json(&again);
        return Ok(());
    }
    let counts = found.charge.state.payment_intent().unwrap_or_default();
    if again.is_empty() {
        say!("Charge {id} was collected once ({counts}): nothing goes back.");
    }
    for one in &again {
        let left = Money::from_minor(one.left_minor, found.charge.amount.currency())?;
        match &one.refund {
            Some(refund) => {
                say!("{left} of {} go back to the customer ({refund}). {counts} counts.", one.payment_intent)
            }
            None => say!("{left} of {} would go back to the customer. {counts} counts.", one.payment_intent),
        }
    }
    Ok(())
}

/// What happens next, and when.
fn what_next(state: &State) -> String {
    let at = |at: &Timestamp| show::instant(at.as_second());
    match state {
        State::Due { at: due } => format!("collect from {}", at(due)),
        State::Collecting { attempt } => match attempt.phase {
            Phase::Prepared { not_before } => {
                format!("send attempt {} from {}", attempt.number, at(&not_before))
            }
            Phase::Sending(_) => format!("attempt {} is on its way", attempt.number),
            Phase::Unknown(sent) => match inquiry(&sent, sent.last_at) {
                Inquiry::Resend => {
                    format!("attempt {} has no answer: send it again with the same key", attempt.number)
                }
                Inquiry::Read => format!("attempt {} has no answer: ask Stripe", attempt.number),
            },
        },
        State::PastDue { next } => match next.action {
            Action::Collect => format!("try the card again {}", at(&next.at)),
            Action::Remind => format!("next mail {}", at(&next.at)),
            Action::GiveUp => format!("the ladder ends {}", at(&next.at)),
        },
        State::LinkOpen { until, .. } => format!("the customer may pay until {}", at(until)),
        State::Processing { poll_at } => format!("ask Stripe again {}", at(poll_at)),
        State::Closing { then, .. } => format!("becomes {} once nothing can take the money", then.as_str()),
        State::NeedsReview { end, why, .. } => {
            let end = end.map(|end| format!(" (it was to become {})", end.as_str())).unwrap_or_default();
            format!("a person must look: {why}{end}")
        }
        State::Missed => "nothing, until `recurd charges collect`".to_owned(),
        State::Paid { .. } | State::Uncollectible { .. } | State::Canceled { .. } | State::Settled { .. } => {
            "-".to_owned()
        }
    }
}
