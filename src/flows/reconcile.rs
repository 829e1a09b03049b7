//! Ask Stripe for the truth about what is unknown, pending, open for the customer, or ending.

use super::answers::{CHARGE, event_of_intent, event_of_session, is_ours, read};
use super::close::{Closed, close};
use super::collect::{living_intent, look_since, resend, settle_answer};
use super::recover::tell_cancellations;
use super::settle::{Trace, commit, is_refused_for_ever, next_try, settle_one};
use super::tries::event_of_page;
use super::{ASK_AGAIN, Ctx, FlowError, Report, Result, unheard};
use crate::billing::apply::{Event, Outcome};
use crate::billing::charge::{Attempt, Collector, CollectorKind, End, Operation, Phase, Sent, State, Work};
use crate::billing::subscription::SubscriptionState;
use crate::billing::unknown::{Inquiry, inquiry};
use crate::store::Claimed;
use crate::stripe::Expandable;
use crate::stripe::payment_intents::PaymentIntent;

/// Reconciles at most `limit` charges, one after another: there are few.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    if mutant!(EventsOnly) {
        return Ok(report);
    }
    let (now, lease) = (ctx.now(), ctx.lease_until());
    let claimed = ctx.store.claim_charges(Work::Reconcile, &ctx.worker, now, lease, limit).await?;
    report.taken = claimed.len() as u64;
    failpoint!("P19 claimed");
    for one in &ctx.in_time(claimed, now).await? {
        if let Err(error) = reconcile(ctx, one, &mut report).await {
            report.problem(format!("charge {}: {error}", one.charge.id));
            rest(ctx, one).await?;
        }
    }
    if let Err(error) = tell_cancellations(ctx, limit).await {
        report.problem(format!("Stripe could not be told of a cancellation: {error}"));
    }
    Ok(report)
}

/// Looks at one charge, whatever it waits for.
pub(super) async fn reconcile(ctx: &Ctx, claimed: &Claimed, report: &mut Report) -> Result<()> {
    if claimed.subscription_state == Some(SubscriptionState::Canceled)
        && matches!(claimed.charge.state, State::Collecting { .. } | State::LinkOpen { .. })
    {
        // A worker had it when the cancel came: what is under way is not sent again.
        settle_one(ctx, claimed, &Event::Stop(End::Canceled), Trace::default(), report).await?;
        return Ok(());
    }
    match &claimed.charge.state {
        State::Collecting { attempt } => match attempt.phase {
            Phase::Sending(sent) | Phase::Unknown(sent) => {
                unknown(ctx, claimed, *attempt, sent, report).await
            }
            Phase::Prepared { .. } => Ok(ctx.store.release_charge(&claimed.charge, None).await?),
        },
        State::LinkOpen { until, .. } => link(ctx, claimed, *until <= ctx.now(), report).await,
        State::Processing { .. } => pending(ctx, claimed, report).await,
        State::Closing { attempt, then, .. } => closing(ctx, claimed, *attempt, *then, report).await,
        State::Due { .. }
        | State::PastDue { .. }
        | State::NeedsReview { .. }
        | State::Missed
        | State::Paid { .. }
        | State::Uncollectible { .. }
        | State::Canceled { .. }
        | State::Settled { .. } => Ok(ctx.store.release_charge(&claimed.charge, None).await?),
    }
}

async fn rest(ctx: &Ctx, claimed: &Claimed) -> Result<()> {
    let until = ctx.now().checked_add(ASK_AGAIN).ok();
    Ok(ctx.store.release_charge(&claimed.charge, until).await?)
}

async fn unknown(
    ctx: &Ctx,
    claimed: &Claimed,
    attempt: Attempt,
    sent: Sent,
    report: &mut Report,
) -> Result<()> {
    let now = ctx.now();
    if inquiry(&sent, now) == Inquiry::Resend && may_try(ctx, claimed).await? {
        let Some((claimed, result)) = resend(ctx, claimed, report, now).await? else { return Ok(()) };
        failpoint!("P9..P10 again");
        let now = ctx.now();
        let answered = read(&claimed, ctx.instance, result, now);
        let settlement = settle_answer(ctx, &claimed, attempt.number, answered, report, now).await?;
        return commit(ctx, settlement.as_slice(), report, now).await.map(|_| ());
    }
    ask(ctx, claimed, attempt, report).await
}

