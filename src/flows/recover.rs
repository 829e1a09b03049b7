//! Recovery: what Stripe knows and a restored database does not.
//!
//! [`plan`] reads and changes nothing; [`carry_out`] wants the hash of the plan that a person agreed to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answers::{CHARGE, INSTANCE, SUBSCRIPTION};
use super::pay_link::hash;
use super::{Ctx, FlowError, Report, Result, collect, guard, manage, materialize, reconcile, tries, witness};
use crate::billing::charge::{Attempt, Phase, State};
use crate::billing::ids::{ChargeId, SubscriptionId};
use crate::stripe::Pages;
use crate::stripe::customers::CustomerFields;
use crate::stripe::fields::{Identified, Metadata};

/// Limit: subscriptions whose periods are written together.
const WRITE_TOGETHER_MAX: usize = 500;

/// What a recovery would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// From when on Stripe was asked, Unix seconds.
    pub since: i64,
    /// Charges that Stripe is asked about, with their state here: those it has objects of since then, and those that have a
    /// PaymentIntent from before, which may have been paid since.
    pub charges: BTreeMap<ChargeId, String>,
    /// How many more Stripe has, of subscriptions and one-offs that are not here.
    pub unknown_charges: usize,
    /// Subscriptions that were canceled and are active here.
    pub canceled: Vec<SubscriptionId>,
    /// Customer mails that wait, and may have been sent before.
    pub mails: u64,
    /// What would be due within an hour if nothing of the above were known: charges, and their sums in minor units.
    pub due: u64,
    /// By currency, minor units.
    pub due_minor: BTreeMap<String, i64>,
    /// What a person agrees to.
    pub hash: String,
    /// The subscriptions that Stripe names for its charges.
    #[serde(skip)]
    subscriptions: BTreeMap<ChargeId, SubscriptionId>,
}

/// What a run that stopped had taken is put off for no longer.
const PUT_OFF: Duration = Duration::from_secs(3600);

/// The state in a plan of a charge whose period this database has not come to.
const UNWRITTEN: &str = "not written yet";

impl Plan {
    /// A short name of what would be done: another situation has another one.
    fn sealed(mut self) -> Self {
        let mut text = String::new();
        let _ = write!(
            text,
            "{} {:?} {} {:?} {}",
            self.since, self.charges, self.unknown_charges, self.canceled, self.mails
        );
        self.hash = hash(&text).chars().take(12).collect();
        self
    }
}

/// Name of a canceled subscription in its customer's metadata: Stripe takes at most 40 characters.
fn mark(id: SubscriptionId) -> String {
    format!("recurd_{}", id.0.simple())
}

/// Tells Stripe which subscriptions were canceled, so that a restored backup finds out. At most `limit`.
pub(super) async fn tell_cancellations(ctx: &Ctx, limit: usize) -> Result<()> {
    for one in ctx.store.untold_cancellations(limit).await? {
        let (id, at) = (one.subscription(), ctx.now());
        let body =
            CustomerFields { metadata: &[(&mark(id), "canceled")], ..CustomerFields::default() }.encode();
        let key = format!("recurd:{}:{id}:canceled", ctx.instance);
        ctx.stripe.update_customer(&one.stripe_customer, body, &key).await?;
        failpoint!("cancellation told");
        ctx.store.told(id, at).await?;
    }
    Ok(())
}

/// What a recovery would do now. `None`: the database is not behind.
///
/// # Errors
/// [`FlowError::Store`], [`FlowError::Stripe`].
pub async fn plan(ctx: &Ctx, progress: impl Fn(u64)) -> Result<Option<Plan>> {
    let now = ctx.now();
    let Some(since) = ctx.store.instance(now).await?.behind_since else { return Ok(None) };
    let mut plan = Plan { since: since.as_second(), ..Plan::default() };
    let mut seen = 0;
    for (id, of) in named_since(ctx, since, &mut seen, &progress).await? {
        let state = match ctx.store.find_charge(id).await? {
            Some(found) => found.charge.state.as_str(),
            None if materialize::forgotten(ctx, of, id, now).await?.is_some() => UNWRITTEN,
            None => {
                plan.unknown_charges += 1;
                continue;
            }
        };
        plan.charges.insert(id, state.to_owned());
        plan.subscriptions.extend(of.map(|of| (id, of)));
    }
    for (id, state) in ctx.store.open_on_intents().await? {
        plan.charges.entry(id).or_insert(state);
    }
    plan.canceled = canceled(ctx, &mut seen, &progress).await?;
    plan.mails = ctx.store.mails_waiting().await?;
    let due = ctx.store.due_now(now.checked_add(PUT_OFF).unwrap_or(now)).await?;
    plan.due = due.attempts;
    plan.due_minor = due.sums.iter().map(|(currency, sum)| (currency.code().to_owned(), *sum)).collect();
    Ok(Some(plan.sealed()))
}

/// The next page of a list, counted.
async fn next<T: DeserializeOwned + Identified>(
    list: &mut Pages<T>,
    seen: &mut u64,
    progress: &impl Fn(u64),
) -> Result<Option<Vec<T>>> {
    let page = list.next().await?;
    if let Some(page) = &page {
        *seen += page.len() as u64;
        progress(*seen);
    }
    Ok(page)
}

