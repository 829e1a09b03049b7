//! `recurd customers`, `recurd enroll`.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::{Exit, Global, find, setup, show, subscriptions};
use crate::billing::subscription::SubscriptionState;
use crate::flows::enrol::{self, Person};
use crate::flows::{FlowError, address, card_link, import, notify};
use crate::store::{Customer, Subscription};

/// Limit: rows of a list, unless more are asked for.
const ROWS: i64 = 50;

/// `recurd customers ...`
#[derive(Debug, Subcommand)]
pub enum CustomersCommand {
    /// Add a customer; at Stripe too, unless its Stripe id is given.
    Add(PersonArgs),
    /// Import customers, cards and subscriptions from a CSV file. A second import of the same file changes nothing.
    Import(ImportArgs),
    /// List customers.
    List(PageArgs),
    /// Show one customer: by our id (or its beginning), Stripe's id, or mail address.
    Show {
        /// Who.
        customer: String,
    },
    /// Print a link on which the customer saves another card. Charges that are past due are tried with it at once.
    CardLink {
        /// Who.
        customer: String,
    },
    /// Correct a mail address. What could not be delivered leaves, if it is still true, and what waited for that goes on; a
    /// customer that recurd made at Stripe gets the address there too.
    Email(EmailArgs),
    /// Allow charging again after a dispute.
    Release {
        /// Who.
        customer: String,
    },
}