/// Whether the card networks let an attempt run that may not have run yet: another charge on its card may have been declined
/// since it was written down. By their ceilings, a first try is bound before it leaves only.
async fn may_try(ctx: &Ctx, claimed: &Claimed) -> Result<bool> {
    // Stripe may have carried out an earlier one of the same PaymentIntent by now: what the bank said to that is heard first.
    if living_intent(&claimed.charge).is_some()
        && unheard::given_up(&ctx.store.attempts(claimed.charge.id).await?).is_some()
    {
        return Ok(false);
    }
    if claimed.charge.dunning.is_none() {
        return Ok(!is_refused_for_ever(ctx, claimed).await?);
    }
    let now = ctx.now();
    Ok(next_try(ctx, claimed, now).await?.is_some_and(|at| at <= now))
}

/// Reads what became of an attempt; sends nothing.
async fn ask(ctx: &Ctx, claimed: &Claimed, attempt: Attempt, report: &mut Report) -> Result<()> {
    let event = match find(ctx, claimed, attempt).await {
        Ok(event) => event,
        Err(error @ FlowError::Store(_)) => return Err(error),
        Err(error) => {
            report.count("not_asked");
            tracing::warn!(charge.id = %claimed.charge.id, "Charge {} stays unknown: {error}", claimed.charge.id);
            return rest(ctx, claimed).await;
        }
    };
    failpoint!("P19 asked");
    let missing = Event::Answered { attempt: attempt.number, outcome: Outcome::Missing };
    settle_one(ctx, claimed, &event.unwrap_or(missing), Trace::default(), report).await?;
    Ok(())
}