/// The charges that Stripe's PaymentIntents and Sessions since an instant name, and their subscriptions.
async fn named_since(
    ctx: &Ctx,
    since: Timestamp,
    seen: &mut u64,
    progress: &impl Fn(u64),
) -> Result<BTreeMap<ChargeId, Option<SubscriptionId>>> {
    let mut named = BTreeMap::new();
    let ours = ctx.instance.to_string();
    let mut take = |metadata: &Metadata| {
        if metadata.get(INSTANCE) == Some(&ours)
            && let Some(charge) = metadata.get(CHARGE).and_then(|id| id.parse::<ChargeId>().ok())
        {
            named.insert(charge, metadata.get(SUBSCRIPTION).and_then(|id| id.parse().ok()));
        }
    };
    let mut intents = ctx.stripe.payment_intents_since(since);
    while let Some(page) = next(&mut intents, seen, progress).await? {
        page.iter().for_each(|one| take(&one.metadata));
    }
    let mut sessions = ctx.stripe.checkout_sessions_since(since);
    while let Some(page) = next(&mut sessions, seen, progress).await? {
        page.iter().for_each(|one| take(&one.metadata));
    }
    Ok(named)
}

/// Subscriptions that Stripe was told are canceled, and that are not so here.
async fn canceled(ctx: &Ctx, seen: &mut u64, progress: &impl Fn(u64)) -> Result<Vec<SubscriptionId>> {
    let mut canceled = Vec::new();
    let mut customers = ctx.stripe.customers();
    while let Some(page) = next(&mut customers, seen, progress).await? {
        for (key, value) in page.iter().filter_map(|one| one.active()).flat_map(|one| &one.metadata) {
            let id = key.strip_prefix("recurd_").filter(|_| value == "canceled");
            let Some(id) = id.and_then(|id| id.parse().ok()).map(SubscriptionId) else { continue };
            let alive = ctx.store.find_subscription(id).await?;
            if alive.is_some_and(|one| !matches!(one.state.as_str(), "canceled" | "completed")) {
                canceled.push(id);
            }
        }
    }
    canceled.sort_unstable();
    Ok(canceled)
}

/// Does what the plan with this hash says, and lets charging go on.
///
/// Crash: each step is found done or still to do by the next plan.
///
/// # Errors
/// [`FlowError::Refused`] when the plan is another one by now; [`FlowError::Store`], [`FlowError::Stripe`].
pub async fn carry_out(ctx: &Ctx, agreed: &str, who: &str, progress: impl Fn(u64)) -> Result<Report> {
    let Some(plan) = plan(ctx, &progress).await? else {
        return Err(FlowError::Refused(
            "the database is not behind Stripe: nothing is to be recovered".into(),
        ));
    };
    if plan.hash != agreed {
        return Err(FlowError::Refused(format!(
            "the plan is {} by now, not {agreed}: look at it again",
            plan.hash
        )));
    }
    let mut report = Report::default();
    write_forgotten(ctx, &plan).await?;
    let since = Timestamp::from_second(plan.since).unwrap_or(Timestamp::UNIX_EPOCH);
    tries::count_since(ctx, since, &progress).await?;
    for id in plan.charges.keys() {
        follow(ctx, *id, &mut report).await?;
        failpoint!("recovered one");
    }
    // Last, so that what was paid before the cancellation is booked as paid.
    for id in &plan.canceled {
        manage::cancel(ctx, *id, who, "canceled before the database was restored").await?;
        report.count("canceled");
    }
    let now = ctx.now();
    let known = ctx.store.instance(now).await?;
    let mut witness = known.witness;
    let mut seen = witness::seen(ctx, witness.as_deref()).await?;
    if witness.is_none() || seen.iter().any(|one| one == witness::DELETED) {
        witness = witness::make(ctx, known.recoveries).await?;
        seen = witness::seen(ctx, witness.as_deref()).await?;
    }
    let nonce = witness::after(known.nonce.as_deref());
    let dropped = ctx.store.recovered(&seen.join(" "), &nonce, now).await?;
    report.count_many("mails_dropped", dropped);
    failpoint!("recovered");
    if let Some(witness) = &witness {
        witness::show(ctx, witness, &nonce, ctx.now()).await?;
    }
    ctx.store.audit(who, "recover", guard::INSTANCE, &format!("plan {agreed}"), now).await?;
    Ok(report)
}

/// Writes the charges of the periods that have come, and those of others that Stripe names: of a subscription that is paused
/// here, and was not when it was charged.
async fn write_forgotten(ctx: &Ctx, plan: &Plan) -> Result<()> {
    while materialize::run_once(ctx, WRITE_TOGETHER_MAX).await?.taken > 0 {}
    for (id, of) in &plan.subscriptions {
        if ctx.store.find_charge(*id).await?.is_none()
            && let Some(new) = materialize::forgotten(ctx, Some(*of), *id, ctx.now()).await?
        {
            ctx.store.insert_charges(&[new], ctx.now()).await?;
        }
    }
    Ok(())
}

/// Makes one charge follow what Stripe shows.
async fn follow(ctx: &Ctx, id: ChargeId, report: &mut Report) -> Result<()> {
    let Some(claimed) = ctx.store.claim_charge(id, &ctx.worker, ctx.now(), ctx.lease_until()).await? else {
        return Ok(());
    };
    match claimed.charge.state {
        // What was only written down may have left from the database that was lost.
        State::Collecting { attempt: Attempt { phase: Phase::Prepared { .. }, .. } }
        | State::Due { .. }
        | State::PastDue { .. }
        | State::Missed
        | State::NeedsReview { attempt: None, .. }
        | State::Uncollectible { .. }
        | State::Canceled { .. }
        | State::Settled { .. } => collect::adopt_forgotten(ctx, &claimed, report).await,
        _ => reconcile::reconcile(ctx, &claimed, report).await,
    }
}