/// Arguments of a corrected address.
#[derive(Debug, Args)]
pub struct EmailArgs {
    /// Who.
    customer: String,
    /// The new mail address.
    email: String,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Who a customer is.
#[derive(Debug, Args)]
pub struct PersonArgs {
    /// Mail address.
    #[arg(long)]
    email: String,
    /// Display name.
    #[arg(long, default_value = "")]
    name: String,
    /// Stripe's customer id (cus_...); without it a Stripe customer is created.
    #[arg(long)]
    stripe_customer: Option<String>,
    /// Language tag, such as de-AT; without it the language of the configuration.
    #[arg(long, default_value = "")]
    locale: String,
    /// IANA time zone.
    #[arg(long, default_value = "UTC")]
    time_zone: String,
}

/// Arguments of an import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file; its first line names the columns customer, payment_method, email, name, locale, time_zone, plan,
    /// quantity, start, consent_at, consent_text.
    file: PathBuf,
    /// Check every line and import nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Which rows of a list.
#[derive(Debug, Args)]
pub struct PageArgs {
    /// Skip this many.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) offset: i64,
    /// Show at most this many.
    #[arg(long, default_value_t = ROWS, value_parser = clap::value_parser!(i64).range(1..))]
    pub(super) limit: i64,
}

/// Arguments of `recurd enroll`.
#[derive(Debug, Args)]
pub struct EnrollArgs {
    #[command(flatten)]
    person: PersonArgs,
    /// Plan that becomes active with the card; without one only the card is saved.
    #[arg(long)]
    plan: Option<String>,
    /// Units.
    #[arg(long, default_value_t = 1)]
    quantity: u32,
    /// First day or instant; default: today.
    #[arg(long)]
    start: Option<String>,
    /// The customer pays the first period on the page; the card is saved with it.
    #[arg(long, requires = "plan")]
    pay_now: bool,
    /// Mail the link instead of printing it.
    #[arg(long)]
    mail: bool,
}

impl PersonArgs {
    fn person(&self) -> Person {
        Person {
            stripe_customer: self.stripe_customer.clone(),
            email: self.email.clone(),
            name: self.name.clone(),
            locale: self.locale.clone(),
            time_zone: self.time_zone.clone(),
        }
    }
}

pub(super) async fn customers(global: &Global, command: CustomersCommand) -> Result<Exit> {
    match command {
        CustomersCommand::Add(args) => {
            let ctx = setup::ctx(global).await?;
            let customer = enrol::add_customer(&ctx, &args.person()).await?;
            show_customers(global, std::slice::from_ref(&customer));
        }
        CustomersCommand::Import(args) => return import_file(global, &args).await,
        CustomersCommand::List(page) => {
            let store = setup::store(&setup::config(global)?).await?;
            show_customers(global, &store.list_customers(page.offset, page.limit).await?);
        }
        CustomersCommand::Show { customer } => {
            let store = setup::store(&setup::config(global)?).await?;
            let customer = find::customer(&store, &customer).await?;
            let subscriptions = store.list_subscriptions(Some(customer.customer_id()), 0, ROWS).await?;
            let sharing = store.others_with_card(&customer).await?;
            if global.json {
                show::json(&serde_json::json!({
                    "customer": customer, "subscriptions": subscriptions, "others_with_this_card": sharing
                }));
            } else {
                show_customers(global, &[customer]);
                if sharing > 0 {
                    say!(
                        "The same card is saved by other customers: {sharing}. A household, or somebody who tries cards."
                    );
                }
                subscriptions::show(global, &store, subscriptions).await?;
            }
        }
        CustomersCommand::CardLink { customer } => {
            let ctx = setup::ctx(global).await?;
            let customer = find::customer(&ctx.store, &customer).await?;
            let url = card_link::for_mail(&ctx, &customer).await?;
            tell(global, &serde_json::json!({ "customer": customer, "url": url }), || url.clone());
        }
        CustomersCommand::Email(args) => correct_address(global, &args).await?,
        CustomersCommand::Release { customer } => {
            let store = setup::store(&setup::config(global)?).await?;
            let customer = find::customer(&store, &customer).await?;
            store.hold_customer(&customer.stripe_customer, None).await?;
            let now = crate::clock::Clock::system().now();
            store.audit(&show::who(), "release", &customer.id, "", now).await?;
            let after = find::customer(&store, &customer.id).await?;
            tell(global, &after, || format!("Customer {} may be charged again.", customer.id));
        }
    }
    Ok(Exit::Done)
}

async fn correct_address(global: &Global, args: &EmailArgs) -> Result<()> {
    let ctx = setup::ctx(global).await?;
    let customer = find::customer(&ctx.store, &args.customer).await?;
    let plan = address::look(&ctx, &customer, &args.email).await?;
    let corrected = if args.dry_run {
        plan
    } else {
        let done = address::correct(&ctx, &customer, &args.email, plan, &show::who()).await;
        done.with_context(|| format!("customer {} is not corrected everywhere: run this again", customer.id))?
    };
    let after = ctx.store.find_customer(customer.customer_id()).await?;
    let json = serde_json::json!({ "customer": after, "changes": corrected, "dry_run": args.dry_run });
    tell(global, &json, || {
        let verb = if args.dry_run { "would be" } else { "is" };
        let stripe = if corrected.at_stripe { ", at Stripe too" } else { "" };
        format!(
            "Customer {} {verb} written to at the new address{stripe}. Mails that leave now: {}. Charges that go on: {}.",
            customer.id, corrected.mails, corrected.charges
        )
    });
    Ok(())
}

fn show_customers(global: &Global, customers: &[Customer]) {
    if global.json {
        return show::json(&customers);
    }
    let rows = customers.iter().map(|one| {
        let card = match (&one.card_brand, &one.card_last4, &one.payment_method) {
            (Some(brand), Some(last4), Some(_)) => format!("{brand} {last4}"),
            _ => "no card".to_owned(),
        };
        let note = one
            .hold_why
            .clone()
            .unwrap_or_else(|| if one.mail_state == "dead" { "mail bounces".into() } else { String::new() });
        [one.id.clone(), one.stripe_customer.clone(), one.email.clone(), one.name.clone(), card, note]
    });
    say!("{}", show::table(["id", "stripe customer", "email", "name", "card", ""], rows));
}

/// What became of one thing: itself as JSON, or a sentence.
pub(super) fn tell(global: &Global, after: &impl serde::Serialize, sentence: impl FnOnce() -> String) {
    if global.json {
        show::json(after);
    } else {
        say!("{}", sentence());
    }
}

async fn import_file(global: &Global, args: &ImportArgs) -> Result<Exit> {
    let ctx = setup::ctx(global).await?;
    let file = args.file.display().to_string();
    let source = args.file.as_path();
    let checked = import::check(&ctx, &source).with_context(|| file.clone())?;
    if !checked.bad.is_empty() || args.dry_run {
        return Ok(report_import(global, &checked, &file, true));
    }
    let hidden = global.json || !std::io::stderr().is_terminal();
    let bar = if hidden { indicatif::ProgressBar::hidden() } else { show::progress(checked.lines, "import") };
    let imported = import::import(&ctx, source, |lines| bar.set_position(lines)).await;
    bar.finish_and_clear();
    let exit = report_import(global, &imported.with_context(|| file.clone())?, &file, false);
    ctx.store.close().await;
    Ok(exit)
}

fn report_import(global: &Global, imported: &import::Imported, file: &str, checked_only: bool) -> Exit {
    if global.json {
        show::json(imported);
    } else {
        for bad in &imported.bad {
            eprintln!("{file}:{}: {}", bad.line, bad.reason);
        }
        match (imported.bad.len(), checked_only) {
            (0, true) => say!("{} lines are good. Nothing was imported.", imported.lines),
            (0, false) => say!(
                "{} lines: {} new customers, {} new subscriptions.",
                imported.lines,
                imported.customers,
                imported.subscriptions
            ),
            (import::BAD_LINES_MAX, _) => {
                eprintln!("{} lines or more are bad. Nothing was imported.", import::BAD_LINES_MAX);
            }
            (bad, _) => eprintln!("{bad} of {} lines are bad. Nothing was imported.", imported.lines),
        }
    }
    if imported.bad.is_empty() { Exit::Done } else { Exit::Usage }
}

pub(super) async fn enroll(global: &Global, args: EnrollArgs) -> Result<Exit> {
    let ctx = setup::ctx(global).await?;
    let customer = enrol::add_customer(&ctx, &args.person.person()).await?;
    let start = args.start.clone().unwrap_or_else(|| today(&ctx.clock.now()));
    let subscription = match &args.plan {
        Some(plan) => Some(
            enrol::add_subscription(&ctx, &customer, plan, args.quantity, &start, SubscriptionState::Pending)
                .await?,
        ),
        None => None,
    };
    let url = match &subscription {
        Some(subscription) if subscription.state != "pending" => {
            let text = format!("subscription {} is {} already", subscription.id, subscription.state);
            return Err(FlowError::Refused(text).into());
        }
        Some(subscription) if args.pay_now => enrol::open_pay_now(&ctx, subscription).await?,
        other => enrol::open(&ctx, &customer, other.as_ref().map(Subscription::subscription_id)).await?,
    };
    if args.mail {
        notify::mail_enrolment(&ctx, &customer, &url, uuid::Uuid::new_v4()).await?;
    }
    if global.json {
        show::json(
            &serde_json::json!({ "customer": customer, "subscription": subscription, "url": url, "mailed": args.mail }),
        );
    } else if args.mail {
        say!("The link was mailed to customer {}.", customer.id);
    } else {
        say!("{url}");
    }
    Ok(Exit::Done)
}

pub(super) fn today(now: &jiff::Timestamp) -> String {
    now.strftime("%Y-%m-%d").to_string()
}