async fn find(ctx: &Ctx, claimed: &Claimed, attempt: Attempt) -> Result<Option<Event>> {
    let id = claimed.charge.collector.as_ref().and_then(|collector| collector.stripe_id.as_deref());
    if let (Operation::Confirm, Some(id)) = (attempt.operation, id) {
        return told_by(ctx, claimed, &ctx.stripe.retrieve_payment_intent(id).await?.value).await;
    }
    let since = look_since(ctx, claimed).await;
    let intents = ctx.stripe.list_payment_intents(&claimed.stripe_customer, since).await?;
    for intent in intents.iter().filter(|intent| is_ours(claimed, ctx.instance, intent)) {
        if let Some(event) = told_by(ctx, claimed, intent).await? {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// What a PaymentIntent that was read tells of a charge that is not known yet.
pub(super) async fn told_by(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<Option<Event>> {
    let known = known_decline(ctx, claimed, intent).await?;
    match event_of_intent(claimed, ctx.instance, intent, known.as_deref(), ctx.now()) {
        // It leaves the books, and with it the way to what the bank said to a try that was given up.
        Some(Event::CollectorDead) => unheard::against(ctx, claimed, intent).await,
        event => Ok(event),
    }
}

/// Stripe's charge whose decline is on record, with its attempt or by what counts for the card networks: the same one again is not
/// a new decline.
async fn known_decline(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<Option<String>> {
    if let Some(latest) = intent.latest_charge.as_ref().map(Expandable::id)
        && ctx.store.is_counted(latest).await?
    {
        return Ok(Some(latest.to_owned()));
    }
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    Ok(attempts.into_iter().rev().find_map(|attempt| attempt.stripe_charge))
}

/// A collector whose request never got an answer: Stripe's lists say whether it exists. `None`: not known yet.
pub(super) async fn find_unnamed(
    ctx: &Ctx,
    claimed: &Claimed,
    collector: &Collector,
) -> Result<Option<Event>> {
    let since = look_since(ctx, claimed).await;
    let now = ctx.now();
    match collector.kind {
        CollectorKind::PaymentIntent => {
            let intents = ctx.stripe.list_payment_intents(&claimed.stripe_customer, since).await?;
            let ours = intents.iter().filter(|intent| is_ours(claimed, ctx.instance, intent));
            let event = ours.filter_map(|one| event_of_intent(claimed, ctx.instance, one, None, now)).next();
            // No attempt is open, so nothing that was sent can still arrive.
            Ok(event.or(claimed.charge.open_attempt().is_none().then_some(Event::CollectorDead)))
        }
        CollectorKind::CheckoutSession => {
            let sessions = ctx.stripe.list_checkout_sessions(&claimed.stripe_customer, since).await?;
            let id = claimed.charge.id.to_string();
            let generation = collector.generation.to_string();
            let found = sessions.iter().find(|session| {
                session.metadata.get(CHARGE) == Some(&id)
                    && session.metadata.get(super::answers::GENERATION) == Some(&generation)
            });
            let Some(found) = found else {
                return Ok(super::pay_link::never_made(ctx, claimed).await?.then_some(Event::CollectorDead));
            };
            // The list does not show what became of the Session's PaymentIntent.
            let session = ctx.stripe.retrieve_checkout_session(&found.id).await?.value;
            let event = event_of_page(ctx, claimed, &session).await?;
            Ok(Some(event.unwrap_or(Event::LinkOpened { session: session.id })))
        }
    }
}

async fn link(ctx: &Ctx, claimed: &Claimed, over: bool, report: &mut Report) -> Result<()> {
    let Some(collector) = &claimed.charge.collector else { return rest(ctx, claimed).await };
    let event = match &collector.stripe_id {
        None => find_unnamed(ctx, claimed, collector).await?,
        Some(id) => {
            let session = ctx.stripe.retrieve_checkout_session(id).await?.value;
            match event_of_page(ctx, claimed, &session).await? {
                None if over => match close(ctx, claimed, collector).await? {
                    Closed::Event(event) => Some(event),
                    Closed::Alive(_) => None,
                },
                event => event,
            }
        }
    };
    failpoint!("P19 link read");
    match event {
        Some(event) => settle_one(ctx, claimed, &event, Trace::default(), report).await.map(|_| ()),
        None => rest(ctx, claimed).await,
    }
}

async fn pending(ctx: &Ctx, claimed: &Claimed, report: &mut Report) -> Result<()> {
    let Some(collector) = &claimed.charge.collector else { return rest(ctx, claimed).await };
    let event = match (&collector.kind, &collector.stripe_id) {
        (CollectorKind::PaymentIntent, Some(id)) => {
            told_by(ctx, claimed, &ctx.stripe.retrieve_payment_intent(id).await?.value).await?
        }
        (CollectorKind::CheckoutSession, Some(id)) => {
            let session = ctx.stripe.retrieve_checkout_session(id).await?.value;
            event_of_session(claimed, &session, ctx.now())
        }
        (_, None) => find_unnamed(ctx, claimed, collector).await?,
    };
    match event.filter(|event| *event != Event::Pending) {
        Some(event) => settle_one(ctx, claimed, &event, Trace::default(), report).await.map(|_| ()),
        None => settle_one(ctx, claimed, &Event::Pending, Trace::default(), report).await.map(|_| ()),
    }
}

/// A charge that ends: first find out about an open attempt, then close the collector.
async fn closing(
    ctx: &Ctx,
    claimed: &Claimed,
    attempt: Option<Attempt>,
    then: End,
    report: &mut Report,
) -> Result<()> {
    if let Some(attempt) = attempt {
        return ask(ctx, claimed, attempt, report).await;
    }
    let Some(collector) = &claimed.charge.collector else {
        settle_one(ctx, claimed, &Event::CollectorDead, Trace::default(), report).await?;
        return Ok(());
    };
    match close(ctx, claimed, collector).await? {
        Closed::Event(event) => settle_one(ctx, claimed, &event, Trace::default(), report).await.map(|_| ()),
        Closed::Alive(why) => {
            tracing::warn!(charge.id = %claimed.charge.id, "Charge {} cannot become {} yet: {why}", claimed.charge.id, then.as_str());
            rest(ctx, claimed).await
        }
    }
}
