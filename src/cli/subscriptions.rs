//! `recurd subscriptions`.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::people::{PageArgs, tell, today};
use super::{Exit, Global, find, setup, show as display};
use crate::billing::subscription::SubscriptionState;
use crate::clock::Clock;
use crate::flows::service::{Service, service};
use crate::flows::{enrol, manage};
use crate::store::{Store, Subscription};

/// `recurd subscriptions ...`
#[derive(Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// Put a customer on a plan. Without a saved card it waits for one: see `recurd enroll`.
    Add {
        /// Who: our id, Stripe's id, or mail address.
        #[arg(long)]
        customer: String,
        /// Plan of the configuration.
        #[arg(long)]
        plan: String,
        /// Units.
        #[arg(long, default_value_t = 1)]
        quantity: u32,
        /// First day (2026-01-31) or instant; default: today.
        #[arg(long)]
        start: Option<String>,
    },
    /// List subscriptions.
    List(PageArgs),
    /// Show one subscription.
    Show {
        /// Id or its beginning.
        id: String,
    },
    /// Stop charging until it is resumed.
    Pause(WhyArgs),
    /// Charge again.
    Resume {
        /// Id or its beginning.
        id: String,
    },
    /// End it, with its open charges.
    Cancel(WhyArgs),
}

/// A command with a reason.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Id or its beginning.
    id: String,
    /// Why, for the audit trail.
    #[arg(long, default_value = "")]
    why: String,
}

pub(super) async fn subscriptions(global: &Global, command: SubscriptionsCommand) -> Result<Exit> {
    match command {
        SubscriptionsCommand::List(page) => {
            let store = setup::store(&setup::config(global)?).await?;
            let found = store.list_subscriptions(None, page.offset, page.limit).await?;
            show(global, &store, found).await?;
        }
        SubscriptionsCommand::Show { id } => {
            let store = setup::store(&setup::config(global)?).await?;
            let found = find::subscription(&store, &id).await?;
            show(global, &store, vec![found]).await?;
        }
        SubscriptionsCommand::Add { customer, plan, quantity, start } => {
            let ctx = setup::ctx(global).await?;
            let customer = find::customer(&ctx.store, &customer).await?;
            let start = start.unwrap_or_else(|| today(&ctx.clock.now()));
            let state = if customer.payment_method.is_some() {
                SubscriptionState::Active
            } else {
                SubscriptionState::Pending
            };
            let added = enrol::add_subscription(&ctx, &customer, &plan, quantity, &start, state).await?;
            show(global, &ctx.store, vec![added]).await?;
        }
        SubscriptionsCommand::Pause(args) => {
            let ctx = setup::ctx(global).await?;
            let found = find::subscription(&ctx.store, &args.id).await?;
            manage::pause(&ctx, found.subscription_id(), &display::who(), &args.why).await?;
            let after = find::subscription(&ctx.store, &found.id).await?;
            tell(global, &after, || format!("Subscription {} is paused.", found.id));
        }
        SubscriptionsCommand::Resume { id } => {
            let ctx = setup::ctx(global).await?;
            let found = find::subscription(&ctx.store, &id).await?;
            manage::resume(&ctx, found.subscription_id(), &display::who()).await?;
            let after = find::subscription(&ctx.store, &found.id).await?;
            tell(global, &after, || format!("Subscription {} is active.", found.id));
        }
        SubscriptionsCommand::Cancel(args) => {
            let ctx = setup::ctx(global).await?;
            let found = find::subscription(&ctx.store, &args.id).await?;
            let report = manage::cancel(&ctx, found.subscription_id(), &display::who(), &args.why).await?;
            let after = find::subscription(&ctx.store, &found.id).await?;
            let ended = report.taken;
            tell(global, &serde_json::json!({ "subscription": after, "charges_ended": ended }), || {
                format!("Subscription {} is canceled, and {ended} open charges end with it.", found.id)
            });
        }
    }
    Ok(Exit::Done)
}

/// A subscription, and whether its service is on.
#[derive(serde::Serialize)]
struct Served {
    #[serde(flatten)]
    subscription: Subscription,
    #[serde(flatten)]
    service: Service,
}

pub(super) async fn show(global: &Global, store: &Store, subscriptions: Vec<Subscription>) -> Result<()> {
    let mut all = Vec::new();
    for subscription in subscriptions {
        let service = service(store, &subscription, Clock::system().now()).await?;
        all.push(Served { subscription, service });
    }
    if global.json {
        display::json(&all);
        return Ok(());
    }
    let rows = all.iter().map(|Served { subscription: one, service }| {
        [
            one.id.clone(),
            display::short(&one.customer_id),
            format!("{} r{} x{}", one.plan, one.revision, one.quantity),
            one.state.clone(),
            match service {
                Service::On => "on".to_owned(),
                Service::Grace { until: Some(at) } => format!("grace until {}", display::instant(*at)),
                Service::Grace { until: None } => "grace".to_owned(),
                Service::Off => "off".to_owned(),
            },
            one.next_due_at.map(display::instant).unwrap_or_else(|| "-".into()),
            one.time_zone.clone(),
            one.end_reason.clone().unwrap_or_default(),
        ]
    });
    say!(
        "{}",
        display::table(["id", "customer", "plan", "state", "service", "next due", "time zone", ""], rows)
    );
    Ok(())
}
